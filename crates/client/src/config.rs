//! Where the server is and what every request carries ("Endpoint" and "Key" of the API decisions).
//!
//! Header values are marked sensitive as soon as they are read: the key and whatever a caller puts beside it never
//! show in `Debug`.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sandwire_protocol::ErrorCode;

use crate::exec::Backoff;
use crate::{Error, env};

const DEFAULT_BASE: &str = "https://api.smith.langchain.com";
const API_PATH: &str = "/v2/sandboxes";
const API_KEY_HEADER: &str = "x-api-key";

/// What a caller says about a client; everything is resolved already.
#[derive(Debug, Clone)]
pub struct ConfigOptions {
    /// Full URL of the sandbox API.
    pub endpoint: String,
    /// Headers of every request, later ones win.
    pub headers: Vec<(String, String)>,
    /// Limit of one HTTP exchange.
    pub timeout: Duration,
    /// Further attempts after the first.
    pub max_retries: u32,
    /// HTTP exchanges at the same time; `None` = no limit.
    pub max_concurrency: Option<usize>,
}

/// A client's checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) endpoint: String,
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) max_retries: u32,
    pub(crate) max_concurrency: Option<usize>,
    /// Limit of one WebSocket upgrade.
    pub(crate) ws_open_timeout: Option<Duration>,
    /// Limit of the whole connect phase of a command.
    pub(crate) ws_connect_budget: Option<Duration>,
    pub(crate) backoff: Backoff,
}

impl Config {
    /// Checks the options; `api_key` yields to an `X-Api-Key` among the headers.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` naming the option.
    pub fn new(options: ConfigOptions, api_key: Option<&str>) -> Result<Self, Error> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        http_url(&endpoint, "apiEndpoint")?;
        let mut headers = HeaderMap::new();
        if let Some(key) = api_key.filter(|key| !key.is_empty()) {
            let mut value = HeaderValue::from_str(key)
                .map_err(|_| invalid("apiKey", "apiKey can't be sent in a header"))?;
            value.set_sensitive(true);
            headers.insert(API_KEY_HEADER, value);
        }
        merge(&mut headers, header_map(&options.headers)?);
        Ok(Self {
            endpoint,
            headers,
            timeout: options.timeout,
            max_retries: options.max_retries,
            max_concurrency: options.max_concurrency,
            ws_open_timeout: env::ws_open_timeout(&env::process),
            ws_connect_budget: env::ws_connect_budget(&env::process),
            backoff: Backoff::default(),
        })
    }

    /// Other pauses before a lost connection to a command is made again; tests need not wait for the usual ones.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }
}

impl Config {
    /// Whether the server runs on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let Ok(url) = Url::parse(&self.endpoint) else { return false };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let ip = host.parse::<IpAddr>().ok();
        host == "localhost" || host.ends_with(".localhost") || ip.is_some_and(|ip| ip.is_loopback())
    }
}

/// Reads headers; a name that occurs twice keeps its last value.
///
/// # Errors
/// `VALIDATION_FAILED` with field `headers`; the value is not repeated in the message.
pub fn header_map(pairs: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut map = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid("headers", &format!("{name:?} is not a header name")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| invalid("headers", &format!("the value of header {name:?} can't be sent")))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

/// Lays `over` on top of `base`.
pub(crate) fn merge(base: &mut HeaderMap, over: HeaderMap) {
    for (name, value) in over {
        // `HeaderMap`'s iterator names a repeated header once; `header_map` never repeats one.
        if let Some(name) = name {
            base.insert(name, value);
        }
    }
}

/// The endpoint to use: the given one, else from the environment, else the hosted service.
#[must_use]
pub fn resolve_endpoint(given: Option<&str>) -> String {
    endpoint_from(given, &env::process)
}

/// The key to use: an empty one means none, an absent one falls back to the environment.
#[must_use]
pub fn resolve_api_key(given: Option<&str>) -> Option<String> {
    api_key_from(given, &env::process)
}

fn endpoint_from(given: Option<&str>, lookup: env::Lookup<'_>) -> String {
    if let Some(given) = given {
        return given.trim_end_matches('/').to_owned();
    }
    let base = env::endpoint(lookup).unwrap_or_else(|| DEFAULT_BASE.to_owned());
    format!("{}{API_PATH}", base.trim().trim_end_matches('/'))
}

fn api_key_from(given: Option<&str>, lookup: env::Lookup<'_>) -> Option<String> {
    match given {
        Some("") => None,
        Some(key) => Some(key.to_owned()),
        None => env::api_key(lookup),
    }
}

/// A URL that HTTP can reach.
pub(crate) fn http_url(text: &str, field: &str) -> Result<Url, Error> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| invalid(field, &format!("{field} is not an http or https URL: {:?}", redact(text))))
}

