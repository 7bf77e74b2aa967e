//! What commands did since the process started, counted by relaxed atomics where it happens.
//!
//! Of the process and not of an engine: a command begins and ends far below anything that belongs to one, and a process
//! serves by one engine.

use std::sync::atomic::{AtomicU64, Ordering};

use sandwire_protocol::{ErrorType, StreamKind};

use super::command::End;

static BEGUN: AtomicU64 = AtomicU64::new(0);
static EXITED: AtomicU64 = AtomicU64::new(0);
static KILLED: AtomicU64 = AtomicU64::new(0);
static TIMED_OUT: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static STDOUT: AtomicU64 = AtomicU64::new(0);
static STDERR: AtomicU64 = AtomicU64::new(0);

/// The counts of a moment.
pub(crate) struct Counted {
    pub(crate) running: u64,
    /// Ended commands by how they ended.
    pub(crate) outcomes: [(&'static str, u64); 4],
    /// Bytes by stream.
    pub(crate) output: [(&'static str, u64); 2],
}

pub(super) fn began() {
    BEGUN.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn ended(end: &End) {
    let outcome = match end {
        End::Exited { signal: None, .. } => &EXITED,
        End::Exited { .. } => &KILLED,
        End::Failed(fault) if fault.kind == ErrorType::CommandTimeout => &TIMED_OUT,
        End::Failed(_) => &FAILED,
    };
    outcome.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn wrote(kind: StreamKind, bytes: usize) {
    let stream = match kind {
        StreamKind::Stdout => &STDOUT,
        StreamKind::Stderr => &STDERR,
    };
    stream.fetch_add(bytes as u64, Ordering::Relaxed);
}

pub(crate) fn counted() -> Counted {
    let [exited, killed, timed_out, failed] =
        [&EXITED, &KILLED, &TIMED_OUT, &FAILED].map(|count| count.load(Ordering::Relaxed));
    // After the others, so that none seems to have ended before it began.
    let begun = BEGUN.load(Ordering::Relaxed);
    Counted {
        running: begun.saturating_sub(exited + killed + timed_out + failed),
        outcomes: [("exited", exited), ("killed", killed), ("timed_out", timed_out), ("failed", failed)],
        output: [("stdout", STDOUT.load(Ordering::Relaxed)), ("stderr", STDERR.load(Ordering::Relaxed))],
    }
}
