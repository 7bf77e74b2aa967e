//! What a caller does to a running command.

use std::sync::Arc;

use sandwire_client::{Call, Command, CommandOutcome, StreamOptions, Want};
use sandwire_protocol::limits::EXEC_MESSAGE_MAX;
use sandwire_protocol::{CommandSpec, ErrorCode};
use sandwire_testkit::{EXTENSION, Peer, Server};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{MIB, bounded, client, options, run, string, target, text};

#[tokio::test]
async fn kill_is_answered_by_a_non_zero_exit() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
        exec.exit(137).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let command = run(&server).await;
    assert!(command.kill().await.unwrap());
    let result = command.result().await.unwrap();
    assert_eq!(
        (result.outcome, result.exit_code, result.signal),
        (CommandOutcome::Killed, Some(137), Some(9))
    );
    server.finish().await;
}

#[tokio::test]
async fn a_server_that_leaves_after_a_kill_has_not_confirmed_it() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        exec.recv().await.unwrap();
    })
    .await
    .unwrap();
    let command = run(&server).await;
    command.kill().await.unwrap();
    let result = command.result().await.unwrap();
    assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Lost, Some(-1)));
}

#[tokio::test]
async fn kill_goes_out_while_the_queue_is_full() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        let line = "x".repeat(64 * 1024);
        for n in 0..20 {
            exec.output("stdout", &line, n * line.len()).await.unwrap();
        }
        assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
        exec.exit(137).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let command = run(&server).await;
    assert!(command.kill().await.unwrap());
    let result = command.result().await.unwrap();
    assert_eq!((result.outcome, result.stdout.total()), (CommandOutcome::Killed, 20 * 64 * 1024));
    server.finish().await;
}

/// A server that reads no input; the kill reaches it over a second connection, or not at all if it has none.
async fn deaf(peer: Peer, second: bool, killed: Arc<Notify>) {
    if peer.index > 0 && !second {
        return peer.answer(400, &[], "").await.unwrap();
    }
    let index = peer.index;
    let mut exec = peer.accept().await.unwrap();
    let opening = exec.start().await.unwrap();
    if index == 0 {
        exec.output("stdout", "said", 0).await.unwrap();
        killed.notified().await;
    } else {
        assert_eq!((&opening["type"], &opening["command_id"]), (&json!("reconnect"), &json!("c7")));
        assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
        killed.notify_one();
    }
    exec.exit(137).await.unwrap();
    exec.drained().await;
}

async fn deaf_server(second: bool) -> Server {
    let killed = Arc::new(Notify::new());
    Server::start(move |peer| deaf(peer, second, Arc::clone(&killed))).await.unwrap()
}

/// Sends more than the network takes.
async fn stuff(command: &Command) {
    let sending = command.send_input(vec![b'x'; 64 * MIB].into());
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(100), sending).await;
    assert!(stuck.is_err(), "it was sent: {stuck:?}");
}

fn named() -> CommandSpec {
    CommandSpec { command_id: Some("c7".to_owned()), timeout_seconds: Some(0), ..CommandSpec::new("x") }
}

#[tokio::test]
async fn a_kill_overtakes_input_that_is_not_taken() {
    let server = deaf_server(true).await;
    let command = client(&server).run(&target(&server), named(), options(), &Call::default()).await.unwrap();
    assert_eq!(text(command.next_batch(Want::All).await.unwrap().unwrap())[0], "said");
    stuff(&command).await;
    assert!(command.kill().await.unwrap());
    let result = command.result().await.unwrap();
    assert_eq!((result.outcome, result.exit_code), (CommandOutcome::Killed, Some(137)));
    assert_eq!(string(result.stdout.text()), "said");
    server.finish().await;
}

#[tokio::test]
async fn a_kill_overtakes_input_that_only_the_network_took() {
    let server = deaf_server(true).await;
    let command = client(&server).run(&target(&server), named(), options(), &Call::default()).await.unwrap();
    command.next_batch(Want::All).await.unwrap();
    assert!(command.send_input("x".into()).await.unwrap());
    assert!(command.kill().await.unwrap());
    assert!(!command.send_input("y".into()).await.unwrap(), "nothing more for a killed command");
    assert_eq!(command.result().await.unwrap().outcome, CommandOutcome::Killed);
    server.finish().await;
}

