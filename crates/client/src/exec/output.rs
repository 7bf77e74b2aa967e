//! What the task and the caller share: a byte-bounded queue of chunks, what results keep, and the end.
//!
//! Output reaches a consumer exactly once and in order. While nobody takes batches the queue fills and the task
//! stops reading. Only a waiting result lifts the bound: then the oldest chunks become references into what the
//! result keeps anyway, so that a later loop still sees them, at no cost in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandwire_protocol::StreamKind;
use sandwire_protocol::limits::FRAME_OUTPUT_MAX;
use tokio::sync::Notify;

use super::{Chunk, CommandResult, Data, Retained};
use crate::Error;

/// Queued bytes at which the socket is no longer read.
pub(crate) const QUEUE_BYTES: usize = 1024 * 1024;

/// Bytes in one batch.
const BATCH_BYTES: usize = 256 * 1024;

/// Chunks in one batch.
const BATCH_CHUNKS: usize = 1024;

/// What a queued chunk costs beside its bytes, so that a flood of tiny chunks is bounded too.
const CHUNK_COST: usize = 64;

/// References into retained output; a command that alternates between its streams byte by byte would otherwise
/// need more memory for them than for the output.
const KEPT_MAX: usize = 256 * 1024;

/// Chunks in order.
pub type Batch = Vec<Chunk>;

/// How a command ended, for everyone who waits.
pub(crate) type End = Result<Arc<CommandResult>, Error>;

/// A chunk in the queue.
#[derive(Debug)]
struct Entry {
    kind: StreamKind,
    offset: u64,
    /// Where it begins in what was received of its stream.
    start: u64,
    len: usize,
    /// `None`: only kept for the result, to be read from there.
    data: Option<Data>,
}

#[derive(Debug)]
struct State {
    stdout: Side,
    stderr: Side,
    entries: VecDeque<Entry>,
    /// How many entries at the front have no data of their own.
    kept: usize,
    /// Cost of the others.
    queued: usize,
    result_wanted: bool,
    /// Whether somebody takes batches, and whether anybody ever did.
    iterating: bool,
    iterated: bool,
    end: Option<End>,
    error_told: bool,
}

/// One stream.
#[derive(Debug)]
struct Side {
    retained: Arc<Retained>,
    /// Positions after the last byte that came and that was handed over.
    received: u64,
    delivered: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Output {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
    ended: Notify,
    raw: bool,
    /// Whether anybody can take batches at all.
    deliver: bool,
}

impl Output {
    /// `from` are the positions of the first bytes wanted.
    pub(crate) fn new(limit: usize, from: [u64; 2], raw: bool, deliver: bool) -> Self {
        let [stdout, stderr] = from.map(|position| Side {
            retained: Arc::new(Retained::new(limit)),
            received: position,
            delivered: position,
        });
        let state = State {
            stdout,
            stderr,
            entries: VecDeque::new(),
            kept: 0,
            queued: 0,
            result_wanted: false,
            iterating: false,
            iterated: false,
            end: None,
            error_told: false,
        };
        Self {
            state: Mutex::new(state),
            readable: Notify::new(),
            writable: Notify::new(),
            ended: Notify::new(),
            raw,
            deliver,
        }
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes output from the task. Never waits: the task asks [`Output::has_room`] before it reads on.
    pub(crate) fn push(&self, kind: StreamKind, offset: u64, bytes: &[u8]) {
        let chunk = self.deliver.then(|| Chunk::new(kind, offset, bytes, self.raw));
        let mut state = self.lock();
        let side = state.side(kind);
        let start = side.retained.total();
        side.received = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Arc::make_mut(&mut side.retained).push(bytes);
        if let Some(chunk) = chunk {
            state.queued += cost(chunk.len);
            let Chunk { len, data, .. } = chunk;
            state.entries.push_back(Entry { kind, offset, start, len, data: Some(data) });
            if state.spooling() {
                state.spool();
            }
            drop(state);
            self.readable.notify_one();
        }
    }

    /// Whether the task may read on.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.queued < QUEUE_BYTES || state.spooling()
    }

    /// Returns when there may be room again.
    pub(crate) async fn room(&self) {
        self.writable.notified().await;
    }

    /// What results keep, now.
    pub(crate) fn retained(&self) -> (Arc<Retained>, Arc<Retained>) {
        let state = self.lock();
        (Arc::clone(&state.stdout.retained), Arc::clone(&state.stderr.retained))
    }

