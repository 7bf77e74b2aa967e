//! One output stream as a consumer takes it: bytes as they came, or text.
//!
//! Pieces may end inside a character; its beginning then waits for the rest. What is no UTF-8 becomes U+FFFD, and
//! the positions go on counting bytes.

use bytes::Bytes;
use sandwire_protocol::{StreamKind, utf8_prefix};

use super::chunk::utf16;
use super::{Chunk, Data};

/// See the module.
#[derive(Debug)]
pub(super) struct Decoder {
    kind: StreamKind,
    /// A character that has begun.
    started: Vec<u8>,
    /// Position after what was given out.
    position: u64,
}

impl Decoder {
    pub(super) fn new(kind: StreamKind, position: u64) -> Self {
        Self { kind, started: Vec::new(), position }
    }

    pub(super) fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Whether what begins at `offset` follows what was decoded.
    pub(super) fn continues(&self, offset: u64) -> bool {
        let held = u64::try_from(self.started.len()).unwrap_or(u64::MAX);
        self.position.saturating_add(held) == offset
    }

    /// Position after what was given out.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes as text, without the character that they may end in.
    pub(super) fn text(&mut self, offset: u64, bytes: Bytes) -> Option<Chunk> {
        let (offset, mut bytes) = self.join(offset, bytes);
        if bytes.is_ascii() {
            return self.chunk(offset, bytes.len(), Data::Latin1(bytes), 0);
        }
        let whole = bytes.split_to(utf8_prefix(&bytes));
        self.started = bytes.to_vec();
        self.lossy(offset, &whole)
    }

    /// The next bytes as they are.
    pub(super) fn raw(&mut self, offset: u64, bytes: Bytes) -> Option<Chunk> {
        let (offset, bytes) = self.join(offset, bytes);
        self.chunk(offset, bytes.len(), Data::Bytes(bytes), 0)
    }

    /// What is left of a character that never came whole: before a gap, and at the end.
    pub(super) fn flush(&mut self, raw: bool) -> Option<Chunk> {
        let started = Bytes::from(std::mem::take(&mut self.started));
        match raw {
            true => self.chunk(self.position, started.len(), Data::Bytes(started), 0),
            false => self.lossy(self.position, &started),
        }
    }

    fn join(&mut self, offset: u64, bytes: Bytes) -> (u64, Bytes) {
        if self.started.is_empty() {
            return (offset, bytes);
        }
        let mut joined = std::mem::take(&mut self.started);
        joined.extend_from_slice(&bytes);
        (self.position, Bytes::from(joined))
    }

    fn lossy(&mut self, offset: u64, bytes: &[u8]) -> Option<Chunk> {
        let text = String::from_utf8_lossy(bytes);
        self.chunk(offset, bytes.len(), Data::Utf16(utf16(&text)), text.len().saturating_sub(bytes.len()))
    }

    fn chunk(&mut self, offset: u64, len: usize, data: Data, surplus: usize) -> Option<Chunk> {
        if len == 0 {
            return None;
        }
        self.position = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        Some(Chunk { kind: self.kind, offset, data, surplus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(data: &Data) -> String {
        match data {
            Data::Latin1(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Data::Utf16(units) => String::from_utf16(units).unwrap(),
            Data::Bytes(_) => panic!("not text"),
        }
    }

    #[test]
    fn a_character_waits_for_its_rest() {
        let mut decoder = Decoder::new(StreamKind::Stdout, 5);
        let chunk = decoder.text(5, Bytes::from_static(b"a\xe2\x82")).unwrap();
        assert_eq!((string(&chunk.data), chunk.offset, decoder.position()), ("a".to_owned(), 5, 6));
        assert_eq!(decoder.text(8, Bytes::from_static(b"")), None);
        let chunk = decoder.text(8, Bytes::from_static(b"\xacb")).unwrap();
        assert_eq!((string(&chunk.data), chunk.offset, decoder.position()), ("€b".to_owned(), 6, 10));
    }

    #[test]
    fn what_never_comes_whole_is_told_at_last() {
        for (raw, expected) in [(false, "\u{FFFD}".as_bytes()), (true, b"\xe2\x82".as_slice())] {
            let mut decoder = Decoder::new(StreamKind::Stderr, 0);
            assert_eq!(decoder.text(0, Bytes::from_static(b"\xe2\x82")), None);
            let chunk = decoder.flush(raw).unwrap();
            let bytes = match &chunk.data {
                Data::Bytes(bytes) => bytes.to_vec(),
                text => string(text).into_bytes(),
            };
            assert_eq!((bytes.as_slice(), chunk.offset, decoder.position()), (expected, 0, 2));
            assert_eq!(chunk.surplus, expected.len() - 2);
            assert_eq!(decoder.flush(raw), None);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(
            bytes in proptest::collection::vec(prop_oneof![0x20u8..0x7f, any::<u8>(), Just(0xE2), Just(0x82)], 0..80),
            sizes in proptest::collection::vec(1usize..9, 80),
        ) {
            let mut decoder = Decoder::new(StreamKind::Stdout, 0);
            let (mut text, mut at) = (String::new(), 0u64);
            let mut take = |chunk: Option<Chunk>| {
                let Some(chunk) = chunk else { return };
                assert_eq!(chunk.offset, at);
                let piece = string(&chunk.data);
                at += (piece.len() - chunk.surplus) as u64;
                text.push_str(&piece);
            };
            let mut from = 0;
            for size in sizes {
                let to = (from + size).min(bytes.len());
                take(decoder.text(from as u64, Bytes::copy_from_slice(&bytes[from..to])));
                from = to;
            }
            take(decoder.flush(false));
            prop_assert_eq!(at, bytes.len() as u64);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
