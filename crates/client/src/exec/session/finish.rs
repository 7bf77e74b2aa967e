//! How a command can end, and what a session makes of each end.

use sandwire_protocol::{ErrorCode, Totals};

use super::{Origin, Session, State, Step, bit};
use crate::error::{Phase, error_frame};
use crate::{CommandOutcome, Error, Gap};

const SIGKILL: i32 = 9;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) outcome: CommandOutcome,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Set where there is no result.
    pub(crate) error: Option<Error>,
    /// What never came at the ends of the streams.
    pub(crate) missing: Vec<Gap>,
}

impl Finish {
    pub(crate) fn new(outcome: CommandOutcome, exit_code: Option<i32>) -> Self {
        Self { outcome, exit_code, signal: None, error: None, missing: Vec::new() }
    }

    pub(crate) fn failed(outcome: CommandOutcome, error: Error) -> Self {
        Self { error: Some(error), ..Self::new(outcome, None) }
    }
}

impl Session {
    pub(super) fn on_exit(&mut self, exit_code: i32, signal: Option<i32>, totals: Option<Totals>) -> Step {
        let asked = signal.is_some_and(|number| self.signals & bit(number) != 0);
        let killed = asked || (self.killed.is_some() && exit_code != 0);
        let outcome = if killed { CommandOutcome::Killed } else { CommandOutcome::Exited };
        let by_kill = (self.killed.is_some() && exit_code == 128 + SIGKILL).then_some(SIGKILL);
        let missing = totals.map(|totals| self.missing(totals)).unwrap_or_default();
        self.gaps.extend(&missing);
        let signal = signal.or(by_kill);
        self.end(Finish { signal, missing, ..Finish::new(outcome, Some(exit_code)) })
    }

    pub(super) fn on_error(&mut self, error_type: &str, message: &str) -> Step {
        let gone = matches!(error_type, "CommandNotFound" | "SessionExpired");
        if self.killed.is_some() && gone {
            return self.end_unconfirmed();
        }
        let timeout = self.timeout.map(|limit| limit.as_secs_f64());
        let known = self.origin == Origin::Reconnected || self.state == State::Reattaching;
        let id = known.then_some(self.command_id.as_str());
        let phase = self.phase();
        let error = error_frame(error_type, message, id, timeout).with(|details| details.phase = Some(phase));
        self.end_with(error)
    }

    pub(super) fn on_wrong_first(&mut self, name: &str) -> Step {
        let message = format!("Expected 'started' as the server's first frame, got '{name}'");
        let error = Error::new(ErrorCode::Operation, message).with(|details| {
            details.operation = Some("command");
            details.phase = Some(Phase::Connect);
        });
        self.end_with(error)
    }

    pub(super) fn on_foreign(&mut self) -> Step {
        let message = format!("asked for command {}, the server attached to another one", self.command_id);
        let error = Error::new(ErrorCode::Operation, message).with(|details| {
            details.operation = Some("reconnect");
            details.phase = Some(Phase::Connect);
        });
        self.end_with(error)
    }

    /// Killed, but the server never said so: a result without success, and no claim that it is dead.
    pub(super) fn end_unconfirmed(&mut self) -> Step {
        self.end(Finish::new(CommandOutcome::Lost, Some(-1)))
    }

    pub(super) fn end_with(&mut self, error: Error) -> Step {
        let outcome = match error.code() {
            ErrorCode::CommandTimeout => CommandOutcome::TimedOut,
            _ => CommandOutcome::Lost,
        };
        self.end(Finish::failed(outcome, error))
    }

    pub(super) fn end(&mut self, finish: Finish) -> Step {
        self.state = State::Over;
        Step::End(finish)
    }

    pub(super) fn phase(&self) -> Phase {
        if self.state == State::Starting { Phase::Connect } else { Phase::Stream }
    }

    pub(super) fn lost_error(&self, code: ErrorCode, message: &str) -> Error {
        let fate = if self.state == State::Starting { "" } else { "; the command may live on" };
        let phase = self.phase();
        Error::new(code, format!("{message}{fate}")).with(|details| {
            details.operation = Some("command");
            details.phase = Some(phase);
        })
    }
}
