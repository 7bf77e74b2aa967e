//! Streamed commands: from an `execute` frame to the last byte of output.
//!
//! ```text
//! socket ──frames──▶ Session ──steps──▶ task ──chunks──▶ Output ──batches──▶ Command::next_batch
//!   ▲  (connect)    (pure, decides)    (owns socket,      (bounded queue       Command::result
//!   └──────────────── control frames ── one per           and retention)
//!                                       attachment)
//! ```
//!
//! [`Session`] knows the protocol and nothing of sockets; the task knows sockets and decides nothing; `Output` is
//! the only thing that the task and the caller share. A full queue stops the task from reading, and TCP stops the
//! server.

mod chunk;
mod command;
mod connect;
mod input;
mod output;
mod result;
mod retained;
mod session;
mod socket;
mod task;

use std::time::Duration;

use bytes::Bytes;

pub use chunk::{Chunk, Data};
pub use command::Command;
pub use output::Batch;
pub use result::{CommandOutcome, CommandResult, Gap};
pub use retained::Retained;

/// How long a killed command may take to report its end.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a kill may wait behind input on its connection before it takes another way.
const KILL_PATIENCE: Duration = Duration::from_millis(250);

/// How long an aborted call waits for the end of the command that it killed.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);

/// How output is delivered and kept.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Bytes per stream that the result keeps; beyond that head and tail.
    pub max_output_bytes: usize,
    /// Close stdin, after `input`.
    pub close_input: bool,
    /// What the command reads first.
    pub input: Option<Bytes>,
    /// Deliver bytes instead of text.
    pub raw: bool,
}
