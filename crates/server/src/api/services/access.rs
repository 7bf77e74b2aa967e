//! Who may reach a service: the bearer of a token for exactly that port of that sandbox.
//!
//! Programs send the token as a header. A browser exchanges a one-time link for a cookie of the service's own host. The
//! token lies in neither the history of the browser nor the referrer of the page, and the API key opens nothing here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use sandwire_protocol::limits::SPENT_LINKS_MAX;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::host::Target;
use crate::engine::{Purpose, Secret, lock};

/// The header of programs (section 8.7).
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-langsmith-sandbox-service-token");

/// The cookie of browsers.
pub(super) const COOKIE_NAME: &str = "sandwire_service";

/// What a token says. Short names, as it travels in URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    /// The sandbox.
    #[serde(rename = "s")]
    pub(super) sandbox: Uuid,
    /// The port.
    #[serde(rename = "p")]
    pub(super) port: u16,
    /// When it ends, seconds since the epoch.
    #[serde(rename = "x")]
    pub(super) expires: u64,
    /// Who may show the service in a frame.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) embed_origins: Vec<String>,
}

/// A grant that can be used once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Login {
    #[serde(flatten)]
    grant: Grant,
    /// Its number.
    #[serde(rename = "n")]
    nonce: Uuid,
}

/// Why a one-time link opens nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoginRefused {
    /// It is not one of this server's, or its time is over.
    Invalid,
    /// It was used before.
    Spent,
    /// Too many of them are remembered.
    Busy,
}

/// Signs and checks.
pub(super) struct Access {
    secret: Secret,
    /// For one-time links. It lives as long as the memory of those that are spent, so that no restart makes them new.
    once: Secret,
    /// Numbers of spent links, with the ends of their validity.
    spent: Mutex<HashMap<Uuid, u64>>,
}

impl Access {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, once: Secret::random(), spent: Mutex::default() }
    }

    pub(super) fn token(&self, grant: &Grant) -> String {
        self.secret.sign(Purpose::Service, grant)
    }

    pub(super) fn login_token(&self, grant: &Grant) -> String {
        let login = Login { grant: grant.clone(), nonce: Uuid::new_v4() };
        self.once.sign(Purpose::ServiceLogin, &login)
    }

    /// The grant that a request bears for `target`. A cookie counts only for requests that the service's own pages, or
    /// the user, made: browsers send it with others' requests too.
    pub(super) fn granted(&self, target: Target, headers: &HeaderMap) -> Option<Grant> {
        let by_header = headers.get(TOKEN_HEADER).map(|value| value.to_str().unwrap_or_default());
        let token = match by_header {
            Some(token) => Some(token),
            None if is_own_origin(headers) => our_cookie(headers),
            None => None,
        };
        self.secret.verify(Purpose::Service, token?).filter(|grant: &Grant| grant.holds(target))
    }

    /// Takes a one-time link.
    pub(super) fn login(&self, target: Target, token: &str) -> Result<Grant, LoginRefused> {
        let login: Login = self.once.verify(Purpose::ServiceLogin, token).ok_or(LoginRefused::Invalid)?;
        if !login.grant.holds(target) {
            return Err(LoginRefused::Invalid);
        }
        let mut spent = lock(&self.spent);
        if spent.contains_key(&login.nonce) {
            return Err(LoginRefused::Spent);
        }
        if spent.len() >= SPENT_LINKS_MAX {
            let now = now();
            spent.retain(|_, expires| *expires > now);
        }
        if spent.len() >= SPENT_LINKS_MAX {
            return Err(LoginRefused::Busy);
        }
        spent.insert(login.nonce, login.grant.expires);
        Ok(login.grant)
    }
}

impl Grant {
    fn holds(&self, target: Target) -> bool {
        (self.sandbox, self.port) == (target.sandbox, target.port) && self.expires > now()
    }

