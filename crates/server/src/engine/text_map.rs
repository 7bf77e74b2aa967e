//! Where a stream's bytes stand in its text: the text is what [`String::from_utf8_lossy`] makes of the whole stream,
//! and clients of the plain protocol count its bytes, while the ring buffer has the raw ones.
//!
//! The stream is cut into segments as it comes in. In a *valid* one text and bytes are the same, so positions differ by
//! a constant; a *mixed* one has invalid sequences, each of which becomes three bytes, and is decoded from its start to
//! find a place in it. Mixed ones are short and any two neighbours are not, so pure text costs one segment, garbage a
//! bounded number, and a look-up a few KiB of decoding at most. Segments start where characters start.
//!
//! A started character at the end of the stream has no place in the text until its rest or the end has come.

use std::collections::VecDeque;

use bytes::BytesMut;
use sandwire_protocol::limits::FRAME_OUTPUT_MAX;
use sandwire_protocol::utf8_prefix;

use super::ring::Ring;

/// Raw bytes after which a mixed segment takes no more.
const MIXED_MAX: usize = 4 * 1024;

const REPLACEMENT: &str = "\u{FFFD}";

/// A place between two characters of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Bytes of the stream before it.
    pub(super) raw: u64,
    /// Bytes of the text before it.
    pub(super) text: u64,
}

impl Position {
    fn plus(self, raw: usize, text: usize) -> Self {
        Self { raw: self.raw + raw as u64, text: self.text + text as u64 }
    }
}

#[derive(Clone, Copy, Default)]
struct Segment {
    from: Position,
    mixed: bool,
}

/// What is looked for: the first place that is not before it.
#[derive(Clone, Copy)]
enum Wanted {
    Raw(u64),
    Text(u64),
}

impl Wanted {
    fn distance(self, from: Position) -> u64 {
        match self {
            Self::Raw(raw) => raw.saturating_sub(from.raw),
            Self::Text(text) => text.saturating_sub(from.text),
        }
    }
}

pub(super) struct TextMap {
    /// The segments before the last.
    closed: VecDeque<Segment>,
    last: Segment,
    /// After the last complete character.
    end: Position,
    /// The started character behind it, at most three bytes.
    started: Vec<u8>,
    mixed_max: usize,
}

impl TextMap {
    pub(super) fn new() -> Self {
        Self::with_mixed_max(MIXED_MAX)
    }

    pub(super) fn with_mixed_max(mixed_max: usize) -> Self {
        let (closed, started) = (VecDeque::new(), Vec::new());
        Self { closed, last: Segment::default(), end: Position::default(), started, mixed_max }
    }

    /// Where the retained text starts.
    pub(super) fn start(&self) -> Position {
        self.closed.front().unwrap_or(&self.last).from
    }

