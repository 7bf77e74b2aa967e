//! The protocol of one command as a pure state machine: frames and the clock go in, steps come out.
//!
//! It never waits and owns no socket. It decides what is delivered (each byte once, gaps recorded), whether and when a
//! lost connection is made again, when the command is over and how, and until when to be patient.
//!
//! A lost connection (section 4.4) is made again at once after a server that says it goes away (1001), else after 0.5,
//! 1, 2, 4 and 8 s. Fresh output or the acknowledgement of this very command is progress; [`RECONNECTS_MAX`] failures
//! in a row without any end it. Since acknowledgements are progress, a server that only ever acknowledges and hangs up
//! is told from one with a quiet command by how fast it does so ([`FUTILE_MAX`]).

mod delivery;
mod finish;
mod loss;
mod patience;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sandwire_protocol::{ClientFrame, CommandSpec, ServerFrame, StreamKind};

pub(crate) use delivery::Delivery;
pub(crate) use finish::Finish;
pub(crate) use loss::Loss;

use super::{Backoff, Gap, KILL_DEADLINE};

/// Failures in a row after which a connection is not made again.
pub const RECONNECTS_MAX: u32 = 5;

/// Connections in a row that were acknowledged and lost again at once.
const FUTILE_MAX: u32 = 20;

/// What "at once" is.
const FUTILE_LIFE: Duration = Duration::from_secs(1);

/// What to do after an input.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing.
    Ignore,
    /// The command runs, or is attached to again; `stdin_offset` is what the server took of this writer's input.
    Started { stdin_offset: Option<u64> },
    /// Output that was not delivered before.
    Deliver(Delivery),
    /// The server took input up to there.
    Taken(u64),
    /// The connection is of no use any more. Another one is to be made, see [`Session::reconnects_at`].
    Reconnect,
    /// It is over.
    End(Finish),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known of the command yet.
    Starting,
    /// Attached.
    Running,
    /// No connection, until then.
    Lost(Instant),
    /// A connection, on which nothing has come yet.
    Reattaching,
    Over,
}

/// What kind of session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Executed,
    /// It attached to a command that somebody started before.
    Reconnected,
}

/// One command, as this client sees it.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    origin: Origin,
    command_id: String,
    pid: Option<i64>,
    pty: bool,
    /// Limit of the command, if it has one and is known.
    timeout: Option<Duration>,
    /// Position of the next byte of stdout and stderr.
    next: [u64; 2],
    /// The same when they were last acknowledged.
    acknowledged: [u64; 2],
    /// Whether this server numbers its output: the oldest ones send no offsets, which reads as 0.
    numbered: bool,
    /// Whether output comes as bytes, in which a character may be cut anywhere.
    extended: bool,
    gaps: Vec<Gap>,
    /// First time that the opening frame was sent: with the same id again, the command may run since then.
    opened: Option<Instant>,
    started: Instant,
    /// Last time that anything came.
    alive: Instant,
    /// Last time that the command showed a sign of life: output, or an acknowledgement.
    active: Instant,
    /// Last time that a slow consumer held reading back: silence until then says nothing about the server.
    unblocked: Instant,
    killed: Option<Instant>,
    /// Other signals that the caller sent, a bit each.
    signals: u64,
    backoff: Option<Backoff>,
    /// Connections lost or not come about since the last progress.
    failures: u32,
    /// See [`FUTILE_MAX`].
    futile: u32,
    /// When this connection was attached to the command, and whether fresh output came on it.
    attached: Instant,
    fruitful: bool,
}

impl Session {
    /// For a command that is about to be executed. Without `backoff` a lost connection is the end.
    pub(crate) fn execute(
        command_id: String,
        spec: &CommandSpec,
        backoff: Option<Backoff>,
        now: Instant,
    ) -> Self {
        let timeout = Some(spec.timeout()).filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let pty = spec.pty == Some(true);
        Self { timeout, pty, ..Self::new(Origin::Executed, command_id, [0; 2], backoff, now) }
    }

    /// For a command that runs already; `next` are the positions of the first bytes wanted.
    pub(crate) fn reconnect(
        command_id: String,
        next: [u64; 2],
        backoff: Option<Backoff>,
        now: Instant,
    ) -> Self {
        Self { numbered: true, ..Self::new(Origin::Reconnected, command_id, next, backoff, now) }
    }

