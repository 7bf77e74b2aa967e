//! The upgrade from HTTP to a WebSocket.
//!
//! It is hyper's work, not tungstenite's: that fails where a server does not select the subprotocol that was offered,
//! which is what every server but ours does, and drops the body of a refusal that comes in pieces.

use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use sandwire_protocol::ErrorBody;
use sandwire_protocol::extension::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::socket::{Dialed, Stream};
use super::websocket::WebSocket;
use crate::config::redact;
use crate::error::Refusal;
use crate::{http, retry};

/// Largest body of a refusal that is read; what is longer says nothing.
const REFUSAL_MAX: usize = 64 * 1024;

/// Why there is no WebSocket.
#[derive(Debug)]
pub(super) enum Failed {
    /// The network's fault, or the peer's who hung up.
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// What answered does not speak the protocol.
    NoWebSocket(String),
    Refused(Box<Refusal>),
}

impl From<hyper::Error> for Failed {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::NoWebSocket(error.to_string()) } else { Self::Broken(Box::new(error)) }
    }
}

/// Asks for the upgrade, and perhaps for the extension.
pub(super) async fn upgrade(
    stream: Stream,
    url: &Url,
    headers: &HeaderMap,
    extension: bool,
) -> Result<Dialed, Failed> {
    let key = generate_key();
    let request = request(url, headers, &key, extension)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = Driver { connection: Box::pin(connection.without_shutdown()), parts: None };
    let response = driver.beside(sender.send_request(request)).await??;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        let body = driver.beside(Limited::new(body, REFUSAL_MAX).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let refusal = refusal(&head, &body, redact(url.as_str()));
        return Err(Failed::Refused(Box::new(refusal)));
    }
    let extended = accepted(response.headers(), &key, extension)?;
    let http1::Parts { io, read_buf, .. } = driver.parts().await?;
    let socket = WebSocket::new(io.into_inner(), &read_buf);
    Ok(Dialed { socket, extended })
}

fn request(
    url: &Url,
    headers: &HeaderMap,
    key: &str,
    extension: bool,
) -> Result<Request<Empty<Bytes>>, Failed> {
    let invalid = |error: hyper::http::Error| Failed::Broken(Box::new(error));
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::get(target)
        .header(HOST, host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(USER_AGENT, HeaderValue::from_static(http::USER_AGENT))
        .body(Empty::new())
        .map_err(invalid)?;
    if extension {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    request.headers_mut().extend(headers.clone());
    Ok(request)
}

type Parts = http1::Parts<TokioIo<Stream>>;

/// The connection below the request, which works only while it is polled.
struct Driver<C> {
    connection: Pin<Box<C>>,
    /// What is left of it when HTTP is over.
    parts: Option<Parts>,
}

impl<C: Future<Output = Result<Parts, hyper::Error>>> Driver<C> {
    /// Drives it while something on it is waited for.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failed> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                ended = self.connection.as_mut(), if self.parts.is_none() => self.parts = Some(ended?),
            }
        }
    }

    async fn parts(self) -> Result<Parts, Failed> {
        match self.parts {
            Some(parts) => Ok(parts),
            None => Ok(self.connection.await?),
        }
    }
}

/// Whether the server has the extension, if it did accept the upgrade.
fn accepted(headers: &HeaderMap, key: &str, extension: bool) -> Result<bool, Failed> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let refused = |what: &str| Err(Failed::NoWebSocket(what.to_owned()));
    if !text(UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return refused("it switched to something else");
    }
    if text(SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return refused("its answer belongs to another request");
    }
    match text(SEC_WEBSOCKET_PROTOCOL) {
        None => Ok(false),
        Some(SUBPROTOCOL) if extension => Ok(true),
        Some(_) => refused("it selected a subprotocol that was not offered"),
    }
}

fn refusal(head: &hyper::http::response::Parts, body: &[u8], url: String) -> Refusal {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    Refusal {
        status: head.status.as_u16(),
        body: ErrorBody::parse(body),
        url,
        retry_after: text(RETRY_AFTER.as_str()).and_then(retry::retry_after),
        request_id: text("x-request-id").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_extension_is_offered_compression_is_not_and_headers_are_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("k"));
        let request = request(&url("http://h:81/a%20b?c=d"), &headers, "key", true).unwrap();
        assert_eq!(request.uri(), "/a%20b?c=d");
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!((header("x-api-key"), header("host")), (Some("k"), Some("h:81")));
        assert_eq!(header("sec-websocket-protocol"), Some(SUBPROTOCOL));
        assert_eq!(header("sec-websocket-extensions"), None);
    }

    #[test]
    fn only_a_true_answer_is_taken() {
        let accept = derive_accept_key(b"key");
        let answer = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).unwrap());
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            accepted(&headers, "key", true).ok()
        };
        assert_eq!(answer(&[]), Some(false));
        assert_eq!(answer(&[("sec-websocket-protocol", SUBPROTOCOL)]), Some(true));
        assert_eq!(answer(&[("sec-websocket-protocol", "chat")]), None);
        assert_eq!(answer(&[("sec-websocket-accept", "other")]), None);
        assert_eq!(answer(&[("upgrade", "h2c")]), None);
    }
}