    /// Where it ends, for now.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Takes note of what was appended to the stream.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !self.started.is_empty()
            && let Some((byte, more)) = rest.split_first()
        {
            self.started.push(*byte);
            let size = self.started.len();
            match std::str::from_utf8(&self.started) {
                Ok(_) => self.valid(size),
                Err(error) if error.error_len().is_none() => {
                    rest = more;
                    continue;
                }
                Err(_) => {
                    self.started.clear();
                    self.invalid(size - 1);
                    break;
                }
            }
            self.started.clear();
            rest = more;
        }
        // Validation of the standard library takes many bytes at a time; its iterator over invalid sequences does not.
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, behind) = rest.split_at(error.valid_up_to());
            self.valid(valid.len());
            let Some(size) = error.error_len() else {
                self.started.extend_from_slice(behind);
                return;
            };
            self.invalid(size);
            rest = behind.get(size..).unwrap_or_default();
        }
        self.valid(rest.len());
    }

    /// The stream is at its end: a started character will never be whole.
    pub(super) fn finish(&mut self) {
        let size = std::mem::take(&mut self.started).len();
        self.invalid(size);
    }

    fn valid(&mut self, size: usize) {
        if self.last.mixed && self.last_size() + size as u64 >= self.mixed_max as u64 {
            self.begin(false);
        }
        self.end = self.end.plus(size, size);
    }

    /// One sequence, which becomes one character.
    fn invalid(&mut self, size: usize) {
        if size == 0 {
            return;
        }
        if !self.last.mixed || self.last_size() >= self.mixed_max as u64 {
            self.begin(true);
        }
        self.end = self.end.plus(size, REPLACEMENT.len());
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    fn last_size(&self) -> u64 {
        self.end.raw - self.last.from.raw
    }

    fn begin(&mut self, mixed: bool) {
        if self.last_size() > 0 {
            self.closed.push_back(self.last);
        }
        self.last = Segment { from: self.end, mixed };
    }

    /// Forgets what is before `raw`, up to the next character. The ring must have those bytes still.
    pub(super) fn release(&mut self, raw: u64, ring: &Ring) {
        while self
            .closed
            .get(1)
            .or(self.closed.front().and(Some(&self.last)))
            .is_some_and(|s| s.from.raw <= raw)
        {
            self.closed.pop_front();
        }
        let end =
            if self.closed.is_empty() { self.end } else { self.closed.get(1).unwrap_or(&self.last).from };
        let front = self.closed.front().unwrap_or(&self.last);
        let from = find(front, end, Wanted::Raw(raw), ring);
        self.closed.front_mut().unwrap_or(&mut self.last).from = from;
    }

    /// The first place at or behind `text` that is not inside a character, or the start if that is gone. `None` if the
    /// text does not reach that far yet.
    pub(super) fn locate(&self, text: u64, ring: &Ring) -> Option<Position> {
        if text > self.end.text {
            return None;
        }
        if text <= self.start().text {
            return Some(self.start());
        }
        let behind = self.closed.partition_point(|segment| segment.from.text <= text);
        let (segment, end) = match behind.checked_sub(1).and_then(|index| self.closed.get(index)) {
            Some(segment) if text < self.last.from.text => {
                (segment, self.closed.get(behind).unwrap_or(&self.last).from)
            }
            _ => (&self.last, self.end),
        };
        Some(find(segment, end, Wanted::Text(text), ring))
    }

    /// Appends the text from `from` on, at most one frame, and returns where it ends.
    pub(super) fn read(&self, from: Position, ring: &Ring, out: &mut BytesMut) -> Position {
        let waiting = usize::try_from(self.end.raw - from.raw).unwrap_or(usize::MAX);
        let begin = out.len();
        ring.copy(from.raw, waiting.min(FRAME_OUTPUT_MAX), out);
        if waiting > FRAME_OUTPUT_MAX {
            let whole = utf8_prefix(out.get(begin..).unwrap_or_default());
            out.truncate(begin + whole);
        }
        let bytes = out.get(begin..).unwrap_or_default();
        if std::str::from_utf8(bytes).is_ok() {
            return from.plus(bytes.len(), bytes.len());
        }
        let bytes = out.split_off(begin);
        decode(&bytes, from, out)
    }
}

/// Appends what fits into a frame of the text that whole characters and invalid sequences make.
fn decode(bytes: &[u8], from: Position, out: &mut BytesMut) -> Position {
    let (begin, mut at) = (out.len(), from);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let room = FRAME_OUTPUT_MAX - (out.len() - begin);
        let fitting = valid.get(..room).map_or(valid, |cut| cut.get(..utf8_prefix(cut)).unwrap_or_default());
        out.extend_from_slice(fitting);
        at = at.plus(fitting.len(), fitting.len());
        let room = room - fitting.len();
        if fitting.len() < valid.len() || room < REPLACEMENT.len() {
            break;
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
            at = at.plus(chunk.invalid().len(), REPLACEMENT.len());
        }
    }
    at
}

/// The place in a segment that ends at `end`.
fn find(segment: &Segment, end: Position, wanted: Wanted, ring: &Ring) -> Position {
    let from = segment.from;
    if !segment.mixed {
        let ahead = wanted.distance(from);
        let inside = ring.continuation(from.raw + ahead) as u64;
        let ahead = (ahead + inside).min(end.raw - from.raw);
        return Position { raw: from.raw + ahead, text: from.text + ahead };
    }
    let mut bytes = BytesMut::new();
    ring.copy(from.raw, usize::try_from(end.raw - from.raw).unwrap_or(usize::MAX), &mut bytes);
    let mut at = from;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if wanted.distance(at) == 0 {
                return at;
            }
            at = at.plus(character.len_utf8(), character.len_utf8());
        }
        if wanted.distance(at) == 0 || chunk.invalid().is_empty() {
            return at;
        }
        at = at.plus(chunk.invalid().len(), REPLACEMENT.len());
    }
    at
}
