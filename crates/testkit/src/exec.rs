//! The server's end of an exec WebSocket, frame by frame.

use std::io::{self, ErrorKind};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{Line, Log};

/// An accepted exec connection.
#[derive(Debug)]
pub struct Exec {
    socket: WebSocketStream<Line>,
    index: usize,
    log: Log,
    command_id: String,
    /// What of stdout and stderr the client said that it has.
    acknowledged: Option<[u64; 2]>,
}

impl Exec {
    pub(crate) fn new(socket: WebSocketStream<Line>, index: usize, log: Log) -> Self {
        Self { socket, index, log, command_id: String::new(), acknowledged: None }
    }

    /// The client's next frame; `None` when it has left. Input in a binary message of the extension reads as
    /// `{"type": "stdin", "offset", "data"}`. Acknowledgements of output come at any time: they are kept
    /// ([`Exec::acknowledged`]) and not returned.
    pub async fn recv(&mut self) -> Option<Value> {
        loop {
            let frame = match self.socket.next().await? {
                Ok(Message::Text(text)) => serde_json::from_str(text.as_str()).ok()?,
                Ok(Message::Binary(bytes)) => input(&bytes)?,
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                _ => return None,
            };
            self.log.note(self.index, &frame);
            if kind_of(&frame) != "output_ack" {
                return Some(frame);
            }
            self.acknowledged = Some(
                ["stdout", "stderr"].map(|name| frame.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX)),
            );
        }
    }

    /// Reads frames until the opening one, which may follow a control frame (section 5.4.9).
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn opening(&mut self) -> io::Result<Value> {
        loop {
            let frame = self.recv().await.ok_or(ErrorKind::UnexpectedEof)?;
            if matches!(kind_of(&frame), "execute" | "reconnect") {
                let id = frame.get("command_id").and_then(Value::as_str).unwrap_or_default();
                id.clone_into(&mut self.command_id);
                return Ok(frame);
            }
        }
    }

    /// The last acknowledgement of output, if any came: positions of stdout and stderr.
    #[must_use]
    pub fn acknowledged(&self) -> Option<[u64; 2]> {
        self.acknowledged
    }

    /// The id in the opening frame.
    #[must_use]
    pub fn command_id(&self) -> &str {
        &self.command_id
    }

    /// Says `started` with the id in the opening frame, and the members of `extra`.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn started(&mut self, extra: Value) -> io::Result<()> {
        let mut frame = json!({ "type": "started", "command_id": self.command_id, "pid": 42 });
        if let (Some(frame), Value::Object(extra)) = (frame.as_object_mut(), extra) {
            frame.extend(extra);
        }
        self.send(frame).await
    }

    /// Reads the opening frame and says `started` with its command id.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn start(&mut self) -> io::Result<Value> {
        let opening = self.opening().await?;
        self.started(json!({})).await?;
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

    /// Sends output as the extension has it; `stream` is 0 for stdout, 1 for stderr.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn bytes(&mut self, stream: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let kind = u8::try_from(stream).map_err(io::Error::other)?;
        self.binary(&[&[kind], &offset.to_be_bytes()[..], bytes].concat()).await
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
        self.begin_a_frame().await?;
        self.socket.get_mut().shutdown().await
    }

    /// Sends the first bytes of a large frame, and nothing more until the client has left.
    ///
    /// # Errors
    /// If the client leaves early.
    pub async fn stall_inside_a_frame(mut self) -> io::Result<()> {
        self.begin_a_frame().await?;
        self.outlast().await;
        Ok(())
    }

    async fn begin_a_frame(&mut self) -> io::Result<()> {
        // Final text frame of 100 bytes, of which one follows.
        self.socket.get_mut().write_all(&[0x81, 100, b'{']).await
    }

    /// Sends bytes that need not be a WebSocket frame.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.get_mut().write_all(bytes).await
    }

    /// Announces a message of `size` bytes.
    ///
    /// # Errors
    /// If the client leaves.
    pub async fn announce(&mut self, size: u64) -> io::Result<()> {
        const TEXT_WITH_LONG_SIZE: [u8; 2] = [0x81, 127];
        self.raw(&[&TEXT_WITH_LONG_SIZE[..], &size.to_be_bytes()].concat()).await
    }

    /// Resets the connection.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn reset(self) -> io::Result<()> {
        self.socket.into_inner().reset()
    }

    /// Answers nothing, not even a ping, until the client has left: a host that is gone, or a network that is.
    pub async fn outlast(&mut self) {
        self.socket.get_mut().outlast().await;
    }

    /// Waits until the client has left, and says what it still sent.
    pub async fn drained(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(frame) = self.recv().await {
            frames.push(frame);
        }
        // Sends the answer to a close frame.
        while let Some(Ok(_)) = self.socket.next().await {}
        let _ = self.socket.get_mut().shutdown().await;
        self.outlast().await;
        frames
    }
}

fn kind_of(frame: &Value) -> &str {
    frame.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn input(message: &[u8]) -> Option<Value> {
    let (0, rest) = message.split_first()? else { return None };
    let (offset, bytes) = rest.split_first_chunk::<8>()?;
    let (offset, data) = (u64::from_be_bytes(*offset), String::from_utf8_lossy(bytes));
    Some(json!({ "type": "stdin", "offset": offset, "data": data }))
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
