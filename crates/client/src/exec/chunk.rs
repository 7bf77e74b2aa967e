//! A piece of output in the form that JavaScript takes fastest.
//!
//! V8 copies Latin-1 and UTF-16 at memory speed, but decodes UTF-8 at half a gigabyte per second; so the decoding
//! is done here, off the JavaScript thread.

use bytes::Bytes;
use encoding_rs::mem::convert_str_to_utf16;
use sandwire_protocol::StreamKind;

use super::Gap;

/// Output bytes, prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Text of ASCII characters only.
    Latin1(Bytes),
    /// Any other text.
    Utf16(Vec<u16>),
    /// Bytes as they came.
    Bytes(Bytes),
}

impl Data {
    /// Prepares text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        if text.is_ascii() {
            Self::Latin1(Bytes::copy_from_slice(text.as_bytes()))
        } else {
            Self::Utf16(utf16(text))
        }
    }
}

/// What a consumer gets, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Output.
    Chunk(Chunk),
    /// Output that is lost.
    Gap(Gap),
}

/// A piece of one output stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which stream.
    pub kind: StreamKind,
    /// Position of its first byte in that stream.
    pub offset: u64,
    /// The content.
    pub data: Data,
    /// How many bytes longer its text is than what it stands for: U+FFFD takes three bytes.
    pub surplus: usize,
}

pub(super) fn utf16(text: &str) -> Vec<u16> {
    // The conversion may use one unit more than it needs.
    let mut units = vec![0; text.len() + 1];
    let written = convert_str_to_utf16(text, &mut units);
    units.truncate(written);
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_takes_the_cheapest_form() {
        assert_eq!(Data::text("plain"), Data::Latin1(Bytes::from_static(b"plain")));
        assert_eq!(Data::text("é🙂"), Data::Utf16(vec![0xE9, 0xD83D, 0xDE42]));
    }

    proptest! {
        #[test]
        fn units_are_those_of_the_text(text in ".*") {
            prop_assert_eq!(utf16(&text), text.encode_utf16().collect::<Vec<_>>());
        }
    }
}
