//! Lost connections: when they are made again, from where, and when no more.

use super::*;

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
