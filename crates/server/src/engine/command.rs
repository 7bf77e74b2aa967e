//! A command as its attachments and its driver share it: output, phase, and the wake-ups between them.
//!
//! - The driver ([`super::driver`]) alone appends output and moves the phase: starting, running, ended ([`driven`]).
//! - An [`Attachment`](super::attachment::Attachment) is one client's view: a cursor per stream. Any number may exist,
//!   and none of them keeps a copy of the output; each reads from the ring buffers at its own pace ([`attached`]).
//! - The lock is held for the copy of at most one frame and never across an await.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use sandwire_protocol::extension::Usage;
use sandwire_protocol::limits::{COMMAND_SECONDS_MAX, STDIN_BUFFER_MAX, STDIN_STALL};
use sandwire_protocol::{CommandSpec, ErrorType, Signal, StreamKind, Totals};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::summary::Origin;
use super::connections::Connections;
use super::fault::Fault;
use super::lock::lock;
use super::requests::{Request, Requests, WindowSize};
use super::stdin::{Stalled, Stdin};
use super::stream::Stream;
use super::tally;

mod attached;
mod driven;
mod summary;

pub(super) use driven::Idle;
pub use summary::{Status, Summary};

/// What comes next for an attachment.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Output, in the attachment's form.
    Output(StreamKind, u64),
    /// The end, after all output.
    End(End),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its main process ended.
    Exited {
        /// Exit code, or 128 + signal number.
        code: i32,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
    },
    /// It has no result.
    Failed(Fault),
}

pub(super) enum Phase {
    Starting,
    Running { pid: i32 },
    Ended { pid: Option<i32>, end: End, at: Instant },
}

/// A command of a sandbox, running or ended.
pub struct Command {
    id: String,
    origin: Origin,
    timeout: Option<Duration>,
    idle: Option<Duration>,
    ttl: Option<Duration>,
    kill_on_disconnect: bool,
    pty: bool,
    spawning: OnceLock<Duration>,
    usage: OnceLock<Usage>,
    state: Mutex<State>,
    stdin: Stdin,
    connections: Connections,
    /// To the attachments: there is output, or the phase moved.
    changed: watch::Sender<()>,
    /// To the pumps: a reader moved.
    space: [Notify; 2],
    /// To the driver: something is asked of it, or attachments came or went.
    poke: Notify,
}

struct State {
    phase: Phase,
    /// By the clock on the wall.
    ended_at: Option<SystemTime>,
    streams: [Stream; 2],
    attachments: usize,
    last_key: u64,
    /// When the last attachment left, or the command was made.
    alone_since: Instant,
    was_attached: bool,
    /// Kills asked for so far.
    kills: u64,
    requests: Requests,
    last_output: Instant,
    /// Whether the pumps of stdout and stderr wait for room.
    held: [bool; 2],
}

impl State {
    fn held_mut(&mut self, kind: StreamKind) -> &mut bool {
        let [stdout, stderr] = &mut self.held;
        match kind {
            StreamKind::Stdout => stdout,
            StreamKind::Stderr => stderr,
        }
    }

    fn stream(&mut self, kind: StreamKind) -> &mut Stream {
        let [stdout, stderr] = &mut self.streams;
        match kind {
            StreamKind::Stdout => stdout,
            StreamKind::Stderr => stderr,
        }
    }
}

impl Command {
    pub(super) fn new(id: String, spec: &CommandSpec) -> Self {
        tally::began();
        let now = Instant::now();
        let seconds = |seconds: Option<u64>| {
            seconds.map(|seconds| Duration::from_secs(seconds.min(COMMAND_SECONDS_MAX)))
        };
        let command = Self {
            id,
            origin: Origin::new(&spec.command),
            timeout: seconds(Some(spec.timeout()).filter(|seconds| *seconds > 0)),
            idle: seconds(spec.idle_timeout()),
            ttl: seconds(spec.ttl()),
            kill_on_disconnect: spec.kill_on_disconnect == Some(true),
            pty: spec.pty == Some(true),
            spawning: OnceLock::new(),
            usage: OnceLock::new(),
            state: Mutex::new(State {
                phase: Phase::Starting,
                ended_at: None,
                streams: [Stream::new(now), Stream::new(now)],
                attachments: 0,
                last_key: 0,
                alone_since: now,
                was_attached: false,
                kills: 0,
                requests: Requests::default(),
                last_output: now,
                held: [false; 2],
            }),
            stdin: Stdin::new(),
            connections: Connections::default(),
            changed: watch::Sender::new(()),
            space: [Notify::new(), Notify::new()],
            poke: Notify::new(),
        };
        if spec.close_stdin == Some(true) {
            command.close_stdin();
        }
        command
    }

