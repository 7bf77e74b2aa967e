//! The task of one command: carries out what the [`Session`] decides, over as many connections as it takes.
//!
//! A kill behind input that is not taken would never be read, and whether it is can't be seen from here: what the
//! network buffers counts as sent. So where input can block, a kill that shows no effect goes out again on a
//! connection of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use sandwire_protocol::extension::Signal;
use sandwire_protocol::limits::{OUTPUT_ACK_BYTES, PING_INTERVAL};
use sandwire_protocol::{ClientFrame, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::connect::Detour;
use super::connection::{Connection, Received};
use super::frames::{Frames, message};
use super::outbox::{Outbox, Reply, answer};
use super::output::{End, Output};
use super::session::{Delivery, Finish, Loss, Session, Step};
use super::socket::loss;
use super::{CommandOutcome, CommandResult, KILL_PATIENCE};
use crate::Error;

/// Frames handled in a row before orders of the caller are looked at again.
const FRAMES_IN_A_ROW: usize = 256;

/// The same in bytes of output.
const BYTES_IN_A_ROW: usize = 128 * 1024;

/// Limit of one attempt to connect again (section 4.4).
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a caller asks of a running command.
#[derive(Debug)]
pub(crate) enum Control {
    Kill(Reply),
    Signal(Signal, Reply),
    Resize { cols: u16, rows: u16, reply: Reply },
    Input(Bytes, Reply),
    CloseInput(Reply),
}

/// Why a part of the task ended.
enum Turn {
    /// Without a connection.
    Lost,
    /// With one.
    Connected,
    Over(Finish),
}

/// One command that runs.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) session: Session,
    pub(crate) output: Arc<Output>,
    pub(crate) controls: mpsc::UnboundedReceiver<Control>,
    pub(crate) outbox: Outbox,
    pub(crate) frames: Frames,
    pub(crate) detour: Detour,
    /// Who writes to stdin, for servers with the extension.
    pub(crate) writer: String,
    /// Output of this turn.
    pub(crate) deliveries: Vec<Delivery>,
    /// Sees to it that a kill arrives.
    pub(crate) kill: Option<JoinHandle<()>>,
    /// Cancelled when there is nothing to kill any more.
    pub(crate) over: CancellationToken,
}

impl Attachment {
    /// Runs until the command is over or given up, or `detach` is cancelled. `first` is what the connect phase left.
    pub(crate) async fn run(mut self, connection: Connection, first: Step, detach: CancellationToken) {
        let mut connection = Some(connection);
        let finish = tokio::select! {
            biased;
            () = detach.cancelled() => detached(),
            finish = self.until_over(&mut connection, first) => finish,
        };
        self.over.cancel();
        self.output.push(&mut self.deliveries);
        let (end, missing) = conclude(&self.session, &self.output, finish);
        self.output.finish(end, missing);
        drop(self);
        // The result does not depend on whether the server hears it.
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    async fn until_over(&mut self, connection: &mut Option<Connection>, first: Step) -> Finish {
        let mut turn = self.apply(first);
        self.output.push(&mut self.deliveries);
        loop {
            match turn {
                Some(Turn::Over(finish)) => return finish,
                Some(Turn::Lost) => {
                    *connection = None;
                    self.outbox.lost();
                }
                Some(Turn::Connected) | None => {}
            }
            turn = Some(match connection {
                Some(connection) => self.attached(connection).await,
                // Most commands never need its room.
                None => Box::pin(self.reattach(connection)).await,
            });
        }
    }

    /// Reads and writes until the connection is of no use any more.
    async fn attached(&mut self, connection: &mut Connection) -> Turn {
        let mut pings = interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            // A killed command says little more, and its end must be seen whether its output is taken or not.
            let room = self.output.has_room() || self.session.killed();
            let received = poll_fn(|cx| connection.poll(cx, &mut self.outbox, room));
            tokio::select! {
                biased;
                Some(control) = self.controls.recv() => self.control(control),
                received = received => {
                    let turn = self.received(received).or_else(|| self.ready(connection));
                    self.output.push(&mut self.deliveries);
                    self.acknowledge(OUTPUT_ACK_BYTES);
                    if let Some(turn) = turn {
                        return turn;
                    }
                }
                () = self.output.room(), if !room => self.session.on_unblocked(Instant::now()),
                () = until(self.session.deadline()), if room => {
                    if let Some(turn) = self.deadline() {
                        return turn;
                    }
                }
                _ = pings.tick() => {
                    self.outbox.order(Message::Ping(Bytes::new()), None);
                    // A server must not take a quiet command's client for one that has stopped to read.
                    self.acknowledge(1);
                }
            }
        }
    }

    /// Handles what has arrived already, without the cost of waiting for it.
    fn ready(&mut self, connection: &mut Connection) -> Option<Turn> {
        let mut bytes = 0;
        for _ in 0..FRAMES_IN_A_ROW {
            bytes += self.deliveries.last().map_or(0, |delivery| delivery.bytes.len());
            if bytes >= BYTES_IN_A_ROW {
                break;
            }
            let received = poll_fn(|cx| connection.poll(cx, &mut self.outbox, true)).now_or_never()?;
            if let Some(turn) = self.received(received) {
                return Some(turn);
            }
        }
        None
    }

    fn acknowledge(&mut self, news: u64) {
        if let Some(frame) = self.session.acknowledgement_of(news)
            && let Ok(message) = message(&frame)
        {
            self.outbox.acknowledge(message);
        }
    }

