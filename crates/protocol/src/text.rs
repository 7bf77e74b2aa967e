//! Byte streams as UTF-8: where they may be split.

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

#[cfg(test)]
mod tests {
    use super::utf8_prefix;
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

    proptest! {
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
