//! One connection, its request head read.

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{Exec, Line, Log};

/// A client that waits for an answer.
#[derive(Debug)]
pub struct Peer {
    /// Number of the connection, from 0.
    pub index: usize,
    /// `GET`, `POST`...
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    stream: Line,
    log: Log,
    /// Bytes after the head that came with it.
    rest: Vec<u8>,
}

impl Peer {
    pub(crate) async fn read(mut stream: Line, index: usize, log: Log) -> io::Result<Self> {
        const END: &[u8] = b"\r\n\r\n";
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
                break end;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let rest = bytes.split_off(end + END.len());
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = head.lines();
        let mut request = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let (method, target) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
        Ok(Self { index, method, target, headers, stream, log, rest })
    }

    /// The body, as long as `Content-Length` says; empty when asked again.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn body(&mut self) -> io::Result<Vec<u8>> {
        let length = self.headers.remove("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while self.rest.len() < length {
            if self.stream.read_buf(&mut self.rest).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(std::mem::take(&mut self.rest))
    }

    /// Answers and closes.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn answer(mut self, status: u16, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        self.body().await?;
        let mut head =
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(format!("{head}\r\n{body}").as_bytes()).await
    }

    /// Sends bytes that need not be HTTP, and closes.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn raw(mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.shutdown().await
    }

    /// Answers nothing until the client has left.
    pub async fn outlast(mut self) {
        self.stream.outlast().await;
    }

    /// Ends the sending side after exactly `bytes` bytes from here: the answer to the upgrade counts.
    #[must_use]
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.stream.cut_after(bytes);
        self
    }

    /// Whether the client would speak this subprotocol.
    #[must_use]
    pub fn offers(&self, subprotocol: &str) -> bool {
        let offered = self.headers.get("sec-websocket-protocol").map(String::as_str).unwrap_or_default();
        offered.split(',').any(|name| name.trim() == subprotocol)
    }

    /// Accepts the WebSocket upgrade.
    ///
    /// # Errors
    /// If it is none, or the client leaves.
    pub async fn accept(self) -> io::Result<Exec> {
        self.accept_as(None).await
    }

    /// Accepts the WebSocket upgrade and selects a subprotocol.
    ///
    /// # Errors
    /// If it is none, or the client leaves. When the connection was cut, the client has left by then.
    pub async fn accept_as(mut self, subprotocol: Option<&str>) -> io::Result<Exec> {
        let key = self.headers.get("sec-websocket-key").ok_or(ErrorKind::InvalidData)?;
        let selected =
            subprotocol.map(|name| format!("sec-websocket-protocol: {name}\r\n")).unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n{selected}sec-websocket-accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        if let Err(cut) = self.stream.write_all(answer.as_bytes()).await {
            self.stream.outlast().await;
            return Err(cut);
        }
        let socket = WebSocketStream::from_partially_read(self.stream, self.rest, Role::Server, None).await;
        Ok(Exec::new(socket, self.index, self.log))
    }
}
