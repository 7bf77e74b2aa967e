//! How long a session waits, and what counts as a sign of life.

use super::*;
use sandwire_protocol::limits::PONG_DEADLINE;

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
fn a_duration_counts_from_the_first_opening() {
    let (mut session, start) = session(0);
    session.on_opening(false, start + SECOND);
    session.on_opening(false, start + 2 * SECOND);
    session.on_frame(ServerFrame::started("", None), start + 3 * SECOND);
    assert_eq!(session.elapsed(start + 5 * SECOND), 4 * SECOND);
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
