//! Until when a session waits, and what it does when that time has come.

use std::time::Instant;

use sandwire_protocol::limits::{COMMAND_GRACE, PONG_DEADLINE};

use super::{KILL_DEADLINE, Loss, Session, State, Step};
use crate::error::error_frame;

impl Session {
    /// Reading was held back by a slow consumer until now.
    pub(crate) fn on_unblocked(&mut self, now: Instant) {
        self.unblocked = now;
    }

    /// Something arrived that is no frame.
    pub(crate) fn on_alive(&mut self, now: Instant) {
        self.alive = now;
    }

    /// When to make another connection; `None` while there is one.
    pub(crate) fn reconnects_at(&self) -> Option<Instant> {
        match self.state {
            State::Lost(at) => Some(at),
            _ => None,
        }
    }

    /// Until when to wait for the next frame, only to be heeded while frames are read; without a connection, until
    /// when to wait for one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let connected = !matches!(self.state, State::Lost(_));
        let reading = [Some(self.silence()), self.limit_deadline()].map(|at| at.filter(|_| connected));
        reading.into_iter().chain([self.kill_deadline()]).flatten().min()
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
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Step {
        if self.state == State::Over || self.deadline().is_none_or(|deadline| now < deadline) {
            return Step::Ignore;
        }
        if self.kill_deadline().is_some_and(|deadline| now >= deadline) {
            return self.end_unconfirmed();
        }
        if now >= self.silence() {
            return self.on_lost(&Loss::Silent, now);
        }
        let limit = self.timeout.unwrap_or_default().as_secs();
        let message = format!("the command's limit of {limit} s passed and the server did not end it");
        let phase = self.phase();
        let error = error_frame("CommandTimeout", &message, None, self.timeout.map(|t| t.as_secs_f64()))
            .with(|details| details.phase = Some(phase));
        self.end_with(error)
    }
}