    /// The cookie that carries `token` for as long as it holds. Other sites' frames get a third-party cookie, for each
    /// of them its own.
    pub(super) fn cookie(&self, token: &str) -> String {
        let site =
            if self.embed_origins.is_empty() { "SameSite=Lax" } else { "SameSite=None; Secure; Partitioned" };
        let age = self.expires.saturating_sub(now());
        format!("{COOKIE_NAME}={token}; Path=/; Max-Age={age}; HttpOnly; {site}")
    }

    /// Who may show the service's pages in frames.
    pub(super) fn frame_ancestors(&self) -> String {
        let mut policy = "frame-ancestors 'self'".to_owned();
        for origin in &self.embed_origins {
            policy.push(' ');
            policy.push_str(origin);
        }
        policy
    }
}

/// Seconds since the epoch.
pub(in crate::api) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The instant of a number of seconds since the epoch.
pub(in crate::api) fn instant(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn is_own_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) else {
        return true;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some() && origin.split_once("://").map(|(_, rest)| rest) == host
}

fn our_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { sandbox: Uuid::from_u128(7), port: 80 };

    fn grant(expires: u64) -> Grant {
        Grant { sandbox: TARGET.sandbox, port: TARGET.port, expires, embed_origins: Vec::new() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_opens_one_port_of_one_sandbox_for_a_time() {
        let access = Access::new(Secret::random());
        let bears = |token: &str| headers(&[("x-langsmith-sandbox-service-token", token)]);
        let valid = bears(&access.token(&grant(now() + 60)));
        assert!(access.granted(TARGET, &valid).is_some());
        assert!(access.granted(Target { port: 81, ..TARGET }, &valid).is_none());
        assert!(access.granted(Target { sandbox: Uuid::nil(), ..TARGET }, &valid).is_none());
        assert!(access.granted(TARGET, &bears(&access.token(&grant(now())))).is_none());
        assert!(access.granted(TARGET, &bears(&access.login_token(&grant(now() + 60)))).is_none());
        assert!(access.granted(TARGET, &headers(&[])).is_none());
    }

    #[test]
    fn a_cookie_counts_for_the_services_own_pages() {
        let access = Access::new(Secret::random());
        let cookie = format!("theme=dark; {COOKIE_NAME}={}", access.token(&grant(now() + 60)));
        let with = |origin: &[(&'static str, &str)]| {
            let mut all = headers(&[("cookie", &cookie), ("host", "80-x.localhost:1")]);
            all.extend(headers(origin));
            access.granted(TARGET, &all).is_some()
        };
        assert!(with(&[]));
        assert!(with(&[("origin", "http://80-x.localhost:1")]));
        for foreign in ["http://81-x.localhost:1", "null", "http://evil.example"] {
            assert!(!with(&[("origin", foreign)]), "{foreign}");
        }
    }

    #[test]
    fn a_login_link_is_spent_by_its_use() {
        let secret = Secret::random();
        let access = Access::new(secret.clone());
        let link = access.login_token(&grant(now() + 60));
        assert_eq!(access.login(Target { port: 81, ..TARGET }, &link), Err(LoginRefused::Invalid));
        assert!(access.login(TARGET, &link).is_ok());
        assert_eq!(access.login(TARGET, &link), Err(LoginRefused::Spent));
        assert_eq!(
            Access::new(secret).login(TARGET, &link),
            Err(LoginRefused::Invalid),
            "nor after a restart"
        );
        assert_eq!(access.login(TARGET, &access.token(&grant(now() + 60))), Err(LoginRefused::Invalid));
    }

    #[test]
    fn memory_of_spent_links_is_bounded() {
        let access = Access::new(Secret::random());
        let fill = |expires| {
            let mut spent = lock(&access.spent);
            spent.extend((0..SPENT_LINKS_MAX).map(|_| (Uuid::new_v4(), expires)));
        };
        fill(now() + 60);
        let link = access.login_token(&grant(now() + 60));
        assert_eq!(access.login(TARGET, &link), Err(LoginRefused::Busy));
        lock(&access.spent).clear();
        fill(now());
        assert!(access.login(TARGET, &link).is_ok());
    }
}