    fn received(&mut self, received: Received) -> Option<Turn> {
        let step = match received {
            Some(Ok(message)) if !message.is_close() => self.frames.step(message, &mut self.session)?,
            end => self.session.on_lost(&loss(end), Instant::now()),
        };
        self.apply(step)
    }

    fn apply(&mut self, step: Step) -> Option<Turn> {
        match step {
            Step::Ignore => None,
            Step::Deliver(delivery) => {
                self.deliveries.push(delivery);
                None
            }
            Step::Started { stdin_offset } => {
                self.outbox.stdin.attached(stdin_offset);
                None
            }
            Step::Taken(offset) => {
                self.outbox.stdin.taken(offset);
                None
            }
            Step::Reconnect => Some(Turn::Lost),
            Step::End(finish) => Some(Turn::Over(finish)),
        }
    }

    fn deadline(&mut self) -> Option<Turn> {
        let step = self.session.on_deadline(Instant::now());
        self.apply(step)
    }

    /// Waits for the time of the next attempt, and makes it.
    async fn reattach(&mut self, connection: &mut Option<Connection>) -> Turn {
        while let Some(at) = self.session.reconnects_at().filter(|at| Instant::now() < *at) {
            if let Err(turn) = self.away(sleep_until(at.into())).await {
                return turn;
            }
        }
        let dialer = self.detour.dialer.clone();
        let mut dialing = std::pin::pin!(dialer.dial(Some(OPEN_TIMEOUT)));
        let dialed = loop {
            match self.away(&mut dialing).await {
                Ok(Some(dialed)) => break dialed,
                Ok(None) => {}
                Err(turn) => return turn,
            }
        };
        let step = match dialed {
            Ok(dialed) => {
                let step = self.session.on_reconnected(dialed.extended, Instant::now());
                let opening = self.session.reattachment(&self.writer);
                match opening.iter().map(message).collect() {
                    Ok(opening) => self.outbox.reopen(opening),
                    Err(error) => return Turn::Over(Finish::failed(CommandOutcome::Lost, error)),
                }
                self.repeat_kill();
                *connection = Some(Connection::new(dialed.socket));
                step
            }
            Err(error) => self.session.on_lost(&Loss::Refused(error), Instant::now()),
        };
        self.apply(step).unwrap_or(Turn::Connected)
    }

    /// Waits without a connection: for `work`, or until a control or deadline has changed something.
    async fn away<T>(&mut self, work: impl Future<Output = T>) -> Result<Option<T>, Turn> {
        tokio::select! {
            biased;
            Some(control) = self.controls.recv() => self.control(control),
            () = until(self.session.deadline()) => return self.deadline().map_or(Ok(None), Err),
            done = work => return Ok(Some(done)),
        }
        Ok(None)
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Kill(reply) => self.kill(reply),
            Control::Signal(signal, reply) => {
                self.session.on_signal(signal.number());
                self.order(&ClientFrame::Signal { signal }, reply);
            }
            Control::Resize { cols, rows, reply } => self.order(&ClientFrame::Resize { cols, rows }, reply),
            Control::Input(data, reply) => self.outbox.stdin.send(data, reply),
            Control::CloseInput(reply) => self.outbox.stdin.close(reply),
        }
    }

    fn order(&mut self, frame: &ClientFrame, reply: Reply) {
        match message(frame) {
            Ok(message) => self.outbox.order(message, Some(reply)),
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn kill(&mut self, reply: Reply) {
        self.session.on_kill(Instant::now());
        self.outbox.stdin.discard();
        let insisting = self.kill.as_ref().is_some_and(|kill| !kill.is_finished());
        if !self.outbox.stdin.can_block() || insisting {
            return self.order(&ClientFrame::Kill, reply);
        }
        let (written, first) = oneshot::channel();
        self.order(&ClientFrame::Kill, written);
        let (id, next) = (self.session.command_id().to_owned(), self.session.next_offsets());
        let (detour, over) = (self.detour.clone(), self.over.clone());
        self.kill = Some(tokio::spawn(async move {
            let unsent = patience(first, reply).await;
            over.run_until_cancelled(insist(unsent, &detour, id, next)).await;
        }));
    }

    /// Whether a kill arrived on the connection that is gone is not known; twice is as good as once.
    fn repeat_kill(&mut self) {
        if self.session.killed()
            && let Ok(kill) = message(&ClientFrame::Kill)
        {
            self.outbox.order(kill, None);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
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

fn detached() -> Finish {
    let error = Error::new(ErrorCode::Client, "the handle was closed before the command ended");
    Finish::failed(CommandOutcome::Lost, error)
}

/// The result, or the error with what there is of a result; and what is missing at the ends of the streams.
fn conclude(session: &Session, output: &Output, finish: Finish) -> (End, Vec<super::Gap>) {
    let (stdout, stderr) = output.retained();
    let Finish { outcome, exit_code, signal, error, missing } = finish;
    let result = Arc::new(CommandResult {
        exit_code,
        outcome,
        signal,
        duration: session.elapsed(Instant::now()),
        stdout,
        stderr,
        gaps: session.gaps().to_vec(),
    });
    let end = match error {
        None => Ok(result),
        Some(error) => Err(error.with(|details| details.result = Some(result))),
    };
    (end, missing)
}
