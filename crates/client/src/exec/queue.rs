//! The queue between the task and the consumers: pieces of both streams in the order of their arrival, and what
//! becomes of them when nobody takes them.
//!
//! A plain value: locks and wake-ups belong to [`super::output`]. The queue is bounded by what its pieces hold. Where
//! the bound may be lifted, the oldest pieces give up their bytes and become references into what the result keeps
//! anyway, at no cost in memory. It may be lifted for a stream that nobody takes while a result is waited for, and for
//! one that must not stall the other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sandwire_protocol::StreamKind;
use sandwire_protocol::limits::FRAME_OUTPUT_MAX;

use super::{Gap, Retained};

/// Queued bytes at which the socket is no longer read.
pub(crate) const QUEUE_BYTES: usize = 1024 * 1024;

/// Bytes in one batch.
const BATCH_BYTES: usize = 256 * 1024;

/// Pieces in one batch.
const BATCH_PIECES: usize = 1024;

/// What a queued piece costs beside its bytes, so that a flood of tiny ones is bounded too.
const PIECE_COST: usize = 64;

/// Pieces below this size are small against the blocks of memory that they are parts of.
const SMALL: usize = 16 * 1024;

/// References into retained output of one stream. Beyond it they are joined even across pieces of the other stream,
/// whose order relative to them is then lost; a command that alternates between its streams byte by byte would
/// otherwise need more memory for them than for the output.
const KEPT_MAX: usize = 128 * 1024;

/// Entries of one stream. References to output without holes are joined long before; this is for a server that leaves
/// out every second byte: then the oldest references become gaps.
const ENTRIES_MAX: usize = 2 * KEPT_MAX;

/// What a consumer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Both streams, in the order of arrival.
    All,
    /// One stream; the other is taken by another consumer, or by nobody.
    Only(StreamKind),
}

impl Want {
    pub(super) fn includes(self, kind: StreamKind) -> bool {
        self == Self::All || self == Self::Only(kind)
    }
}

/// A piece as it is taken out.
#[derive(Debug)]
pub(super) enum Piece {
    Data { kind: StreamKind, offset: u64, bytes: Bytes },
    Gap(Gap),
}

#[derive(Debug)]
struct Entry {
    /// Pieces of both streams are numbered in the order of arrival; of joined ones, the last number.
    number: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// `start`: where it begins in what was received of its stream.
    Data {
        offset: u64,
        start: u64,
        bytes: Bytes,
    },
    Kept {
        offset: u64,
        start: u64,
        len: usize,
    },
    Gap(Gap),
}

/// One stream.
#[derive(Debug)]
struct Side {
    kind: StreamKind,
    retained: Arc<Retained>,
    /// Position after the last byte that came.
    received: u64,
    entries: VecDeque<Entry>,
    /// How many entries at the front hold no bytes.
    kept: usize,
    /// Cost of the others.
    queued: usize,
    /// Whether a consumer takes this stream alone.
    wanted: bool,
    /// Whether nobody will ever take it again.
    discarded: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    stdout: Side,
    stderr: Side,
    numbers: u64,
    /// Whether the streams are taken one by one.
    apart: bool,
    /// See [`Queue::thin_out`].
    thinned: bool,
    /// Whether a consumer is at work.
    pub(super) iterating: bool,
    pub(super) result_wanted: bool,
}

impl Queue {
    /// `from` are the positions of the first bytes wanted; the result keeps `limit` bytes of each stream.
    pub(super) fn new(limit: usize, from: [u64; 2]) -> Self {
        let [stdout, stderr] = from;
        Self {
            stdout: Side::new(StreamKind::Stdout, limit, stdout),
            stderr: Side::new(StreamKind::Stderr, limit, stderr),
            numbers: 0,
            apart: false,
            thinned: false,
            iterating: false,
            result_wanted: false,
        }
    }

    /// Takes over output; `queue` unless nobody will ever take pieces.
    pub(super) fn push(&mut self, kind: StreamKind, offset: u64, bytes: Bytes, queue: bool) {
        self.numbers += 1;
        let (number, thinned) = (self.numbers, self.thinned);
        let side = self.side_mut(kind);
        side.received = offset.saturating_add(length(bytes.len()));
        let start = side.retained.total();
        Arc::make_mut(&mut side.retained).push(&bytes);
        if queue && !side.discarded {
            side.queued += cost(bytes.len());
            let mut entry = Entry { number, content: Content::Data { offset, start, bytes } };
            if thinned {
                entry.own();
            }
            side.entries.push_back(entry);
            side.bound();
        }
    }

