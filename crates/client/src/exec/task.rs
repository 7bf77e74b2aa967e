//! The task of one attachment: owns the socket, carries out what the [`Session`] decides.
//!
//! Reading and writing never wait for each other: a server that is stuck writing output to us must still get our
//! `kill`, and we must read on while it does not take our input. A kill behind input that is not taken would never
//! be read, and whether it is can't be seen from here: what the network buffers counts as sent. So a kill that shows
//! no effect goes out again on a connection of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use sandwire_protocol::limits::PING_INTERVAL;
use sandwire_protocol::{ClientFrame, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::connect::Detour;
use super::input::Encoder;
use super::output::{End, Output};
use super::session::{Finish, Session, Step};
use super::socket::{Socket, loss};
use super::{CommandOutcome, CommandResult, KILL_PATIENCE, connect};
use crate::Error;

/// Frames handled in a row before commands of the caller are looked at again.
const FRAMES_IN_A_ROW: usize = 64;

/// How long the farewell may take; nobody waits for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a control: whether the command was still there.
pub(crate) type Reply = oneshot::Sender<Result<bool, Error>>;

/// What a caller asks of a running command.
#[derive(Debug)]
pub(crate) enum Control {
    Kill(Reply),
    Input(Bytes, Reply),
    CloseInput(Reply),
}

/// A message to be written; the last one of a control answers it.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    reply: Option<Reply>,
    /// Whether it is worth nothing to a command that was killed.
    stdin: bool,
}

/// The command's stdin.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// A terminal has no end of file but its own character for it.
    pty: bool,
    /// Whether its end was sent.
    over: bool,
    /// Whether anything was.
    used: bool,
    encoder: Encoder,
    /// Cancelled by a kill: what still waits is not sent.
    dropped: CancellationToken,
}

/// One attachment to a running command.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) session: Session,
    pub(crate) output: Arc<Output>,
    pub(crate) controls: mpsc::UnboundedReceiver<Control>,
    pub(crate) input: Input,
    pub(crate) detour: Detour,
    /// Sees to it that a kill arrives.
    pub(crate) kill: Option<JoinHandle<()>>,
    /// Cancelled when there is nothing to kill any more.
    pub(crate) over: CancellationToken,
}

impl Attachment {
    /// Runs until the command is over, the connection is lost, or `detach` is cancelled.
    pub(crate) async fn run(mut self, socket: Socket, detach: CancellationToken) {
        let (mut sink, mut stream) = socket.split();
        let (outbox, mut inbox) = mpsc::unbounded_channel();
        let dropped = self.input.dropped.clone();
        let finish = tokio::select! {
            biased;
            () = detach.cancelled() => detached(),
            finish = self.read(&mut stream, &outbox) => finish,
            never = write(&mut sink, &mut inbox, &dropped) => match never {},
        };
        self.over.cancel();
        let end = conclude(&self.session, &self.output, finish);
        self.output.finish(end);
        drop(self);
        // The result does not depend on whether the server hears it.
        let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
    }

