//! A fast reader for the frames that make up nearly all traffic: JSON output frames.
//!
//! It takes `{"type": ..., "data": ..., "offset": ...}` in any order and with any white space, and gives up on
//! everything else (`None`), which `serde_json` then judges. Text without escapes is not copied. Whatever it reads,
//! `serde_json` reads alike, except that it lets raw control characters in strings pass.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use sandwire_protocol::StreamKind;

/// An output frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputText {
    pub(crate) kind: StreamKind,
    pub(crate) offset: u64,
    pub(crate) data: Text,
}

/// UTF-8 text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// A part of the message.
    Part(Range<usize>),
    /// With its escapes resolved.
    Resolved(Bytes),
}

/// Memory that is taken at once for the text of many frames.
const ARENA: usize = 32 * 1024;

/// Reads an output frame. Text whose escapes are resolved is put into the arena.
pub(crate) fn output_text(message: &str, arena: &mut BytesMut) -> Option<OutputText> {
    let mut reader = Reader { bytes: message.as_bytes(), at: 0 };
    let (mut kind, mut data, mut offset) = (None, None, None);
    reader.skip_space();
    reader.expect(b'{')?;
    loop {
        reader.skip_space();
        let key = reader.plain_string()?;
        reader.skip_space();
        reader.expect(b':')?;
        reader.skip_space();
        match key {
            b"type" if kind.is_none() => kind = Some(stream(reader.plain_string()?)?),
            b"data" if data.is_none() => data = Some(reader.string(arena)?),
            b"offset" if offset.is_none() => offset = Some(reader.number()?),
            _ => return None,
        }
        reader.skip_space();
        match reader.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    reader.skip_space();
    if reader.at != reader.bytes.len() {
        return None;
    }
    Some(OutputText { kind: kind?, offset: offset.unwrap_or(0), data: data? })
}

fn stream(name: &[u8]) -> Option<StreamKind> {
    match name {
        b"stdout" => Some(StreamKind::Stdout),
        b"stderr" => Some(StreamKind::Stderr),
        _ => None,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let (text, end) = self.run()?;
        (end == b'"').then_some(text)
    }

    /// What comes before the next quote or backslash, and which of them it is; goes on behind it.
    fn run(&mut self) -> Option<(&'a [u8], u8)> {
        let rest = self.rest();
        let length = memchr2(b'"', b'\\', rest)?;
        self.at += length + 1;
        Some((rest.get(..length)?, *rest.get(length)?))
    }

    fn string(&mut self, arena: &mut BytesMut) -> Option<Text> {
        self.expect(b'"')?;
        let start = self.at;
        let (text, end) = self.run()?;
        if end == b'"' {
            return Some(Text::Part(start..start + text.len()));
        }
        arena.clear();
        let size = self.rest().len() + text.len();
        if arena.capacity() < size {
            arena.reserve(size.max(ARENA));
        }
        arena.extend_from_slice(text);
        loop {
            self.escape(arena)?;
            let (text, end) = self.run()?;
            arena.extend_from_slice(text);
            if end == b'"' {
                return Some(Text::Resolved(arena.split().freeze()));
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, resolved: &mut BytesMut) -> Option<()> {
        let byte = match self.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            plain @ (b'"' | b'\\' | b'/') => plain,
            b'u' => return self.unicode(resolved),
            _ => return None,
        };
        resolved.extend_from_slice(&[byte]);
        Some(())
    }

    fn unicode(&mut self, resolved: &mut BytesMut) -> Option<()> {
        let unit = self.hex4()?;
        let code = match unit {
            0xD800..=0xDBFF => {
                self.expect(b'\\')?;
                self.expect(b'u')?;
                let low = self.hex4().filter(|low| (0xDC00..=0xDFFF).contains(low))?;
                0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            _ => unit,
        };
        let character = char::from_u32(code)?;
        resolved.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(value)
    }

    fn number(&mut self) -> Option<u64> {
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - start;
        let padded = digits > 1 && self.bytes.get(start) == Some(&b'0');
        let other = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        (digits > 0 && !padded && !other).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sandwire_protocol::{OutputFrame, ServerFrame};
    use std::borrow::Cow;

    fn output_text(message: &str) -> Option<OutputText> {
        super::output_text(message, &mut BytesMut::new())
    }

    fn text(message: &str, frame: &OutputText) -> Vec<u8> {
        match &frame.data {
            Text::Part(range) => message.as_bytes()[range.clone()].to_vec(),
            Text::Resolved(bytes) => bytes.to_vec(),
        }
    }

    /// What `serde_json` makes of an output frame.
    fn slow(message: &str) -> Option<(StreamKind, u64, Vec<u8>)> {
        match serde_json::from_str(message).ok()? {
            ServerFrame::Stdout(OutputFrame { data, offset }) => {
                Some((StreamKind::Stdout, offset, data.into_owned().into_bytes()))
            }
            ServerFrame::Stderr(OutputFrame { data, offset }) => {
                Some((StreamKind::Stderr, offset, data.into_owned().into_bytes()))
            }
            _ => None,
        }
    }

    #[test]
    fn the_usual_forms() {
        let compact = r#"{"type":"stdout","data":"plain","offset":7}"#;
        let frame = output_text(compact).unwrap();
        assert_eq!((frame.kind, frame.offset), (StreamKind::Stdout, 7));
        assert!(matches!(frame.data, Text::Part(_)), "not copied");
        let spaced = "{\"offset\": 1, \"data\": \"a\\n\\u20ac\\ud83d\\ude42/\", \"type\": \"stderr\"}\n";
        let frame = output_text(spaced).unwrap();
        assert_eq!((frame.kind, frame.offset), (StreamKind::Stderr, 1));
        assert_eq!(text(spaced, &frame), "a\n€🙂/".as_bytes());
        assert_eq!(output_text(r#"{"type":"stdout","data":""}"#).unwrap().offset, 0);
    }

    #[test]
    fn everything_else_is_left_to_the_judge() {
        for message in [
            "",
            "{}",
            "[]",
            r#"{"type":"exit","exit_code":0}"#,
            r#"{"type":"stdout","data":"a","offset":01}"#,
            r#"{"type":"stdout","data":"a","offset":-1}"#,
            r#"{"type":"stdout","data":"a","offset":1.5}"#,
            r#"{"type":"stdout","data":"a","offset":1e2}"#,
            r#"{"type":"stdout","data":"a","offset":18446744073709551616}"#,
            r#"{"type":"stdout","data":"a","offset":1,"more":2}"#,
            r#"{"type":"stdout","data":"a","data":"b"}"#,
            r#"{"type":"stdout","data":"\ud800"}"#,
            r#"{"type":"stdout","data":"\ud800x"}"#,
            r#"{"type":"stdout","data":"\x"}"#,
            r#"{"type":"stdout","data":"a""#,
            r#"{"type":"stdout","data":"a"} x"#,
            r#"{"type":"stdout","offset":1}"#,
        ] {
            assert_eq!(output_text(message), None, "{message}");
        }
    }

    #[test]
    fn one_arena_serves_many_frames() {
        let mut arena = BytesMut::new();
        let message = |n: usize| format!(r#"{{"type":"stdout","data":"{}\n","offset":0}}"#, "x".repeat(n));
        let texts: Vec<_> = (0..2000).map(|n| super::output_text(&message(n * 7), &mut arena)).collect();
        for (n, output) in texts.into_iter().enumerate() {
            let Some(OutputText { data: Text::Resolved(bytes), .. }) = output else { panic!("not resolved") };
            assert_eq!(bytes, "x".repeat(n * 7) + "\n");
            assert!(super::output_text(r#"{"type":"stdout","data":"\n\x"}"#, &mut arena).is_none());
        }
    }

    /// Text that is JSON more often than not.
    fn nearly_json() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(r#"{"type":"stdout","data":""#.to_owned()),
            Just(r#"","offset":"#.to_owned()),
            Just("{\"".to_owned()),
            Just("type\":\"stderr\",".to_owned()),
            Just("\"data\" : \"".to_owned()),
            Just("\",".to_owned()),
            Just("}".to_owned()),
            Just("\\".to_owned()),
            Just("\\u00e9".to_owned()),
            Just("\\uD83D\\uDE42".to_owned()),
            "[ -~€]{0,8}",
            any::<u64>().prop_map(|number| number.to_string()),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(data in "\\PC*[\\x00-\\x7f]{0,9}", offset: u64, error: bool) {
            let output = OutputFrame { data: Cow::Borrowed(&data), offset };
            let frame = if error { ServerFrame::Stderr(output) } else { ServerFrame::Stdout(output) };
            let message = serde_json::to_string(&frame).unwrap();
            let read = output_text(&message).unwrap();
            prop_assert_eq!((read.kind == StreamKind::Stderr, read.offset), (error, offset));
            prop_assert_eq!(text(&message, &read), data.as_bytes());
        }

        #[test]
        fn it_never_disagrees(message in nearly_json()) {
            if let Some(read) = output_text(&message) {
                let data = text(&message, &read);
                prop_assert_eq!(slow(&message), Some((read.kind, read.offset, data)));
            }
        }
    }
}