    pub(super) fn push_gap(&mut self, gap: Gap) {
        self.numbers += 1;
        let number = self.numbers;
        let side = self.side_mut(gap.stream);
        if !side.discarded {
            side.entries.push_back(Entry { number, content: Content::Gap(gap) });
        }
    }

    /// What the result keeps.
    pub(super) fn retained(&self) -> (Arc<Retained>, Arc<Retained>) {
        (Arc::clone(&self.stdout.retained), Arc::clone(&self.stderr.retained))
    }

    /// Position after the last byte that came.
    pub(super) fn received(&self, kind: StreamKind) -> u64 {
        self.side(kind).received
    }

    /// Says who takes pieces from now on.
    pub(super) fn claim(&mut self, want: Want) {
        self.iterating = true;
        if let Want::Only(kind) = want {
            self.apart = true;
            self.thin_out();
            self.side_mut(kind).wanted = true;
        }
    }

    /// Nobody takes this stream any more: it never holds anything back again.
    pub(super) fn discard(&mut self, kind: StreamKind) {
        self.apart = true;
        self.thin_out();
        let side = self.side_mut(kind);
        (side.discarded, side.kept, side.queued) = (true, 0, 0);
        side.entries = VecDeque::new();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self, want: Want) -> bool {
        match want {
            Want::All => self.stdout.entries.is_empty() && self.stderr.entries.is_empty(),
            Want::Only(kind) => self.side(kind).entries.is_empty(),
        }
    }

    /// Whether more may be pushed; lifts the bound where that is allowed.
    pub(super) fn make_room(&mut self) -> bool {
        for kind in [StreamKind::Stdout, StreamKind::Stderr] {
            self.spool(kind);
        }
        self.queued() < QUEUE_BYTES
    }

    /// The next pieces, in order.
    pub(super) fn take(&mut self, want: Want) -> Vec<Piece> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && pieces.len() < BATCH_PIECES {
            let Some(kind) = self.first(want) else { break };
            let Some(piece) = self.side_mut(kind).pop() else { break };
            if let Piece::Data { bytes: data, .. } = &piece {
                bytes += data.len();
            }
            pieces.push(piece);
        }
        pieces
    }

    pub(super) fn queued(&self) -> usize {
        self.stdout.queued + self.stderr.queued
    }

    /// The stream whose piece comes next.
    fn first(&self, want: Want) -> Option<StreamKind> {
        let number = |side: &Side| side.entries.front().map(|entry| entry.number);
        match (want, number(&self.stdout), number(&self.stderr)) {
            (Want::Only(kind), ..) => number(self.side(kind)).map(|_| kind),
            (Want::All, Some(stdout), Some(stderr)) if stderr < stdout => Some(StreamKind::Stderr),
            (Want::All, Some(_), _) => Some(StreamKind::Stdout),
            (Want::All, None, stderr) => stderr.map(|_| StreamKind::Stderr),
        }
    }

    /// Which pieces of a stream may become references: those that end before that position of what was received.
    fn spool_limit(&self, kind: StreamKind) -> u64 {
        let side = self.side(kind);
        if (self.apart && !side.wanted) || (self.result_wanted && !self.iterating) {
            return u64::MAX;
        }
        let starves_the_other = self.apart && self.side(other(kind)).entries.is_empty();
        // A consumer must get everything, and the head is what the result never drops.
        if self.result_wanted || starves_the_other { side.retained.head_limit() } else { 0 }
    }

    /// Takes the bytes out of a stream's oldest pieces until the queue is within its bound.
    fn spool(&mut self, kind: StreamKind) {
        let limit = self.spool_limit(kind);
        while self.queued() >= QUEUE_BYTES && self.side_mut(kind).keep_next(limit) {
            self.thin_out();
        }
    }

    /// From now on pieces may stay behind those that came with them, and each would hold the whole block of memory that
    /// it was read into: small ones get memory of their own.
    fn thin_out(&mut self) {
        if !std::mem::replace(&mut self.thinned, true) {
            self.stdout.entries.iter_mut().for_each(Entry::own);
            self.stderr.entries.iter_mut().for_each(Entry::own);
        }
    }

    fn side(&self, kind: StreamKind) -> &Side {
        match kind {
            StreamKind::Stdout => &self.stdout,
            StreamKind::Stderr => &self.stderr,
        }
    }

    fn side_mut(&mut self, kind: StreamKind) -> &mut Side {
        match kind {
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr => &mut self.stderr,
        }
    }
}

