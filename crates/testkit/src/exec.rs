//! The server's end of an exec WebSocket, frame by frame.

use std::io;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::{Error, Message};

/// An accepted exec connection.
#[derive(Debug)]
pub struct Exec {
    socket: WebSocketStream<TcpStream>,
}

impl Exec {
    pub(crate) fn new(socket: WebSocketStream<TcpStream>) -> Self {
        Self { socket }
    }

    /// The client's next frame; `None` when it has left.
    pub async fn recv(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return serde_json::from_str(text.as_str()).ok(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                _ => return None,
            }
        }
    }

    /// Reads the opening frame and says `started` with its command id.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn start(&mut self) -> io::Result<Value> {
        let opening = self.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let id = opening.get("command_id").cloned().unwrap_or(Value::Null);
        self.send(json!({ "type": "started", "command_id": id, "pid": 42 })).await?;
        Ok(opening)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn send(&mut self, frame: Value) -> io::Result<()> {
        self.message(Message::text(frame.to_string())).await
    }

    /// Sends output.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn output(&mut self, stream: &str, data: &str, offset: usize) -> io::Result<()> {
        self.send(json!({ "type": stream, "data": data, "offset": offset })).await
    }

    /// Sends `exit`.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn exit(&mut self, exit_code: i32) -> io::Result<()> {
        self.send(json!({ "type": "exit", "exit_code": exit_code })).await
    }

    /// Sends text that need not be a frame.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn text(&mut self, text: &str) -> io::Result<()> {
        self.message(Message::text(text)).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn binary(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.message(Message::binary(bytes.to_vec())).await
    }

    async fn message(&mut self, message: Message) -> io::Result<()> {
        self.socket.send(message).await.map_err(io_error)
    }

    /// Closes in good order with a code.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn close(mut self, code: u16) -> io::Result<()> {
        let frame = CloseFrame { code: code.into(), reason: Utf8Bytes::from_static("") };
        self.socket.close(Some(frame)).await.map_err(io_error)?;
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }

    /// Sends the first bytes of a large frame and drops the connection.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn cut_inside_a_frame(mut self) -> io::Result<()> {
        // Final text frame of 100 bytes, of which one follows.
        self.socket.get_mut().write_all(&[0x81, 100, b'{']).await?;
        self.socket.get_mut().shutdown().await
    }

    /// Announces a message of `size` bytes.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn announce(&mut self, size: u64) -> io::Result<()> {
        const TEXT_WITH_LONG_SIZE: [u8; 2] = [0x81, 127];
        self.socket.get_mut().write_all(&TEXT_WITH_LONG_SIZE).await?;
        self.socket.get_mut().write_all(&size.to_be_bytes()).await
    }

    /// Waits until the client has left, and says what it still sent.
    pub async fn drained(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(frame) = self.recv().await {
            frames.push(frame);
        }
        frames
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
