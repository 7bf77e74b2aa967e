//! The reader against a writer that we did not write, in pieces of any size.

use super::*;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;

fn frame(data: &[u8], opcode: OpCode, last: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = FrameHeader { is_final: last, opcode, ..FrameHeader::default() };
    Frame::from_payload(header, data.to_vec().into()).format(&mut bytes).unwrap();
    bytes
}

fn control(control: Control, payload: &[u8]) -> Vec<u8> {
    frame(payload, OpCode::Control(control), true)
}

/// Feeds `bytes` in pieces.
fn read(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Message>, Error> {
    let (mut decoder, mut messages, mut rest) = (Decoder::new(&[]), Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(1000));
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        decoder.buffer().extend_from_slice(piece);
        decoder.appended();
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
        rest = more;
    }
    Ok(messages)
}

#[test]
fn control_frames_may_come_inside_a_message() {
    let bytes = [
        frame(&"a€".as_bytes()[..2], OpCode::Data(Data::Text), false),
        control(Control::Ping, b"p"),
        frame(&"a€".as_bytes()[2..], OpCode::Data(Data::Continue), true),
        control(Control::Close, &[0x03, 0xE9, b'x']),
    ]
    .concat();
    let reason = Utf8Bytes::from_static("x");
    let close = CloseFrame { code: CloseCode::Away, reason };
    let expected = [Message::Ping("p".into()), Message::text("a€"), Message::Close(Some(close))];
    assert_eq!(read(&bytes, &[1; 64]).unwrap(), expected);
}

#[test]
fn whoever_breaks_the_rules_is_not_listened_to() {
    let text = |bytes: &[u8], last| frame(bytes, OpCode::Data(Data::Text), last);
    let mut masked = Frame::message(b"a".to_vec(), OpCode::Data(Data::Text), true);
    masked.header_mut().mask = Some([1, 2, 3, 4]);
    let mut masked_bytes = Vec::new();
    masked.format(&mut masked_bytes).unwrap();
    for bytes in [
        masked_bytes,
        text(b"\xff", true),
        [text(b"a", false), text(b"b", true)].concat(),
        frame(b"a", OpCode::Data(Data::Continue), true),
        frame(b"a", OpCode::Control(Control::Ping), false),
        vec![0xC1, 1, b'a'],
        vec![0x83, 1, b'a'],
        vec![0x8B, 1, b'a'],
        vec![0x89, 126, 0, 126],
        control(Control::Close, &[3]),
        control(Control::Close, &[3, 0xE8, 0xFF]),
    ] {
        assert!(read(&bytes, &[]).is_err(), "{bytes:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let announced = |size: u64| [&[0x82, 127][..], &size.to_be_bytes()].concat();
    let max = MESSAGE_MAX as u64;
    assert!(read(&announced(max), &[]).unwrap().is_empty());
    for bytes in [
        announced(max + 1),
        announced(u64::MAX),
        [frame(b"a", OpCode::Data(Data::Binary), false), vec![0x00, 127], max.to_be_bytes().to_vec()]
            .concat(),
    ] {
        assert!(matches!(read(&bytes, &[]), Err(Error::Capacity(_))));
    }
}

#[test]
fn a_busy_connection_is_read_in_larger_pieces_and_a_quiet_one_is_not() {
    for (fill, expected) in [(true, READ_MAX), (false, READ_MIN)] {
        let mut decoder = Decoder::new(&[]);
        for _ in 0..8 {
            let buffer = decoder.buffer();
            let spare = buffer.capacity() - buffer.len();
            assert!(spare > 0);
            buffer.extend_from_slice(&vec![0; if fill { spare } else { 1 }]);
            decoder.appended();
            decoder.buffer.clear();
        }
        assert_eq!(decoder.space, expected);
    }
}

#[test]
fn blocks_are_used_again_when_nothing_of_them_is_in_use() {
    let mut decoder = Decoder::new(&[]);
    decoder.space = READ_MAX;
    let message = frame(&vec![7; 50_000], OpCode::Data(Data::Binary), true);
    let mut places = std::collections::HashSet::new();
    let mut kept = VecDeque::new();
    for n in 0..400 {
        let mut rest = &message[..];
        while !rest.is_empty() {
            let buffer = decoder.buffer();
            let (piece, more) = rest.split_at((buffer.capacity() - buffer.len()).min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = more;
        }
        let Some(Message::Binary(bytes)) = decoder.next().unwrap() else { panic!("not whole") };
        assert!(bytes.iter().all(|byte| *byte == 7), "{n}");
        places.insert(bytes.as_ptr() as usize / BLOCK);
        kept.push_back(bytes);
        if kept.len() > 10 {
            kept.pop_front();
        }
    }
    assert!(kept.iter().all(|bytes| bytes.iter().all(|byte| *byte == 7)));
    assert!(decoder.blocks.len() <= BLOCKS_MAX && places.len() < 40, "{}", places.len());
}

fn any_message() -> impl Strategy<Value = Message> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        3 => ".{0,200}".prop_map(Message::text),
        3 => bytes().prop_map(Message::binary),
        1 => Just(Message::binary(vec![7; 70_000])),
        1 => proptest::collection::vec(any::<u8>(), 0..125).prop_map(|payload| Message::Ping(payload.into())),
    ]
}

fn frames(message: &Message, cuts: &[usize]) -> Vec<u8> {
    let data = message.clone().into_data();
    let kind = match message {
        Message::Text(_) => Data::Text,
        Message::Binary(_) => Data::Binary,
        _ => return control(Control::Ping, &data),
    };
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (data.len() + 1)).chain([0, data.len()]).collect();
    at.sort_unstable();
    let last = at.len() - 2;
    let pieces = at.windows(2).enumerate().map(|(index, pair)| {
        let opcode = if index == 0 { kind } else { Data::Continue };
        frame(&data[pair[0]..pair[1]], OpCode::Data(opcode), index == last)
    });
    pieces.flatten().collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        messages in proptest::collection::vec(any_message(), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..4),
        sizes in proptest::collection::vec(1usize..500, 0..200),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| frames(message, &cuts)).collect();
        prop_assert_eq!(read(&bytes, &sizes).unwrap(), messages);
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        sizes in proptest::collection::vec(1usize..50, 0..100),
    ) {
        let _ = read(&bytes, &sizes);
    }
}
