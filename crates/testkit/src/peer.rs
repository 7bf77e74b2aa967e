//! One connection, its request head read.

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Exec;

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
    stream: TcpStream,
    /// Bytes after the head that came with it.
    rest: Vec<u8>,
}

impl Peer {
    pub(crate) async fn read(mut stream: TcpStream, index: usize) -> io::Result<Self> {
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
        Ok(Self { index, method, target, headers, stream, rest })
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

    /// Accepts the WebSocket upgrade.
    ///
    /// # Errors
    /// If it is none, or the client leaves.
    pub async fn accept(mut self) -> io::Result<Exec> {
        let key = self.headers.get("sec-websocket-key").ok_or(ErrorKind::InvalidData)?;
        let answer = format!(
            "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        self.stream.write_all(answer.as_bytes()).await?;
        Ok(Exec::new(WebSocketStream::from_partially_read(self.stream, self.rest, Role::Server, None).await))
    }
}