    fn new(
        origin: Origin,
        command_id: String,
        next: [u64; 2],
        backoff: Option<Backoff>,
        now: Instant,
    ) -> Self {
        Self {
            state: State::Starting,
            origin,
            command_id,
            pid: None,
            pty: false,
            timeout: None,
            next,
            acknowledged: next,
            numbered: false,
            extended: false,
            gaps: Vec::new(),
            opened: None,
            started: now,
            alive: now,
            active: now,
            unblocked: now,
            killed: None,
            signals: 0,
            backoff,
            failures: 0,
            futile: 0,
            attached: now,
            fruitful: false,
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

    /// Whether it runs under a terminal, as far as is known.
    pub(crate) fn pty(&self) -> bool {
        self.pty
    }

    /// Whether the connections have the extension.
    pub(crate) fn extended(&self) -> bool {
        self.extended
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

    /// The frames that attach another connection.
    pub(crate) fn reattachment(&mut self, writer: &str) -> Vec<ClientFrame> {
        let [stdout_offset, stderr_offset] = self.next;
        let writer = self.extended.then(|| writer.to_owned());
        let command_id = self.command_id.clone();
        let reconnect = ClientFrame::Reconnect { command_id, stdout_offset, stderr_offset, writer };
        self.acknowledgement().into_iter().chain([reconnect]).collect()
    }

    /// What arrived so far, for a server that heeds it.
    pub(crate) fn acknowledgement(&mut self) -> Option<ClientFrame> {
        let [stdout, stderr] = self.next;
        self.acknowledged = self.next;
        self.extended.then_some(ClientFrame::OutputAck { stdout, stderr })
    }

    /// The same, if at least `news` bytes of a stream have arrived since the last time.
    pub(crate) fn acknowledgement_of(&mut self, news: u64) -> Option<ClientFrame> {
        let ([stdout, stderr], [stdout_acked, stderr_acked]) = (self.next, self.acknowledged);
        let arrived = (stdout - stdout_acked).max(stderr - stderr_acked);
        if arrived >= news { self.acknowledgement() } else { None }
    }

    /// The first opening frame, or a repeat of it, is about to be sent.
    pub(crate) fn on_opening(&mut self, extended: bool, now: Instant) {
        self.extended = extended;
        self.numbered |= extended;
        self.alive = now;
        self.opened.get_or_insert(now);
    }

    /// There is a connection again; [`Session::reattachment`] is about to be sent.
    pub(crate) fn on_reconnected(&mut self, extended: bool, now: Instant) -> Step {
        (self.alive, self.active, self.attached) = (now, now, now);
        self.fruitful = false;
        self.state = State::Reattaching;
        if extended == self.extended { Step::Ignore } else { self.on_lost(&Loss::Changed, now) }
    }

    /// Since when the command may run, for all that is known here.
    pub(crate) fn opened(&self) -> Instant {
        self.opened.unwrap_or(self.started)
    }

    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened())
    }

    /// A frame.
    pub(crate) fn on_frame(&mut self, frame: ServerFrame<'_>, now: Instant) -> Step {
        self.alive = now;
        match (self.state, frame) {
            (State::Over | State::Lost(_), _) | (_, ServerFrame::Unknown) => Step::Ignore,
            (_, ServerFrame::Error { error_type, error }) => self.on_error(&error_type, &error),
            (_, ServerFrame::Started { command_id, pid, pty, stdin_offset }) => {
                self.on_started(&command_id, pid, pty, stdin_offset, now)
            }
            (State::Starting, frame) if self.origin == Origin::Executed => {
                self.on_wrong_first(name_of(&frame))
            }
            (_, ServerFrame::Stdout(output)) => {
                self.on_output(StreamKind::Stdout, output.offset, owned(output.data), now)
            }
            (_, ServerFrame::Stderr(output)) => {
                self.on_output(StreamKind::Stderr, output.offset, owned(output.data), now)
            }
            (_, ServerFrame::StdinAck { offset }) => Step::Taken(offset),
            (_, ServerFrame::Exit { exit_code, signal, totals, .. }) => {
                self.on_exit(exit_code, signal, totals)
            }
        }
    }

    fn on_started(
        &mut self,
        command_id: &str,
        pid: Option<i64>,
        pty: bool,
        stdin_offset: Option<u64>,
        now: Instant,
    ) -> Step {
        let own = command_id.is_empty() || command_id == self.command_id;
        match self.state {
            State::Starting if own || self.origin == Origin::Executed => {
                if !own {
                    command_id.clone_into(&mut self.command_id);
                }
                self.pid = pid;
                self.pty |= pty;
                self.attach(now);
                Step::Started { stdin_offset }
            }
            State::Starting => self.on_foreign(),
            State::Reattaching if own => {
                self.attach(now);
                self.failures = 0;
                Step::Started { stdin_offset }
            }
            State::Reattaching => self.on_lost(&Loss::Foreign, now),
            // Whoever it is for, it carries nothing.
            State::Running | State::Lost(_) | State::Over => Step::Ignore,
        }
    }

    fn attach(&mut self, now: Instant) {
        if self.state == State::Starting {
            self.started = now;
        }
        (self.attached, self.active) = (now, now);
        self.state = State::Running;
    }

    /// The caller kills the command. It can't wait for a pause between connections.
    pub(crate) fn on_kill(&mut self, now: Instant) {
        self.killed.get_or_insert(now);
        if let State::Lost(at) = &mut self.state {
            *at = now.min(*at);
        }
    }

    /// Whether the caller killed it.
    pub(crate) fn killed(&self) -> bool {
        self.killed.is_some()
    }

    /// The caller sends another signal.
    pub(crate) fn on_signal(&mut self, number: i32) {
        self.signals |= bit(number);
    }
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal).ok().and_then(|number| 1u64.checked_shl(number)).unwrap_or(0)
}

fn owned(text: Cow<'_, str>) -> Bytes {
    Bytes::from(text.into_owned())
}

fn name_of(frame: &ServerFrame<'_>) -> &'static str {
    match frame {
        ServerFrame::Started { .. } => "started",
        ServerFrame::Stdout(_) => "stdout",
        ServerFrame::Stderr(_) => "stderr",
        ServerFrame::Exit { .. } => "exit",
        ServerFrame::Error { .. } => "error",
        ServerFrame::StdinAck { .. } => "stdin_ack",
        ServerFrame::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests;
