//! The exec WebSocket (section 5.4): one attachment to one command per connection.
//!
//! A connection lives in one task. First the opening frame; then two halves run side by side: `listen` applies
//! what the client says, `speak` sends output and pings. Whichever ends says how to close. A full stdin queue stops
//! `listen`, and so the socket, but nothing else: limits, output and other connections go on. A command that then
//! reads nothing at all ends the connection by an error frame, and a kill that waits behind the input is obeyed.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use sandwire_protocol::limits::{
    CLOSE_GRACE, EARLY_FRAMES_MAX, EXEC_MESSAGE_MAX, EXEC_MESSAGE_READ_MAX, OPENING_DEADLINE, PING_INTERVAL,
    PONG_DEADLINE,
};
use sandwire_protocol::{ClientFrame, OutputFrame, ServerFrame, StreamKind};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{ApiError, App, Named};
use crate::engine::{Attachment, Command, End, Fault, Sandbox, Step};

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
    /// The client is gone.
    Gone,
}

pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    Named(id): Named,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let sandbox = app.usable(&id).await?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(EXEC_MESSAGE_READ_MAX)
        .max_frame_size(EXEC_MESSAGE_READ_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        let sockets = app.sockets.clone();
        sockets.track_future(serve(app, sandbox, socket)).await;
    }))
}

async fn serve(app: Arc<App>, sandbox: Arc<Sandbox>, socket: WebSocket) {
    let (mut sender, mut receiver) = socket.split();
    let close = tokio::select! {
        biased;
        () = app.stopping.cancelled() => Close::GoingAway,
        close = converse(&sandbox, &mut sender, &mut receiver) => close,
    };
    // Ends by itself where the client is gone; the grace is for one that neither reads nor leaves.
    let _answered = timeout(CLOSE_GRACE, part(close, sender, receiver)).await;
}

async fn converse(sandbox: &Arc<Sandbox>, sender: &mut Sender, receiver: &mut Receiver) -> Close {
    let (opening, early) = match timeout(OPENING_DEADLINE, open(receiver)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(close)) => return close,
        Err(_) => return Close::Refuse(Fault::invalid("no execute or reconnect frame came")),
    };
    let attached = match opening {
        ClientFrame::Execute(spec) => sandbox.execute(&spec),
        ClientFrame::Reconnect { command_id, stdout_offset, stderr_offset } => {
            sandbox.reconnect(&command_id, stdout_offset, stderr_offset)
        }
        _ => Err(Fault::invalid("the first frame must be execute or reconnect")),
    };
    let mut attachment = match attached {
        Ok(attachment) => attachment,
        Err(fault) => return Close::Refuse(fault),
    };
    let (command, heard) = (Arc::clone(attachment.command()), Heard::new());
    tokio::select! {
        biased;
        close = listen(receiver, &command, &heard, early) => close,
        close = speak(sender, &mut attachment, &heard) => close,
    }
}

/// The opening frame, and the control frames that came before it: clients send a queued `close_stdin` first.
async fn open(receiver: &mut Receiver) -> Result<(ClientFrame, Vec<ClientFrame>), Close> {
    let mut early = Vec::new();
    loop {
        match next_frame(receiver, None).await? {
            opening @ (ClientFrame::Execute(_) | ClientFrame::Reconnect { .. }) => {
                return Ok((opening, early));
            }
            control if early.len() < EARLY_FRAMES_MAX => early.push(control),
            _ => return Err(Close::Refuse(Fault::invalid("too many frames before the opening frame"))),
        }
    }
}

async fn listen(
    receiver: &mut Receiver,
    command: &Arc<Command>,
    heard: &Heard,
    early: Vec<ClientFrame>,
) -> Close {
    for frame in early {
        if let Err(close) = apply(frame, command, heard).await {
            return close;
        }
    }
    loop {
        let applied = match next_frame(receiver, Some(heard)).await {
            Ok(frame) => apply(frame, command, heard).await,
            Err(close) => Err(close),
        };
        if let Err(close) = applied {
            return close;
        }
    }
}

async fn apply(frame: ClientFrame, command: &Arc<Command>, heard: &Heard) -> Result<(), Close> {
    match frame {
        ClientFrame::Kill => command.kill(),
        ClientFrame::CloseStdin => command.close_stdin(),
        ClientFrame::Input { data } => {
            heard.set(None);
            let taken = command.input(Bytes::from(data)).await;
            heard.set(Some(Instant::now()));
            return taken.map_err(|fault| Close::Stalled(fault, Arc::clone(command)));
        }
        ClientFrame::Execute(_) | ClientFrame::Reconnect { .. } => {
            return Err(Close::Refuse(Fault::invalid("this connection has its command already")));
        }
    }
    Ok(())
}

