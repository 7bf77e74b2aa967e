//! The connect phase of a command (section 4.3): from nothing to `started`.
//!
//! Every attempt sends the same opening frame with the same command id, so an attempt that got lost on its way
//! back starts nothing twice.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use sandwire_protocol::limits::EXEC_MESSAGE_MAX;
use sandwire_protocol::{ClientFrame, ErrorCode};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::frames::{Frames, message};
use super::input::binary;
use super::session::{Loss, Session, Step};
use super::socket::{Dialed, Dialer, Socket, loss};
use super::{ABORT_DEADLINE, Backoff};
use crate::Error;
use crate::error::Phase;
use crate::retry::{exec_pause, jitter};

/// Limits of the phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of one upgrade.
    pub(crate) open: Option<Duration>,
    /// Of all attempts together.
    pub(crate) budget: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
}

/// One connect phase. It keeps the socket of the attempt under way, so that an abort can still use it.
#[derive(Debug)]
pub(crate) struct Connecting {
    dialer: Dialer,
    opening: Opening,
    limits: Limits,
    started: Instant,
    socket: Option<Socket>,
    /// Whether the server may have seen the opening frame.
    sent: bool,
    /// Whether there is input that only a server with the extension takes.
    binary_input: bool,
}

/// The opening frame, in two forms.
#[derive(Debug)]
struct Opening {
    plain: Message,
    /// For a server with the extension: says who writes to stdin.
    extended: Message,
    /// Before it, for such a server: that output will be acknowledged.
    acknowledgement: Message,
}

impl Opening {
    fn new(frame: &ClientFrame, writer: &str) -> Result<Self, Error> {
        let mut extended = frame.clone();
        let mut from = [0, 0];
        match &mut extended {
            ClientFrame::Execute(spec) => spec.writer = Some(writer.to_owned()),
            ClientFrame::Reconnect { writer: field, stdout_offset, stderr_offset, .. } => {
                from = [*stdout_offset, *stderr_offset];
                *field = Some(writer.to_owned());
            }
            _ => {}
        }
        let [stdout, stderr] = from;
        let acknowledgement = message(&ClientFrame::OutputAck { stdout, stderr })?;
        Ok(Self { plain: message(frame)?, extended: message(&extended)?, acknowledgement })
    }

    fn form(&self, extended: bool) -> Vec<Message> {
        match extended {
            true => vec![self.acknowledgement.clone(), self.extended.clone()],
            false => vec![self.plain.clone()],
        }
    }
}

/// Why an attempt failed, and whether another one makes sense.
struct Failed {
    error: Error,
    again: bool,
}

impl Connecting {
    pub(crate) fn new(
        dialer: Dialer,
        opening: &ClientFrame,
        writer: &str,
        binary_input: bool,
        limits: Limits,
    ) -> Result<Self, Error> {
        let opening = Opening::new(opening, writer)?;
        let size = opening.extended.len();
        if size > EXEC_MESSAGE_MAX {
            let text = format!(
                "the command is too large: {size} bytes with its environment, at most {EXEC_MESSAGE_MAX}; write it \
                 to a file of the sandbox and run that"
            );
            let too_large = Error::new(ErrorCode::Validation, text);
            return Err(too_large.with(|details| details.field = Some("command".to_owned())));
        }
        let started = Instant::now();
        Ok(Self { dialer, opening, limits, started, socket: None, sent: false, binary_input })
    }

