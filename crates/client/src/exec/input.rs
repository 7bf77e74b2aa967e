//! Stdin bytes as `input` frames, which carry text.

use sandwire_protocol::limits::FRAME_OUTPUT_MAX;
use sandwire_protocol::{ClientFrame, ErrorCode, utf8_prefix};

use crate::Error;

/// Cuts stdin into frames and holds back a character that is not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    held: Vec<u8>,
}

impl Encoder {
    /// Frames for `data`; none if it only began a character.
    pub(crate) fn frames(&mut self, data: &[u8]) -> Result<Vec<ClientFrame>, Error> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let held = bytes.split_off(utf8_prefix(&bytes));
        let text = String::from_utf8(bytes).map_err(|_| binary())?;
        self.held = held;
        Ok(pieces(&text).map(|piece| ClientFrame::Input { data: piece.to_owned() }).collect())
    }

    /// To be called when stdin ends.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.held).is_empty() { Ok(()) } else { Err(binary()) }
    }
}

/// What a server without the extension can't take.
pub(crate) fn binary() -> Error {
    Error::new(
        ErrorCode::Unsupported,
        "stdin has bytes that are not UTF-8, and this server takes only text on stdin",
    )
    .with(|details| details.operation = Some("command"))
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let fitting = rest.as_bytes().get(..FRAME_OUTPUT_MAX).map_or(rest.len(), utf8_prefix);
        let (piece, after) = rest.split_at(fitting);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(frames: Vec<ClientFrame>) -> Vec<String> {
        frames
            .into_iter()
            .map(|frame| match frame {
                ClientFrame::Input { data } => data,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_character_may_come_in_two_calls() {
        let mut encoder = Encoder::default();
        assert_eq!(texts(encoder.frames(b"a\xE2\x82").unwrap()), ["a"]);
        assert_eq!(texts(encoder.frames(b"\xACb").unwrap()), ["€b"]);
        encoder.finish().unwrap();
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let mut encoder = Encoder::default();
        assert_eq!(encoder.frames(b"\xFF\xFE").unwrap_err().code(), ErrorCode::Unsupported);
        encoder.frames(b"\xE2").unwrap();
        assert_eq!(encoder.finish().unwrap_err().code(), ErrorCode::Unsupported);
    }

    #[test]
    fn long_input_becomes_several_frames() {
        let text = "é".repeat(FRAME_OUTPUT_MAX);
        let frames = texts(Encoder::default().frames(text.as_bytes()).unwrap());
        assert!(frames.len() > 1 && frames.iter().all(|frame| frame.len() <= FRAME_OUTPUT_MAX));
        assert_eq!(frames.concat(), text);
    }
}
