//! Whatever comes, in whatever order: nothing is lost, repeated or believed.

use super::*;
use proptest::prelude::*;

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Event {
    Frame(ServerFrame<'static>),
    Lost(u16),
    Refused,
    Reconnected,
    Wait(u64),
    Kill,
}

fn any_event() -> impl Strategy<Value = Event> {
    use sandwire_protocol::OutputFrame;
    let out = || {
        (".{0,6}", prop_oneof![0u64..40, any::<u64>()])
            .prop_map(|(data, offset)| OutputFrame { data: Cow::Owned(data), offset })
    };
    let id = prop_oneof![3 => Just("mine"), 1 => Just("other"), 1 => Just("")];
    let frame = prop_oneof![
        3 => id.prop_map(|id| ServerFrame::started(id, None)),
        6 => out().prop_map(ServerFrame::Stdout),
        3 => out().prop_map(ServerFrame::Stderr),
        1 => any::<i32>().prop_map(ServerFrame::exit),
        1 => Just(ServerFrame::Unknown),
        1 => ".{0,8}".prop_map(|kind| ServerFrame::Error { error_type: kind.into(), error: "e".into() }),
    ];
    prop_oneof![
        12 => frame.prop_map(Event::Frame),
        3 => proptest::sample::select(vec![1000, 1001, 1006, 1011, 4000]).prop_map(Event::Lost),
        1 => Just(Event::Refused),
        4 => Just(Event::Reconnected),
        2 => (0u64..100).prop_map(Event::Wait),
        1 => Just(Event::Kill),
    ]
}

/// A server that keeps the end of `text` from `floor` on, and serves it in pieces.
fn serve(
    session: &mut Session,
    text: &str,
    floor: usize,
    size: usize,
    now: Instant,
    got: &mut Vec<Delivery>,
) {
    let from = usize::try_from(session.next_offset(Stdout)).unwrap().max(floor);
    let mut at = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    while at < text.len() {
        let to = (at + size.max(1)..=text.len()).find(|to| text.is_char_boundary(*to)).unwrap_or(text.len());
        if let Step::Deliver(delivery) = output(session, Stdout, text.get(at..to).unwrap(), at as u64, now) {
            got.push(delivery);
        }
        at = to;
    }
}

proptest! {
    #[test]
    fn any_events_leave_offsets_rising_and_every_jump_a_gap(
        events in proptest::collection::vec(any_event(), 0..60)
    ) {
        let (mut session, mut now) = running(1);
        let mut ends = [0u64; 2];
        for event in events {
            let step = match event {
                Event::Frame(frame) => session.on_frame(frame, now),
                Event::Lost(code) if session.reconnects_at().is_none() => {
                    session.on_lost(&Loss::Closed(Some(code)), now)
                }
                Event::Refused if session.reconnects_at().is_some() => {
                    session.on_lost(&Loss::Refused(Error::closed()), now)
                }
                Event::Reconnected if session.reconnects_at().is_some() => session.on_reconnected(false, now),
                Event::Wait(seconds) => {
                    now += SECOND * u32::try_from(seconds).unwrap();
                    session.on_deadline(now)
                }
                Event::Kill => {
                    session.on_kill(now);
                    Step::Ignore
                }
                _ => continue,
            };
            match step {
                Step::Deliver(Delivery { kind, offset, bytes, gap }) => {
                    let end = &mut ends[usize::from(kind == Stderr)];
                    prop_assert!(offset >= *end && !bytes.is_empty());
                    let expected = (offset > *end).then_some(Gap { stream: kind, from: *end, to: offset });
                    prop_assert_eq!(gap, expected);
                    *end = offset.saturating_add(bytes.len() as u64);
                    prop_assert_eq!(session.next_offset(kind), *end);
                }
                Step::Reconnect => prop_assert!(session.reconnects_at().is_some()),
                Step::End(_) => break,
                _ => {}
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(
        extended: bool,
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
    ) {
        let (mut session, now) = session(0);
        session.on_opening(extended, now);
        for message in messages {
            Frames::default().step(Message::binary(message), &mut session);
        }
    }

    #[test]
    fn however_it_is_cut_and_repeated_the_bytes_arrive_once_or_as_a_gap(
        text in "[a-zé€🙂]{0,60}",
        rounds in proptest::collection::vec((0usize..40, 1usize..9, 0usize..70), 1..12),
    ) {
        let (mut session, mut now) = running(0);
        let mut got = Vec::new();
        for (written, size, floor) in rounds {
            let written = (0..=written.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            serve(&mut session, text.get(..written).unwrap(), floor.min(written), size, now, &mut got);
            session.on_lost(&Loss::Closed(None), now);
            now += 2 * SECOND;
            reattach(&mut session, now);
        }
        serve(&mut session, &text, 0, 7, now, &mut got);
        let mut position = 0;
        for Delivery { offset, bytes, gap, .. } in got {
            prop_assert_eq!(gap.map_or(position, |gap| gap.to), offset);
            prop_assert!(gap.is_none_or(|gap| gap.from == position));
            let from = usize::try_from(offset).unwrap();
            prop_assert_eq!(text.as_bytes().get(from..from + bytes.len()).unwrap(), &bytes[..]);
            position = offset + bytes.len() as u64;
        }
        prop_assert_eq!(position, text.len() as u64);
    }
}
