//! What frames say of the command, and what is made of those that say nothing.

use super::*;

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
    let finish = end(Frames::default().step(binary, &mut session).unwrap());
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
fn members_that_this_client_does_not_know_change_nothing() {
    let (mut session, _) = session(0);
    session.on_opening(true, Instant::now());
    let new = r#""usage":{"cpu_seconds":0.5,"peak":[1,null]},"type2":"exit""#;
    let started = format!(r#"{{{new},"type":"started","command_id":"mine","pid":7,"stdin_offset":4}}"#);
    assert!(matches!(text(&mut session, &started), Step::Started { stdin_offset: Some(4) }));
    assert_eq!(session.pid(), Some(7));
    let ack = format!(r#"{{"type":"stdin_ack",{new},"offset":9}}"#);
    assert!(matches!(text(&mut session, &ack), Step::Taken(9)));
    let output = format!(r#"{{"type":"stderr","data":"a\n",{new},"offset":0}}"#);
    assert_eq!(delivered(text(&mut session, &output)), Some((Stderr, "a\n".to_owned(), 0)));
    let exit =
        format!(r#"{{"type":"exit","exit_code":3,"signal":null,{new},"stdout_bytes":1,"stderr_bytes":2}}"#);
    let finish = end(text(&mut session, &exit));
    assert_eq!((finish.outcome, finish.exit_code), (CommandOutcome::Exited, Some(3)));
    let missing = Gap { stream: Stdout, from: 0, to: 1 };
    assert_eq!(finish.missing, [missing], "the totals are still read");
    let (mut session, _) = running(0);
    let error = format!(r#"{{"type":"error","error_type":"CommandError",{new},"error":"no shell"}}"#);
    let error = end(text(&mut session, &error)).error.unwrap();
    assert_eq!(error.code(), ErrorCode::Operation);
    assert!(error.to_string().contains("no shell"), "{error}");
}
