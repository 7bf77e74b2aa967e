//! The configuration: one list of settings, [`Options`], that the command line, the environment and the file all fill.
//!
//! Each is a table of settings; laid over each other, flags over environment over file over defaults, they become the
//! [`Config`] that the server runs by. The names of settings, flags and variables follow from the fields' names, so
//! that a setting is added in one place (and in `docs/OPERATIONS.md`, which a test compares).

mod file;
mod key;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use clap::{Args, ValueEnum};
use sandwire_protocol::limits::{
    DELETE_AFTER_STOP_DEFAULT, IDLE_TTL_DEFAULT, MEMORY_MIN, SANDBOXES_MAX, SHUTDOWN_DRAIN,
    SHUTDOWN_DRAIN_MAX,
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::Policy;
use crate::cli::StartError;

pub(crate) use key::KeyChoice;
pub(crate) use show::{effective, template};

const INIT_NAME: &str = "sandwire-init";

/// Where the configuration comes from; every command of the program takes it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Source {
    /// TOML file with any of the settings below, by their names with underscores.
    #[arg(long, env = "SANDWIRED_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Options,
}

/// Every setting, as it is given. The comments are the help texts and the comments of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, env = "SANDWIRED_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What clients reach this server by, for example https://sandboxes.example.org; else `http` and the host that they name.
    #[arg(long, env = "SANDWIRED_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Directory for sandboxes, private to this server. With `ephemeral` a temporary one is the default.
    #[arg(long, env = "SANDWIRED_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Leave nothing behind: end when stdin reaches its end, which is when the parent died.
    #[arg(long, env = "SANDWIRED_EPHEMERAL", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ephemeral: Option<bool>,
    /// File that holds the API key; the environment has the key itself instead. Made up with `ephemeral`.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The program `sandwire-init`; by default it is looked for beside `sandwired`.
    #[arg(long, env = "SANDWIRED_INIT", value_name = "FILE")]
    init: Option<PathBuf>,
    /// Format of the log on stderr: text or json.
    #[arg(long, env = "SANDWIRED_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace, or levels by module as in `info,sandwire_server::api=debug`.
    #[arg(long, env = "SANDWIRED_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Where `/metrics` is: `on` for the server's own address, `off`, or an address and port of its own.
    #[arg(long, env = "SANDWIRED_METRICS", value_name = "WHERE")]
    metrics: Option<String>,
    /// Sandboxes that may exist, stopped ones included.
    #[arg(long, env = "SANDWIRED_SANDBOXES_MAX", value_name = "COUNT")]
    sandboxes_max: Option<usize>,
    /// Memory limit of sandboxes that ask for none; else half of the machine's memory.
    #[arg(long, env = "SANDWIRED_MEMORY_DEFAULT_BYTES", value_name = "BYTES")]
    memory_default_bytes: Option<u64>,
    /// Idle time after which a sandbox that says nothing about it is stopped; 0 for never.
    #[arg(long, env = "SANDWIRED_IDLE_TTL_SECONDS", value_name = "SECONDS")]
    idle_ttl_seconds: Option<u64>,
    /// Time from a sandbox's stop to its deletion, if it says nothing about it; 0 for never.
    #[arg(long, env = "SANDWIRED_DELETE_AFTER_STOP_SECONDS", value_name = "SECONDS")]
    delete_after_stop_seconds: Option<u64>,
    /// How long the end waits for requests under way.
    #[arg(long, env = "SANDWIRED_DRAIN_SECONDS", value_name = "SECONDS")]
    drain_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsAt {
    Main,
    Nowhere,
    Own(SocketAddr),
}

/// What the server runs by.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) ephemeral: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) metrics: MetricsAt,
    pub(crate) drain: Duration,
    pub(crate) policy: Policy,
    api_key_file: Option<PathBuf>,
    /// The key file was named on the command line, which goes before the environment.
    key_file_first: bool,
    init: Option<PathBuf>,
}

