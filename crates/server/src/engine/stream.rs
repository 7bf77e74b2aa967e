//! One output stream of a command: its ring buffer, the cursors of its readers, and the rule that ties them.
//!
//! The rule (`room`): a full buffer holds the command back while somebody is likely to want the oldest bytes.
//! - The slowest *live* reader sets the pace. It also keeps [`RING_REPLAY_BYTES`] behind its cursor, because what
//!   was handed to a socket may be lost with it and be asked for again.
//! - One that acknowledges keeps what it has not acknowledged instead, and [`ACKED_REPLAY_BYTES`] behind that: more may
//!   be on its way than is kept otherwise.
//!   If its connection is lost, all that is kept for as long as it is likely to come back.
//! - A reader that takes nothing of what waits for it for [`SLOW_READER_GRACE`] is no longer live.
//! - With no live reader, the buffer holds for the same time after the last one left, or after the start.
//! - After that the oldest bytes go, and a reader that wanted them sees its next offset jump.
//!
//! The buffer has the process's own bytes. Readers come in two [`Form`]s: raw ones see them as they are, text ones see
//! the text that [`TextMap`] makes of them. Each counts its offsets in bytes of what it sees.
//!
//! A plain value: time comes in as an argument, the lock and the wake-ups belong to [`super::command`].

use bytes::BytesMut;
use sandwire_protocol::limits::{
    ACKED_REPLAY_BYTES, ATTACHMENTS_MAX, FRAME_OUTPUT_MAX, RING_BUFFER_BYTES, RING_REPLAY_BYTES,
    SLOW_READER_GRACE,
};
use tokio::time::Instant;

use super::ring::Ring;
use super::text_map::{Position, TextMap};

/// In which form a reader gets output, and what its offsets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The process's bytes, cut anywhere.
    Raw,
    /// Text of complete characters, with U+FFFD for what is none; offsets count its UTF-8 bytes.
    Text,
}

/// What the pump may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Append that many bytes.
    Bytes(usize),
    /// Nothing, until a reader moves or this instant comes.
    HeldUntil(Instant),
}

pub(super) struct Stream {
    ring: Ring,
    text: TextMap,
    replay: Replay,
    readers: Vec<Reader>,
    /// When the last reader left, or the stream began.
    left: Instant,
    closed: bool,
}

/// What is kept behind a reader, bytes.
struct Replay {
    sent: u64,
    acknowledged: u64,
}

struct Reader {
    key: u64,
    cursor: Cursor,
    /// What the client is known to have, if it ever says.
    acknowledged: Option<u64>,
    /// Whether its connection is gone, with what was not acknowledged.
    gone: bool,
    /// Since when bytes have waited for it, or when it last took some.
    since: Instant,
}

