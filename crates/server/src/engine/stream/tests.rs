//! What readers see of a stream, of either form, and when it holds the command back.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn stream(now: Instant) -> Stream {
    Stream::with_sizes(now, 16, Replay { sent: 4, acknowledged: 0 })
}

fn take(stream: &mut Stream, key: u64, now: Instant) -> Option<(u64, Vec<u8>)> {
    let mut out = BytesMut::new();
    stream.take(key, &mut out, now).map(|offset| (offset, out.to_vec()))
}

#[test]
fn nothing_is_lost_while_a_reader_may_come_back() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.push(&[b'x'; 16], now);
    assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
    assert_eq!(stream.room(now + SLOW_READER_GRACE), Room::Bytes(16));
    stream.attach(1, Form::Text, 0, now);
    stream.detach(1, true, now + SECOND);
    assert_eq!(stream.room(now + SLOW_READER_GRACE), Room::HeldUntil(now + SECOND + SLOW_READER_GRACE));
}

#[test]
fn the_slowest_live_reader_sets_the_pace() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 0, now);
    stream.attach(2, Form::Text, 0, now);
    stream.push(&[b'x'; 16], now);
    assert_eq!(take(&mut stream, 1, now), Some((0, vec![b'x'; 16])));
    assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
    take(&mut stream, 2, now + SECOND);
    assert_eq!(stream.room(now + SECOND), Room::Bytes(12), "4 bytes stay replayable behind the cursor");
}

#[test]
fn what_is_not_acknowledged_is_kept() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Raw, 0, now);
    stream.acknowledge(1, 0, now);
    stream.push(&[b'x'; 16], now);
    assert_eq!(take(&mut stream, 1, now), Some((0, vec![b'x'; 16])));
    assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
    stream.acknowledge(1, 5, now + SECOND);
    stream.acknowledge(1, 3, now + SECOND * 2);
    assert_eq!(stream.room(now + SECOND), Room::Bytes(5));
    stream.acknowledge(1, 99, now + SECOND);
    assert_eq!(stream.room(now + SECOND), Room::Bytes(16), "more than was sent is all that was sent");
    stream.push(&[b'x'; 16], now + SECOND);
    assert_eq!(take(&mut stream, 1, now + SECOND), Some((16, vec![b'x'; 16])));
    assert_eq!(stream.room(now + SECOND + SLOW_READER_GRACE), Room::Bytes(16), "no longer than that");
}

#[test]
fn a_client_may_ask_again_for_what_it_acknowledged_a_moment_ago() {
    let now = Instant::now();
    let mut stream = Stream::with_sizes(now, 16, Replay { sent: 4, acknowledged: 6 });
    stream.attach(1, Form::Raw, 0, now);
    stream.acknowledge(1, 0, now);
    stream.push(&[b'x'; 16], now);
    take(&mut stream, 1, now);
    stream.acknowledge(1, 16, now);
    assert_eq!(stream.room(now), Room::Bytes(10));
}

#[test]
fn what_a_lost_client_has_not_acknowledged_waits_for_it_whoever_else_reads() {
    let now = Instant::now();
    for lost in [true, false] {
        let mut stream = stream(now);
        for key in [1, 2] {
            stream.attach(key, Form::Raw, 0, now);
            stream.acknowledge(key, 0, now);
        }
        stream.push(&[b'x'; 12], now);
        assert!(take(&mut stream, 1, now).is_some() && take(&mut stream, 2, now).is_some());
        stream.acknowledge(1, 4, now);
        stream.acknowledge(2, 12, now);
        stream.detach(1, lost, now);
        assert_eq!(stream.room(now), Room::Bytes(if lost { 8 } else { 16 }), "{lost}");
        stream.attach(3, Form::Raw, 0, now);
        stream.detach(3, false, now);
        assert_eq!(
            stream.room(now),
            Room::Bytes(if lost { 8 } else { 16 }),
            "another one's coming changes nothing"
        );
        stream.attach(4, Form::Raw, 4, now);
        stream.acknowledge(4, 12, now);
        stream.take(4, &mut BytesMut::new(), now);
        stream.acknowledge(4, 12, now);
        assert_eq!(stream.room(now), Room::Bytes(16), "it is back");
    }
    let mut stream = stream(now);
    stream.attach(1, Form::Raw, 0, now);
    stream.acknowledge(1, 0, now);
    stream.push(&[b'x'; 16], now);
    stream.detach(1, true, now);
    assert_eq!(stream.room(now), Room::HeldUntil(now + SLOW_READER_GRACE));
    assert_eq!(stream.room(now + SLOW_READER_GRACE), Room::Bytes(16), "not for ever");
}

#[test]
fn a_stalled_reader_lets_go_and_sees_the_gap() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 0, now);
    stream.push(&[b'x'; 16], now);
    let later = now + SLOW_READER_GRACE;
    assert_eq!(stream.room(later - SECOND), Room::HeldUntil(later));
    assert_eq!(stream.room(later + SECOND), Room::Bytes(16));
    stream.push(b"0123456789", later + SECOND);
    assert_eq!(take(&mut stream, 1, later + SECOND), Some((10, b"xxxxxx0123456789".to_vec())));
}

#[test]
fn a_reader_with_nothing_to_take_is_not_stalled() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 0, now);
    let later = now + SLOW_READER_GRACE * 3;
    stream.push(&[b'x'; 16], later);
    assert_eq!(stream.room(later), Room::HeldUntil(later + SLOW_READER_GRACE));
}

