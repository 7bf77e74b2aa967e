//! What the task and the callers share: the queue of output, what results keep, and the end.
//!
//! Output reaches a consumer exactly once and in order. While nobody takes batches the queue fills and the task
//! stops reading; see [`super::queue`] for when it need not. Bytes become text where a batch is taken, on the
//! consumer's thread pool and outside the lock that the task needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandwire_protocol::StreamKind;
use tokio::sync::Notify;

use super::queue::{Piece, Queue, Want};
use super::session::Delivery;
use super::text::Decoder;
use super::{CommandResult, Gap, Item, Retained};
use crate::Error;

/// Output in order.
pub type Batch = Vec<Item>;

/// How a command ended, for everyone who waits.
pub(crate) type End = Result<Arc<CommandResult>, Error>;

#[derive(Debug)]
struct State {
    queue: Queue,
    /// Whether anybody ever took a batch.
    iterated: bool,
    raw: bool,
    end: Option<End>,
    /// Whether the error was told to who takes stdout, stderr.
    told: [bool; 2],
}

/// See the module. Where both locks are taken, the decoders' comes first.
#[derive(Debug)]
pub(crate) struct Output {
    state: Mutex<State>,
    decoders: Mutex<[Decoder; 2]>,
    readable: Notify,
    writable: Notify,
    ended: Notify,
    /// Whether anybody can take batches at all.
    deliver: bool,
}

impl Output {
    /// `from` are the positions of the first bytes wanted.
    pub(crate) fn new(limit: usize, from: [u64; 2], raw: bool, deliver: bool) -> Self {
        let [stdout, stderr] = from;
        let state =
            State { queue: Queue::new(limit, from), iterated: false, raw, end: None, told: [false; 2] };
        let decoders = [Decoder::new(StreamKind::Stdout, stdout), Decoder::new(StreamKind::Stderr, stderr)];
        Self {
            state: Mutex::new(state),
            decoders: Mutex::new(decoders),
            readable: Notify::new(),
            writable: Notify::new(),
            ended: Notify::new(),
            deliver,
        }
    }

    /// Takes output from the task. Never waits: the task asks [`Output::has_room`] before it reads on.
    pub(crate) fn push(&self, deliveries: &mut Vec<Delivery>) {
        let mut state = lock(&self.state);
        for Delivery { kind, offset, bytes, gap } in deliveries.drain(..) {
            if let Some(gap) = gap.filter(|_| self.deliver) {
                state.queue.push_gap(gap);
            }
            state.queue.push(kind, offset, bytes, self.deliver);
        }
        drop(state);
        self.readable.notify_waiters();
    }

    /// Whether the task may read on.
    pub(crate) fn has_room(&self) -> bool {
        lock(&self.state).queue.make_room()
    }

    /// Returns when there may be room again.
    pub(crate) async fn room(&self) {
        self.writable.notified().await;
    }

    /// What results keep, now.
    pub(crate) fn retained(&self) -> (Arc<Retained>, Arc<Retained>) {
        lock(&self.state).queue.retained()
    }

    /// Tells everyone. The first end counts. `missing` is what never came at the ends of the streams.
    pub(crate) fn finish(&self, end: End, missing: Vec<Gap>) {
        let mut state = lock(&self.state);
        if state.end.is_none() {
            missing.into_iter().filter(|_| self.deliver).for_each(|gap| state.queue.push_gap(gap));
            state.end = Some(end);
        }
        drop(state);
        self.readable.notify_waiters();
        self.ended.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end().is_some()
    }

    pub(crate) fn end(&self) -> Option<End> {
        lock(&self.state).end.clone()
    }

    /// The next output, at least one item; `None` after the last; the error of the stream once, before `None`.
    ///
    /// Cancel safe.
    pub(crate) async fn next_batch(&self, want: Want) -> Result<Option<Batch>, Error> {
        loop {
            let readable = self.readable.notified();
            if let Some(outcome) = self.try_batch(want) {
                return outcome;
            }
            readable.await;
        }
    }

    /// Whether [`Output::next_batch`] would return at once, but for a piece that only begins a character.
    pub(crate) fn is_ready(&self, want: Want) -> bool {
        let state = lock(&self.state);
        !state.queue.is_empty(want) || state.end.is_some()
    }

