//! The exec WebSocket (section 5.4): one attachment to one command per connection.
//!
//! A connection lives in one task. First the opening frame; then two halves run side by side: [`listen`] applies
//! what the client says, [`speak`] sends output and pings. Whichever ends says how to close.
//!
//! A client may ask for the extension (`docs/WIRE.md`) by its subprotocol; without that every byte is as in the
//! protocol. With it output is raw, and input bears positions and is never waited for, so the socket is always read.
//! Without it a full stdin queue stops `listen`, and so the socket, but nothing else: limits, output and other
//! connections go on. A command that then reads nothing at all ends the connection by an error frame, and a kill that
//! waits behind the input is obeyed.

mod heard;
mod inbox;
mod listen;
mod speak;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use sandwire_protocol::extension::SUBPROTOCOL;
use sandwire_protocol::limits::{CLOSE_GRACE, EXEC_MESSAGE_READ_MAX, OPENING_DEADLINE, WRITER_MAX};
use sandwire_protocol::{ClientFrame, ServerFrame};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{ApiError, App, Named};
use crate::engine::{Attachment, Command, Fault, Form, InUse, Sandbox, View};
use heard::Heard;
use inbox::Inbox;
use listen::{Dialect, Listener, is_kill, listen, open};
use speak::{encode, speak};

/// Commands and input are small; a larger buffer costs every connection its clearing.
const READ_BUFFER: usize = 8 * 1024;
/// Frames of one wake-up go out together up to this size.
const WRITE_BUFFER: usize = 32 * 1024;

type Sender = SplitSink<WebSocket, Message>;
type Receiver = SplitStream<WebSocket>;

/// How a connection ends.
enum Close {
    /// The last frame is on its way.
    Done,
    /// With an error frame.
    Refuse(Fault),
    /// With an error frame, as the command does not read its input.
    Stalled(Fault, Arc<Command>),
    /// With an error frame, and nothing more can be read.
    Deaf(Fault),
    /// The server ends; the client is to come back.
    GoingAway,
    /// The client said goodbye, or has another connection.
    Left,
    /// The client is gone.
    Gone,
}

impl From<Fault> for Close {
    fn from(fault: Fault) -> Self {
        Self::Refuse(fault)
    }
}

pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    Named(id): Named,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let sandbox = app.usable(&id).await?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(EXEC_MESSAGE_READ_MAX)
        .max_frame_size(EXEC_MESSAGE_READ_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        let sockets = app.sockets.clone();
        sockets.track_future(serve(app, sandbox, socket)).await;
    }))
}

async fn serve(app: Arc<App>, sandbox: InUse, socket: WebSocket) {
    let dialect = if socket.protocol().is_some() { Dialect::Extended } else { Dialect::Plain };
    let (mut sender, mut receiver) = socket.split();
    let close = tokio::select! {
        biased;
        () = app.stopping.cancelled() => Close::GoingAway,
        close = converse(&sandbox, dialect, &mut sender, &mut receiver) => close,
    };
    // Ends by itself where the client is gone; the grace is for one that neither reads nor leaves.
    let _answered = timeout(CLOSE_GRACE, part(close, sender, receiver)).await;
}

async fn converse(
    sandbox: &Arc<Sandbox>,
    dialect: Dialect,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> Close {
    let (opening, early) = match timeout(OPENING_DEADLINE, open(receiver, dialect)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(close)) => return close,
        Err(_) => return Close::Refuse(Fault::invalid("no execute or reconnect frame came")),
    };
    let (mut attachment, writer) = match attach(sandbox, dialect, opening) {
        Ok(attached) => attached,
        Err(fault) => return Close::Refuse(fault),
    };
    let (command, heard) = (Arc::clone(attachment.command()), Heard::new());
    let connection = writer.as_deref().map(|writer| command.hand_over(writer));
    let (taken, acks) = watch::channel(writer.as_deref().map(|writer| command.stdin().taken(writer)));
    let inbox = Inbox::new(writer, taken);
    let key = attachment.key();
    let listener = Listener { command: &command, key, heard: &heard, inbox };
    let close = tokio::select! {
        biased;
        () = handed_over(connection.as_deref()) => Close::Left,
        close = listen(receiver, dialect, listener, early) => close,
        close = speak(sender, dialect, &mut attachment, &heard, acks) => close,
    };
    if matches!(close, Close::Left) {
        attachment.leave();
    }
    close
}

/// Ends when the writer of this connection has another one.
async fn handed_over(connection: Option<&CancellationToken>) {
    match connection {
        Some(connection) => connection.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The attachment that the opening frame asks for, and who writes to stdin by it.
fn attach(
    sandbox: &Arc<Sandbox>,
    dialect: Dialect,
    opening: ClientFrame,
) -> Result<(Attachment, Option<String>), Fault> {
    let form = match dialect {
        Dialect::Plain => Form::Text,
        Dialect::Extended => Form::Raw,
    };
    let (attachment, writer) = match opening {
        ClientFrame::Execute(mut spec) => {
            let writer = writer(dialect, spec.writer.take())?;
            (sandbox.execute(&spec, form)?, writer)
        }
        ClientFrame::Reconnect { command_id, stdout_offset, stderr_offset, writer: name } => {
            let writer = writer(dialect, name)?;
            (sandbox.reconnect(&command_id, View { form, stdout_offset, stderr_offset })?, writer)
        }
        _ => return Err(Fault::invalid("the first frame must be execute or reconnect")),
    };
    Ok((attachment, writer))
}

fn writer(dialect: Dialect, name: Option<String>) -> Result<Option<String>, Fault> {
    match (dialect, name) {
        (Dialect::Extended, Some(name)) if name.is_empty() || name.len() > WRITER_MAX => {
            Err(Fault::invalid(format!("writer must have 1 to {WRITER_MAX} bytes")))
        }
        (Dialect::Extended, name) => Ok(name),
        (Dialect::Plain, _) => Ok(None),
    }
}

/// Says the last word and waits until the client has it: dropping the connection with something unread would reset
/// it, and take the last frames along.
async fn part(close: Close, mut sender: Sender, mut receiver: Receiver) -> Result<(), axum::Error> {
    let deaf = matches!(close, Close::Deaf(_));
    let unread = if let Close::Stalled(_, command) = &close { Some(Arc::clone(command)) } else { None };
    let (code, reason) = match close {
        Close::Done => (close_code::NORMAL, ""),
        Close::Refuse(fault) | Close::Stalled(fault, _) | Close::Deaf(fault) => {
            let (error_type, error) = (fault.kind.as_str().into(), fault.message.as_str().into());
            sender.feed(encode(&ServerFrame::Error { error_type, error })).await?;
            (close_code::NORMAL, "")
        }
        Close::GoingAway => (close_code::AWAY, "the server is shutting down"),
        Close::Left | Close::Gone => return sender.flush().await,
    };
    sender.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
    if deaf {
        tokio::time::sleep(CLOSE_GRACE).await;
    }
    while let Some(Ok(message)) = receiver.next().await {
        if let Some(command) = &unread
            && is_kill(&message)
        {
            command.kill();
        }
    }
    Ok(())
}