#[test]
fn a_started_character_waits_for_its_rest_or_the_end() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 0, now);
    stream.push(b"a\xe2\x82", now);
    assert_eq!(take(&mut stream, 1, now), Some((0, b"a".to_vec())));
    assert_eq!(take(&mut stream, 1, now), None);
    stream.push(b"\xac\xe2", now);
    assert_eq!(take(&mut stream, 1, now), Some((1, "€".as_bytes().to_vec())));
    stream.close();
    assert_eq!(take(&mut stream, 1, now), Some((4, "\u{FFFD}".into())));
    assert_eq!(take(&mut stream, 1, now), None);
    stream.close();
    assert_eq!(take(&mut stream, 1, now), None, "once");
}

#[test]
fn what_is_no_text_counts_as_what_it_becomes() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 0, now);
    assert_eq!(stream.room(now), Room::Bytes(16));
    stream.push(b"\xff\xfe", now);
    assert_eq!(take(&mut stream, 1, now), Some((0, "\u{FFFD}\u{FFFD}".into())));
    stream.push(b"abc", now);
    assert_eq!(take(&mut stream, 1, now), Some((6, b"abc".to_vec())));
}

#[test]
fn a_reader_inside_a_character_goes_on_behind_it() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.push("a€".as_bytes(), now);
    stream.attach(1, Form::Text, 2, now);
    stream.attach(2, Form::Text, 3, now);
    assert_eq!(take(&mut stream, 1, now), None);
    stream.push(b"b", now);
    assert_eq!(take(&mut stream, 1, now), Some((4, b"b".to_vec())));
    assert_eq!(take(&mut stream, 2, now), Some((4, b"b".to_vec())));
    stream.attach(3, Form::Text, 0, now);
    stream.push(&[b'x'; 13], now);
    assert_eq!(take(&mut stream, 3, now).map(|(offset, _)| offset), Some(4), "2 and 3 were evicted half");
}

#[test]
fn an_offset_beyond_the_end_waits_for_output_from_there() {
    let now = Instant::now();
    let mut stream = stream(now);
    stream.attach(1, Form::Text, 4, now);
    stream.push(b"abcd", now);
    assert_eq!(take(&mut stream, 1, now), None);
    stream.push(b"ef", now);
    assert_eq!(take(&mut stream, 1, now), Some((4, b"ef".to_vec())));
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Take(u64),
    Attach(u64, u64),
    Detach(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..20).prop_map(Step::Push),
        4 => (0u64..3).prop_map(Step::Take),
        1 => (0u64..3, 0u64..60).prop_map(|(key, offset)| Step::Attach(key, offset)),
        1 => (0u64..3).prop_map(Step::Detach),
        2 => (1u64..40).prop_map(Step::Wait),
    ]
}

/// What a reader must see: the stream's own bytes, in order, each at its offset.
struct Model {
    all: Vec<u8>,
    cursors: [Option<u64>; 3],
}

proptest! {
    #[test]
    fn readers_see_the_stream_itself(
        steps in proptest::collection::vec(step(), 1..200),
        form in proptest::sample::select(vec![Form::Raw, Form::Text]),
    ) {
        let mut now = Instant::now();
        let mut stream = stream(now);
        let mut model = Model { all: Vec::new(), cursors: [None; 3] };
        for step in steps {
            match step {
                Step::Wait(seconds) => now += SECOND * u32::try_from(seconds).unwrap(),
                Step::Attach(key, offset) => {
                    if model.cursors[key as usize].is_none() {
                        stream.attach(key, form, offset, now);
                        model.cursors[key as usize] = Some(offset);
                    }
                }
                Step::Detach(key) => {
                    if model.cursors[key as usize].take().is_some() {
                        stream.detach(key, true, now);
                    }
                }
                Step::Push(wanted) => {
                    if let Room::Bytes(room) = stream.room(now) {
                        let size = room.min(usize::from(wanted));
                        let chunk: Vec<u8> =
                            (0..size).map(|i| (model.all.len() + i) as u8 & 0x7f).collect();
                        stream.push(&chunk, now);
                        model.all.extend(chunk);
                    }
                }
                Step::Take(key) => {
                    let Some(cursor) = model.cursors[key as usize] else { continue };
                    let end = model.all.len() as u64;
                    match take(&mut stream, key, now) {
                        None => prop_assert!(cursor >= end),
                        Some((offset, bytes)) => {
                            prop_assert_eq!(offset, cursor.max(stream.ring.start()), "a jump is a gap");
                            let (from, to) = (offset as usize, offset as usize + bytes.len());
                            prop_assert_eq!(&bytes[..], &model.all[from..to]);
                            prop_assert_eq!(to as u64, end, "everything that waits comes");
                            model.cursors[key as usize] = Some(to as u64);
                        }
                    }
                }
            }
            prop_assert!(stream.retained() <= 16);
        }
    }

    #[test]
    fn a_reader_that_keeps_taking_loses_nothing(
        steps in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..24), 0u64..29), 1..200)
    ) {
        let mut now = Instant::now();
        let mut stream = stream(now);
        stream.attach(7, Form::Text, 0, now);
        let (mut written, mut seen) = (Vec::new(), Vec::new());
        for (bytes, pause) in steps {
            if let Room::Bytes(room) = stream.room(now) {
                let chunk = &bytes[..bytes.len().min(room)];
                stream.push(chunk, now);
                written.extend_from_slice(chunk);
            }
            now += SECOND * u32::try_from(pause).unwrap();
            if let Some((offset, bytes)) = take(&mut stream, 7, now) {
                prop_assert_eq!(offset, seen.len() as u64);
                seen.extend(bytes);
            }
        }
        stream.close();
        if let Some((offset, bytes)) = take(&mut stream, 7, now) {
            prop_assert_eq!(offset, seen.len() as u64);
            seen.extend(bytes);
        }
        prop_assert_eq!(String::from_utf8(seen).unwrap(), String::from_utf8_lossy(&written).into_owned());
    }
}
