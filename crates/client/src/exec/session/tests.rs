//! The state machine, without sockets and with a clock of its own.

use super::super::frames;
use super::*;
use StreamKind::{Stderr, Stdout};
use proptest::prelude::*;
use sandwire_protocol::limits::{OUTPUT_ACK_BYTES, PONG_DEADLINE};
use tokio_tungstenite::tungstenite::Message;

const STARTED: &str = r#"{"type":"started","command_id":"mine","pid":7}"#;
const SECOND: Duration = Duration::from_secs(1);
const PAUSES: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(8) };

fn session(timeout: u64) -> (Session, Instant) {
    let now = Instant::now();
    let spec = CommandSpec { timeout_seconds: Some(timeout), ..CommandSpec::new("x") };
    (Session::execute("mine".to_owned(), &spec, Some(PAUSES), now), now)
}

fn text(session: &mut Session, text: &str) -> Step {
    frames::Frames::default().step(Message::text(text), session).unwrap_or(Step::Ignore)
}

fn running(timeout: u64) -> (Session, Instant) {
    let (mut session, now) = session(timeout);
    let started = session.on_frame(ServerFrame::started("mine", Some(7)), now);
    assert!(matches!(started, Step::Started { .. }));
    (session, now)
}

fn output(session: &mut Session, kind: StreamKind, data: &str, offset: u64, now: Instant) -> Step {
    session.on_output(kind, offset, Bytes::copy_from_slice(data.as_bytes()), now)
}

fn delivered(step: Step) -> Option<(StreamKind, String, u64)> {
    match step {
        Step::Deliver(Delivery { kind, bytes, offset, .. }) => {
            Some((kind, String::from_utf8(bytes.to_vec()).unwrap(), offset))
        }
        _ => None,
    }
}

fn end(step: Step) -> Finish {
    match step {
        Step::End(finish) => finish,
        other => panic!("not the end: {other:?}"),
    }
}

/// The pause before the next connection.
fn pause(session: &Session, now: Instant) -> Duration {
    session.reconnects_at().expect("not lost").saturating_duration_since(now)
}

/// Makes another connection, acknowledged.
fn reattach(session: &mut Session, now: Instant) {
    assert!(matches!(session.on_reconnected(false, now), Step::Ignore));
    assert!(matches!(session.on_frame(ServerFrame::started("mine", None), now), Step::Started { .. }));
}

#[test]
fn a_normal_run() {
    let (mut session, _) = session(0);
    let id = r#"{"type":"started","command_id":"c1","pid":7}"#;
    assert!(matches!(text(&mut session, id), Step::Started { stdin_offset: None }));
    assert_eq!((session.command_id(), session.pid()), ("c1", Some(7)), "the server's id");
    let step = text(&mut session, r#"{"type":"stdout","data":"é\n","offset":0}"#);
    assert_eq!(delivered(step), Some((Stdout, "é\n".to_owned(), 0)));
    assert_eq!(session.next_offset(Stdout), 3);
    let binary = Message::binary(br#"{"type":"exit","exit_code":3}"#.to_vec());
    let finish = end(frames::Frames::default().step(binary, &mut session).unwrap());
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Exited, Some(3)));
    assert!(matches!(text(&mut session, STARTED), Step::Ignore), "nothing after the end");
}

