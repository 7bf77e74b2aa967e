//! The state machine, without sockets and with a clock of its own.

use super::*;
use StreamKind::{Stderr, Stdout};
use proptest::prelude::*;

const STARTED: &str = r#"{"type":"started","command_id":"c1","pid":7}"#;

fn session(timeout: u64) -> (Session, Instant) {
    let now = Instant::now();
    let spec = CommandSpec { timeout_seconds: Some(timeout), ..CommandSpec::new("x") };
    (Session::execute("mine".to_owned(), &spec, now), now)
}

fn running(timeout: u64) -> (Session, Instant) {
    let (mut session, now) = session(timeout);
    assert!(matches!(session.on_text(STARTED, now), Step::Started));
    (session, now)
}

fn output(kind: StreamKind, data: &str, offset: u64) -> ServerFrame<'_> {
    let frame = OutputFrame { data: Cow::Borrowed(data), offset };
    if kind == Stdout { ServerFrame::Stdout(frame) } else { ServerFrame::Stderr(frame) }
}

fn delivered(step: Step<'_>) -> Option<(StreamKind, String, u64)> {
    match step {
        Step::Deliver { kind, text, offset } => Some((kind, text.into_owned(), offset)),
        _ => None,
    }
}

fn end(step: Step<'_>) -> Finish {
    match step {
        Step::End(finish) => finish,
        other => panic!("not the end: {other:?}"),
    }
}

