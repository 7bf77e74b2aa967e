//! One output stream of a command: its ring buffer, the cursors of its readers, and the rule that ties them.
//!
//! The rule (`room`): a full buffer holds the command back while somebody is likely to want the oldest bytes.
//! - The slowest *live* reader sets the pace. It also keeps [`RING_REPLAY_BYTES`] behind its cursor, because what
//!   was handed to a socket may be lost with it and be asked for again.
//! - A reader that takes nothing of what waits for it for [`SLOW_READER_GRACE`] is no longer live.
//! - With no live reader, the buffer holds for the same time after the last one left, or after the start.
//! - After that the oldest bytes go, and a reader that wanted them sees its next offset jump.
//!
//! Output becomes text as it enters, with U+FFFD for what is no UTF-8: positions, cursors and offsets all count the
//! bytes of the text that is sent, which is what clients count. Raw bytes with raw offsets come with a later extension.
//!
//! A plain value: time comes in as an argument, the lock and the wake-ups belong to [`super::command`].

use sandwire_protocol::limits::{FRAME_OUTPUT_MAX, RING_BUFFER_BYTES, RING_REPLAY_BYTES, SLOW_READER_GRACE};
use sandwire_protocol::{LossyDecoder, utf8_prefix};
use tokio::time::Instant;

use super::ring::Ring;

/// What the pump may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Append that many bytes.
    Bytes(usize),
    /// Nothing, until a reader moves or this instant comes.
    HeldUntil(Instant),
}

pub(super) struct Stream {
    decoder: LossyDecoder,
    ring: Ring,
    replay: u64,
    readers: Vec<Reader>,
    /// When the last reader left, or the stream began.
    left: Instant,
    closed: bool,
}

