//! Options of the command line, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::ApiKey;
use crate::cli::StartError;

const INIT_NAME: &str = "sandwire-init";
const KEY_VARIABLE: &str = "SANDWIRED_API_KEY";

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// File that holds the API key. Without it the key comes from SANDWIRED_API_KEY, or is made up with --ephemeral.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// Directory for sandboxes, private to this server. With --ephemeral a temporary one is the default.
    #[arg(long)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Leave nothing behind: end when stdin reaches its end, which is when the parent died.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    #[command(flatten)]
    init: InitOption,
    /// Format of the log on stderr; RUST_LOG sets the level.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    init: InitOption,
}

#[derive(Debug, Args)]
struct InitOption {
    /// The sandwire-init program; by default it is looked for beside sandwired.
    #[arg(long = "init", env = "SANDWIRE_INIT")]
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The key, and whether it was made up.
pub(crate) struct KeyChoice {
    pub(crate) key: ApiKey,
    pub(crate) generated: bool,
}

impl ServeOptions {
    pub(crate) fn init(&self) -> Result<PathBuf, StartError> {
        self.init.find()
    }

    pub(crate) fn key(&self) -> Result<KeyChoice, StartError> {
        // Not an option of the command line, which every user of the machine can read.
        let text = match (&self.api_key_file, std::env::var(KEY_VARIABLE).ok()) {
            (Some(path), _) => std::fs::read_to_string(path).map_err(|error| {
                StartError::client(
                    format!("the API key file {} can't be read: {error}", path.display()),
                    None,
                )
            })?,
            (None, Some(key)) => key,
            (None, None) if self.ephemeral => {
                return Ok(KeyChoice { key: ApiKey::random(), generated: true });
            }
            (None, None) => {
                let remedy = "give --api-key-file, set SANDWIRED_API_KEY, or use --ephemeral";
                return Err(StartError::client("there is no API key", Some(remedy)));
            }
        };
        let key = ApiKey::given(&text);
        let key =
            key.ok_or_else(|| StartError::client("the API key must be one word of printable ASCII", None))?;
        Ok(KeyChoice { key, generated: false })
    }
}

impl DoctorOptions {
    pub(crate) fn init(&self) -> Result<PathBuf, StartError> {
        self.init.find()
    }
}

impl InitOption {
    fn find(&self) -> Result<PathBuf, StartError> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join(INIT_NAME));
        let path = self.path.clone().or_else(beside).unwrap_or_else(|| INIT_NAME.into());
        if path.is_file() {
            return Ok(path);
        }
        let remedy = "put sandwire-init beside sandwired, or name it by --init or SANDWIRE_INIT";
        Err(StartError::client(format!("{} does not exist", path.display()), Some(remedy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        serve: ServeOptions,
    }

    fn options(arguments: &[&str]) -> ServeOptions {
        Wrapper::parse_from(["sandwired"].iter().chain(arguments)).serve
    }

    #[test]
    fn a_key_is_required_unless_ephemeral() {
        assert!(options(&[]).key().is_err());
        let choice = options(&["--ephemeral"]).key().unwrap();
        assert!(choice.generated && choice.key.reveal().len() > 40);
    }

    #[test]
    fn the_key_file_is_read_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let arguments = ["--ephemeral", "--api-key-file", path.to_str().unwrap()];
        assert!(options(&arguments).key().err().unwrap().message.contains("can't be read"));
        std::fs::write(&path, "secret\n").unwrap();
        let choice = options(&arguments).key().unwrap();
        assert_eq!((choice.key.reveal(), choice.generated), ("secret", false));
        std::fs::write(&path, " \n").unwrap();
        assert!(options(&arguments).key().is_err());
    }

    #[test]
    fn a_missing_init_is_named() {
        let error = options(&["--init", "/nonexistent/init"]).init().err().unwrap();
        assert!(error.message.contains("/nonexistent/init") && error.remedy.is_some());
    }
}