impl Side {
    fn new(kind: StreamKind, limit: usize, from: u64) -> Self {
        Self {
            kind,
            retained: Arc::new(Retained::new(limit)),
            received: from,
            entries: VecDeque::new(),
            kept: 0,
            queued: 0,
            wanted: false,
            discarded: false,
        }
    }

    /// The next piece; a gap where the result no longer keeps what it refers to.
    fn pop(&mut self) -> Option<Piece> {
        let entry = self.entries.pop_front()?;
        self.kept = self.kept.saturating_sub(1);
        match entry.content {
            Content::Data { offset, bytes, .. } => {
                self.queued = self.queued.saturating_sub(cost(bytes.len()));
                Some(Piece::Data { kind: self.kind, offset, bytes })
            }
            Content::Kept { offset, start, len } => Some(match self.retained.slice(start, len) {
                Some(bytes) => Piece::Data { kind: self.kind, offset, bytes: Bytes::from(bytes) },
                None => {
                    let to = offset.saturating_add(length(len));
                    Piece::Gap(Gap { stream: self.kind, from: offset, to })
                }
            }),
            Content::Gap(gap) => Some(Piece::Gap(gap)),
        }
    }

    /// Beyond the bound the two oldest references become one gap.
    fn bound(&mut self) {
        while self.entries.len() > ENTRIES_MAX && self.kept > 1 {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.kept -= 1;
            let stream = self.kind;
            if let Some(next) = self.entries.front_mut() {
                next.content = Content::Gap(Gap { stream, from: oldest.span().0, to: next.span().1 });
            }
        }
    }

    /// Takes the bytes out of the oldest piece that has some; false if there is none, or it reaches beyond `limit`.
    fn keep_next(&mut self, limit: u64) -> bool {
        let Some(entry) = self.entries.get_mut(self.kept) else { return false };
        let Content::Data { offset, start, bytes } = &entry.content else {
            self.kept += 1;
            return true;
        };
        let (offset, start, len, number) = (*offset, *start, bytes.len(), entry.number);
        if start.saturating_add(length(len)) > limit {
            return false;
        }
        self.queued = self.queued.saturating_sub(cost(len));
        entry.content = Content::Kept { offset, start, len };
        let crowded = self.kept >= KEPT_MAX;
        let before = self.kept.checked_sub(1).and_then(|last| self.entries.get_mut(last));
        if before.is_some_and(|before| before.absorbs(offset, start, len, number, crowded)) {
            self.entries.remove(self.kept);
        } else {
            self.kept += 1;
        }
        true
    }
}

impl Entry {
    /// First position and the one after the last.
    fn span(&self) -> (u64, u64) {
        let after = |from: u64, len| from.saturating_add(length(len));
        match &self.content {
            Content::Data { offset, bytes, .. } => (*offset, after(*offset, bytes.len())),
            Content::Kept { offset, len, .. } => (*offset, after(*offset, *len)),
            Content::Gap(gap) => (gap.from, gap.to),
        }
    }

    /// Moves a small piece into memory of its own.
    fn own(&mut self) {
        if let Content::Data { bytes, .. } = &mut self.content
            && bytes.len() < SMALL
        {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    /// Becomes one with the reference that follows it, if that continues it.
    fn absorbs(&mut self, next: u64, next_start: u64, next_len: usize, number: u64, crowded: bool) -> bool {
        let adjacent = crowded || self.number + 1 == number;
        let Content::Kept { offset, start, len } = &mut self.content else { return false };
        let own = length(*len);
        let continued = offset.saturating_add(own) == next && start.saturating_add(own) == next_start;
        if !adjacent || !continued || *len + next_len > FRAME_OUTPUT_MAX {
            return false;
        }
        *len += next_len;
        self.number = number;
        true
    }
}

fn other(kind: StreamKind) -> StreamKind {
    match kind {
        StreamKind::Stdout => StreamKind::Stderr,
        StreamKind::Stderr => StreamKind::Stdout,
    }
}

fn cost(len: usize) -> usize {
    len.saturating_add(PIECE_COST)
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
