//! Kills and signals of the caller: what they make of the end.

use super::*;

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