/// The text of a URL without user name, password and query, which may hold secrets.
pub(crate) fn redact(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return "(not a URL)".to_owned();
    };
    // Both fail only for URLs that can't carry credentials in the first place.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

pub(crate) fn invalid(field: &str, message: &str) -> Error {
    Error::new(ErrorCode::Validation, message).with(|details| details.field = Some(field.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(headers: &[(&str, &str)]) -> ConfigOptions {
        ConfigOptions {
            endpoint: "http://127.0.0.1:1/v2/sandboxes//".to_owned(),
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            timeout: Duration::from_secs(10),
            max_retries: 3,
            max_concurrency: None,
        }
    }

    #[test]
    fn the_endpoint_follows_the_rules() {
        let none = |_: &str| None;
        let env = |_: &str| Some("https://h/api/".to_owned());
        assert_eq!(endpoint_from(None, &none), "https://api.smith.langchain.com/v2/sandboxes");
        assert_eq!(endpoint_from(None, &env), "https://h/api/v2/sandboxes");
        assert_eq!(endpoint_from(Some("http://x/"), &env), "http://x");
    }

    #[test]
    fn loopback_is_local() {
        let local = |endpoint: &str| {
            Config::new(ConfigOptions { endpoint: endpoint.to_owned(), ..options(&[]) }, None)
                .unwrap()
                .is_local()
        };
        for endpoint in ["http://127.0.0.2:1/x", "http://[::1]:1", "http://localhost", "http://a.localhost:3"]
        {
            assert!(local(endpoint), "{endpoint}");
        }
        assert!(!local("https://localhost.example.com") && !local("http://10.0.0.1"));
    }

    #[test]
    fn an_empty_key_means_none() {
        let env = |_: &str| Some("from env".to_owned());
        assert_eq!(api_key_from(Some(""), &env), None);
        assert_eq!(api_key_from(None, &env).unwrap(), "from env");
        assert_eq!(api_key_from(Some("k"), &env).unwrap(), "k");
    }

    #[test]
    fn an_explicit_key_header_wins_whatever_its_case() {
        let config = Config::new(options(&[("X-API-KEY", "mine")]), Some("other")).unwrap();
        assert_eq!(config.headers.get("x-api-key").unwrap(), "mine");
        assert_eq!(config.endpoint, "http://127.0.0.1:1/v2/sandboxes");
    }

    #[test]
    fn secrets_never_show() {
        let config = Config::new(options(&[("X-Service-Key", "hunter2")]), Some("sk-very-secret")).unwrap();
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2") && !text.contains("sk-very-secret"), "{text}");
        assert_eq!(redact("https://u:p@h/x?token=t"), "https://h/x");
    }

    #[test]
    fn bad_options_name_their_field() {
        let bad = ConfigOptions { endpoint: "ftp://h".to_owned(), ..options(&[]) };
        let error = Config::new(bad, None).unwrap_err();
        assert_eq!(
            (error.code(), error.details().field.as_deref()),
            (ErrorCode::Validation, Some("apiEndpoint"))
        );
        let error = Config::new(options(&[("a b", "v")]), None).unwrap_err();
        assert_eq!(error.details().field.as_deref(), Some("headers"));
        let error = Config::new(options(&[("a", "line\nbreak secret")]), None).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