    /// Its id on the wire.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long its start took, from the request to `init` to its answer; known once it has started.
    pub fn spawning(&self) -> Option<Duration> {
        self.spawning.get().copied()
    }

    /// What it used; known once its main process ended.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.get().copied()
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Its stdin, for input that is not waited for.
    pub fn stdin(&self) -> &Stdin {
        &self.stdin
    }

    /// Notes that a writer has a connection, and ends the one that it had: that is over once its token is cancelled.
    pub fn hand_over(&self, writer: &str) -> Arc<CancellationToken> {
        self.connections.hand_over(writer)
    }

    /// Kills the whole process tree, or what the main process left of it. After the end a no-op.
    pub fn kill(&self) {
        lock(&self.state).kills += 1;
        self.poke.notify_one();
    }

    /// Queues input, once there is room for it.
    ///
    /// # Errors
    /// The command has read nothing for [`STDIN_STALL`]; the input is not queued.
    pub async fn input(&self, data: &[u8]) -> Result<(), Fault> {
        let stalled = || {
            let seconds = STDIN_STALL.as_secs();
            Fault::command(format!(
                "the command has read nothing of its stdin for {seconds} s, with {STDIN_BUFFER_MAX} bytes waiting; \
                 the rest of the input is refused"
            ))
        };
        self.stdin.push(data).await.map_err(|Stalled| stalled())
    }

    /// Closes stdin after what is queued. A terminal has no such end: there it does nothing.
    pub fn close_stdin(&self) {
        if !self.pty {
            self.stdin.close();
        }
    }

    /// Sends a signal to the command's process group. After the end a no-op.
    pub fn signal(&self, signal: Signal) {
        match signal {
            Signal::Kill => self.kill(),
            _ => self.request(Request::Signal(signal)),
        }
    }

    /// Sets the size of its terminal, if it has one. After the end a no-op.
    pub fn resize(&self, size: WindowSize) {
        if self.pty {
            self.request(Request::Resize(size));
        }
    }

    fn request(&self, request: Request) {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Ended { .. }) {
            state.requests.push(request);
            drop(state);
            self.poke.notify_one();
        }
    }

    /// How its start went, once that is known.
    pub(super) fn start(&self) -> Option<Result<i32, Fault>> {
        match &lock(&self.state).phase {
            Phase::Running { pid } | Phase::Ended { pid: Some(pid), .. } => Some(Ok(*pid)),
            Phase::Ended { end: End::Failed(fault), .. } => Some(Err(fault.clone())),
            Phase::Starting | Phase::Ended { .. } => None,
        }
    }

    /// Whether it runs under a pseudo-terminal.
    pub fn is_pty(&self) -> bool {
        self.pty
    }

    /// Output bytes of the process so far, also those that are gone from the buffers; all of them after the end.
    pub fn totals(&self) -> Totals {
        let state = lock(&self.state);
        let [stdout, stderr] = &state.streams;
        Totals { stdout_bytes: stdout.total(), stderr_bytes: stderr.total() }
    }

    fn wake_pumps(&self) {
        for space in &self.space {
            space.notify_one();
        }
    }

    /// Whether the session's time to live is over.
    pub(super) fn expired(&self, now: Instant) -> bool {
        match (&lock(&self.state).phase, self.ttl) {
            (Phase::Ended { at, .. }, Some(ttl)) => now >= *at + ttl,
            _ => false,
        }
    }

    /// When it ended, and the output bytes it still keeps.
    pub(super) fn remains(&self) -> Option<(Instant, usize)> {
        let state = lock(&self.state);
        match state.phase {
            Phase::Ended { at, .. } => Some((at, state.streams.iter().map(Stream::retained).sum())),
            _ => None,
        }
    }
}

/// What a repeated or late request is told about a command that timed out.
pub(super) fn timed_out(limit: Duration) -> End {
    let seconds = limit.as_secs();
    End::Failed(Fault::new(
        ErrorType::CommandTimeout,
        format!("the command exceeded its limit of {seconds} s"),
    ))
}
