//! A piece of output in the form that JavaScript takes fastest.
//!
//! V8 copies Latin-1 and UTF-16 at memory speed, but decodes UTF-8 at half a gigabyte per second; so the decoding
//! is done here, off the JavaScript thread.

use sandwire_protocol::StreamKind;

/// Output bytes, prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Text of ASCII characters only.
    Latin1(Vec<u8>),
    /// Any other text.
    Utf16(Vec<u16>),
    /// Bytes as they came.
    Bytes(Vec<u8>),
}

impl Data {
    /// Prepares text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        if text.is_ascii() {
            Self::Latin1(text.as_bytes().to_vec())
        } else {
            Self::Utf16(text.encode_utf16().collect())
        }
    }
}

/// A piece of one output stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which stream.
    pub kind: StreamKind,
    /// Position of its first byte in that stream.
    pub offset: u64,
    /// Its length in bytes of UTF-8, whatever its form.
    pub len: usize,
    /// The content.
    pub data: Data,
}

impl Chunk {
    pub(crate) fn new(kind: StreamKind, offset: u64, bytes: &[u8], raw: bool) -> Self {
        let data = match std::str::from_utf8(bytes) {
            Ok(text) if !raw => Data::text(text),
            Err(_) if !raw => Data::text(&String::from_utf8_lossy(bytes)),
            _ => Data::Bytes(bytes.to_vec()),
        };
        Self { kind, offset, len: bytes.len(), data }
    }

    /// Position after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::try_from(self.len).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_the_cheapest_form() {
        assert_eq!(Data::text("plain"), Data::Latin1(b"plain".to_vec()));
        assert_eq!(Data::text("é🙂"), Data::Utf16(vec![0xE9, 0xD83D, 0xDE42]));
        let raw = Chunk::new(StreamKind::Stdout, 3, "é".as_bytes(), true);
        assert_eq!((raw.data.clone(), raw.end()), (Data::Bytes(vec![0xC3, 0xA9]), 5));
    }
}
