//! Which of the two worlds a request belongs to: the API, or a program that listens in a sandbox. Its host alone decides,
//! so that neither can be reached through the other.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use uuid::Uuid;

use crate::api::ApiError;

/// Browsers resolve every name below it to the machine they run on.
pub(super) const DOMAIN: &str = ".localhost";

/// A port of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct Target {
    pub(in crate::api) sandbox: Uuid,
    pub(in crate::api) port: u16,
}

/// Whom a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Host {
    Api,
    Service(Target),
}

impl Target {
    /// The host name, without a port.
    pub(in crate::api) fn name(self) -> String {
        format!("{}-{}{DOMAIN}", self.port, self.sandbox)
    }

    /// Reads a name that [`Target::name`] made, in no other spelling: two names of one service would be two origins.
    fn parse(name: &str) -> Option<Self> {
        let (port, sandbox) = name.strip_suffix(DOMAIN)?.split_once('-')?;
        let target = Self { port: port.parse().ok()?, sandbox: Uuid::try_parse(sandbox).ok()? };
        (target.port > 0 && target.name() == name).then_some(target)
    }
}

impl Host {
    /// A request without a host is one for the API: it can come from no browser.
    pub(in crate::api) fn of(request: &Request) -> Result<Self, ApiError> {
        let mut headers = request.headers().get_all(HOST).iter();
        let host = headers.next();
        if headers.next().is_some() {
            return Err(ApiError::invalid("Host: there is more than one"));
        }
        let Some(host) = host else { return Ok(Self::Api) };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let host = host.filter(|host| !host.as_str().contains('@'));
        let host = host.ok_or_else(|| ApiError::invalid("Host: is not a host and port"))?;
        if request.uri().authority().is_some_and(|other| *other != host) {
            return Err(ApiError::invalid("Host: differs from the host of the request's URL"));
        }
        let name = host.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if !name.ends_with(DOMAIN) {
            return Ok(Self::Api);
        }
        let missing = || ApiError::not_found(format!("Host: {name} is no service of this server"));
        Target::parse(name).map(Self::Service).ok_or_else(missing)
    }
}

/// Whether a host name can't have been pointed here by somebody else's name server.
pub(in crate::api) fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use proptest::prelude::*;

    const ID: &str = "6f0a4b52-64a2-4e3b-9d6c-0a1b2c3d4e5f";

    fn host_of(uri: &str, hosts: &[&str]) -> Option<Host> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        Host::of(&request.body(Body::empty()).unwrap()).ok()
    }

    #[test]
    fn a_service_has_one_name() {
        let target = Target { sandbox: ID.parse().unwrap(), port: 3000 };
        for host in [format!("3000-{ID}.localhost"), format!("3000-{ID}.LOCALHOST.:8080")] {
            assert_eq!(host_of("/", &[&host]), Some(Host::Service(target)), "{host}");
        }
        for wrong in [
            format!("03000-{ID}.localhost"),
            format!("+3000-{ID}.localhost"),
            format!("0-{ID}.localhost"),
            format!("70000-{ID}.localhost"),
            format!("3000-{}.localhost", ID.replace('-', "")),
            format!("a.3000-{ID}.localhost"),
            format!("user@3000-{ID}.localhost"),
            "x.localhost".to_owned(),
            ".localhost".to_owned(),
        ] {
            assert_eq!(host_of("/", &[&wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn the_rest_is_the_api() {
        for host in
            ["localhost:1", "127.0.0.1", "[::1]:80", "example.com", "localhost.example", "notlocalhost"]
        {
            assert_eq!(host_of("/", &[host]), Some(Host::Api), "{host}");
        }
        assert_eq!(host_of("/", &[]), Some(Host::Api));
    }

    #[test]
    fn two_hosts_are_refused() {
        let service = format!("3000-{ID}.localhost");
        assert_eq!(host_of("/", &["127.0.0.1", &service]), None);
        assert_eq!(host_of("http://127.0.0.1/", &[&service]), None);
        assert_eq!(host_of("http://127.0.0.1/", &["127.0.0.1"]), Some(Host::Api));
    }

    #[test]
    fn names_can_be_rebound_and_addresses_cannot() {
        for local in ["localhost:1", "LOCALHOST", "127.0.0.1:80", "[::1]:80", "192.168.0.7"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["evil.example:80", "127.0.0.1.evil.example", "", "a b", "localhost.evil.example"] {
            assert!(!is_local(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(host in "[ -~]{0,80}") {
            let _ = host_of("/", &[&host]);
            let _ = is_local(&host);
        }
    }
}