/// What a reader wants next.
enum Cursor {
    Raw(u64),
    Text(Position),
    /// Text that does not exist yet, from there on.
    Ahead(u64),
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        let replay = Replay { sent: RING_REPLAY_BYTES as u64, acknowledged: ACKED_REPLAY_BYTES as u64 };
        Self::with_sizes(now, RING_BUFFER_BYTES, replay)
    }

    fn with_sizes(now: Instant, capacity: usize, replay: Replay) -> Self {
        let (ring, text, readers) = (Ring::new(capacity), TextMap::new(), Vec::new());
        Self { ring, text, replay, readers, left: now, closed: false }
    }

    /// Adds a reader that wants everything from `offset` on. Beyond the end it waits for output from there.
    pub(super) fn attach(&mut self, key: u64, form: Form, offset: u64, now: Instant) {
        let cursor = match form {
            Form::Raw => Cursor::Raw(offset),
            Form::Text => self.text.locate(offset, &self.ring).map_or(Cursor::Ahead(offset), Cursor::Text),
        };
        self.readers
            .retain(|reader| !reader.gone || (reader.is_awaited(now) && !reader.may_be_back_at(offset)));
        self.readers.push(Reader { key, cursor, acknowledged: None, gone: false, since: now });
    }

    /// `lost`: its client did not say that it leaves.
    pub(super) fn detach(&mut self, key: u64, lost: bool, now: Instant) {
        self.left = now;
        for reader in self.readers.iter_mut().filter(|reader| reader.key == key) {
            (reader.gone, reader.since) = (true, now);
        }
        self.readers.retain(|reader| !reader.gone || (reader.is_awaited(now) && (lost || reader.key != key)));
        while self.readers.iter().filter(|reader| reader.gone).count() > ATTACHMENTS_MAX {
            let oldest = self.readers.iter().position(|reader| reader.gone);
            oldest.map(|at| self.readers.remove(at));
        }
    }

    /// Appends output. The caller keeps to [`Stream::room`], unless it means to evict.
    pub(super) fn push(&mut self, chunk: &[u8], now: Instant) {
        let Self { ring, text, readers, .. } = self;
        for reader in readers.iter_mut().filter(|reader| !reader.is_behind(ring, text)) {
            reader.since = now;
        }
        // In pieces that leave in place what the text map still has to look at.
        for piece in chunk.chunks((ring.capacity() / 2).max(1)) {
            text.release(ring.start_after(piece.len()), ring);
            ring.push(piece);
            text.push(piece);
        }
        for reader in readers {
            reader.cursor.arrive(ring, text);
        }
    }

    /// A raw reader's client has everything before `offset`. From the first time on that is what paces the command.
    pub(super) fn acknowledge(&mut self, key: u64, offset: u64, now: Instant) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.key == key)
            && let Cursor::Raw(next) = reader.cursor
        {
            let known = offset.min(next);
            if reader.acknowledged.is_none_or(|before| before < known) {
                (reader.acknowledged, reader.since) = (Some(known), now);
            }
        }
    }

    /// No more output comes: a started character will never be whole.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.text.finish();
        self.ring.shrink();
        for reader in &mut self.readers {
            reader.cursor.arrive(&self.ring, &self.text);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes held in memory.
    pub(super) fn retained(&self) -> usize {
        self.ring.len()
    }

    /// Bytes that were ever appended.
    pub(super) fn total(&self) -> u64 {
        self.ring.end()
    }

    /// Appends to `out` what comes next for a reader, at most one frame, and returns its offset; `None` if nothing
    /// waits for it. Text has complete characters only; a reader inside of one goes on behind it.
    pub(super) fn take(&mut self, key: u64, out: &mut BytesMut, now: Instant) -> Option<u64> {
        let Self { ring, text, readers, .. } = self;
        let reader = readers.iter_mut().find(|reader| reader.key == key)?;
        if !reader.cursor.waits(ring, text) {
            return None;
        }
        reader.since = now;
        match &mut reader.cursor {
            Cursor::Raw(next) => {
                let (offset, before) = ((*next).max(ring.start()), out.len());
                ring.copy(offset, FRAME_OUTPUT_MAX, out);
                *next = offset + (out.len() - before) as u64;
                Some(offset)
            }
            Cursor::Text(next) => {
                let from = if next.raw < text.start().raw { text.start() } else { *next };
                *next = text.read(from, ring, out);
                Some(from.text)
            }
            Cursor::Ahead(_) => None,
        }
    }

    /// How much may be appended now.
    pub(super) fn room(&self, now: Instant) -> Room {
        let capacity = self.ring.capacity();
        let Some((floor, until)) = self.hold(now) else { return Room::Bytes(capacity) };
        let kept = self.ring.end() - floor.clamp(self.ring.start(), self.ring.end());
        match capacity.saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX)) {
            0 => Room::HeldUntil(until),
            free => Room::Bytes(free),
        }
    }

    /// The oldest position that must be kept, and when time alone may change that.
    fn hold(&self, now: Instant) -> Option<(u64, Instant)> {
        let Self { ring, text, .. } = self;
        let deadline = |reader: &Reader| reader.since + SLOW_READER_GRACE;
        let live = || self.readers.iter().filter(|r| !r.is_behind(ring, text) || now < deadline(r));
        if let Some(slowest) = live().map(|reader| reader.floor(ring, &self.replay)).min() {
            let until = live().filter(|r| r.is_behind(ring, text)).map(deadline).min();
            return Some((slowest, until.unwrap_or(now + SLOW_READER_GRACE)));
        }
        let until = self.left + SLOW_READER_GRACE;
        (now < until).then_some((ring.start(), until))
    }
}

impl Reader {
    /// Whether one that is gone left something unacknowledged not long ago.
    fn is_awaited(&self, now: Instant) -> bool {
        self.acknowledged.is_some() && now < self.since + SLOW_READER_GRACE
    }

    /// Whether a reader that wants output from `offset` on may be this one: somewhere between what it acknowledged and
    /// what was sent to it.
    fn may_be_back_at(&self, offset: u64) -> bool {
        match self.cursor {
            Cursor::Raw(next) => self.acknowledged.is_some_and(|known| known <= offset) && offset <= next,
            Cursor::Text(_) | Cursor::Ahead(_) => false,
        }
    }

    /// Whether something waits for it, or for its acknowledgement.
    fn is_behind(&self, ring: &Ring, text: &TextMap) -> bool {
        self.gone
            || self.acknowledged.map_or_else(|| self.cursor.waits(ring, text), |known| known < ring.end())
    }

    /// The oldest position that is kept for it.
    fn floor(&self, ring: &Ring, replay: &Replay) -> u64 {
        match self.acknowledged {
            Some(known) => known.saturating_sub(replay.acknowledged),
            None => self.cursor.position(ring).saturating_sub(replay.sent),
        }
    }
}

impl Cursor {
    /// Whether something is there for it.
    fn waits(&self, ring: &Ring, text: &TextMap) -> bool {
        match self {
            Self::Raw(next) => *next < ring.end(),
            Self::Text(next) => next.raw < text.end().raw,
            Self::Ahead(_) => false,
        }
    }

    /// Its place in the stream.
    fn position(&self, ring: &Ring) -> u64 {
        match self {
            Self::Raw(next) => *next,
            Self::Text(next) => next.raw,
            Self::Ahead(_) => ring.end(),
        }
    }

    /// Finds its place once the text reaches that far.
    fn arrive(&mut self, ring: &Ring, text: &TextMap) {
        if let Self::Ahead(offset) = self
            && let Some(place) = text.locate(*offset, ring)
        {
            *self = Self::Text(place);
        }
    }
}

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod tests;
