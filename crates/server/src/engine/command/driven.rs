//! A command as its driver moves it: only here its output grows and its phase changes.

use std::time::{Duration, SystemTime};

use sandwire_protocol::StreamKind;
use sandwire_protocol::extension::Usage;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Command, End, Phase};
use crate::engine::lock::lock;
use crate::engine::requests::Request;
use crate::engine::stream::{Room, Stream};
use crate::engine::tally;

/// Time left to a command that nobody is attached to.
pub(in crate::engine) enum Idle {
    Never,
    Until(Instant),
}

impl Command {
    pub(in crate::engine) fn started(&self, pid: i32, spawning: Duration) {
        self.spawning.get_or_init(|| spawning);
        lock(&self.state).phase = Phase::Running { pid };
        self.changed.send_replace(());
    }

    pub(in crate::engine) fn used(&self, usage: Usage) {
        self.usage.get_or_init(|| usage);
    }

    /// Appends output; what comes after the end is nobody's.
    pub(in crate::engine) fn append(&self, kind: StreamKind, chunk: &[u8]) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.stream(kind).is_closed() {
            return;
        }
        tally::wrote(kind, chunk.len());
        state.stream(kind).push(chunk, now);
        state.last_output = now;
        drop(state);
        self.changed.send_replace(());
    }

    pub(in crate::engine) fn close_stream(&self, kind: StreamKind) {
        lock(&self.state).stream(kind).close();
        self.changed.send_replace(());
    }

    pub(in crate::engine) fn room(&self, kind: StreamKind, now: Instant) -> Room {
        let mut state = lock(&self.state);
        let stream = state.stream(kind);
        if stream.is_closed() { Room::Bytes(usize::MAX) } else { stream.room(now) }
    }

    pub(in crate::engine) fn space(&self, kind: StreamKind) -> &Notify {
        let [stdout, stderr] = &self.space;
        match kind {
            StreamKind::Stdout => stdout,
            StreamKind::Stderr => stderr,
        }
    }

    /// A pump stops reading, or goes on. What it left in the pipe is not quiet, whether there is room for it by now or not.
    pub(in crate::engine) fn hold(&self, kind: StreamKind, held: bool) {
        let mut state = lock(&self.state);
        *state.held_mut(kind) = held;
        state.last_output = Instant::now();
    }

    /// Since when nothing came, `None` while output is held back.
    pub(in crate::engine) fn quiet_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let held = state.streams.iter().zip(state.held).any(|(stream, held)| held && !stream.is_closed());
        (!held).then_some(state.last_output)
    }

    pub(in crate::engine) fn poke(&self) -> &Notify {
        &self.poke
    }

    /// What was asked for since the last call, in order.
    pub(in crate::engine) fn take_requests(&self) -> Vec<Request> {
        lock(&self.state).requests.take()
    }

    /// Kills asked for by somebody so far.
    pub(in crate::engine) fn kills(&self) -> u64 {
        lock(&self.state).kills
    }

    /// Whether it is to be killed, by request or by its own settings.
    pub(in crate::engine) fn kill_wanted(&self) -> bool {
        let state = lock(&self.state);
        state.kills > 0 || (self.kill_on_disconnect && state.was_attached && state.attachments == 0)
    }

    pub(in crate::engine) fn idle(&self) -> Idle {
        let state = lock(&self.state);
        match self.idle {
            Some(limit) if state.attachments == 0 => Idle::Until(state.alone_since + limit),
            _ => Idle::Never,
        }
    }

    /// The last word. Later calls change nothing.
    pub(in crate::engine) fn finish(&self, end: End) {
        let mut state = lock(&self.state);
        let pid = match state.phase {
            Phase::Starting => None,
            Phase::Running { pid } => Some(pid),
            Phase::Ended { .. } => return,
        };
        state.streams.iter_mut().for_each(Stream::close);
        tally::ended(&end);
        state.phase = Phase::Ended { pid, end, at: Instant::now() };
        state.ended_at = Some(SystemTime::now());
        drop(state);
        self.stdin.discard();
        self.wake_pumps();
        self.changed.send_replace(());
    }
}