struct Reader {
    key: u64,
    cursor: u64,
    /// Since when bytes have waited for it, or when it last took some.
    since: Instant,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        Self::with_sizes(now, RING_BUFFER_BYTES, RING_REPLAY_BYTES)
    }

    fn with_sizes(now: Instant, capacity: usize, replay: usize) -> Self {
        let (ring, readers) = (Ring::new(capacity), Vec::new());
        let decoder = LossyDecoder::default();
        Self { decoder, ring, replay: replay as u64, readers, left: now, closed: false }
    }

    /// Adds a reader that wants everything from `offset` on. Beyond the end it waits for output from there.
    pub(super) fn attach(&mut self, key: u64, offset: u64, now: Instant) {
        self.readers.push(Reader { key, cursor: offset, since: now });
    }

    pub(super) fn detach(&mut self, key: u64, now: Instant) {
        self.readers.retain(|reader| reader.key != key);
        self.left = now;
    }

    /// Appends output. The caller keeps to [`Stream::room`], unless it means to evict.
    pub(super) fn push(&mut self, chunk: &[u8], now: Instant) {
        let before = self.ring.end();
        for reader in self.readers.iter_mut().filter(|reader| reader.cursor >= before) {
            reader.since = now;
        }
        self.ring.push(&self.decoder.push(chunk));
    }

    /// No more output comes: a started character will never be whole.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.ring.push(self.decoder.finish());
        self.ring.shrink();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes held in memory.
    pub(super) fn retained(&self) -> usize {
        self.ring.len()
    }

    /// Replaces `out` by what comes next for a reader, at most one frame and only complete characters, and returns
    /// its offset; `None` if nothing waits for it. A reader inside a character goes on behind it.
    pub(super) fn take(&mut self, key: u64, out: &mut Vec<u8>, now: Instant) -> Option<u64> {
        let (start, end) = (self.ring.start(), self.ring.end());
        let reader = self.readers.iter_mut().find(|reader| reader.key == key)?;
        let offset = self.ring.boundary(reader.cursor.max(start));
        reader.cursor = offset;
        if offset >= end {
            return None;
        }
        self.ring.copy(offset, FRAME_OUTPUT_MAX, out);
        out.truncate(utf8_prefix(out));
        (reader.cursor, reader.since) = (offset + out.len() as u64, now);
        Some(offset)
    }

    /// How much may be appended now: a third of what is free, less one for a started character, as each byte that
    /// is no UTF-8 becomes three.
    pub(super) fn room(&self, now: Instant) -> Room {
        let capacity = self.ring.capacity();
        let Some((floor, until)) = self.hold(now) else { return Room::Bytes(capacity) };
        let kept = self.ring.end() - floor.clamp(self.ring.start(), self.ring.end());
        let free = capacity.saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
        match (free / 3).saturating_sub(1) {
            0 => Room::HeldUntil(until),
            room => Room::Bytes(room),
        }
    }

    /// The oldest position that must be kept, and when time alone may change that.
    fn hold(&self, now: Instant) -> Option<(u64, Instant)> {
        let end = self.ring.end();
        let deadline = |reader: &Reader| reader.since + SLOW_READER_GRACE;
        let live = || self.readers.iter().filter(|r| r.cursor >= end || now < deadline(r));
        if let Some(slowest) = live().map(|reader| reader.cursor).min() {
            let until = live().filter(|r| r.cursor < end).map(deadline).min();
            return Some((slowest.saturating_sub(self.replay), until.unwrap_or(now + SLOW_READER_GRACE)));
        }
        let until = self.left + SLOW_READER_GRACE;
        (now < until).then_some((self.ring.start(), until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn stream(now: Instant) -> Stream {
        Stream::with_sizes(now, 16, 4)
    }

    fn take(stream: &mut Stream, key: u64, now: Instant) -> Option<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        stream.take(key, &mut out, now).map(|offset| (offset, out))
    }

    #[test]
    fn nothing_is_lost_while_a_reader_may_come_back() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.push(&[b'x'; 16], now);
        assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
        assert_eq!(stream.room(now + SLOW_READER_GRACE), Room::Bytes(16));
        stream.attach(1, 0, now);
        stream.detach(1, now + SECOND);
        assert_eq!(stream.room(now + SLOW_READER_GRACE), Room::HeldUntil(now + SECOND + SLOW_READER_GRACE));
    }

    #[test]
    fn the_slowest_live_reader_sets_the_pace() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 0, now);
        stream.attach(2, 0, now);
        stream.push(&[b'x'; 16], now);
        assert_eq!(take(&mut stream, 1, now), Some((0, vec![b'x'; 16])));
        assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
        take(&mut stream, 2, now + SECOND);
        assert_eq!(stream.room(now + SECOND), Room::Bytes(3), "4 bytes stay replayable behind the cursor");
    }

    #[test]
    fn a_stalled_reader_lets_go_and_sees_the_gap() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 0, now);
        stream.push(&[b'x'; 16], now);
        let later = now + SLOW_READER_GRACE;
        assert_eq!(stream.room(later - SECOND), Room::HeldUntil(later));
        assert_eq!(stream.room(later + SECOND), Room::Bytes(16));
        stream.push(b"0123456789", later + SECOND);
        assert_eq!(take(&mut stream, 1, later + SECOND), Some((10, b"xxxxxx0123456789".to_vec())));
    }

    #[test]
    fn a_reader_with_nothing_to_take_is_not_stalled() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 0, now);
        let later = now + SLOW_READER_GRACE * 3;
        stream.push(&[b'x'; 16], later);
        assert_eq!(stream.room(later), Room::HeldUntil(later + SLOW_READER_GRACE));
    }

    #[test]
    fn a_started_character_waits_for_its_rest_or_the_end() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 0, now);
        stream.push(b"a\xe2\x82", now);
        assert_eq!(take(&mut stream, 1, now), Some((0, b"a".to_vec())));
        assert_eq!(take(&mut stream, 1, now), None);
        stream.push(b"\xac\xe2", now);
        assert_eq!(take(&mut stream, 1, now), Some((1, "€".as_bytes().to_vec())));
        stream.close();
        assert_eq!(take(&mut stream, 1, now), Some((4, "\u{FFFD}".into())));
        assert_eq!(take(&mut stream, 1, now), None);
        stream.close();
        assert_eq!(take(&mut stream, 1, now), None, "once");
    }

    #[test]
    fn what_is_no_text_counts_as_what_it_becomes() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 0, now);
        assert_eq!(stream.room(now), Room::Bytes(4));
        stream.push(b"\xff\xfe", now);
        assert_eq!(take(&mut stream, 1, now), Some((0, "\u{FFFD}\u{FFFD}".into())));
        stream.push(b"abc", now);
        assert_eq!(take(&mut stream, 1, now), Some((6, b"abc".to_vec())));
    }

    #[test]
    fn a_reader_inside_a_character_goes_on_behind_it() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.push("a€".as_bytes(), now);
        stream.attach(1, 2, now);
        stream.attach(2, 3, now);
        assert_eq!(take(&mut stream, 1, now), None);
        stream.push(b"b", now);
        assert_eq!(take(&mut stream, 1, now), Some((4, b"b".to_vec())));
        assert_eq!(take(&mut stream, 2, now), Some((4, b"b".to_vec())));
        stream.attach(3, 0, now);
        stream.push(&[b'x'; 13], now);
        assert_eq!(take(&mut stream, 3, now).map(|(offset, _)| offset), Some(4), "2 and 3 were evicted half");
    }

    #[test]
    fn an_offset_beyond_the_end_waits_for_output_from_there() {
        let now = Instant::now();
        let mut stream = stream(now);
        stream.attach(1, 4, now);
        stream.push(b"abcd", now);
        assert_eq!(take(&mut stream, 1, now), None);
        stream.push(b"ef", now);
        assert_eq!(take(&mut stream, 1, now), Some((4, b"ef".to_vec())));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Take(u64),
        Attach(u64, u64),
        Detach(u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u8..20).prop_map(Step::Push),
            4 => (0u64..3).prop_map(Step::Take),
            1 => (0u64..3, 0u64..60).prop_map(|(key, offset)| Step::Attach(key, offset)),
            1 => (0u64..3).prop_map(Step::Detach),
            2 => (1u64..40).prop_map(Step::Wait),
        ]
    }

    /// What a reader must see: the stream's own bytes, in order, each at its offset.
    struct Model {
        all: Vec<u8>,
        cursors: [Option<u64>; 3],
    }

    proptest! {
        #[test]
        fn readers_see_the_stream_itself(
            steps in proptest::collection::vec(step(), 1..200)
        ) {
            let mut now = Instant::now();
            let mut stream = stream(now);
            let mut model = Model { all: Vec::new(), cursors: [None; 3] };
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += SECOND * u32::try_from(seconds).unwrap(),
                    Step::Attach(key, offset) => {
                        if model.cursors[key as usize].is_none() {
                            stream.attach(key, offset, now);
                            model.cursors[key as usize] = Some(offset);
                        }
                    }
                    Step::Detach(key) => {
                        if model.cursors[key as usize].take().is_some() {
                            stream.detach(key, now);
                        }
                    }
                    Step::Push(wanted) => {
                        if let Room::Bytes(room) = stream.room(now) {
                            let size = room.min(usize::from(wanted));
                            let chunk: Vec<u8> =
                                (0..size).map(|i| (model.all.len() + i) as u8 & 0x7f).collect();
                            stream.push(&chunk, now);
                            model.all.extend(chunk);
                        }
                    }
                    Step::Take(key) => {
                        let Some(cursor) = model.cursors[key as usize] else { continue };
                        let end = model.all.len() as u64;
                        match take(&mut stream, key, now) {
                            None => prop_assert!(cursor >= end),
                            Some((offset, bytes)) => {
                                prop_assert_eq!(offset, cursor.max(stream.ring.start()), "a jump is a gap");
                                let (from, to) = (offset as usize, offset as usize + bytes.len());
                                prop_assert_eq!(&bytes[..], &model.all[from..to]);
                                prop_assert_eq!(to as u64, end, "everything that waits comes");
                                model.cursors[key as usize] = Some(to as u64);
                            }
                        }
                    }
                }
                prop_assert!(stream.retained() <= 16);
            }
        }

        #[test]
        fn a_reader_that_keeps_taking_loses_nothing(
            steps in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..24), 0u64..29), 1..200)
        ) {
            let mut now = Instant::now();
            let mut stream = stream(now);
            stream.attach(7, 0, now);
            let (mut written, mut seen) = (Vec::new(), Vec::new());
            for (bytes, pause) in steps {
                if let Room::Bytes(room) = stream.room(now) {
                    let chunk = &bytes[..bytes.len().min(room)];
                    stream.push(chunk, now);
                    written.extend_from_slice(chunk);
                }
                now += SECOND * u32::try_from(pause).unwrap();
                if let Some((offset, bytes)) = take(&mut stream, 7, now) {
                    prop_assert_eq!(offset, seen.len() as u64);
                    seen.extend(bytes);
                }
            }
            stream.close();
            if let Some((offset, bytes)) = take(&mut stream, 7, now) {
                prop_assert_eq!(offset, seen.len() as u64);
                seen.extend(bytes);
            }
            prop_assert_eq!(String::from_utf8(seen).unwrap(), String::from_utf8_lossy(&written).into_owned());
        }
    }
}