async fn next_frame(receiver: &mut Receiver, heard: Option<&Heard>) -> Result<ClientFrame, Close> {
    loop {
        let message = receiver.next().await.ok_or(Close::Gone)?;
        if let Some(heard) = heard {
            heard.set(Some(Instant::now()));
        }
        let frame = match &message {
            Ok(Message::Text(text)) => decode(text.as_bytes()),
            Ok(Message::Binary(bytes)) => decode(bytes),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return Err(Close::Gone),
            // Too large, or no WebSocket; where the connection broke, nobody reads the refusal.
            Err(error) => return Err(Close::Deaf(Fault::invalid(format!("unreadable message: {error}")))),
        };
        return frame.map_err(|reason| Close::Refuse(Fault::invalid(reason)));
    }
}

fn decode(message: &[u8]) -> Result<ClientFrame, String> {
    if message.len() > EXEC_MESSAGE_MAX {
        return Err(format!("the frame is larger than {EXEC_MESSAGE_MAX} bytes"));
    }
    serde_json::from_slice(message).map_err(|error| format!("malformed frame: {error}"))
}

async fn speak(sender: &mut Sender, attachment: &mut Attachment, heard: &Heard) -> Close {
    let pid = match attachment.started().await {
        Ok(pid) => pid,
        Err(fault) => return Close::Refuse(fault),
    };
    let command = Arc::clone(attachment.command());
    let started = ServerFrame::Started { command_id: command.id().into(), pid: Some(pid.into()) };
    match stream(sender, attachment, heard, started).await {
        Ok(close) => close,
        Err(_) => Close::Gone,
    }
}

async fn stream(
    sender: &mut Sender,
    attachment: &mut Attachment,
    heard: &Heard,
    started: ServerFrame<'_>,
) -> Result<Close, axum::Error> {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunk = Vec::new();
    sender.feed(encode(&started)).await?;
    loop {
        let step = match attachment.try_next(&mut chunk) {
            Some(step) => step,
            None => {
                flush(sender, heard).await?;
                tokio::select! {
                    step = attachment.next(&mut chunk) => step,
                    _ = pings.tick() => {
                        if heard.nothing_for_too_long() {
                            return Ok(Close::Gone);
                        }
                        sender.feed(Message::Ping(Bytes::new())).await?;
                        continue;
                    }
                }
            }
        };
        match step {
            Step::Output(kind, offset) => {
                // Borrows: the engine's output is text.
                let output = OutputFrame { data: String::from_utf8_lossy(&chunk), offset };
                let frame = match kind {
                    StreamKind::Stdout => ServerFrame::Stdout(output),
                    StreamKind::Stderr => ServerFrame::Stderr(output),
                };
                sender.feed(encode(&frame)).await?;
            }
            Step::End(End::Exited(exit_code)) => {
                sender.feed(encode(&ServerFrame::Exit { exit_code })).await?;
                return Ok(Close::Done);
            }
            Step::End(End::Failed(fault)) => return Ok(Close::Refuse(fault)),
        }
    }
}

/// A client that does not read can't answer pings either: the wait for it is not its silence.
async fn flush(sender: &mut Sender, heard: &Heard) -> Result<(), axum::Error> {
    let began = Instant::now();
    sender.flush().await?;
    if began.elapsed() > PING_INTERVAL {
        heard.set(Some(Instant::now()));
    }
    Ok(())
}

fn encode(frame: &ServerFrame<'_>) -> Message {
    // Frames are strings and numbers, which always are JSON; a client could do nothing with an empty frame.
    Message::Text(serde_json::to_string(frame).unwrap_or_default().into())
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
        Close::Gone => return sender.flush().await,
    };
    sender.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
    if deaf {
        tokio::time::sleep(CLOSE_GRACE).await;
    }
    while let Some(Ok(message)) = receiver.next().await {
        if let (Some(command), Message::Text(text)) = (&unread, &message)
            && matches!(decode(text.as_bytes()), Ok(ClientFrame::Kill))
        {
            command.kill();
        }
    }
    Ok(())
}

/// When the client was last heard; `None` while nobody listens.
struct Heard(Mutex<Option<Instant>>);

impl Heard {
    fn new() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    fn set(&self, at: Option<Instant>) {
        *crate::engine::lock(&self.0) = at;
    }

    fn nothing_for_too_long(&self) -> bool {
        crate::engine::lock(&self.0).is_some_and(|at| at.elapsed() > PONG_DEADLINE)
    }
}