#[tokio::test]
async fn a_kill_that_finds_no_way_says_so() {
    let server = deaf_server(false).await;
    let command = client(&server).run(&target(&server), named(), options(), &Call::default()).await.unwrap();
    stuff(&command).await;
    assert_eq!(command.kill().await.unwrap_err().details().status, Some(400));
}

#[tokio::test]
async fn an_abort_overtakes_input_that_is_not_taken() {
    let server = deaf_server(true).await;
    let call = Call::default();
    let cancel = call.cancel.clone();
    let options = StreamOptions { input: Some(vec![b'x'; 64 * MIB].into()), ..options() };
    let (client, target) = (client(&server), target(&server));
    let (error, ()) = tokio::join!(client.run_to_end(&target, named(), options, &call), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cancel.cancel();
    });
    let error = error.unwrap_err();
    let partial = error.details().result.clone().unwrap();
    assert_eq!((error.code(), partial.exit_code), (ErrorCode::Aborted, Some(137)), "its end was seen");
    server.finish().await;
}

#[tokio::test]
async fn input_after_its_end_is_not_sent() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        let opening = exec.start().await.unwrap();
        if opening["command"] == "open" {
            assert_eq!(exec.recv().await.unwrap(), json!({"type": "close_stdin"}));
        }
        assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
        exec.exit(137).await.unwrap();
        assert!(exec.drained().await.is_empty());
    })
    .await
    .unwrap();
    for (name, close_input) in [("open", false), ("closed", true)] {
        let options = StreamOptions { close_input, ..options() };
        let spec = CommandSpec::new(name);
        let command = client(&server).run(&target(&server), spec, options, &Call::default()).await.unwrap();
        if !close_input {
            assert!(command.close_input().await.unwrap());
        }
        assert!(!command.send_input("late".into()).await.unwrap());
        assert!(command.kill().await.unwrap());
        command.result().await.unwrap();
    }
    server.finish().await;
}

#[tokio::test]
async fn input_reaches_the_command_in_order() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        let opening = exec.start().await.unwrap();
        assert!(opening.get("close_stdin").is_none(), "stdin stays open for the input");
        let mut typed = String::new();
        loop {
            let frame = exec.recv().await.unwrap();
            match frame["type"].as_str().unwrap() {
                "input" => typed.push_str(frame["data"].as_str().unwrap()),
                "close_stdin" => break,
                other => panic!("{other}"),
            }
        }
        exec.output("stdout", &typed, 0).await.unwrap();
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let options = StreamOptions { input: Some("first €".into()), ..options() };
    let command = client(&server)
        .run(&target(&server), CommandSpec::new("cat"), options, &Call::default())
        .await
        .unwrap();
    assert!(command.send_input(vec![b' ', 0xC3].into()).await.unwrap());
    assert!(command.send_input(vec![0xA9].into()).await.unwrap());
    let refused = command.send_input(vec![0xFF].into()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unsupported);
    assert!(command.close_input().await.unwrap());
    assert_eq!(text(command.next_batch(Want::All).await.unwrap().unwrap())[0], "first € é");
    server.finish().await;
}

#[tokio::test]
async fn input_that_is_not_text_is_refused_before_anything_runs() {
    let server = Server::start(async |peer| {
        assert_eq!(peer.index, 0, "tried again");
        let mut exec = peer.accept().await.unwrap();
        assert!(exec.drained().await.is_empty(), "it was started");
    })
    .await
    .unwrap();
    let options = StreamOptions { input: Some(vec![0xFF].into()), ..options() };
    let refused = client(&server)
        .run(&target(&server), CommandSpec::new("cat"), options, &Call::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unsupported);
    server.finish().await;
}