    /// Tells everyone. The first end counts.
    pub(crate) fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.readable.notify_one();
        self.readable.notify_waiters();
        self.ended.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// The next chunks, at least one; `None` after the last; the error of the stream once, before `None`.
    ///
    /// Cancel safe.
    pub(crate) async fn next_batch(&self) -> Result<Option<Batch>, Error> {
        loop {
            let readable = self.readable.notified();
            if let Some(outcome) = self.try_batch() {
                return outcome;
            }
            readable.await;
        }
    }

    /// Whether [`Output::next_batch`] would return at once.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.lock();
        !state.entries.is_empty() || state.end.is_some()
    }

    fn try_batch(&self) -> Option<Result<Option<Batch>, Error>> {
        let mut state = self.lock();
        state.iterating = true;
        state.iterated = true;
        let batch = state.take(self.raw);
        if !batch.is_empty() {
            drop(state);
            self.writable.notify_one();
            return Some(Ok(Some(batch)));
        }
        let end = state.end.clone()?;
        match end {
            Err(error) if !state.error_told => {
                state.error_told = true;
                Some(Err(error))
            }
            _ => Some(Ok(None)),
        }
    }

    /// Nobody takes batches for now, so a waiting result need not hold output back for them.
    pub(crate) fn pause(&self) {
        self.lock().iterating = false;
        self.writable.notify_one();
    }

    /// The end.
    pub(crate) async fn result(&self) -> End {
        self.lock().result_wanted = true;
        self.writable.notify_one();
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.lock().end.clone() {
                return end;
            }
            ended.await;
        }
    }

    /// Position after the last byte that was handed over, or that came if nobody ever took a batch.
    pub(crate) fn position(&self, kind: StreamKind) -> u64 {
        let mut state = self.lock();
        let iterated = state.iterated;
        let side = state.side(kind);
        if iterated { side.delivered } else { side.received }
    }

    /// Bytes in the queue, for tests of its bound.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.lock().queued
    }
}

impl State {
    fn side(&mut self, kind: StreamKind) -> &mut Side {
        match kind {
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr => &mut self.stderr,
        }
    }

    /// Whether the bound is lifted: a result waits, and either there is no loop, or what is kept for the result is
    /// all that a loop needs.
    fn spooling(&self) -> bool {
        let room = u64::try_from(FRAME_OUTPUT_MAX).unwrap_or(u64::MAX);
        let keeps_all = || self.stdout.retained.fits(room) && self.stderr.retained.fits(room);
        self.result_wanted && (!self.iterating || keeps_all())
    }

    /// Takes the data out of the oldest chunks until the queue is within its bound.
    fn spool(&mut self) {
        while self.queued > QUEUE_BYTES {
            let Some(entry) = self.entries.get_mut(self.kept) else { return };
            self.queued = self.queued.saturating_sub(cost(entry.len));
            entry.data = None;
            let (kind, offset, start, len) = (entry.kind, entry.offset, entry.start, entry.len);
            let before = self.kept.checked_sub(1).and_then(|last| self.entries.get_mut(last));
            match before {
                Some(before) if before.continues(kind, offset, start, len) => {
                    before.len += len;
                    self.entries.remove(self.kept);
                }
                _ => self.kept += 1,
            }
        }
        while self.kept > KEPT_MAX && self.entries.pop_front().is_some() {
            self.kept -= 1;
        }
    }

    fn take(&mut self, raw: bool) -> Batch {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        while bytes < BATCH_BYTES && batch.len() < BATCH_CHUNKS {
            let Some(Entry { kind, offset, start, len, data }) = self.entries.pop_front() else { break };
            let chunk = match data {
                Some(data) => {
                    self.queued = self.queued.saturating_sub(cost(len));
                    Some(Chunk { kind, offset, len, data })
                }
                None => {
                    self.kept = self.kept.saturating_sub(1);
                    // Beyond the limit of what is kept: the next chunk's offset shows what is missing.
                    let kept = self.side(kind).retained.slice(start, len);
                    kept.map(|bytes| Chunk::new(kind, offset, &bytes, raw))
                }
            };
            let Some(chunk) = chunk else { continue };
            self.side(kind).delivered = chunk.end();
            bytes += len;
            batch.push(chunk);
        }
        batch
    }
}

impl Entry {
    /// Whether a kept piece can be one with this one.
    fn continues(&self, kind: StreamKind, offset: u64, start: u64, len: usize) -> bool {
        let own = u64::try_from(self.len).unwrap_or(u64::MAX);
        self.kind == kind
            && self.offset.saturating_add(own) == offset
            && self.start.saturating_add(own) == start
            && self.len + len <= FRAME_OUTPUT_MAX
    }
}

fn cost(len: usize) -> usize {
    len.saturating_add(CHUNK_COST)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
