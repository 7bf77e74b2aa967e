//! How a connection, and how a command, can end.

use crate::{CommandOutcome, Error, Gap};

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
