//! The half of a connection that listens: it reads messages, as far as the client may send them, and applies them to
//! the command in their order.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::Message;
use futures_util::StreamExt;
use sandwire_protocol::ClientFrame;
use sandwire_protocol::extension::{HEADER, decode_input};
use sandwire_protocol::limits::{EARLY_FRAMES_MAX, EXEC_MESSAGE_MAX};

use super::heard::Heard;
use super::inbox::Inbox;
use super::{Close, Receiver};
use crate::engine::{Command, Fault, WindowSize};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The protocol of the official clients.
    Plain,
    /// That with the extension.
    Extended,
}

enum Incoming {
    Frame(ClientFrame),
    /// Input with the position of its first byte.
    Input(u64, Bytes),
}

/// The opening frame, and the control frames that came before it: clients send a queued `close_stdin` first.
pub(super) async fn open(
    receiver: &mut Receiver,
    dialect: Dialect,
) -> Result<(ClientFrame, Vec<ClientFrame>), Close> {
    let mut early = Vec::new();
    loop {
        match next(receiver, dialect, None).await? {
            Incoming::Frame(opening @ (ClientFrame::Execute(_) | ClientFrame::Reconnect { .. })) => {
                return Ok((opening, early));
            }
            Incoming::Frame(control) if early.len() < EARLY_FRAMES_MAX => early.push(control),
            Incoming::Frame(_) => {
                return Err(Close::Refuse(Fault::invalid("too many frames before the opening frame")));
            }
            Incoming::Input(..) => {
                return Err(Close::Refuse(Fault::invalid("binary input before the opening frame")));
            }
        }
    }
}

/// Applies the frames that came early, and then what comes, until that ends the connection.
pub(super) async fn listen(
    receiver: &mut Receiver,
    dialect: Dialect,
    mut listener: Listener<'_>,
    early: Vec<ClientFrame>,
) -> Close {
    let Err(close) = listener.run(receiver, dialect, early).await;
    close
}

/// What the messages of a connection are applied to.
pub(super) struct Listener<'a> {
    pub(super) command: &'a Arc<Command>,
    /// The attachment's.
    pub(super) key: u64,
    pub(super) heard: &'a Heard,
    pub(super) inbox: Inbox,
}

impl Listener<'_> {
    async fn run(
        &mut self,
        receiver: &mut Receiver,
        dialect: Dialect,
        early: Vec<ClientFrame>,
    ) -> Result<Infallible, Close> {
        for frame in early {
            self.apply(frame).await?;
        }
        loop {
            tokio::select! {
                biased;
                delivered = self.inbox.deliver(self.command), if !self.inbox.is_empty() => delivered?,
                incoming = next(receiver, dialect, Some(self.heard)) => match incoming? {
                    Incoming::Frame(frame) => self.apply(frame).await?,
                    Incoming::Input(offset, data) => self.inbox.accept(self.command, offset, &data)?,
                },
            }
        }
    }

    async fn apply(&mut self, frame: ClientFrame) -> Result<(), Close> {
        match frame {
            ClientFrame::Kill => self.command.kill(),
            ClientFrame::CloseStdin => self.inbox.close(self.command),
            ClientFrame::Input { data } => self.input(data.as_bytes()).await?,
            ClientFrame::Signal { signal } => self.command.signal(signal),
            ClientFrame::Resize { cols, rows } => self.command.resize(WindowSize { cols, rows }),
            ClientFrame::OutputAck { stdout, stderr } => self.command.acknowledge(self.key, stdout, stderr),
            ClientFrame::Execute(_) | ClientFrame::Reconnect { .. } => {
                return Err(Close::Refuse(Fault::invalid("this connection has its command already")));
            }
        }
        Ok(())
    }

    /// Input without a position has to be waited for: nobody would learn that it was lost.
    async fn input(&mut self, data: &[u8]) -> Result<(), Close> {
        while !self.inbox.is_empty() {
            self.inbox.deliver(self.command).await?;
        }
        self.heard.pause();
        let taken = self.command.input(data).await;
        self.heard.now();
        taken.map_err(|fault| Close::Stalled(fault, Arc::clone(self.command)))
    }
}

async fn next(receiver: &mut Receiver, dialect: Dialect, heard: Option<&Heard>) -> Result<Incoming, Close> {
    loop {
        let message = receiver.next().await.ok_or(Close::Gone)?;
        if let Some(heard) = heard {
            heard.now();
        }
        let decoded = match &message {
            Ok(Message::Text(text)) => decode(text.as_bytes(), dialect).map(Incoming::Frame),
            Ok(Message::Binary(bytes)) if dialect == Dialect::Extended => input(bytes),
            Ok(Message::Binary(bytes)) => decode(bytes, dialect).map(Incoming::Frame),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return Err(Close::Left),
            // Too large, or no WebSocket; where the connection broke, nobody reads the refusal.
            Err(error) => return Err(Close::Deaf(Fault::invalid(format!("unreadable message: {error}")))),
        };
        return decoded.map_err(|reason| Close::Refuse(Fault::invalid(reason)));
    }
}

fn input(message: &Bytes) -> Result<Incoming, String> {
    let (offset, _) = decode_input(message).ok_or("malformed binary message")?;
    Ok(Incoming::Input(offset, message.slice(HEADER..)))
}

fn decode(message: &[u8], dialect: Dialect) -> Result<ClientFrame, String> {
    if message.len() > EXEC_MESSAGE_MAX {
        return Err(format!("the frame is larger than {EXEC_MESSAGE_MAX} bytes"));
    }
    let frame = serde_json::from_slice(message).map_err(|error| format!("malformed frame: {error}"))?;
    match (dialect, &frame) {
        (
            Dialect::Plain,
            ClientFrame::Resize { .. } | ClientFrame::Signal { .. } | ClientFrame::OutputAck { .. },
        ) => Err("malformed frame: its type is not part of the protocol".into()),
        (_, ClientFrame::Resize { cols: 0, .. } | ClientFrame::Resize { rows: 0, .. }) => {
            Err("malformed frame: a window has at least one column and one row".into())
        }
        _ => Ok(frame),
    }
}

/// Whether it asks for a kill, in whatever form may follow the last word.
pub(super) fn is_kill(message: &Message) -> bool {
    matches!(message, Message::Text(text) if matches!(decode(text.as_bytes(), Dialect::Plain), Ok(ClientFrame::Kill)))
}