    async fn read(
        &mut self,
        stream: &mut SplitStream<Socket>,
        outbox: &mpsc::UnboundedSender<Outgoing>,
    ) -> Finish {
        let mut pings = interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            let room = self.output.has_room();
            tokio::select! {
                biased;
                Some(control) = self.controls.recv() => self.control(control, outbox),
                received = stream.next(), if room => {
                    if let Some(finish) = self.received(received).or_else(|| self.ready(stream)) {
                        return finish;
                    }
                }
                () = self.output.room(), if !room => self.session.on_unblocked(Instant::now()),
                () = sleep_until(self.session.deadline().into()), if room => {
                    if let Step::End(finish) = self.session.on_deadline(Instant::now()) {
                        return finish;
                    }
                }
                _ = pings.tick() => put(outbox, Message::Ping(Bytes::new()), None, false),
            }
        }
    }

    /// Handles what has arrived already, without the cost of waiting for it.
    fn ready(&mut self, stream: &mut SplitStream<Socket>) -> Option<Finish> {
        for _ in 0..FRAMES_IN_A_ROW {
            if !self.output.has_room() {
                break;
            }
            let received = stream.next().now_or_never()?;
            if let Some(finish) = self.received(received) {
                return Some(finish);
            }
        }
        None
    }

    fn received(&mut self, received: Option<Result<Message, WsError>>) -> Option<Finish> {
        let step = match &received {
            Some(Ok(message)) if !message.is_close() => connect::step(message, &mut self.session)?,
            _ => self.session.on_lost(&loss(received)),
        };
        match step {
            Step::Deliver { kind, text, offset } => self.output.push(kind, offset, text.as_bytes()),
            Step::End(finish) => return Some(finish),
            Step::Ignore | Step::Started => {}
        }
        None
    }

    fn control(&mut self, control: Control, outbox: &mpsc::UnboundedSender<Outgoing>) {
        let (messages, reply) = match control {
            Control::Kill(reply) => return self.kill(reply, outbox),
            Control::Input(_, reply) | Control::CloseInput(reply) if self.input.dropped.is_cancelled() => {
                return answer(reply, Ok(false));
            }
            Control::Input(_, reply) if self.input.over => return answer(reply, Ok(false)),
            Control::Input(data, reply) => (self.input.send(&data), reply),
            Control::CloseInput(reply) => (self.input.close(), reply),
        };
        match messages {
            Ok(mut messages) => match messages.pop() {
                Some(last) => {
                    messages.into_iter().for_each(|message| put(outbox, message, None, true));
                    put(outbox, last, Some(reply), true);
                }
                None => answer(reply, Ok(true)),
            },
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn kill(&mut self, reply: Reply, outbox: &mpsc::UnboundedSender<Outgoing>) {
        self.session.on_kill(Instant::now());
        self.input.dropped.cancel();
        let message = match connect::message(&ClientFrame::Kill) {
            Ok(message) => message,
            Err(error) => return answer(reply, Err(error)),
        };
        let insisting = self.kill.as_ref().is_some_and(|kill| !kill.is_finished());
        if !self.input.used || insisting {
            return put(outbox, message, Some(reply), false);
        }
        let (written, first) = oneshot::channel();
        put(outbox, message, Some(written), false);
        let (id, next) = (self.session.command_id().to_owned(), self.session.next_offsets());
        let (detour, over) = (self.detour.clone(), self.over.clone());
        self.kill = Some(tokio::spawn(async move {
            let unsent = patience(first, reply).await;
            over.run_until_cancelled(insist(unsent, &detour, id, next)).await;
        }));
    }
}

impl Input {
    /// `over`: the command is started without.
    pub(crate) fn new(pty: bool, over: bool) -> Self {
        Self { pty, over, ..Self::default() }
    }

    fn send(&mut self, data: &[u8]) -> Result<Vec<Message>, Error> {
        self.used = true;
        self.encoder.frames(data)?.iter().map(connect::message).collect()
    }

    fn close(&mut self) -> Result<Vec<Message>, Error> {
        const END_OF_TRANSMISSION: &str = "\u{4}";
        self.encoder.finish()?;
        self.over = !self.pty;
        let frame = match self.pty {
            true => ClientFrame::Input { data: END_OF_TRANSMISSION.to_owned() },
            false => ClientFrame::CloseStdin,
        };
        connect::message(&frame).map(|message| vec![message])
    }
}

/// Gives a kill time to be written and to work; returns the reply if it was not even written. Never cancelled: that it
/// was written must be told even if it works at once.
async fn patience(first: oneshot::Receiver<Result<bool, Error>>, reply: Reply) -> Option<Reply> {
    match timeout(KILL_PATIENCE, first).await {
        Ok(written) => {
            answer(reply, written.unwrap_or(Ok(false)));
            sleep(KILL_PATIENCE).await;
            None
        }
        Err(_) => Some(reply),
    }
}

/// Sends a kill on a connection of its own, and waits for the end.
async fn insist(reply: Option<Reply>, detour: &Detour, command_id: String, next: [u64; 2]) {
    let (told, killed) = match detour.kill(command_id, next).await {
        Ok(killed) => (Ok(true), Some(killed)),
        Err(error) => (Err(error), None),
    };
    if let Some(reply) = reply {
        answer(reply, told);
    }
    if let Some(killed) = killed {
        killed.outlast().await;
    }
}

/// Writes until it is dropped. After a failure it only answers: reading will tell what happened.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    inbox: &mut mpsc::UnboundedReceiver<Outgoing>,
    dropped: &CancellationToken,
) -> Infallible {
    while let Some(Outgoing { message, reply, stdin }) = inbox.recv().await {
        let written = !(stdin && dropped.is_cancelled()) && sink.send(message).await.is_ok();
        if let Some(reply) = reply {
            answer(reply, Ok(written));
        }
    }
    std::future::pending().await
}

fn put(outbox: &mpsc::UnboundedSender<Outgoing>, message: Message, reply: Option<Reply>, stdin: bool) {
    // Both ends live in `run`; a reply that is dropped reads as "already over".
    let _ = outbox.send(Outgoing { message, reply, stdin });
}

fn answer(reply: Reply, value: Result<bool, Error>) {
    // Nobody has to wait for the answer.
    let _ = reply.send(value);
}

fn detached() -> Finish {
    let message = "the handle was closed before the command ended";
    Finish {
        outcome: CommandOutcome::Lost,
        exit_code: None,
        signal: None,
        error: Some(Error::new(ErrorCode::Client, message)),
    }
}

/// The result, or the error with what there is of a result.
pub(crate) fn conclude(session: &Session, output: &Output, finish: Finish) -> End {
    let (stdout, stderr) = output.retained();
    let Finish { outcome, exit_code, signal, error } = finish;
    let result = Arc::new(CommandResult {
        exit_code,
        outcome,
        signal,
        duration: session.elapsed(Instant::now()),
        stdout,
        stderr,
        gaps: session.gaps().to_vec(),
    });
    match error {
        None => Ok(result),
        Some(error) => Err(error.with(|details| details.result = Some(result))),
    }
}
