//! Both forms of one stream, for bytes of any kind that come in any pieces: raw readers see the bytes, text readers what
//! `String::from_utf8_lossy` makes of the whole, each at offsets that a client computes from what it got before.

use super::*;
use proptest::prelude::*;

const KEYS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    Take(usize),
    /// A new client from any offset.
    Attach(usize, Form, u64),
    /// A lost connection, and its client again from where it was.
    Again(usize),
}

/// Bytes that often are nearly UTF-8.
fn garbage(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let telling = b"ab\x80\x82\x9f\xac\xbf\xc0\xc3\xe0\xe2\xed\xf0\xf4\xf5\xff".to_vec();
    let byte = prop_oneof![3 => proptest::sample::select(telling), 1 => any::<u8>()];
    let text = ".{0,4}".prop_map(String::into_bytes);
    let piece = prop_oneof![2 => byte.prop_map(|byte| vec![byte]), 1 => text];
    proptest::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let form = prop_oneof![2 => Just(Form::Text), 1 => Just(Form::Raw)];
    prop_oneof![
        4 => garbage(12).prop_map(Step::Push),
        4 => (0..KEYS).prop_map(Step::Take),
        1 => (0..KEYS, form, 0u64..200).prop_map(|(key, form, offset)| Step::Attach(key, form, offset)),
        2 => (0..KEYS).prop_map(Step::Again),
    ]
}

/// The places between the characters of the whole text, and the text.
fn boundaries(whole: &[u8]) -> (Vec<Position>, Vec<u8>) {
    let (mut at, mut all) = (Position::default(), vec![Position::default()]);
    for chunk in whole.utf8_chunks() {
        for character in chunk.valid().chars() {
            let size = character.len_utf8() as u64;
            at = Position { raw: at.raw + size, text: at.text + size };
            all.push(at);
        }
        if !chunk.invalid().is_empty() {
            at = Position { raw: at.raw + chunk.invalid().len() as u64, text: at.text + 3 };
            all.push(at);
        }
    }
    (all, String::from_utf8_lossy(whole).into_owned().into_bytes())
}

struct Model {
    whole: Vec<u8>,
    text: Vec<u8>,
    boundaries: Vec<Position>,
    clients: [Option<(Form, u64)>; KEYS],
}

impl Model {
    /// Takes once and checks what came; whether something did.
    fn take(&mut self, stream: &mut Stream, key: usize, now: Instant) -> Result<bool, TestCaseError> {
        let Some((form, cursor)) = self.clients[key] else { return Ok(false) };
        let mut out = BytesMut::new();
        let Some(offset) = stream.take(key as u64, &mut out, now) else { return Ok(false) };
        let start = stream.ring.start();
        let (expected, all) = match form {
            Form::Raw => (cursor.max(start), &self.whole),
            Form::Text => {
                let wanted = |at: &&Position| at.text >= cursor && at.raw >= start;
                (self.boundaries.iter().find(wanted).unwrap().text, &self.text)
            }
        };
        prop_assert_eq!(offset, expected);
        let end = offset as usize + out.len();
        prop_assert!(!out.is_empty());
        prop_assert_eq!(&out[..], &all[offset as usize..end]);
        // What an official client computes.
        self.clients[key] = Some((form, end as u64));
        Ok(true)
    }

    fn attach(&mut self, stream: &mut Stream, key: usize, form: Form, offset: u64, now: Instant) {
        stream.detach(key as u64, true, now);
        stream.attach(key as u64, form, offset, now);
        self.clients[key] = Some((form, offset));
    }
}

proptest! {
    #[test]
    fn both_forms_are_the_stream(
        steps in proptest::collection::vec(step(), 1..60),
        capacity in proptest::sample::select(vec![8usize, 16, 50, 100_000]),
        mixed_max in proptest::sample::select(vec![1usize, 5, 4096]),
    ) {
        let now = Instant::now();
        let text_map = TextMap::with_mixed_max(mixed_max);
        let mut stream = Stream { text: text_map, ..Stream::with_sizes(now, capacity, Replay { sent: capacity as u64 / 2, acknowledged: 0 }) };
        let pushed = steps.iter().filter_map(|step| if let Step::Push(bytes) = step { Some(&bytes[..]) } else { None });
        let whole = pushed.collect::<Vec<_>>().concat();
        let (boundaries, text) = boundaries(&whole);
        let mut model = Model { whole, text, boundaries, clients: [None; KEYS] };
        for step in steps {
            match step {
                Step::Push(bytes) => stream.push(&bytes, now),
                Step::Take(key) => { model.take(&mut stream, key, now)?; }
                Step::Attach(key, form, offset) => model.attach(&mut stream, key, form, offset, now),
                Step::Again(key) => if let Some((form, offset)) = model.clients[key] {
                    model.attach(&mut stream, key, form, offset, now);
                },
            }
        }
        stream.close();
        for key in 0..KEYS {
            while model.take(&mut stream, key, now)? {}
            if let Some((form, cursor)) = model.clients[key] {
                let left = match form {
                    Form::Raw => cursor < model.whole.len() as u64,
                    // Inside the last character nothing is left either.
                    Form::Text => model.boundaries.iter().rev().skip(1).any(|at| at.text >= cursor),
                };
                prop_assert!(!left, "everything came");
            }
        }
        // A client from every offset of what is left.
        for offset in 0..=model.text.len() as u64 {
            model.attach(&mut stream, 0, Form::Text, offset, now);
            while model.take(&mut stream, 0, now)? {}
        }
    }

    #[test]
    fn frames_are_whole_and_no_longer_than_they_may_be(unit in garbage(20), shift in 0usize..20) {
        let now = Instant::now();
        let whole = [&b"x".repeat(shift)[..], &unit.repeat(100_000 / unit.len().max(1))].concat();
        let mut stream = Stream::new(now);
        stream.attach(1, Form::Text, 0, now);
        whole.chunks(65_536).for_each(|chunk| stream.push(chunk, now));
        stream.close();
        let mut text = Vec::new();
        let mut out = BytesMut::new();
        while let Some(offset) = stream.take(1, &mut out, now) {
            prop_assert_eq!(offset, text.len() as u64);
            prop_assert!(out.len() <= FRAME_OUTPUT_MAX && std::str::from_utf8(&out).is_ok());
            text.extend_from_slice(&out);
            out.clear();
        }
        prop_assert!(text == String::from_utf8_lossy(&whole).as_bytes());
    }
}

#[test]
fn the_map_of_the_worst_stream_is_small() {
    const CAPACITY: usize = 16 * 1024;
    let now = Instant::now();
    let text_map = TextMap::with_mixed_max(64);
    let mut stream = Stream {
        text: text_map,
        ..Stream::with_sizes(now, CAPACITY, Replay { sent: CAPACITY as u64 / 2, acknowledged: 0 })
    };
    for unit in [&b"\xff"[..], b"a\xff", b"\xffxxxxxxxxxxxxxxxxxxx", &[&[b'x'; 63][..], b"\xff"].concat()] {
        (0..CAPACITY / unit.len()).for_each(|_| stream.push(unit, now));
        let segments = stream.text.segments();
        assert!(segments <= 2 * CAPACITY / 64 + 2, "{segments} of {unit:?}");
    }
    (0..2 * CAPACITY / 64).for_each(|_| stream.push(&[b'x'; 64], now));
    assert_eq!(stream.text.segments(), 1);
}
