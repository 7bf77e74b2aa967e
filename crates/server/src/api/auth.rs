//! The key, and what a browser may not do.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sandwire_protocol::ErrorType;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::services::is_local;
use super::{ApiError, App};

const KEY_HEADER: &str = "x-api-key";

/// The server's key. Never printed.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key given by the operator; `None` if it is empty or can't travel in a header.
    #[must_use]
    pub fn given(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(text.to_owned()))
    }

    /// A random key of 244 bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("sw_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The key itself, for the one who starts the server.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a request bears the key. A second header line of that name counts for nothing.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(KEY_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        given.ct_eq(self.0.as_bytes()).into()
    }

    /// The same in the form that collectors of metrics know.
    fn admits_bearer(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        bearer(given).ct_eq(self.0.as_bytes()).into()
    }

    /// Takes the key out of every header in which a client may have put it.
    pub(super) fn remove_from(&self, headers: &mut HeaderMap) {
        let is_key = |given: &[u8]| bool::from(given.trim_ascii().ct_eq(self.0.as_bytes()));
        for name in [HeaderName::from_static(KEY_HEADER), AUTHORIZATION] {
            let all: Vec<HeaderValue> = headers.get_all(&name).into_iter().cloned().collect();
            headers.remove(&name);
            for value in all {
                let value_bytes = value.as_bytes();
                if !is_key(value_bytes) && !is_key(bearer(value_bytes)) {
                    headers.append(&name, value);
                }
            }
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// The token of an `Authorization` of that scheme, whose name has no case (RFC 9110, section 11.1); else nothing.
fn bearer(given: &[u8]) -> &[u8] {
    match given.split_first_chunk::<7>() {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
        _ => &[],
    }
}

/// Whether a request bore the key; only the bare health check is let through without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known(pub(super) bool);

/// Lets through what bears the key and does not come from a foreign page.
pub(super) async fn require_key(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if is_foreign(request.headers(), app.engine.policy().public_url.as_deref()) {
        let refused = ApiError::new(ErrorType::PermissionDenied, "requests from other origins are refused");
        return refused.into_response();
    }
    let known = app.key.admits(request.headers())
        || (request.uri().path() == "/metrics" && app.key.admits_bearer(request.headers()));
    if !known && !is_open(request.uri().path()) {
        return ApiError::new(ErrorType::Unauthorized, "the API key is missing or wrong").into_response();
    }
    request.extensions_mut().insert(Known(known));
    next.run(request).await
}

/// What needs no key: the bare health check, the description of the API, and links, which carry their own right.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/openapi.json") || path.starts_with("/download/")
}

/// A browser says from which page a request comes; only the server's own pages may. A page of a host name that its owner
/// let point to this machine (DNS rebinding) would be one of them, hence only addresses, `localhost` and what the
/// operator named count.
fn is_foreign(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    if public_url.is_some_and(|url| origin == url) {
        return false;
    }
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_local(host));
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    authority.is_none() || authority != own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_key_admits() {
        let key = ApiKey::given(" secret\n").unwrap();
        assert!(key.admits(&headers(&[("x-api-key", "secret")])));
        for wrong in ["", "secre", "secrets", "SECRET", "secret "] {
            assert!(!key.admits(&headers(&[("x-api-key", wrong)])), "{wrong:?}");
        }
        assert!(!key.admits(&headers(&[("authorization", "secret")])));
        assert!(!key.admits(&HeaderMap::new()));
    }

    #[test]
    fn the_key_is_taken_out_wherever_it_stands() {
        let key = ApiKey::given("secret").unwrap();
        let mut all = HeaderMap::new();
        for (name, value) in [
            ("x-api-key", "theirs"),
            ("x-api-key", "secret"),
            ("authorization", "Bearer secret"),
            ("authorization", "bearer  secret"),
            ("authorization", "Bearer theirs"),
            ("authorization", "secret"),
        ] {
            all.append(name, HeaderValue::from_static(value));
        }
        key.remove_from(&mut all);
        assert_eq!(all, headers(&[("x-api-key", "theirs"), ("authorization", "Bearer theirs")]));
    }

    #[test]
    fn keys_are_usable_and_secret() {
        assert!(ApiKey::given("  \n").is_none());
        assert!(ApiKey::given("two words").is_none());
        assert_ne!(ApiKey::random().reveal(), ApiKey::random().reveal());
        assert!(!format!("{:?}", ApiKey::given("secret").unwrap()).contains("secret"));
    }

    #[test]
    fn other_origins_are_foreign() {
        assert!(!is_foreign(&headers(&[("host", "127.0.0.1:1")]), None));
        assert!(!is_foreign(&headers(&[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1")]), None));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:2", "http://127.0.0.1:1.evil"] {
            assert!(is_foreign(&headers(&[("host", "127.0.0.1:1"), ("origin", origin)]), None), "{origin}");
        }
        let rebound = headers(&[("host", "evil.example:1"), ("origin", "http://evil.example:1")]);
        assert!(is_foreign(&rebound, None), "DNS rebinding");
        assert!(!is_foreign(&rebound, Some("http://evil.example:1")), "but what the operator named");
    }
}
