//! Servers that break the rules: what they say is never taken for output, and what is missing is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandwire_client::{Call, Gap};
use sandwire_protocol::{CommandSpec, ErrorCode, StreamKind};
use sandwire_testkit::{Exec, Peer, Server, Until};
use serde_json::json;

use crate::played::{assert_given_up, assert_whole, failure_of, recording, server_after};
use crate::support::{bounded, client, each, listen, options, run, string, target};

/// Acknowledges somebody else's command and says what that one prints.
async fn of_somebody_else(peer: Peer) {
    let mut exec = peer.accept().await.unwrap();
    exec.opening().await.unwrap();
    let foreign = [
        json!({"type": "started", "command_id": "of somebody else", "pid": 9}),
        json!({"type": "stdout", "data": "not yours", "offset": 4}),
        json!({"type": "exit", "exit_code": 0}),
    ];
    for frame in foreign {
        // The client may be gone by then.
        if exec.send(frame).await.is_err() {
            break;
        }
    }
    exec.drained().await;
}

#[tokio::test]
async fn what_belongs_to_another_command_is_never_delivered() {
    let server = server_after(4, |recording, peer| async move {
        match peer.index {
            0 => drop(recording.play_until(peer, Until::Output(1)).await.unwrap()),
            _ => of_somebody_else(peer).await,
        }
    })
    .await;
    assert_whole(server).await;
}

#[tokio::test]
async fn a_server_that_has_only_another_command_is_given_up() {
    let server = server_after(usize::MAX, |recording, peer| async move {
        match peer.index {
            0 => drop(recording.play_until(peer, Until::Output(1)).await.unwrap()),
            _ => of_somebody_else(peer).await,
        }
    })
    .await;
    let command = run(&server).await;
    assert_given_up(&failure_of(&command).await, "one ");
    server.finish().await;
}

#[tokio::test]
async fn what_the_server_no_longer_keeps_is_a_gap_with_exact_bounds() {
    for extended in [false, true] {
        let server = Server::start(move |peer| async move {
            let recording = if extended { recording().extended() } else { recording() };
            match peer.index {
                0 => drop(recording.play_until(peer, Until::Output(2)).await.unwrap()),
                _ => recording.keeping([7, 0]).play(peer).await,
            }
        })
        .await
        .unwrap();
        let command = run(&server).await;
        let heard = bounded(listen(&command)).await.unwrap();
        let gaps = vec![Gap { stream: StreamKind::Stdout, from: 4, to: 7 }];
        assert_eq!(heard.gaps, gaps);
        assert_eq!(heard.bytes, [b"one ee four".to_vec(), b"two ".to_vec()]);
        let result = command.result().await.unwrap();
        assert_eq!((result.exit_code, &result.gaps), (Some(3), &gaps));
        server.finish().await;
    }
}

#[tokio::test]
async fn totals_reveal_a_tail_that_never_came() {
    let server =
        Server::start(async |peer| recording().extended().claiming([20, 9]).play(peer).await).await.unwrap();
    let command = run(&server).await;
    let heard = bounded(listen(&command)).await.unwrap();
    let gaps = vec![
        Gap { stream: StreamKind::Stdout, from: 14, to: 20 },
        Gap { stream: StreamKind::Stderr, from: 4, to: 9 },
    ];
    assert_eq!((heard.gaps, heard.bytes), (gaps.clone(), recording().printed()));
    assert_eq!(command.result().await.unwrap().gaps, gaps);
    server.finish().await;
}

#[tokio::test]
async fn an_unknown_or_expired_command_ends_it_at_once() {
    for name in ["CommandNotFound", "SessionExpired"] {
        let server = server_after(usize::MAX, move |recording, peer| async move {
            match peer.index {
                0 => drop(recording.play_until(peer, Until::Output(1)).await.unwrap()),
                1 => {
                    let mut exec = peer.accept().await.unwrap();
                    exec.opening().await.unwrap();
                    exec.send(json!({"type": "error", "error_type": name, "error": "gone"})).await.unwrap();
                    exec.drained().await;
                }
                _ => panic!("tried again"),
            }
        })
        .await;
        let error = bounded(run(&server).await.result()).await.unwrap_err();
        assert_eq!(error.details().error_type.as_deref(), Some(name));
        assert_eq!(string(error.details().result.as_ref().unwrap().stdout.text()), "one ");
        server.finish().await;
    }
}

/// What no server may send, after a piece of output; the same on each connection.
async fn junk(exec: &mut Exec, which: usize) -> std::io::Result<()> {
    const NOT_UTF8: &[u8] = &[0x81, 2, 0xC3, 0x28];
    const RESERVED_OPCODE: &[u8] = &[0x83, 0];
    const MASKED: &[u8] = &[0x81, 0x81, 1, 2, 3, 4, 5];
    const HALF_A_CONTROL_FRAME: &[u8] = &[0x09, 0];
    match which {
        0 => exec.text("{\"type\":").await,
        1 => exec.text("[]").await,
        2 => exec.binary(&[7, 0, 0, 0, 0, 0, 0, 0, 0, b'x']).await,
        3 => exec.binary(&[0, 0, 0]).await,
        4 => exec.announce(1 << 40).await,
        5 => exec.raw(NOT_UTF8).await,
        6 => exec.raw(RESERVED_OPCODE).await,
        7 => exec.raw(MASKED).await,
        _ => exec.raw(HALF_A_CONTROL_FRAME).await,
    }
}

#[tokio::test]
async fn frames_that_are_none_end_it_in_bounded_time() {
    let cases = (0..=8).flat_map(|which| [(which, false), (which, true)]);
    each(cases, async |(which, extended)| {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let server = Server::start(move |peer| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                let recording = if extended { recording().extended() } else { recording() };
                let until = if peer.index == 0 { Until::Output(1) } else { Until::Started };
                let mut exec = recording.play_until(peer, until).await.unwrap();
                // A client that has left already is right.
                let _ = junk(&mut exec, which).await;
                exec.outlast().await;
            }
        })
        .await
        .unwrap();
        let command = run(&server).await;
        let error = failure_of(&command).await;
        assert_eq!(error.code(), ErrorCode::Connection, "junk {which}: {error}");
        assert_eq!(string(error.details().result.as_ref().unwrap().stdout.text()), "one ", "junk {which}");
        assert!(connections.load(Ordering::Relaxed) <= 25, "junk {which}: {connections:?}");
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_first_frame_that_is_not_started_is_no_start_on_any_attempt() {
    let server = Server::start(async |peer| match peer.index {
        0 => drop(peer.accept().await.unwrap()),
        1 => {
            let mut exec = peer.accept().await.unwrap();
            exec.opening().await.unwrap();
            exec.output("stdout", "x", 0).await.unwrap();
            exec.drained().await;
        }
        _ => panic!("tried again"),
    })
    .await
    .unwrap();
    let (client, target, call) = (client(&server), target(&server), Call::default());
    let started = client.run(&target, CommandSpec::new("x"), options(), &call);
    let error = bounded(started).await.unwrap_err();
    assert!(error.to_string().contains("Expected 'started'"), "{error}");
    server.finish().await;
}
