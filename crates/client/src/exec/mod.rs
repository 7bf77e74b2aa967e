//! Streamed commands: from an `execute` frame to the last byte of output.
//!
//! ```text
//! socket ──messages──▶ frames ──▶ Session ──steps──▶ task ──pieces──▶ Output ──batches──▶ Command::next_batch
//!   ▲   (connection)   (parse)   (pure, decides)    (one per          (queue, retained,   Command::result
//!   └── outbox ◀── orders, stdin ──────────────── command)            text)
//! ```
//!
//! [`Session`](session::Session) knows the protocol and nothing of sockets; the task knows sockets and decides
//! nothing; `Output` is the only thing that the task and the callers share. A full queue stops the task from reading,
//! and TCP stops the server. Connections come and go ([`socket`], [`handshake`], [`connect`] for the first one), the
//! session, the outbox and the output stay.

mod chunk;
mod command;
mod connect;
mod connection;
mod frames;
mod handshake;
mod input;
mod open;
mod outbox;
mod output;
mod parse;
mod queue;
mod result;
mod retained;
mod session;
mod socket;
mod stdin;
mod task;
mod text;
mod websocket;

use std::time::Duration;

use bytes::Bytes;

pub use chunk::{Chunk, Data, Item};
pub use command::Command;
pub use output::Batch;
pub use queue::Want;
pub use result::{CommandOutcome, CommandResult, Gap};
pub use retained::Retained;
pub use session::RECONNECTS_MAX;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    //! What [`crate::fuzzing`] drives.

    pub(crate) use super::Backoff;
    pub(crate) use super::frames::Frames;
    pub(crate) use super::parse::{OutputText, Text, output_text};
    pub(crate) use super::session::{Delivery, Loss, Session, Step};
    pub(crate) use super::websocket::Decoder;
}

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
    /// Make a lost connection again. Without, its loss is an error at once, and the extension is not asked for: offsets
    /// count the bytes of the text that is delivered.
    pub reconnect: bool,
}

/// Pauses before a lost connection is made again: the first, doubled each time up to the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first one.
    pub base: Duration,
    /// The longest one.
    pub max: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row.
    fn pause(self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(8) }
    }
}