impl Options {
    /// What holds if nobody says anything.
    fn defaults() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ephemeral: Some(false),
            log_format: Some(LogFormat::Text),
            log_level: Some("info".into()),
            metrics: Some("on".into()),
            sandboxes_max: Some(SANDBOXES_MAX),
            idle_ttl_seconds: Some(IDLE_TTL_DEFAULT),
            delete_after_stop_seconds: Some(DELETE_AFTER_STOP_DEFAULT),
            drain_seconds: Some(SHUTDOWN_DRAIN.as_secs()),
            ..Self::default()
        }
    }

    /// These, over others.
    fn over(&self, others: &Self) -> Result<Self, StartError> {
        let table = |options| {
            toml::Table::try_from(options).map_err(|error| StartError::client(error.to_string(), None))
        };
        let mut all = table(others)?;
        all.extend(table(self)?);
        all.try_into().map_err(|error: toml::de::Error| StartError::client(error.to_string(), None))
    }
}

impl Source {
    /// Everything that is known, checked.
    pub(crate) fn config(&self) -> Result<Config, StartError> {
        Config::new(self.options()?, self.given.api_key_file.is_some())
    }

    /// Flags and environment over the file over the defaults.
    fn options(&self) -> Result<Options, StartError> {
        let file = self.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        self.given.over(&file)?.over(&Options::defaults())
    }
}

impl Config {
    fn new(options: Options, key_file_first: bool) -> Result<Self, StartError> {
        let log_level = options.log_level.unwrap_or_default();
        EnvFilter::try_new(&log_level)
            .map_err(|error| refusal("log_level", &log_level, &error.to_string()))?;
        let drain = options.drain_seconds.unwrap_or_default();
        if Duration::from_secs(drain) > SHUTDOWN_DRAIN_MAX {
            let most = format!("must be at most {}", SHUTDOWN_DRAIN_MAX.as_secs());
            return Err(refusal("drain_seconds", &drain, &most));
        }
        let metrics = options.metrics.unwrap_or_default().parse()?;
        let policy = Policy {
            sandboxes_max: positive("sandboxes_max", options.sandboxes_max.unwrap_or_default())?,
            memory_default: options.memory_default_bytes.map(memory).transpose()?,
            idle_ttl_default: minutes("idle_ttl_seconds", options.idle_ttl_seconds)?,
            delete_after_stop_default: minutes(
                "delete_after_stop_seconds",
                options.delete_after_stop_seconds,
            )?,
            metrics: metrics == MetricsAt::Main,
            public_url: options.public_url.as_deref().map(public_url).transpose()?,
        };
        Ok(Self {
            listen: options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            state_dir: options.state_dir,
            ephemeral: options.ephemeral.unwrap_or_default(),
            log_format: options.log_format.unwrap_or(LogFormat::Text),
            log_level,
            metrics,
            drain: Duration::from_secs(drain),
            policy,
            api_key_file: options.api_key_file,
            key_file_first,
            init: options.init,
        })
    }

    /// The program that is PID 1 of sandboxes.
    pub(crate) fn init(&self) -> Result<PathBuf, StartError> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join(INIT_NAME));
        let path = self.init.clone().or_else(beside).unwrap_or_else(|| INIT_NAME.into());
        if path.is_file() {
            return Ok(path);
        }
        let remedy = "put sandwire-init beside sandwired, or name it by --init or SANDWIRED_INIT";
        Err(StartError::client(format!("{} does not exist", path.display()), Some(remedy)))
    }

    /// The file of the API key, if there is one.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        self.api_key_file.as_deref()
    }

    /// The API key, from wherever it is.
    pub(crate) fn key(&self) -> Result<KeyChoice, StartError> {
        let file: Option<&Path> = self.api_key_file.as_deref();
        key::choose(file, self.key_file_first, self.ephemeral)
    }
}

impl FromStr for MetricsAt {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        match text {
            "on" => Ok(Self::Main),
            "off" => Ok(Self::Nowhere),
            text => text.parse().map(Self::Own).map_err(|_| {
                refusal("metrics", &text, "must be on, off, or an address and port such as 127.0.0.1:9464")
            }),
        }
    }
}

fn refusal(setting: &str, value: &dyn std::fmt::Display, reason: &str) -> StartError {
    StartError::client(format!("{setting}: {value}: {reason}"), None)
}