#[tokio::test]
async fn an_echo_larger_than_any_buffer_does_not_stop_for_its_reader_and_writer_to_agree() {
    const INPUT: usize = 32 * MIB;
    for extended in [false, true] {
        let server = Server::start(move |peer| async move {
            let mut exec = peer.accept_as(extended.then_some(EXTENSION)).await.unwrap();
            exec.opening().await.unwrap();
            exec.started(if extended { json!({ "stdin_offset": 0 }) } else { json!({}) }).await.unwrap();
            let mut echoed = 0;
            while echoed < INPUT {
                let frame = exec.recv().await.unwrap();
                let data = frame["data"].as_str().unwrap();
                if extended {
                    exec.bytes(0, data.as_bytes(), echoed as u64).await.unwrap();
                } else {
                    exec.output("stdout", data, echoed).await.unwrap();
                }
                echoed += data.len();
                if extended {
                    exec.send(json!({"type": "stdin_ack", "offset": echoed})).await.unwrap();
                }
            }
            exec.exit(0).await.unwrap();
            exec.drained().await;
        })
        .await
        .unwrap();
        let options = StreamOptions { input: Some(vec![b'x'; INPUT].into()), ..options() };
        let (client, target, call) = (client(&server), target(&server), Call::default());
        let running = client.run_to_end(&target, CommandSpec::new("cat"), options, &call);
        let result = bounded(running).await.unwrap();
        assert_eq!((result.exit_code, result.stdout.total()), (Some(0), INPUT as u64));
        server.finish().await;
    }
}

#[tokio::test]
async fn a_command_too_large_for_a_frame_is_refused_before_anything_is_sent() {
    let server = Server::start(async |_| panic!("connected")).await.unwrap();
    let spec = CommandSpec::new("x".repeat(EXEC_MESSAGE_MAX));
    let refused = client(&server).run(&target(&server), spec, options(), &Call::default()).await;
    let error = refused.unwrap_err();
    assert_eq!((error.code(), error.details().field.as_deref()), (ErrorCode::Validation, Some("command")));
    server.finish().await;
}

#[tokio::test]
async fn a_terminal_gets_its_own_end_of_input() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        let opening = exec.start().await.unwrap();
        assert_eq!((opening.get("close_stdin"), &opening["pty"]), (None, &json!(true)));
        assert_eq!(exec.recv().await.unwrap(), json!({"type": "input", "data": "\u{4}"}));
        exec.exit(0).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let spec = CommandSpec { pty: Some(true), ..CommandSpec::new("sh") };
    let options = StreamOptions { close_input: true, ..options() };
    let command = client(&server).run(&target(&server), spec, options, &Call::default()).await.unwrap();
    assert!(command.close_input().await.unwrap());
    command.result().await.unwrap();
    server.finish().await;
}

#[tokio::test]
async fn an_abort_kills_and_keeps_what_was_said() {
    let call = Call::default();
    let cancel = call.cancel.clone();
    let server = Server::start(move |peer| {
        let cancel = cancel.clone();
        async move {
            let mut exec = peer.accept().await.unwrap();
            exec.start().await.unwrap();
            // Input is sent after `started` was understood, so this abort meets a running command.
            assert_eq!(exec.recv().await.unwrap()["type"], "input");
            exec.output("stdout", "said", 0).await.unwrap();
            cancel.cancel();
            assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
            exec.exit(137).await.unwrap();
            exec.drained().await;
        }
    })
    .await
    .unwrap();
    let options = StreamOptions { input: Some("x".into()), ..options() };
    let error = client(&server)
        .run_to_end(&target(&server), CommandSpec::new("x"), options, &call)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Aborted);
    let partial = error.details().result.clone().unwrap();
    assert_eq!(
        (partial.outcome, string(partial.stdout.text())),
        (CommandOutcome::Aborted, "said".to_owned())
    );
    server.finish().await;
}

/// A server whose commands run until their clients leave, and must not be killed.
async fn unkilled() -> Server {
    Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        assert!(exec.drained().await.is_empty(), "no kill");
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn dropping_a_handle_ends_the_attachment_and_nothing_else() {
    let server = unkilled().await;
    drop(run(&server).await);
    server.finish().await;
}

#[tokio::test]
async fn detaching_and_closing_end_waits() {
    let server = unkilled().await;
    let command = run(&server).await;
    command.detach();
    command.detach();
    let error = command.result().await.unwrap_err();
    assert_eq!(error.details().result.as_ref().unwrap().outcome, CommandOutcome::Lost);

    let client = client(&server);
    let command =
        client.run(&target(&server), CommandSpec::new("x"), options(), &Call::default()).await.unwrap();
    client.close();
    assert!(command.result().await.is_err());
    assert!(!command.kill().await.unwrap());
    server.finish().await;
}
