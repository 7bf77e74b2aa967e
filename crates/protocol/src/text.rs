//! Byte streams as UTF-8: splitting them where it allows, and making them it.

use std::borrow::Cow;

/// Length of the longest prefix of `bytes` that does not end inside a character.
///
/// Only a *started* sequence at the very end is held back, at most three bytes: bytes that can never become a
/// character are not waited for.
#[must_use]
pub fn utf8_prefix(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for (back, byte) in bytes.iter().skip(tail).rev().enumerate() {
        let wanted = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        let have = back + 1;
        return if have < wanted { bytes.len() - have } else { bytes.len() };
    }
    bytes.len()
}

/// Turns a byte stream into text chunk by chunk, exactly as [`String::from_utf8_lossy`] would turn the whole.
///
/// Only a started character at the end of a chunk is held back for its rest, at most three bytes. What a chunk turns
/// into is at most three times its size, plus three bytes for what was held back before.
#[derive(Debug, Default)]
pub struct LossyDecoder {
    started: Vec<u8>,
}

impl LossyDecoder {
    /// The text of the next chunk, copied only where it is not text already.
    pub fn push<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.started.is_empty() {
            let mut bytes = std::mem::take(&mut self.started);
            bytes.extend_from_slice(chunk);
            return Cow::Owned(self.decode(&bytes));
        }
        match std::str::from_utf8(chunk) {
            Ok(text) => Cow::Borrowed(text.as_bytes()),
            Err(_) => Cow::Owned(self.decode(chunk)),
        }
    }

    /// What is left of a character that never came whole, as text.
    pub fn finish(&mut self) -> &'static [u8] {
        let cut = !std::mem::take(&mut self.started).is_empty();
        if cut { REPLACEMENT.as_bytes() } else { b"" }
    }

    fn decode(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.extend_from_slice(chunk.valid().as_bytes());
            if chunks.peek().is_none() && is_started(chunk.invalid()) {
                self.started = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                text.extend_from_slice(REPLACEMENT.as_bytes());
            }
        }
        text
    }
}

const REPLACEMENT: &str = "\u{FFFD}";

/// Whether more bytes could make it a character.
fn is_started(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::{LossyDecoder, utf8_prefix};
    use proptest::prelude::*;

    #[test]
    fn holds_back_only_started_sequences() {
        assert_eq!(utf8_prefix(b""), 0);
        assert_eq!(utf8_prefix(b"abc"), 3);
        assert_eq!(utf8_prefix("é".as_bytes()), 2);
        assert_eq!(utf8_prefix(&"é".as_bytes()[..1]), 0);
        assert_eq!(utf8_prefix(&"a€".as_bytes()[..3]), 1);
        assert_eq!(utf8_prefix(&"a🙂".as_bytes()[..4]), 1);
        assert_eq!(utf8_prefix(b"\xff\xff"), 2);
        assert_eq!(utf8_prefix(b"a\x80\x80\x80"), 4);
    }

    #[test]
    fn text_is_not_copied_and_a_started_character_waits() {
        use std::borrow::Cow;
        let mut decoder = LossyDecoder::default();
        assert!(matches!(decoder.push("aé".as_bytes()), Cow::Borrowed(_)));
        assert_eq!(&decoder.push(b"a\xe2\x82")[..], b"a");
        assert_eq!(&decoder.push(b"")[..], b"");
        assert_eq!(&decoder.push(b"\xac")[..], "€".as_bytes());
        assert_eq!(&decoder.push(b"\xe0\x80")[..], "\u{FFFD}\u{FFFD}".as_bytes(), "never a character");
        assert_eq!(decoder.finish(), b"");
        assert_eq!(&decoder.push(b"\xf0\x9f\x99")[..], b"");
        assert_eq!(decoder.finish(), "\u{FFFD}".as_bytes());
        assert_eq!(decoder.finish(), b"");
    }

    /// Bytes that often are nearly UTF-8.
    fn garbage() -> impl Strategy<Value = Vec<u8>> {
        let telling = b"ab\x80\x82\x9f\xac\xbf\xc0\xc3\xe0\xe2\xed\xf0\xf4\xf5\xff".to_vec();
        proptest::collection::vec(
            prop_oneof![3 => proptest::sample::select(telling), 1 => any::<u8>()],
            0..64,
        )
    }

    proptest! {
        #[test]
        fn decoding_in_pieces_is_decoding_the_whole(
            bytes in garbage(), sizes in proptest::collection::vec(0usize..9, 0..64)
        ) {
            let (mut decoder, mut text, mut rest) = (LossyDecoder::default(), Vec::new(), &bytes[..]);
            for size in sizes.into_iter().chain([usize::MAX]) {
                let (chunk, more) = rest.split_at(size.min(rest.len()));
                let most = 3 * chunk.len() + if decoder.started.is_empty() { 0 } else { 3 };
                let piece = decoder.push(chunk);
                prop_assert!(piece.len() <= most);
                prop_assert!(decoder.started.len() < 4);
                text.extend_from_slice(&piece);
                rest = more;
            }
            text.extend_from_slice(decoder.finish());
            prop_assert_eq!(String::from_utf8(text).unwrap(), String::from_utf8_lossy(&bytes).into_owned());
        }

        #[test]
        fn every_cut_of_text_is_text(text in ".*", cut in 0usize..200) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let prefix = utf8_prefix(&bytes[..cut]);
            prop_assert!(std::str::from_utf8(&bytes[..prefix]).is_ok());
            prop_assert!(cut - prefix < 4);
        }

        #[test]
        fn garbage_is_never_held_back_for_long(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(bytes.len() - utf8_prefix(&bytes) < 4);
        }
    }
}