fn positive(setting: &str, count: usize) -> Result<usize, StartError> {
    if count == 0 { Err(refusal(setting, &count, "must be positive")) } else { Ok(count) }
}

fn memory(bytes: u64) -> Result<u64, StartError> {
    if bytes < MEMORY_MIN {
        return Err(refusal("memory_default_bytes", &bytes, &format!("must be at least {MEMORY_MIN}")));
    }
    Ok(bytes)
}

/// As the protocol has it for what a request may say (section 2.3).
fn minutes(setting: &str, seconds: Option<u64>) -> Result<u64, StartError> {
    let seconds = seconds.unwrap_or_default();
    if seconds.is_multiple_of(60) {
        Ok(seconds)
    } else {
        Err(refusal(setting, &seconds, "must be a multiple of 60"))
    }
}

fn public_url(text: &str) -> Result<String, StartError> {
    let wanted = "must be http or https with a host and no path, such as https://sandboxes.example.org";
    let refused = || refusal("public_url", &text, wanted);
    let url: Uri = text.parse().map_err(|_| refused())?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(refused()) };
    let plain =
        matches!(scheme, "http" | "https") && url.query().is_none() && !authority.as_str().contains('@');
    if plain && matches!(url.path(), "" | "/") {
        Ok(format!("{scheme}://{authority}"))
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        source: Source,
    }

    fn source(arguments: &[&str]) -> Source {
        Wrapper::parse_from(["sandwired"].iter().chain(arguments)).source
    }

    fn config(arguments: &[&str]) -> Result<Config, StartError> {
        source(arguments).config()
    }

    /// A file with this text, and the arguments that name it.
    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandwired.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn the_nearer_source_counts() {
        let (_dir, path) = file("drain_seconds = 7\nsandboxes_max = 9\nephemeral = true\nmetrics = \"off\"");
        let config = config(&["--config", &path, "--drain-seconds", "8", "--ephemeral=false"]).unwrap();
        assert_eq!((config.drain, config.ephemeral), (Duration::from_secs(8), false));
        assert_eq!((config.policy.sandboxes_max, config.metrics), (9, MetricsAt::Nowhere));
        let defaults = Policy { sandboxes_max: 9, metrics: false, ..Policy::default() };
        assert_eq!((config.policy, config.log_level.as_str()), (defaults, "info"));
    }

    #[test]
    fn switches_need_no_value() {
        assert!(config(&["--ephemeral"]).unwrap().ephemeral);
        assert!(!config(&[]).unwrap().ephemeral);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (setting, value) in [
            ("log-level", "sandwire_server=loud"),
            ("metrics", "everywhere"),
            ("sandboxes-max", "0"),
            ("memory-default-bytes", "1024"),
            ("idle-ttl-seconds", "61"),
            ("delete-after-stop-seconds", "1"),
            ("drain-seconds", "1000000"),
            ("public-url", "sandboxes.example.org"),
            ("public-url", "ftp://sandboxes.example.org"),
            ("public-url", "https://sandboxes.example.org/path"),
            ("public-url", "https://user:word@sandboxes.example.org"),
        ] {
            let error = config(&[&format!("--{setting}"), value]).unwrap_err();
            let name = setting.replace('-', "_");
            assert!(error.message.starts_with(&format!("{name}: {value}: ")), "{}", error.message);
        }
    }

    #[test]
    fn the_public_url_has_no_end() {
        let url = |text| config(&["--public-url", text]).unwrap().policy.public_url;
        assert_eq!(url("https://a.example:8443/").as_deref(), Some("https://a.example:8443"));
        assert_eq!(url("http://[::1]:80").as_deref(), Some("http://[::1]:80"));
    }

    #[test]
    fn metrics_may_have_their_own_address() {
        let own = config(&["--metrics", "127.0.0.1:9464"]).unwrap().metrics;
        assert_eq!(own, MetricsAt::Own(SocketAddr::from(([127, 0, 0, 1], 9464))));
    }

    #[test]
    fn a_missing_init_is_named() {
        let error = config(&["--init", "/nonexistent/init"]).unwrap().init().err().unwrap();
        assert!(error.message.contains("/nonexistent/init") && error.remedy.is_some());
    }
}
