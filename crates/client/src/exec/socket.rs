//! One WebSocket to a sandbox: the upgrade, and what its failure means (section 3.6).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use sandwire_protocol::{ErrorBody, ErrorCode};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::UrlError;
use tokio_tungstenite::tungstenite::http::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::config::redact;
use crate::error::{Phase, Refusal, root_cause, upgrade};
use crate::http::USER_AGENT;
use crate::{Error, retry, tls};

use super::session::Loss;

/// An open connection.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection is made for each command: a larger buffer costs more to allocate than it saves (40 us of 110).
const READ_BUFFER: usize = 8 * 1024;

/// Largest message that is read. Servers keep frames below 1 MiB for the sake of other clients; a multiple of
/// that is generous, and bounds what a broken server can make us hold.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Where and with what to connect.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    url: String,
    headers: HeaderMap,
    /// Name, for messages.
    sandbox: String,
}

impl Dialer {
    /// `url` is the `http` or `https` form.
    pub(crate) fn new(url: &str, headers: HeaderMap, sandbox: &str) -> Self {
        // "http" becomes "ws", and so "https" becomes "wss".
        let url = url.strip_prefix("http").map_or_else(|| url.to_owned(), |rest| format!("ws{rest}"));
        Self { url, headers, sandbox: sandbox.to_owned() }
    }

    /// Connects within `limit`.
    pub(crate) async fn dial(&self, limit: Option<Duration>) -> Result<Socket, Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let connector = if self.url.starts_with("wss") {
            Connector::Rustls(Arc::clone(&tls::config()?))
        } else {
            Connector::Plain
        };
        let connecting = connect_async_tls_with_config(self.request()?, Some(config), true, Some(connector));
        let connected = match limit {
            Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_| self.too_late(limit))?,
            None => connecting.await,
        };
        connected.map(|(socket, _)| socket).map_err(|error| self.failed(error))
    }

    fn request(&self) -> Result<Request<()>, Error> {
        let mut request = self.url.as_str().into_client_request().map_err(|error| self.failed(error))?;
        let headers = request.headers_mut();
        headers.insert("user-agent", HeaderValue::from_static(USER_AGENT));
        headers.extend(self.headers.clone());
        Ok(request)
    }

    fn too_late(&self, limit: Duration) -> Error {
        let (url, seconds) = (redact(&self.url), limit.as_secs_f64());
        connect_phase(Error::new(
            ErrorCode::ConnectTimeout,
            format!("no connection to {url} within {seconds} s"),
        ))
    }

    fn failed(&self, error: WsError) -> Error {
        let url = redact(&self.url);
        match error {
            WsError::Http(response) => upgrade(&refusal(&response, url), &self.sandbox),
            WsError::Url(UrlError::UnableToConnect(_)) | WsError::Io(_) | WsError::Tls(_) => {
                let cause = root_cause(&error);
                let message = format!("no connection to {url}: {cause}");
                connect_phase(Error::new(ErrorCode::ConnectTimeout, message).caused_by(error))
            }
            WsError::Url(_) | WsError::HttpFormat(_) => {
                let message = format!("{url} can't be connected to: {error}");
                connect_phase(Error::new(ErrorCode::Client, message).caused_by(error))
            }
            _ => {
                let message = format!(
                    "what answered at {url} is no WebSocket server; the sandbox may be stopped or out of reach ({error})"
                );
                connect_phase(Error::new(ErrorCode::Connection, message).caused_by(error))
            }
        }
    }
}

fn connect_phase(error: Error) -> Error {
    error.with(|details| details.phase = Some(Phase::Connect))
}

fn refusal(response: &Response<Option<Vec<u8>>>, url: String) -> Refusal {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    Refusal {
        status: response.status().as_u16(),
        body: ErrorBody::parse(response.body().as_deref().unwrap_or_default()),
        url,
        retry_after: text(RETRY_AFTER.as_str()).and_then(retry::retry_after),
        request_id: text("x-request-id").map(str::to_owned),
    }
}

/// What the end of reading means: `None` from the stream, a close frame, or an error.
pub(crate) fn loss(end: Option<Result<Message, WsError>>) -> Loss {
    match end {
        Some(Ok(Message::Close(frame))) => Loss::Closed(frame.map(|frame| frame.code.into())),
        None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Loss::Closed(None),
        Some(Err(error)) => Loss::Broken(root_cause(&error)),
        Some(Ok(_)) => Loss::Broken("unexpected message".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_follows_the_data_plane() {
        let url = |text: &str| Dialer::new(text, HeaderMap::new(), "box").url;
        assert_eq!(url("https://h/a"), "wss://h/a");
        assert_eq!(url("http://h/a"), "ws://h/a");
    }

    #[test]
    fn compression_is_not_offered_and_headers_are_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("k"));
        let request = Dialer::new("http://h/a", headers, "box").request().unwrap();
        assert!(request.headers().get("sec-websocket-extensions").is_none());
        assert_eq!(request.headers().get("x-api-key").unwrap(), "k");
    }
}