    /// From now on bytes instead of text, or the other way round.
    pub(crate) fn set_raw(&self, raw: bool) {
        lock(&self.state).raw = raw;
    }

    fn try_batch(&self, want: Want) -> Option<Result<Option<Batch>, Error>> {
        let mut decoders = lock(&self.decoders);
        let mut state = lock(&self.state);
        state.queue.claim(want);
        state.iterated = true;
        let raw = state.raw;
        let pieces = state.queue.take(want);
        let end = state.end.clone().filter(|_| state.queue.is_empty(want));
        drop(state);
        // Also where nothing was taken: who takes what decides on the room.
        self.writable.notify_one();
        let mut batch = decode(&mut decoders, pieces, raw);
        if end.is_some() {
            let wanted = decoders.iter_mut().filter(|decoder| want.includes(decoder.kind()));
            batch.extend(wanted.filter_map(|decoder| decoder.flush(raw)).map(Item::Chunk));
        }
        drop(decoders);
        if !batch.is_empty() {
            return Some(Ok(Some(batch)));
        }
        match end? {
            Err(error) if self.tell(want) => Some(Err(error)),
            _ => Some(Ok(None)),
        }
    }

    /// Whether a consumer has not been told the error yet.
    fn tell(&self, want: Want) -> bool {
        let mut state = lock(&self.state);
        let [stdout, stderr] = &mut state.told;
        let told: &mut [&mut bool] = match want {
            Want::All => &mut [stdout, stderr],
            Want::Only(StreamKind::Stdout) => &mut [stdout],
            Want::Only(StreamKind::Stderr) => &mut [stderr],
        };
        let news = told.iter().any(|told| !**told);
        told.iter_mut().for_each(|told| **told = true);
        news
    }

    /// Nobody takes batches for now, so a waiting result need not hold output back for them.
    pub(crate) fn pause(&self) {
        lock(&self.state).queue.iterating = false;
        self.writable.notify_one();
    }

    /// Nobody takes this stream any more; the result still has it.
    pub(crate) fn discard(&self, kind: StreamKind) {
        lock(&self.state).queue.discard(kind);
        self.writable.notify_one();
    }

    /// The end.
    pub(crate) async fn result(&self) -> End {
        lock(&self.state).queue.result_wanted = true;
        self.writable.notify_one();
        loop {
            let ended = self.ended.notified();
            if let Some(end) = lock(&self.state).end.clone() {
                return end;
            }
            ended.await;
        }
    }

    /// Position after the last byte that was handed over; of all that came, if only the result was asked for.
    pub(crate) fn position(&self, kind: StreamKind) -> u64 {
        let [stdout, stderr] = &*lock(&self.decoders);
        let state = lock(&self.state);
        match kind {
            _ if !state.iterated && state.queue.result_wanted => state.queue.received(kind),
            StreamKind::Stdout => stdout.position(),
            StreamKind::Stderr => stderr.position(),
        }
    }

    /// Bytes in the queue, for tests of its bound.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        lock(&self.state).queue.queued()
    }
}

fn decode(decoders: &mut [Decoder; 2], pieces: Vec<Piece>, raw: bool) -> Batch {
    let [stdout, stderr] = decoders;
    let mut batch = Batch::with_capacity(pieces.len());
    for piece in pieces {
        let (kind, offset) = match &piece {
            Piece::Data { kind, offset, .. } => (*kind, *offset),
            Piece::Gap(gap) => (gap.stream, gap.to),
        };
        let decoder = match kind {
            StreamKind::Stdout => &mut *stdout,
            StreamKind::Stderr => &mut *stderr,
        };
        if let (Piece::Gap(gap), Some(Item::Gap(last))) = (&piece, batch.last_mut())
            && (last.stream, last.to) == (gap.stream, gap.from)
        {
            last.to = gap.to;
            continue;
        }
        // Behind a gap there is no rest of a character that began before it.
        if !decoder.continues(offset) {
            batch.extend(decoder.flush(raw).map(Item::Chunk));
        }
        let item = match piece {
            Piece::Gap(gap) => Some(Item::Gap(gap)),
            Piece::Data { bytes, .. } if raw => decoder.raw(offset, bytes).map(Item::Chunk),
            Piece::Data { bytes, .. } => decoder.text(offset, bytes).map(Item::Chunk),
        };
        batch.extend(item);
    }
    batch
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