#[test]
fn the_first_frame_must_be_started() {
    let (mut session, now) = session(0);
    assert!(matches!(text(&mut session, r#"{"type":"hello"}"#), Step::Ignore));
    let error = end(output(&mut session, Stdout, "x", 0, now)).error.unwrap();
    assert!(error.to_string().contains("Expected 'started'"), "{error}");
    assert_eq!((error.code(), error.details().phase), (ErrorCode::Operation, Some(Phase::Connect)));
}

#[test]
fn an_id_that_the_server_does_not_say_is_kept() {
    let (mut session, _) = session(0);
    text(&mut session, r#"{"type":"started"}"#);
    assert_eq!((session.command_id(), session.pid()), ("mine", None));
}

#[test]
fn an_asked_for_command_is_never_exchanged_for_another() {
    let now = Instant::now();
    let mut session = Session::reconnect("mine".to_owned(), [0; 2], Some(PAUSES), now);
    let error = end(session.on_frame(ServerFrame::started("other", None), now)).error.unwrap();
    assert_eq!(error.code(), ErrorCode::Operation);
    let mut session = Session::reconnect("mine".to_owned(), [3, 0], Some(PAUSES), now);
    let step = output(&mut session, Stdout, "d", 3, now);
    assert_eq!(delivered(step), Some((Stdout, "d".to_owned(), 3)), "old servers don't acknowledge");
}

#[test]
fn what_came_already_is_not_delivered_again() {
    let (mut session, now) = running(0);
    output(&mut session, Stdout, "abc", 0, now);
    output(&mut session, Stdout, "def", 3, now);
    assert!(matches!(output(&mut session, Stdout, "abc", 0, now), Step::Ignore));
    let step = output(&mut session, Stdout, "efgh", 4, now);
    assert_eq!(delivered(step), Some((Stdout, "gh".to_owned(), 6)));
    assert!(session.gaps().is_empty());
}

#[test]
fn a_character_is_never_cut_in_text_and_bytes_are_cut_anywhere() {
    for (extended, rest, gap) in [(false, "x", true), (true, "\u{20ac}x", false)] {
        let (mut session, now) = session(0);
        session.on_opening(extended, now);
        session.on_frame(ServerFrame::started("mine", None), now);
        output(&mut session, Stdout, "ab", 0, now);
        output(&mut session, Stdout, "c", 2, now);
        let Step::Deliver(delivery) = output(&mut session, Stdout, "€x", 1, now) else { panic!() };
        let wanted = if extended { rest.as_bytes()[2..].to_vec() } else { rest.as_bytes().to_vec() };
        assert_eq!(delivery.bytes, wanted, "{extended}");
        assert_eq!(delivery.gap.is_some(), gap);
    }
}

#[test]
fn a_jump_is_a_gap() {
    let (mut session, now) = running(0);
    output(&mut session, Stderr, "ab", 0, now);
    let Step::Deliver(delivery) = output(&mut session, Stderr, "c", 10, now) else { panic!() };
    let gap = Gap { stream: Stderr, from: 2, to: 10 };
    assert_eq!((delivery.offset, delivery.gap), (10, Some(gap)));
    assert_eq!(session.gaps(), [gap]);
}

#[test]
fn a_server_full_of_holes_costs_no_memory_and_every_hole_is_told() {
    let (mut session, now) = running(0);
    for n in 0..10_000 {
        output(&mut session, Stdout, "x", 2 * n + 1, now);
    }
    assert!(session.gaps().len() <= 4096);
    assert_eq!(session.gaps().last().map(|gap| gap.to), Some(19_999));
}

#[test]
fn a_server_that_only_repeats_itself_does_not_prolong_a_limit() {
    let (mut session, start) = running(5);
    output(&mut session, Stdout, "x", 0, start);
    for second in 1..15 {
        let now = start + second * SECOND;
        session.on_frame(ServerFrame::started("mine", None), now);
        session.on_frame(ServerFrame::Unknown, now);
    }
    assert_eq!(session.deadline(), Some(start + 15 * SECOND));
}

#[test]
fn totals_reveal_what_never_came() {
    let (mut session, _) = running(0);
    text(&mut session, r#"{"type":"stdout","data":"abc","offset":0}"#);
    let exit = r#"{"type":"exit","exit_code":143,"signal":15,"stdout_bytes":3,"stderr_bytes":9}"#;
    let finish = end(text(&mut session, exit));
    let gap = Gap { stream: Stderr, from: 0, to: 9 };
    assert_eq!((finish.missing, session.gaps()), (vec![gap], &[gap][..]));
    assert_eq!((finish.outcome, finish.signal), (CommandOutcome::Exited, Some(15)));
}

#[test]
fn a_server_without_offsets_is_counted_for() {
    let (mut session, now) = running(0);
    let offsets: Vec<u64> = ["a", "bc", "d"]
        .into_iter()
        .filter_map(|text| delivered(output(&mut session, Stdout, text, 0, now)).map(|chunk| chunk.2))
        .collect();
    assert_eq!(offsets, [0, 1, 3]);
}

#[test]
fn a_lost_connection_is_made_again_from_where_it_was() {
    let (mut session, now) = running(0);
    output(&mut session, Stdout, "abc", 0, now);
    assert!(matches!(session.on_lost(&Loss::Closed(None), now), Step::Reconnect));
    assert_eq!(pause(&session, now), SECOND / 2);
    assert!(matches!(session.on_reconnected(false, now), Step::Ignore));
    let reconnect = ClientFrame::Reconnect {
        command_id: "mine".to_owned(),
        stdout_offset: 3,
        stderr_offset: 0,
        writer: None,
    };
    assert_eq!(session.reattachment("me"), [reconnect]);
    session.on_frame(ServerFrame::started("mine", Some(7)), now);
    let step = output(&mut session, Stdout, "cd", 2, now);
    assert_eq!(delivered(step), Some((Stdout, "d".to_owned(), 3)));
    assert!(session.gaps().is_empty());
}

#[test]
fn output_is_acknowledged_where_the_server_has_the_extension() {
    for extended in [false, true] {
        let (mut session, now) = session(0);
        session.on_opening(extended, now);
        session.on_frame(ServerFrame::started("mine", None), now);
        let half = "x".repeat(OUTPUT_ACK_BYTES as usize / 2);
        output(&mut session, Stdout, &half, 0, now);
        output(&mut session, Stderr, &half, 0, now);
        assert_eq!(session.acknowledgement_of(OUTPUT_ACK_BYTES), None, "not worth a frame yet");
        output(&mut session, Stderr, &half, OUTPUT_ACK_BYTES / 2, now);
        let frame = ClientFrame::OutputAck { stdout: OUTPUT_ACK_BYTES / 2, stderr: OUTPUT_ACK_BYTES };
        assert_eq!(session.acknowledgement_of(OUTPUT_ACK_BYTES), extended.then_some(frame));
        assert_eq!(session.acknowledgement_of(OUTPUT_ACK_BYTES), None, "once");
        output(&mut session, Stdout, "x", OUTPUT_ACK_BYTES / 2, now);
        assert_eq!(session.acknowledgement_of(1).is_some(), extended, "late is better than never");
        assert_eq!(session.acknowledgement_of(1), None);
        session.on_lost(&Loss::Closed(None), now);
        session.on_reconnected(extended, now);
        let opening = session.reattachment("me");
        let acknowledged = matches!(opening.first(), Some(ClientFrame::OutputAck { .. }));
        assert_eq!(acknowledged, extended);
        assert_eq!(opening.len(), if extended { 2 } else { 1 });
    }
}

#[test]
fn pauses_grow_until_there_is_progress_and_five_failures_in_a_row_are_the_end() {
    let (mut session, mut now) = running(0);
    output(&mut session, Stdout, "a", 0, now);
    let refused = Loss::Refused(Error::new(ErrorCode::ConnectTimeout, "no way"));
    let mut pauses = Vec::new();
    session.on_lost(&Loss::Broken("reset".to_owned()), now);
    for _ in 0..4 {
        pauses.push(pause(&session, now).as_secs_f64());
        now = session.reconnects_at().unwrap();
        assert!(matches!(session.on_lost(&refused, now), Step::Reconnect));
    }
    pauses.push(pause(&session, now).as_secs_f64());
    assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0]);
    reattach(&mut session, now);
    now += 2 * SECOND;
    session.on_lost(&Loss::Closed(Some(1011)), now);
    assert_eq!(pause(&session, now), SECOND / 2, "an acknowledgement is progress");
    for _ in 0..4 {
        assert!(matches!(session.on_lost(&refused, now), Step::Reconnect));
    }
    let finish = end(session.on_lost(&refused, now));
    let error = finish.error.unwrap();
    assert_eq!((error.code(), finish.outcome), (ErrorCode::Connection, CommandOutcome::Lost));
    assert!(error.to_string().contains("giving up"), "{error}");
    assert_eq!(error.cause().as_deref(), Some("no way"));
}

#[test]
fn a_server_that_goes_away_is_come_back_to_at_once() {
    let (mut session, now) = running(0);
    session.on_lost(&Loss::Closed(Some(1001)), now);
    assert_eq!(pause(&session, now), Duration::ZERO);
    reattach(&mut session, now);
    session.on_lost(&Loss::Closed(Some(1001)), now);
    assert!(pause(&session, now) > Duration::ZERO, "but not in a circle");
    reattach(&mut session, now);
    output(&mut session, Stdout, "a", 0, now);
    session.on_lost(&Loss::Closed(Some(1001)), now);
    assert_eq!(pause(&session, now), Duration::ZERO);
}

#[test]
fn acknowledging_and_hanging_up_is_not_believed_for_ever_but_a_quiet_command_is() {
    let (mut session, now) = running(0);
    let rounds = (0..100).take_while(|_| {
        let again = matches!(session.on_lost(&Loss::Closed(Some(1000)), now), Step::Reconnect);
        if again {
            reattach(&mut session, now);
        }
        again
    });
    assert_eq!(rounds.count(), 19);
    let (mut session, mut now) = running(0);
    for _ in 0..100 {
        now += 2 * SECOND;
        assert!(matches!(session.on_lost(&Loss::Closed(Some(1000)), now), Step::Reconnect));
        reattach(&mut session, now);
    }
}

#[test]
fn another_commands_output_is_never_taken_for_ours() {
    let (mut session, now) = running(0);
    session.on_lost(&Loss::Closed(None), now);
    session.on_reconnected(false, now);
    assert!(matches!(session.on_frame(ServerFrame::started("other", None), now), Step::Reconnect));
    assert_eq!(pause(&session, now), SECOND, "no progress");
    assert!(matches!(output(&mut session, Stdout, "foreign", 0, now), Step::Ignore));
}

#[test]
fn positions_are_never_taken_for_what_they_are_not() {
    let (mut session, now) = running(0);
    session.on_lost(&Loss::Closed(None), now);
    assert!(matches!(session.on_reconnected(true, now), Step::Reconnect));
}

#[test]
fn without_reconnecting_the_end_of_the_connection_is_the_end_and_never_success() {
    for (loss, code) in [
        (Loss::Closed(Some(1000)), ErrorCode::Connection),
        (Loss::Closed(None), ErrorCode::Connection),
        (Loss::Closed(Some(1011)), ErrorCode::Connection),
        (Loss::Closed(Some(1001)), ErrorCode::ServerReload),
        (Loss::Broken("reset".to_owned()), ErrorCode::Connection),
    ] {
        let now = Instant::now();
        let mut session = Session::execute("mine".to_owned(), &CommandSpec::new("x"), None, now);
        session.on_frame(ServerFrame::started("mine", None), now);
        let finish = end(session.on_lost(&loss, now));
        assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, None));
        assert_eq!(finish.error.unwrap().code(), code, "{loss:?}");
    }
}

#[test]
fn frames_that_cannot_be_read_end_it_without_repeating_them() {
    for frame in ["{", "[]", r#"{"type":"stdout","data":5,"secret":1}"#, "null"] {
        let (mut session, _) = running(0);
        let error = end(text(&mut session, frame)).error.unwrap();
        assert_eq!(error.code(), ErrorCode::Connection);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_timeout_error_names_the_limit() {
    let (mut session, _) = running(5);
    let finish = end(text(&mut session, r#"{"type":"error","error_type":"CommandTimeout","error":"late"}"#));
    let error = finish.error.unwrap();
    assert_eq!((error.code(), error.details().timeout), (ErrorCode::CommandTimeout, Some(5.0)));
    assert_eq!(finish.outcome, CommandOutcome::TimedOut);
}

#[test]
fn a_duration_counts_from_the_first_opening() {
    let (mut session, start) = session(0);
    session.on_opening(false, start + SECOND);
    session.on_opening(false, start + 2 * SECOND);
    session.on_frame(ServerFrame::started("", None), start + 3 * SECOND);
    assert_eq!(session.elapsed(start + 5 * SECOND), 4 * SECOND);
}

#[test]
fn a_kill_ends_it_even_unconfirmed() {
    let (mut session, now) = running(0);
    session.on_kill(now);
    let finish = end(text(&mut session, r#"{"type":"exit","exit_code":137}"#));
    assert_eq!(
        (finish.outcome, finish.exit_code, finish.signal),
        (CommandOutcome::Killed, Some(137), Some(9))
    );

    let (mut session, now) = running(0);
    session.on_kill(now);
    assert_eq!(session.deadline(), Some(now + KILL_DEADLINE));
    assert!(matches!(session.on_deadline(now + KILL_DEADLINE / 2), Step::Ignore));
    let finish = end(session.on_deadline(now + KILL_DEADLINE));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, Some(-1)), "not confirmed");
    assert!(finish.error.is_none());

    let (mut session, now) = running(0);
    session.on_kill(now);
    let finish = end(text(&mut session, r#"{"type":"exit","exit_code":0}"#));
    assert_eq!(finish.outcome, CommandOutcome::Exited, "it was faster than the kill");
}

#[test]
fn a_kill_travels_with_the_next_connection_which_it_does_not_wait_for() {
    let (mut session, now) = running(0);
    session.on_lost(&Loss::Closed(None), now);
    session.on_kill(now);
    assert_eq!(pause(&session, now), Duration::ZERO);
    assert!(session.killed());
    assert_eq!(session.deadline(), Some(now + KILL_DEADLINE));
    session.on_reconnected(false, now);
    let gone = r#"{"type":"error","error_type":"CommandNotFound","error":"gone"}"#;
    let finish = end(text(&mut session, gone));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, Some(-1)), "not confirmed");
    assert!(finish.error.is_none());

    let (mut session, now) = running(0);
    session.on_kill(now);
    session.on_lost(&Loss::Closed(None), now);
    let finish = end(session.on_deadline(now + KILL_DEADLINE));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, Some(-1)));
}

#[test]
fn a_signal_that_was_asked_for_is_a_kill() {
    for (sent, outcome) in [(15, CommandOutcome::Killed), (2, CommandOutcome::Exited)] {
        let (mut session, _) = running(0);
        session.on_signal(sent);
        let finish = end(text(&mut session, r#"{"type":"exit","exit_code":143,"signal":15}"#));
        assert_eq!((finish.outcome, finish.signal), (outcome, Some(15)));
    }
}

#[test]
fn deadlines_wait_for_output_and_for_slow_consumers() {
    let (mut session, start) = running(5);
    assert_eq!(session.deadline(), Some(start + 15 * SECOND));
    output(&mut session, Stdout, "x", 0, start + 14 * SECOND);
    assert_eq!(session.deadline(), Some(start + 24 * SECOND));
    session.on_unblocked(start + 100 * SECOND);
    assert_eq!(session.deadline(), Some(start + 110 * SECOND));
    session.on_alive(start + 109 * SECOND);
    assert_eq!(session.deadline(), Some(start + 110 * SECOND), "a ping is no progress of the command");
    let error = end(session.on_deadline(start + 110 * SECOND)).error.unwrap();
    assert_eq!((error.code(), error.details().timeout), (ErrorCode::CommandTimeout, Some(5.0)));
    let (session, _) = running(u64::MAX);
    session.deadline();
}

#[test]
fn silence_is_a_loss() {
    let (mut session, start) = running(0);
    assert_eq!(session.deadline(), Some(start + PONG_DEADLINE));
    assert!(matches!(session.on_deadline(start + PONG_DEADLINE), Step::Reconnect));
    assert_eq!(session.deadline(), None, "nothing is waited for but the time of the next attempt");
}

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
            frames::Frames::default().step(Message::binary(message), &mut session);
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