#[test]
fn a_normal_run() {
    let (mut session, now) = session(0);
    assert!(matches!(session.on_text(STARTED, now), Step::Started));
    assert_eq!((session.command_id(), session.pid()), ("c1", Some(7)));
    let step = session.on_text(r#"{"type":"stdout","data":"é\n","offset":0}"#, now);
    assert_eq!(delivered(step), Some((Stdout, "é\n".to_owned(), 0)));
    assert_eq!(session.next_offset(Stdout), 3);
    let finish = end(session.on_binary(br#"{"type":"exit","exit_code":3}"#, now));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Exited, Some(3)));
    assert!(matches!(session.on_text(STARTED, now), Step::Ignore), "nothing after the end");
}

#[test]
fn the_first_frame_must_be_started() {
    let (mut session, now) = session(0);
    assert!(matches!(session.on_text(r#"{"type":"hello"}"#, now), Step::Ignore));
    let error = end(session.on_frame(output(Stdout, "x", 0), now)).error.unwrap();
    assert!(error.to_string().contains("Expected 'started'"), "{error}");
    assert_eq!((error.code(), error.details().phase), (ErrorCode::Operation, Some(Phase::Connect)));
}

#[test]
fn an_id_that_the_server_does_not_say_is_kept() {
    let (mut session, now) = session(0);
    session.on_text(r#"{"type":"started"}"#, now);
    assert_eq!((session.command_id(), session.pid()), ("mine", None));
}

#[test]
fn what_came_already_is_not_delivered_again() {
    let (mut session, now) = running(0);
    session.on_frame(output(Stdout, "abc", 0), now);
    session.on_frame(output(Stdout, "def", 3), now);
    assert!(matches!(session.on_frame(output(Stdout, "abc", 0), now), Step::Ignore));
    let step = session.on_frame(output(Stdout, "efgh", 4), now);
    assert_eq!(delivered(step), Some((Stdout, "gh".to_owned(), 6)));
    assert!(session.gaps().is_empty());
}

#[test]
fn a_character_is_never_cut() {
    let (mut session, now) = running(0);
    session.on_frame(output(Stdout, "ab", 0), now);
    session.on_frame(output(Stdout, "c", 2), now);
    let step = session.on_frame(output(Stdout, "€x", 1), now);
    assert_eq!(delivered(step), Some((Stdout, "x".to_owned(), 4)));
    assert_eq!(session.gaps(), [Gap { stream: Stdout, from: 3, to: 4 }]);
}

#[test]
fn a_jump_is_a_gap() {
    let (mut session, now) = running(0);
    session.on_frame(output(Stderr, "ab", 0), now);
    let step = session.on_frame(output(Stderr, "c", 10), now);
    assert_eq!(delivered(step), Some((Stderr, "c".to_owned(), 10)));
    assert_eq!(session.gaps(), [Gap { stream: Stderr, from: 2, to: 10 }]);
}

#[test]
fn a_server_without_offsets_is_counted_for() {
    let (mut session, now) = running(0);
    let offsets: Vec<u64> = ["a", "bc", "d"]
        .into_iter()
        .filter_map(|text| delivered(session.on_frame(output(Stdout, text, 0), now)).map(|chunk| chunk.2))
        .collect();
    assert_eq!(offsets, [0, 1, 3]);
}

#[test]
fn the_end_of_the_connection_is_never_success() {
    for (loss, code) in [
        (Loss::Closed(Some(1000)), ErrorCode::Connection),
        (Loss::Closed(None), ErrorCode::Connection),
        (Loss::Closed(Some(1011)), ErrorCode::Connection),
        (Loss::Closed(Some(1001)), ErrorCode::ServerReload),
        (Loss::Broken("reset".to_owned()), ErrorCode::Connection),
    ] {
        let (mut session, _) = running(0);
        let finish = end(session.on_lost(&loss));
        assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, None));
        assert_eq!(finish.error.unwrap().code(), code, "{loss:?}");
    }
}

#[test]
fn frames_that_cannot_be_read_end_it_without_repeating_them() {
    for text in ["{", "[]", r#"{"type":"stdout","data":5,"secret":1}"#, "null"] {
        let (mut session, now) = running(0);
        let error = end(session.on_text(text, now)).error.unwrap();
        assert_eq!(error.code(), ErrorCode::Connection);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_timeout_error_names_the_limit() {
    let (mut session, now) = running(5);
    let step = session.on_text(r#"{"type":"error","error_type":"CommandTimeout","error":"late"}"#, now);
    let finish = end(step);
    let error = finish.error.unwrap();
    assert_eq!((error.code(), error.details().timeout), (ErrorCode::CommandTimeout, Some(5.0)));
    assert_eq!(finish.outcome, CommandOutcome::TimedOut);
}

#[test]
fn a_duration_counts_from_the_first_opening() {
    let second = Duration::from_secs(1);
    let (mut session, start) = session(0);
    session.on_opening(start + second);
    session.on_opening(start + 2 * second);
    session.on_text(STARTED, start + 3 * second);
    assert_eq!(session.elapsed(start + 5 * second), 4 * second);
}

#[test]
fn a_kill_ends_it_even_unconfirmed() {
    let (mut session, now) = running(0);
    session.on_kill(now);
    let finish = end(session.on_text(r#"{"type":"exit","exit_code":137}"#, now));
    assert_eq!(
        (finish.outcome, finish.exit_code, finish.signal),
        (CommandOutcome::Killed, Some(137), Some(9))
    );

    let (mut session, now) = running(0);
    session.on_kill(now);
    assert_eq!(session.deadline(), now + KILL_DEADLINE);
    assert!(matches!(session.on_deadline(now + KILL_DEADLINE / 2), Step::Ignore));
    let finish = end(session.on_deadline(now + KILL_DEADLINE));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, Some(-1)), "not confirmed");
    assert!(finish.error.is_none());

    let (mut session, now) = running(0);
    session.on_kill(now);
    let finish = end(session.on_lost(&Loss::Closed(None)));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Lost, Some(-1)), "not confirmed");

    let (mut session, now) = running(0);
    session.on_kill(now);
    let finish = end(session.on_text(r#"{"type":"exit","exit_code":0}"#, now));
    assert_eq!(finish.outcome, CommandOutcome::Exited, "it was faster than the kill");
}

#[test]
fn deadlines_wait_for_output_and_for_slow_consumers() {
    let second = Duration::from_secs(1);
    let (mut session, start) = running(5);
    assert_eq!(session.deadline(), start + 15 * second);
    session.on_frame(output(Stdout, "x", 0), start + 14 * second);
    assert_eq!(session.deadline(), start + 24 * second);
    session.on_unblocked(start + 100 * second);
    assert_eq!(session.deadline(), start + 110 * second);
    session.on_alive(start + 109 * second);
    assert_eq!(session.deadline(), start + 110 * second, "a ping is no progress of the command");
    let error = end(session.on_deadline(start + 110 * second)).error.unwrap();
    assert_eq!((error.code(), error.details().timeout), (ErrorCode::CommandTimeout, Some(5.0)));

    let (mut session, start) = running(0);
    assert_eq!(session.deadline(), start + PONG_DEADLINE);
    assert_eq!(end(session.on_deadline(start + PONG_DEADLINE)).error.unwrap().code(), ErrorCode::Connection);
    let (session, _) = running(u64::MAX);
    session.deadline();
}

fn any_frame() -> impl Strategy<Value = ServerFrame<'static>> {
    let out = || {
        (".{0,6}", prop_oneof![0u64..40, any::<u64>()])
            .prop_map(|(data, offset)| OutputFrame { data: Cow::Owned(data), offset })
    };
    prop_oneof![
        1 => any::<Option<i64>>().prop_map(|pid| ServerFrame::Started { command_id: "other".into(), pid }),
        6 => out().prop_map(ServerFrame::Stdout),
        3 => out().prop_map(ServerFrame::Stderr),
        1 => any::<i32>().prop_map(|exit_code| ServerFrame::Exit { exit_code }),
        1 => Just(ServerFrame::Unknown),
        1 => ".{0,8}".prop_map(|error_type| ServerFrame::Error { error_type: error_type.into(), error: "e".into() }),
    ]
}

proptest! {
    #[test]
    fn any_frames_leave_offsets_rising(frames in proptest::collection::vec(any_frame(), 0..40), killed: bool) {
        let (mut session, now) = running(1);
        if killed {
            session.on_kill(now);
        }
        let mut ends = [0u64; 2];
        for frame in frames {
            if let Some((kind, text, offset)) = delivered(session.on_frame(frame, now)) {
                let end = &mut ends[usize::from(kind == Stderr)];
                prop_assert!(offset >= *end && !text.is_empty());
                *end = offset.saturating_add(text.len() as u64);
                prop_assert_eq!(session.next_offset(kind), *end);
            }
            session.on_deadline(session.deadline());
        }
    }

    #[test]
    fn any_bytes_are_survived(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8)) {
        let (mut session, now) = session(0);
        for message in messages {
            session.on_binary(&message, now);
        }
    }

    #[test]
    fn however_it_is_cut_and_repeated_the_bytes_arrive_once(
        text in "[a-zé€🙂]{0,60}",
        cuts in proptest::collection::vec(0usize..60, 0..8),
        repeats in proptest::collection::vec(any::<bool>(), 9),
    ) {
        let (mut session, now) = running(0);
        let mut at: Vec<usize> = cuts.into_iter().filter(|at| *at < text.len() && text.is_char_boundary(*at)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let mut got = String::new();
        for (pair, repeat) in at.windows(2).zip(repeats) {
            let frame = |from: usize| output(Stdout, text.get(from..pair[1]).unwrap(), from as u64);
            let back = if repeat && session.numbered { 0 } else { pair[0] };
            for from in [back, pair[0]] {
                got.extend(delivered(session.on_frame(frame(from), now)).map(|chunk| chunk.1));
                if !session.numbered { break }
            }
        }
        prop_assert_eq!(got, text);
        prop_assert!(session.gaps().is_empty());
    }
}
