//! The WebSocket reader: whatever a server sends, it neither panics nor depends on how the network cut it into pieces.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sandwire_client::fuzzing::read_messages;

#[derive(Debug, Arbitrary)]
struct Wire {
    size: u8,
    frames: Vec<Frame>,
    rest: Vec<u8>,
}

/// A frame that is right more often than not; bytes alone hardly ever are.
#[derive(Debug, Arbitrary)]
struct Frame {
    first: u8,
    length: Length,
    payload: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Length {
    Shortest,
    Two,
    Eight,
    Wrong(u8),
}

fuzz_target!(|wire: Wire| {
    let mut bytes: Vec<u8> = wire.frames.iter().flat_map(Frame::bytes).collect();
    bytes.extend(&wire.rest);
    let whole = read_messages(&bytes, bytes.len().max(1));
    assert_eq!(read_messages(&bytes, usize::from(wire.size).max(1)), whole);
});

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len();
        let mut bytes = vec![self.first];
        match (&self.length, u8::try_from(length), u16::try_from(length)) {
            (Length::Wrong(length), ..) => bytes.push(*length),
            (Length::Shortest, Ok(length @ ..=125), _) => bytes.push(length),
            (Length::Shortest | Length::Two, _, Ok(length)) => {
                bytes.push(126);
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(&self.payload);
        bytes
    }
}
