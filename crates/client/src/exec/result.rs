//! How a command ended, with what it said.

use std::sync::Arc;
use std::time::Duration;

use sandwire_protocol::StreamKind;
use serde::{Serialize, Serializer};

use super::Retained;

/// The kind of end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It exited by itself.
    Exited,
    /// The caller killed it, and the server confirmed its end.
    Killed,
    /// It exceeded its limit.
    TimedOut,
    /// Contact was lost; the command may live on.
    Lost,
    /// The caller aborted the call.
    Aborted,
}

impl CommandOutcome {
    /// The name in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Killed => "killed",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Aborted => "aborted",
        }
    }
}

/// Bytes that the server no longer had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// In which stream.
    #[serde(serialize_with = "name")]
    pub stream: StreamKind,
    /// First missing byte.
    pub from: u64,
    /// First byte after it.
    pub to: u64,
}

fn name<S: Serializer>(kind: &StreamKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// A command's end; partial where it did not exit.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// As the server said it; -1 where a killed command's end was not confirmed, which is `Lost`.
    pub exit_code: Option<i32>,
    /// The kind of end.
    pub outcome: CommandOutcome,
    /// The signal that ended it, where it is known for certain.
    pub signal: Option<i32>,
    /// From the first sending of the frame that executed or attached to it, to `exit` or whatever else ended it, on
    /// the client's clock.
    pub duration: Duration,
    /// Standard output.
    pub stdout: Arc<Retained>,
    /// Standard error.
    pub stderr: Arc<Retained>,
    /// What is missing in between.
    pub gaps: Vec<Gap>,
}