    /// Connects until the command runs; the connection is then [`Connecting::socket`]'s. Returns what the server
    /// said first.
    ///
    /// Cancel safe: [`Connecting::abort`] then undoes what the attempt may have done.
    pub(crate) async fn run(&mut self, session: &mut Session) -> Result<Step, Error> {
        let mut attempt = 0;
        loop {
            let Failed { error, again } = match self.attempt(session).await {
                Ok(first) => return Ok(first),
                Err(failed) => failed,
            };
            self.socket = None;
            attempt += 1;
            let pause = exec_pause(self.limits.backoff.pause(attempt), error.details().retry_after, jitter());
            let in_time = self.left().is_none_or(|left| pause < left);
            if !again || attempt >= self.limits.attempts || !in_time {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&mut self, session: &mut Session) -> Result<Step, Failed> {
        let open = [self.limits.open, self.left()].into_iter().flatten().min();
        let Dialed { socket, extended } = self.dialer.dial(open).await.map_err(|error| Failed {
            again: matches!(error.code(), ErrorCode::ConnectionRetryable | ErrorCode::ConnectTimeout),
            error,
        })?;
        if self.binary_input && !extended {
            return Err(Failed { error: binary(), again: false });
        }
        self.sent = true;
        session.on_opening(extended, Instant::now());
        let left = self.left();
        let starting = start(self.socket.insert(socket), self.opening.form(extended), session);
        match left {
            Some(left) => timeout(left, starting).await.unwrap_or_else(|_| Err(Failed::waiting(left))),
            None => starting.await,
        }
    }

    /// The connection of a phase that succeeded.
    pub(crate) fn socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }

    /// More connections to the same place.
    pub(crate) fn detour(self) -> Detour {
        Detour { dialer: self.dialer, open: self.limits.open }
    }

    /// What remains of the budget.
    fn left(&self) -> Option<Duration> {
        self.limits.budget.map(|budget| budget.saturating_sub(self.started.elapsed()))
    }

    /// Ends what the cancelled phase may have started, within a deadline of its own.
    pub(crate) async fn abort(mut self, mut session: Session) {
        if !self.sent {
            return;
        }
        let ending = async {
            let mut socket = match self.socket.take() {
                Some(socket) => socket,
                // The same id again: whether the lost attempt started it or not, this one gets hold of it.
                None => {
                    let opening = |extended| self.opening.form(extended);
                    reach(&self.dialer, self.limits.open, &mut session, opening).await?
                }
            };
            kill(&mut socket, &session).await?;
            outlast(&mut socket, &mut session).await;
            Ok::<_, Error>(())
        };
        // Whether it worked can't be told to anybody: the caller gets the abort.
        let _ = timeout(ABORT_DEADLINE, ending).await;
    }
}

/// A second way to a running command, for a kill that can't get past the input on the first.
#[derive(Debug, Clone)]
pub(crate) struct Detour {
    pub(crate) dialer: Dialer,
    open: Option<Duration>,
}

impl Detour {
    /// Hands the kill over; the answer is what [`Killed::outlast`] still has to be called on.
    pub(crate) async fn kill(&self, command_id: String, next: [u64; 2]) -> Result<Killed, Error> {
        let [stdout_offset, stderr_offset] = next;
        let opening = message(&ClientFrame::Reconnect {
            command_id: command_id.clone(),
            stdout_offset,
            stderr_offset,
            writer: None,
        })?;
        let mut session = Session::reconnect(command_id, next, None, Instant::now());
        let mut socket = reach(&self.dialer, self.open, &mut session, |_| vec![opening]).await?;
        kill(&mut socket, &session).await?;
        Ok(Killed { socket, session })
    }
}

/// A connection that a kill was sent on.
#[derive(Debug)]
pub(crate) struct Killed {
    socket: Socket,
    session: Session,
}

impl Killed {
    /// Waits for the end.
    pub(crate) async fn outlast(mut self) {
        outlast(&mut self.socket, &mut self.session).await;
    }
}

/// Connects and sends the opening frame.
async fn reach(
    dialer: &Dialer,
    open: Option<Duration>,
    session: &mut Session,
    opening: impl FnOnce(bool) -> Vec<Message>,
) -> Result<Socket, Error> {
    let Dialed { mut socket, extended } = dialer.dial(open).await?;
    session.on_opening(extended, Instant::now());
    send_all(&mut socket, opening(extended)).await.map_err(|error| {
        Error::new(ErrorCode::Connection, "the connection broke before the command was reached")
            .caused_by(error)
    })?;
    Ok(socket)
}

async fn send_all(socket: &mut Socket, messages: Vec<Message>) -> Result<(), WsError> {
    for message in messages {
        socket.feed(message).await?;
    }
    socket.flush().await
}

async fn kill(socket: &mut Socket, session: &Session) -> Result<(), Error> {
    let sent = socket.send(message(&ClientFrame::Kill)?).await;
    sent.map_err(|error| session.lost(&loss(Some(Err(error)))))
}

/// Reads until the command is over: a connection that is dropped with something unread may take the kill along.
async fn outlast(socket: &mut Socket, session: &mut Session) {
    let mut frames = Frames::default();
    while let Some(Ok(received)) = socket.next().await {
        if let Some(Step::End(_)) = frames.step(received, session) {
            break;
        }
    }
}

impl Failed {
    fn waiting(left: Duration) -> Self {
        let text = format!("the server did not start the command within {:.1} s", left.as_secs_f64());
        let error =
            Error::new(ErrorCode::ConnectTimeout, text).with(|details| details.phase = Some(Phase::Connect));
        Self { error, again: false }
    }
}

/// Sends the opening frame and reads until the command is known to run.
async fn start(socket: &mut Socket, opening: Vec<Message>, session: &mut Session) -> Result<Step, Failed> {
    if let Err(error) = send_all(socket, opening).await {
        return Err(lost(session, &loss(Some(Err(error)))));
    }
    loop {
        let received = match socket.next().await {
            Some(Ok(received)) if !received.is_close() => received,
            end => return Err(lost(session, &loss(end))),
        };
        match Frames::default().step(received, session) {
            Some(Step::End(finish)) => match finish.error {
                Some(error) => return Err(Failed { error, again: false }),
                None => return Ok(Step::End(finish)),
            },
            Some(Step::Ignore | Step::Reconnect) | None => {}
            Some(first) => return Ok(first),
        }
    }
}

/// A connection that ends before `started` says nothing: the same id may be sent again.
fn lost(session: &Session, loss: &Loss) -> Failed {
    Failed { error: session.lost(loss), again: !matches!(loss, Loss::Violation(_)) }
}
