//! How a connection can end, and what a session does about it: whether another one is made, and after which pause.

use std::time::{Duration, Instant};

use sandwire_protocol::ErrorCode;

use super::{Backoff, FUTILE_LIFE, FUTILE_MAX, RECONNECTS_MAX, Session, State, Step};
use crate::Error;

const GOING_AWAY: u16 = 1001;

/// How a connection ended, or why there is none.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The server's close code; `None` if it gave none.
    Closed(Option<u16>),
    /// Without a close frame.
    Broken(String),
    /// Nothing came for so long that it must be dead.
    Silent,
    /// None came about.
    Refused(Error),
    /// It was attached to another command.
    Foreign,
    /// It does not speak as the ones before, whose positions mean something else.
    Changed,
    /// The server broke the rules, and would again.
    Violation(String),
}

impl Loss {
    /// What became of the connection, to go on with "the connection to the command".
    pub(crate) fn how(&self) -> String {
        match self {
            Self::Closed(Some(1001)) => "was ended by the server, because it restarts".to_owned(),
            Self::Closed(Some(code)) => format!("was ended by the server with code {code}"),
            Self::Closed(None) => "was ended by the server without a code".to_owned(),
            Self::Broken(how) => format!("broke: {how}"),
            Self::Silent => "is dead: nothing came for too long".to_owned(),
            Self::Refused(error) => format!("could not be made: {error}"),
            Self::Foreign => "was attached to another command".to_owned(),
            Self::Changed => "no longer has the protocol that it had".to_owned(),
            Self::Violation(what) => format!("is of no use: {what}"),
        }
    }
}

impl Session {
    /// A message that is no frame. The next connection would bring it again.
    pub(crate) fn on_unreadable(&mut self, what: String, now: Instant) -> Step {
        self.on_lost(&Loss::Violation(what), now)
    }

    /// The connection is gone without an `exit`, or could not be made: that is never a success.
    pub(crate) fn on_lost(&mut self, loss: &Loss, now: Instant) -> Step {
        if self.state == State::Over {
            return Step::Ignore;
        }
        let fatal = matches!(loss, Loss::Violation(_));
        let Some(backoff) = self.backoff.filter(|_| !fatal) else { return self.give_up(self.lost(loss)) };
        self.count_failure(now);
        if self.failures > RECONNECTS_MAX || self.futile >= FUTILE_MAX {
            return self.give_up(self.exhausted(loss));
        }
        let at = now + self.pause(loss, backoff);
        self.state = State::Lost(at);
        Step::Reconnect
    }

    fn count_failure(&mut self, now: Instant) {
        self.failures += 1;
        if self.state == State::Running && !self.fruitful {
            let life = now.saturating_duration_since(self.attached);
            self.futile = if life < FUTILE_LIFE { self.futile + 1 } else { 0 };
        }
    }

    fn pause(&self, loss: &Loss, backoff: Backoff) -> Duration {
        let in_a_row = self.failures.max(self.futile);
        let hurry = self.killed.is_some() || matches!(loss, Loss::Closed(Some(GOING_AWAY)));
        if hurry && in_a_row <= 1 { Duration::ZERO } else { backoff.pause(in_a_row) }
    }

    /// What the loss of the connection is to the caller.
    pub(crate) fn lost(&self, loss: &Loss) -> Error {
        let code = match loss {
            Loss::Closed(Some(GOING_AWAY)) => ErrorCode::ServerReload,
            _ => ErrorCode::Connection,
        };
        self.lost_error(code, &format!("the connection to the command {}", loss.how()))
    }

    fn exhausted(&self, loss: &Loss) -> Error {
        let times = self.failures.max(self.futile);
        let message = format!(
            "lost the connection to the command {times} times in succession, giving up; it {}",
            loss.how()
        );
        let error = self.lost_error(ErrorCode::Connection, &message);
        match loss {
            Loss::Refused(cause) => error.caused_by(cause.clone()),
            _ => error,
        }
    }

    fn give_up(&mut self, error: Error) -> Step {
        if self.killed.is_some() { self.end_unconfirmed() } else { self.end_with(error) }
    }
}
