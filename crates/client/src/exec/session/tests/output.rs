//! Each byte once, what is missing as a gap, what arrived acknowledged.

use super::*;
use sandwire_protocol::limits::OUTPUT_ACK_BYTES;

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
