//! Every environment variable that the client reads, in one place (section 1.1).
//!
//! A blank value counts as unset, so that `LANGSMITH_ENDPOINT=` in a shell profile falls through to the next name.

use std::time::Duration;

/// Base of the default endpoint.
const ENDPOINT: [&str; 2] = ["LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"];

/// API key.
const API_KEY: [&str; 2] = ["LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"];

/// Seconds that one WebSocket upgrade may take; not positive = no limit.
const WS_OPEN: [&str; 2] = ["LANGSMITH_SANDBOX_WS_TIMEOUT_OPEN", "LANGCHAIN_SANDBOX_WS_TIMEOUT_OPEN"];

/// Seconds that the whole connect phase of a command may take; not positive = no limit.
const WS_BUDGET: [&str; 2] =
    ["LANGSMITH_SANDBOX_WS_TIMEOUT_CONNECT_BUDGET", "LANGCHAIN_SANDBOX_WS_TIMEOUT_CONNECT_BUDGET"];

/// How variables are looked up; tests pass their own.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks in the environment of the process.
pub(crate) fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn endpoint(lookup: Lookup<'_>) -> Option<String> {
    first(lookup, ENDPOINT)
}

pub(crate) fn api_key(lookup: Lookup<'_>) -> Option<String> {
    first(lookup, API_KEY)
}

pub(crate) fn ws_open_timeout(lookup: Lookup<'_>) -> Option<Duration> {
    seconds(first(lookup, WS_OPEN), 30)
}

pub(crate) fn ws_connect_budget(lookup: Lookup<'_>) -> Option<Duration> {
    seconds(first(lookup, WS_BUDGET), 120)
}

fn first(lookup: Lookup<'_>, names: [&str; 2]) -> Option<String> {
    names.iter().filter_map(|name| lookup(name)).find(|value| !value.trim().is_empty())
}

/// What can't be read counts as unset: a typing error must not switch a limit off.
fn seconds(value: Option<String>, default: u64) -> Option<Duration> {
    match value.and_then(|text| text.trim().parse::<f64>().ok()) {
        Some(given) if given <= 0.0 => None,
        Some(given) => Duration::try_from_secs_f64(given).ok(),
        None => Some(Duration::from_secs(default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_falls_through_and_the_newer_name_wins() {
        let both = |name: &str| Some(format!("value of {name}"));
        assert_eq!(endpoint(&both).unwrap(), "value of LANGSMITH_ENDPOINT");
        let blank =
            |name: &str| Some(if name.starts_with("LANGSMITH") { " ".into() } else { "old".to_owned() });
        assert_eq!(api_key(&blank).unwrap(), "old");
        assert_eq!(api_key(&|_| None), None);
    }

    #[test]
    fn limits_can_be_changed_and_switched_off() {
        let with = |value: &'static str| move |_: &str| Some(value.to_owned());
        assert_eq!(ws_open_timeout(&with("1.5")), Some(Duration::from_millis(1500)));
        assert_eq!(ws_open_timeout(&with("0")), None);
        assert_eq!(ws_open_timeout(&with("soon")), Some(Duration::from_secs(30)));
        assert_eq!(ws_connect_budget(&|_| None), Some(Duration::from_secs(120)));
    }
}
