//! The protocol of one command as a pure state machine: frames and the clock go in, steps come out.
//!
//! It never waits and owns no socket. It decides what is delivered (each byte once, gaps recorded), when the
//! command is over and how, and until when to be patient. What to do about a lost connection is decided in
//! [`Session::on_lost`] alone, so that resuming is a change of this file.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use sandwire_protocol::limits::{COMMAND_GRACE, PONG_DEADLINE};
use sandwire_protocol::{CommandSpec, ErrorCode, OutputFrame, ServerFrame, StreamKind};

use super::{CommandOutcome, Gap, KILL_DEADLINE};
use crate::Error;
use crate::error::{Phase, error_frame};

const SIGKILL: i32 = 9;

/// What to do after an input.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Nothing.
    Ignore,
    /// The command runs; from now on there is output.
    Started,
    /// Output that was not delivered before.
    Deliver {
        /// Of which stream.
        kind: StreamKind,
        /// Never empty.
        text: Cow<'a, str>,
        /// Position of its first byte.
        offset: u64,
    },
    /// It is over.
    End(Finish),
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) outcome: CommandOutcome,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Set where there is no result.
    pub(crate) error: Option<Error>,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The server's close code; `None` if it gave none.
    Closed(Option<u16>),
    /// Without a close frame.
    Broken(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    Over,
}

/// One command, as this client sees it.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    command_id: String,
    /// Whether it attached to a command that somebody started before.
    reconnecting: bool,
    pid: Option<i64>,
    /// Limit of the command, if it has one and is known.
    timeout: Option<Duration>,
    /// Position of the next byte of stdout and stderr.
    next: [u64; 2],
    /// Whether this server numbers its output: the oldest ones send no offsets, which reads as 0.
    numbered: bool,
    gaps: Vec<Gap>,
    /// First time that the opening frame was sent: with the same id again, the command may run since then.
    opened: Option<Instant>,
    started: Instant,
    /// Last time that anything came.
    alive: Instant,
    /// Last time that a frame came.
    active: Instant,
    /// Last time that a slow consumer held reading back: silence until then says nothing about the server.
    unblocked: Instant,
    killed: Option<Instant>,
}

impl Session {
    /// For a command that is about to be executed.
    pub(crate) fn execute(command_id: String, spec: &CommandSpec, now: Instant) -> Self {
        let timeout = Some(spec.timeout()).filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Self { timeout, ..Self::new(command_id, [0; 2], now) }
    }

    /// For a command that runs already; `next` are the positions of the first bytes wanted.
    pub(crate) fn reconnect(command_id: String, next: [u64; 2], now: Instant) -> Self {
        Self { reconnecting: true, numbered: true, ..Self::new(command_id, next, now) }
    }

    fn new(command_id: String, next: [u64; 2], now: Instant) -> Self {
        Self {
            state: State::Starting,
            command_id,
            reconnecting: false,
            pid: None,
            timeout: None,
            next,
            numbered: false,
            gaps: Vec::new(),
            opened: None,
            started: now,
            alive: now,
            active: now,
            unblocked: now,
            killed: None,
        }
    }

    /// The command's id: the server's once it has said one.
    pub(crate) fn command_id(&self) -> &str {
        &self.command_id
    }

    /// Process id inside the sandbox.
    pub(crate) fn pid(&self) -> Option<i64> {
        self.pid
    }

    /// What the server no longer had.
    pub(crate) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Position of the next byte of a stream.
    pub(crate) fn next_offset(&self, kind: StreamKind) -> u64 {
        let [stdout, stderr] = self.next;
        match kind {
            StreamKind::Stdout => stdout,
            StreamKind::Stderr => stderr,
        }
    }

    /// Positions of the next bytes of stdout and stderr.
    pub(crate) fn next_offsets(&self) -> [u64; 2] {
        self.next
    }

