//! A command as lists show it.

use std::time::SystemTime;

use sandwire_protocol::extension::Usage;
use sandwire_protocol::limits::COMMAND_SHOWN_MAX;
use sandwire_protocol::{ErrorType, Totals};

use super::{Command, End, Phase};
use crate::engine::fault::Fault;
use crate::engine::lock::lock;

/// Where a command is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Its process is about to be started.
    Starting,
    /// Its main process lives, or its last output is being read.
    Running,
    /// Its main process ended.
    Exited {
        /// Exit code, or 128 + signal number.
        code: i32,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
    },
    /// It was killed at its limit.
    TimedOut(String),
    /// Its sandbox ended before it did.
    Lost(String),
    /// It could not be started, or not be ended.
    Failed(String),
}

/// What is known of a command, without its output.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its id on the wire.
    pub id: String,
    /// The beginning of its text, at most [`COMMAND_SHOWN_MAX`] bytes.
    pub command: String,
    /// Where it is in its life.
    pub status: Status,
    /// Id of its main process inside the sandbox; absent if that never was.
    pub pid: Option<i32>,
    /// Whether it has a terminal.
    pub pty: bool,
    /// When it was asked for.
    pub started_at: SystemTime,
    /// When it was over.
    pub ended_at: Option<SystemTime>,
    /// What it used; known once its main process ended.
    pub usage: Option<Usage>,
    /// Output so far.
    pub totals: Totals,
}

/// When a command was asked for, and how it begins.
pub(super) struct Origin {
    text: String,
    at: SystemTime,
}

impl Origin {
    pub(super) fn new(text: &str) -> Self {
        let mut cuts = (0..=text.len().min(COMMAND_SHOWN_MAX)).rev();
        let cut = cuts.find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Self { text: text.get(..cut).unwrap_or_default().to_owned(), at: SystemTime::now() }
    }
}

impl Command {
    /// What is known of it.
    pub fn summary(&self) -> Summary {
        let (totals, state) = (self.totals(), lock(&self.state));
        let (status, pid) = match &state.phase {
            Phase::Starting => (Status::Starting, None),
            Phase::Running { pid } => (Status::Running, Some(*pid)),
            Phase::Ended { pid, end, .. } => (Status::of(end), *pid),
        };
        Summary {
            id: self.id.clone(),
            command: self.origin.text.clone(),
            status,
            pid,
            pty: self.pty,
            started_at: self.origin.at,
            ended_at: state.ended_at,
            usage: self.usage(),
            totals,
        }
    }
}

impl Status {
    fn of(end: &End) -> Self {
        match end {
            End::Exited { code, signal } => Self::Exited { code: *code, signal: *signal },
            End::Failed(fault) if fault.kind == ErrorType::CommandTimeout => {
                Self::TimedOut(fault.message.clone())
            }
            End::Failed(fault) if *fault == Fault::gone() => Self::Lost(fault.message.clone()),
            End::Failed(fault) => Self::Failed(fault.message.clone()),
        }
    }
}
