//! Connections to a sandbox: from a URL to an open WebSocket, and what the failure or the end of one means
//! (section 3.6).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;
use reqwest::Url;
use rustls::pki_types::ServerName;
use sandwire_protocol::ErrorCode;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::either::Either;

use super::handshake::{self, Failed};
use super::session::Loss;
use super::websocket::WebSocket;
use crate::config::redact;
use crate::error::{Phase, root_cause, upgrade};
use crate::{Error, tls};

/// An open connection.
pub(crate) type Socket = WebSocket<Stream>;

/// What is below it. The state of TLS is a kilobyte, too much to move with every connection.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Where and with what to connect.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    url: Url,
    headers: HeaderMap,
    /// Name, for messages.
    sandbox: String,
    /// Whether to ask for the extension.
    extension: bool,
}

/// A connection that was made.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) socket: Socket,
    /// Whether the server has the extension.
    pub(crate) extended: bool,
}

impl Dialer {
    /// `url` is an `http` or `https` one.
    pub(crate) fn new(url: &str, headers: HeaderMap, sandbox: &str, extension: bool) -> Result<Self, Error> {
        let parsed =
            Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = parsed.ok_or_else(|| {
            // Not repeated: in what is no URL, secrets can't be told from the rest.
            let message = format!("the data plane of sandbox '{sandbox}' has no http or https URL");
            connect_phase(Error::new(ErrorCode::Client, message))
        })?;
        Ok(Self { url, headers, sandbox: sandbox.to_owned(), extension })
    }

    /// Connects within `limit`.
    pub(crate) async fn dial(&self, limit: Option<Duration>) -> Result<Dialed, Error> {
        let connecting = async {
            let stream = self.connect().await?;
            let upgraded = handshake::upgrade(stream, &self.url, &self.headers, self.extension).await;
            upgraded.map_err(|failed| self.failed(failed))
        };
        match limit {
            Some(limit) => timeout(limit, connecting).await.unwrap_or_else(|_| Err(self.too_late(limit))),
            None => connecting.await,
        }
    }

    async fn connect(&self) -> Result<Stream, Error> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().unwrap_or_default();
        let unreachable = |error: io::Error| self.unreachable(error);
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if self.url.scheme() == "http" {
            return Ok(Either::Left(stream));
        }
        let connector = TlsConnector::from(Arc::clone(&tls::config()?));
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.unreachable(error))?;
        let stream = Box::pin(connector.connect(name, stream)).await.map_err(unreachable)?;
        Ok(Either::Right(Box::new(stream)))
    }

    fn too_late(&self, limit: Duration) -> Error {
        let (url, seconds) = (self.shown(), limit.as_secs_f64());
        connect_phase(Error::new(
            ErrorCode::ConnectTimeout,
            format!("no connection to {url} within {seconds} s"),
        ))
    }

    fn unreachable(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("no connection to {}: {}", self.shown(), root_cause(&error));
        connect_phase(Error::new(ErrorCode::ConnectTimeout, message).caused_by(error))
    }

    fn failed(&self, failed: Failed) -> Error {
        match failed {
            Failed::Refused(refusal) => upgrade(&refusal, &self.sandbox),
            Failed::Broken(error) => {
                let message = format!("no connection to {}: {}", self.shown(), root_cause(error.as_ref()));
                connect_phase(Error::new(ErrorCode::ConnectTimeout, message))
            }
            Failed::NoWebSocket(why) => {
                let message = format!(
                    "what answered at {} is no WebSocket server; the sandbox may be stopped or out of reach ({why})",
                    self.shown()
                );
                connect_phase(Error::new(ErrorCode::Connection, message))
            }
        }
    }

    /// The URL as a WebSocket's, without secrets.
    fn shown(&self) -> String {
        let url = redact(self.url.as_str());
        url.strip_prefix("http").map_or_else(|| url.clone(), |rest| format!("ws{rest}"))
    }
}

fn connect_phase(error: Error) -> Error {
    error.with(|details| details.phase = Some(Phase::Connect))
}

/// What the end of reading means: `None` from the stream, a close frame, or an error.
pub(crate) fn loss(end: Option<Result<Message, WsError>>) -> Loss {
    match end {
        Some(Ok(Message::Close(frame))) => Loss::Closed(frame.map(|frame| frame.code.into())),
        None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Loss::Closed(None),
        // These come again on every connection that asks for the same bytes.
        Some(Err(error @ (WsError::Capacity(_) | WsError::Utf8(_)))) => Loss::Violation(error.to_string()),
        Some(Err(error @ WsError::Protocol(_))) if !is_cut(&error) => Loss::Violation(error.to_string()),
        Some(Err(error)) => Loss::Broken(root_cause(&error)),
        Some(Ok(_)) => Loss::Broken("unexpected message".to_owned()),
    }
}

/// Whether the rules were only broken by hanging up.
fn is_cut(error: &WsError) -> bool {
    matches!(error, WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_a_web_socket_url_without_secrets() {
        let dialer = |text: &str| Dialer::new(text, HeaderMap::new(), "box", true);
        assert_eq!(dialer("https://u:p@h/a?k=s").unwrap().shown(), "wss://h/a");
        assert_eq!(dialer("http://h/a").unwrap().shown(), "ws://h/a");
        assert!(dialer("ftp://h/a").is_err());
        assert!(!dialer("u:secret").unwrap_err().to_string().contains("secret"));
    }
}
