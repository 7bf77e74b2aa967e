//! Requests to a program in a sandbox, passed on one connection each.
//!
//! Both bodies stream, with back-pressure from end to end; an upgrade (WebSocket) becomes a plain exchange of bytes. The
//! sandbox counts as active, and the connection as one of the sandbox's, until the last byte has passed. What the program
//! answers is for the service's own host and can't touch the API's. What still passes when the drain is over is cut off.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, X_FRAME_OPTIONS,
};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sandwire_protocol::limits::{PORT_ANSWER_DEADLINE, PORT_READ_MAX};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::access::{COOKIE_NAME, Grant, TOKEN_HEADER};
use super::refusal::{MARK, Refusal};
use crate::api::App;

/// Headers between two neighbours, which end here (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that `Connection` can't name: whoever could would make a program see a request without a host, or with another
/// end than ours.
const END_TO_END: [HeaderName; 2] = [CONTENT_LENGTH, HOST];

/// Headers by which programs learn what only this server can say.
const FORWARDED: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-langsmith-user-id",
    "x-langsmith-user-email",
    "x-langsmith-user-token",
];

/// Passes a request to `stream`. `held` lives until nothing passes any more.
pub(super) async fn forward<H: Send + Sync + 'static>(
    app: &Arc<App>,
    grant: &Grant,
    stream: TcpStream,
    mut request: Request,
    held: H,
) -> Result<Response, Refusal> {
    let caller = request.extensions_mut().remove::<OnUpgrade>();
    let asked = upgrade_of(request.headers());
    let request = outbound(app, request, asked.as_ref());
    let broken = |error: hyper::Error| Refusal::broken(&error);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(PORT_READ_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let ending = app.ending.clone();
    // Ends with the answer's body, or when this future is dropped, or with the server: a program that never comes to an
    // end of its answer would else be listened to for ever.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Some(Err(error)) = ending.run_until_cancelled_owned(connection.with_upgrades()).await {
            tracing::debug!(%error, "connection to a port broke");
        }
    }));
    let answer = timeout(PORT_ANSWER_DEADLINE, sender.send_request(request)).await;
    let mut answer = answer.map_err(|_| Refusal::silent())?.map_err(broken)?;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched {
        let caller = caller.filter(|_| asked.is_some()).ok_or_else(Refusal::confused)?;
        let program = hyper::upgrade::on(&mut answer);
        let ending = app.ending.clone();
        app.sockets.spawn(async move {
            let _ended = ending.run_until_cancelled(exchange(caller, program)).await;
            drop((held, connection));
        });
        return Ok(inbound(grant, answer.map(|_| Body::empty()), asked));
    }
    let answer = answer.map(|body| {
        let held = (held, sender, connection);
        Body::new(body.map_frame(move |frame| {
            let _held = &held;
            frame
        }))
    });
    Ok(inbound(grant, answer, None))
}

async fn exchange(caller: OnUpgrade, program: OnUpgrade) {
    let open = |upgraded: Upgraded| TokioIo::new(upgraded);
    let (Ok(caller), Ok(program)) = tokio::join!(caller, program) else { return };
    if let Err(error) = copy_bidirectional(&mut open(caller), &mut open(program)).await {
        tracing::debug!(%error, "upgraded connection to a port broke");
    }
}

/// The protocol that a request asks to go over to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = connection_names(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wants).cloned()
}

fn connection_names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_names(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().filter(|name| !END_TO_END.contains(name)).chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The request as the program sees it.
fn outbound(app: &App, request: Request, upgrade: Option<&HeaderValue>) -> Request {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop(headers);
    if chunked {
        // Said, as methods that rarely have a body would else lose it.
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    for name in FORWARDED {
        headers.remove(name);
    }
    headers.remove(TOKEN_HEADER);
    // Somebody's mistake; it is worth more than the service.
    app.key.remove_from(headers);
    strip_cookie(headers);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>()
        && let Ok(address) = HeaderValue::try_from(peer.ip().to_canonical().to_string())
    {
        headers.insert("x-forwarded-for", address);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert("x-forwarded-host", host);
    }
    let root = || PathAndQuery::from_static("/");
    parts.uri = Uri::from(parts.uri.path_and_query().cloned().unwrap_or_else(root));
    parts.version = Version::HTTP_11;
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (parts.method, parts.uri);
    (*request.headers_mut(), *request.version_mut()) = (parts.headers, parts.version);
    request
}

/// All cookies but ours.
fn strip_cookie(headers: &mut HeaderMap) {
    let ours = |cookie: &&str| cookie.split('=').next().is_none_or(|name| name.trim() != COOKIE_NAME);
    let rest: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| {
            let Ok(text) = value.to_str() else { return Some(value.clone()) };
            let kept: Vec<&str> = text.split(';').map(str::trim).filter(ours).collect();
            HeaderValue::try_from(kept.join("; ")).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(COOKIE);
    for value in rest {
        headers.append(COOKIE, value);
    }
}

/// The answer as the caller sees it.
fn inbound(grant: &Grant, mut answer: Response, upgrade: Option<HeaderValue>) -> Response {
    let headers = answer.headers_mut();
    let switched_to = headers.get(UPGRADE).cloned();
    remove_hop_by_hop(headers);
    headers.remove(MARK);
    if let Some(protocol) = upgrade.map(|asked| switched_to.unwrap_or(asked)) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let cookies: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).into_iter().filter(|value| !sets_ours(value)).cloned().collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    if !grant.embed_origins.is_empty() {
        headers.remove(X_FRAME_OPTIONS);
    }
    // Beside the program's own policy: browsers keep to both.
    if let Ok(policy) = HeaderValue::try_from(grant.frame_ancestors()) {
        headers.append(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// Whether a cookie would come back to us as ours: browsers trim its name, and send one without a name by its value alone.
fn sets_ours(value: &HeaderValue) -> bool {
    let value = value.as_bytes().trim_ascii_start();
    let value = value.strip_prefix(b"=").unwrap_or(value);
    let name = value.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
    name.trim_ascii() == COOKIE_NAME.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let mut all = headers(&[
            ("connection", "close, X-Mine, host, content-length"),
            ("x-mine", "1"),
            ("host", "h"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("x-other", "2"),
        ]);
        remove_hop_by_hop(&mut all);
        assert_eq!(all, headers(&[("host", "h"), ("content-length", "5"), ("x-other", "2")]));
    }

    #[test]
    fn our_cookie_is_set_by_no_program() {
        for ours in ["sandwire_service=x", " sandwire_service\t =x; Path=/", "=sandwire_service=x"] {
            assert!(sets_ours(&HeaderValue::from_static(ours)), "{ours:?}");
        }
        for theirs in ["sandwire_service2=x", "a=sandwire_service=x", ""] {
            assert!(!sets_ours(&HeaderValue::from_static(theirs)), "{theirs:?}");
        }
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_headers() {
        assert!(
            upgrade_of(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]))
                .is_some()
        );
        assert!(upgrade_of(&headers(&[("upgrade", "websocket")])).is_none());
        assert!(upgrade_of(&headers(&[("connection", "upgrade")])).is_none());
    }

    #[test]
    fn our_cookie_stays_here() {
        let mut all =
            headers(&[("cookie", "a=1; sandwire_service=x; b=2"), ("cookie", "sandwire_service=y")]);
        strip_cookie(&mut all);
        assert_eq!(all, headers(&[("cookie", "a=1; b=2")]));
    }
}