    /// The opening frame is about to be sent.
    pub(crate) fn on_opening(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    /// Since when the command may run, for all that is known here.
    pub(crate) fn opened(&self) -> Instant {
        self.opened.unwrap_or(self.started)
    }

    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened())
    }

    /// A text message.
    pub(crate) fn on_text<'a>(&mut self, text: &'a str, now: Instant) -> Step<'a> {
        self.on_parsed(serde_json::from_str(text), now)
    }

    /// A binary message, which some servers use for the same JSON.
    pub(crate) fn on_binary<'a>(&mut self, bytes: &'a [u8], now: Instant) -> Step<'a> {
        self.on_parsed(serde_json::from_slice(bytes), now)
    }

    fn on_parsed<'a>(&mut self, frame: Result<ServerFrame<'a>, serde_json::Error>, now: Instant) -> Step<'a> {
        match frame {
            Ok(frame) => self.on_frame(frame, now),
            Err(error) => self.end_with(self.malformed(&error)),
        }
    }

    fn malformed(&self, error: &serde_json::Error) -> Error {
        // Line and column only: the text may be the command's output.
        let place = format!("line {}, column {}", error.line(), error.column());
        self.lost_error(
            ErrorCode::Connection,
            &format!("the server sent a frame that can't be read ({place})"),
        )
    }

    /// A frame.
    pub(crate) fn on_frame<'a>(&mut self, frame: ServerFrame<'a>, now: Instant) -> Step<'a> {
        self.alive = now;
        self.active = now;
        match (self.state, frame) {
            (State::Over, _) | (_, ServerFrame::Unknown) => Step::Ignore,
            (_, ServerFrame::Error { error_type, error }) => self.on_error(&error_type, &error),
            (State::Starting, ServerFrame::Started { command_id, pid }) => {
                if !command_id.is_empty() {
                    self.command_id = command_id.into_owned();
                }
                self.pid = pid;
                self.state = State::Running;
                self.started = now;
                Step::Started
            }
            (State::Starting, frame) => self.on_wrong_first(name_of(&frame)),
            // An acknowledgement, perhaps of somebody else's command: it carries nothing.
            (State::Running, ServerFrame::Started { .. }) => Step::Ignore,
            (State::Running, ServerFrame::Stdout(output)) => self.on_output(StreamKind::Stdout, output),
            (State::Running, ServerFrame::Stderr(output)) => self.on_output(StreamKind::Stderr, output),
            (State::Running, ServerFrame::Exit { exit_code }) => self.on_exit(exit_code),
        }
    }

    fn on_output<'a>(&mut self, kind: StreamKind, output: OutputFrame<'a>) -> Step<'a> {
        let OutputFrame { data, offset } = output;
        self.numbered |= offset > 0;
        let next = self.next_offset(kind);
        let offset = if self.numbered { offset } else { next };
        let (text, offset) = if offset < next { after(data, offset, next) } else { (data, offset) };
        if text.is_empty() {
            return Step::Ignore;
        }
        if offset > next {
            self.gaps.push(Gap { stream: kind, from: next, to: offset });
        }
        let end = offset.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        let [stdout, stderr] = &mut self.next;
        match kind {
            StreamKind::Stdout => *stdout = end,
            StreamKind::Stderr => *stderr = end,
        }
        Step::Deliver { kind, text, offset }
    }

    fn on_exit(&mut self, exit_code: i32) -> Step<'static> {
        let killed = self.killed.is_some() && exit_code != 0;
        let outcome = if killed { CommandOutcome::Killed } else { CommandOutcome::Exited };
        let signal = (killed && exit_code == 128 + SIGKILL).then_some(SIGKILL);
        self.end(Finish { outcome, exit_code: Some(exit_code), signal, error: None })
    }

    fn on_error(&mut self, error_type: &str, message: &str) -> Step<'static> {
        let timeout = self.timeout.map(|limit| limit.as_secs_f64());
        let id = self.reconnecting.then_some(self.command_id.as_str());
        let phase = self.phase();
        let error = error_frame(error_type, message, id, timeout).with(|details| details.phase = Some(phase));
        self.end_with(error)
    }

    fn on_wrong_first(&mut self, name: &str) -> Step<'static> {
        let message = format!("Expected 'started' as the server's first frame, got '{name}'");
        let error = Error::new(ErrorCode::Operation, message).with(|details| {
            details.operation = Some("command");
            details.phase = Some(Phase::Connect);
        });
        self.end_with(error)
    }

    /// The connection is gone without an `exit`: that is never a success.
    pub(crate) fn on_lost(&mut self, loss: &Loss) -> Step<'static> {
        if self.state == State::Over {
            return Step::Ignore;
        }
        if self.killed.is_some() {
            return self.end_unconfirmed();
        }
        let error = self.lost(loss);
        self.end_with(error)
    }

    /// What the loss of the connection is to the caller.
    pub(crate) fn lost(&self, loss: &Loss) -> Error {
        let (code, how) = match loss {
            Loss::Closed(Some(1001)) => (ErrorCode::ServerReload, "because it restarts".to_owned()),
            Loss::Closed(Some(code)) => (ErrorCode::Connection, format!("with code {code}")),
            Loss::Closed(None) => (ErrorCode::Connection, "without a code".to_owned()),
            Loss::Broken(how) => (ErrorCode::Connection, format!("by a failure: {how}")),
        };
        self.lost_error(code, &format!("the server ended the connection to the command {how}"))
    }

    /// The caller kills the command.
    pub(crate) fn on_kill(&mut self, now: Instant) {
        self.killed.get_or_insert(now);
    }

    /// Reading was held back by a slow consumer until now.
    pub(crate) fn on_unblocked(&mut self, now: Instant) {
        self.unblocked = now;
    }

    /// Something arrived that is no frame.
    pub(crate) fn on_alive(&mut self, now: Instant) {
        self.alive = now;
    }

    /// Until when to wait for the next frame; only to be heeded while frames are read.
    pub(crate) fn deadline(&self) -> Instant {
        [self.kill_deadline(), self.limit_deadline()].into_iter().flatten().fold(self.silence(), Instant::min)
    }

    fn silence(&self) -> Instant {
        self.alive.max(self.unblocked) + PONG_DEADLINE
    }

    fn kill_deadline(&self) -> Option<Instant> {
        self.killed.map(|at| at.max(self.unblocked) + KILL_DEADLINE)
    }

    /// A command that exceeds its limit is the server's to end; this is for a server that does not.
    fn limit_deadline(&self) -> Option<Instant> {
        let limit = self.started.checked_add(self.timeout?)?;
        limit.max(self.active).max(self.unblocked).checked_add(COMMAND_GRACE)
    }

    /// The deadline passed.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Step<'static> {
        if self.state == State::Over || now < self.deadline() {
            return Step::Ignore;
        }
        if self.killed.is_some() {
            return self.end_unconfirmed();
        }
        if now >= self.silence() {
            let seconds = PONG_DEADLINE.as_secs();
            let message = format!("the connection to the command is dead: nothing came for {seconds} s");
            return self.end_with(self.lost_error(ErrorCode::Connection, &message));
        }
        let limit = self.timeout.unwrap_or_default().as_secs();
        let message = format!("the command's limit of {limit} s passed and the server did not end it");
        let phase = self.phase();
        let error = error_frame("CommandTimeout", &message, None, self.timeout.map(|t| t.as_secs_f64()))
            .with(|details| details.phase = Some(phase));
        self.end_with(error)
    }

    /// Killed, but the server never said so: a result without success, and no claim that it is dead.
    fn end_unconfirmed(&mut self) -> Step<'static> {
        self.end(Finish { outcome: CommandOutcome::Lost, exit_code: Some(-1), signal: None, error: None })
    }

    fn end_with(&mut self, error: Error) -> Step<'static> {
        let outcome = match error.code() {
            ErrorCode::CommandTimeout => CommandOutcome::TimedOut,
            _ => CommandOutcome::Lost,
        };
        self.end(Finish { outcome, exit_code: None, signal: None, error: Some(error) })
    }

    fn end(&mut self, finish: Finish) -> Step<'static> {
        self.state = State::Over;
        Step::End(finish)
    }

    fn phase(&self) -> Phase {
        if self.state == State::Starting { Phase::Connect } else { Phase::Stream }
    }

    fn lost_error(&self, code: ErrorCode, message: &str) -> Error {
        let fate = match self.state {
            State::Starting => "",
            _ => "; the command may live on",
        };
        let phase = self.phase();
        Error::new(code, format!("{message}{fate}")).with(|details| {
            details.operation = Some("command");
            details.phase = Some(phase);
        })
    }
}

/// What of `data`, which begins at `offset`, lies at or after `next`; never half a character.
fn after(data: Cow<'_, str>, offset: u64, next: u64) -> (Cow<'_, str>, u64) {
    let known = usize::try_from(next - offset).unwrap_or(usize::MAX).min(data.len());
    let cut = (known..data.len()).find(|at| data.is_char_boundary(*at)).unwrap_or(data.len());
    let position = offset.saturating_add(u64::try_from(cut).unwrap_or(u64::MAX));
    let text = match data {
        Cow::Borrowed(text) => Cow::Borrowed(text.split_at(cut).1),
        Cow::Owned(mut text) => Cow::Owned(text.split_off(cut)),
    };
    (text, position)
}

fn name_of(frame: &ServerFrame<'_>) -> &'static str {
    match frame {
        ServerFrame::Started { .. } => "started",
        ServerFrame::Stdout(_) => "stdout",
        ServerFrame::Stderr(_) => "stderr",
        ServerFrame::Exit { .. } => "exit",
        ServerFrame::Error { .. } => "error",
        ServerFrame::Unknown => "unknown",
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
