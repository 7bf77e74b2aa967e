//! Connections that are lost and made again: in every phase, whatever the server says, within what budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandwire_client::{Call, Command};
use sandwire_testkit::{Exec, Recording, Server, Until};
use serde_json::json;

use crate::played::{assert_given_up, assert_whole, failure_of, server_after, whole};
use crate::support::{Heard, bounded, client, each, listen, options, run, target};

/// One failure after which the connection is made again.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Close(u16),
    Drop,
    InsideAFrame,
    Reset,
}

const FAILURES: [Failure; 9] = [
    Failure::Close(1000),
    Failure::Close(1001),
    Failure::Close(1006),
    Failure::Close(1008),
    Failure::Close(1011),
    Failure::Close(4000),
    Failure::Drop,
    Failure::InsideAFrame,
    Failure::Reset,
];

impl Failure {
    async fn happen(self, exec: Exec) {
        match self {
            // 1006 can't be sent: it is what a client says of a drop.
            Self::Close(1006) | Self::Drop => drop(exec),
            Self::Close(code) => exec.close(code).await.unwrap_or_default(),
            Self::InsideAFrame => exec.cut_inside_a_frame().await.unwrap(),
            Self::Reset => exec.reset().unwrap(),
        }
    }
}

#[tokio::test]
async fn every_end_of_a_connection_in_every_phase_is_survived() {
    let phases = [Until::Opening, Until::Started, Until::Output(2), Until::Exit];
    let cases = FAILURES.into_iter().flat_map(|failure| phases.map(|phase| (failure, phase)));
    each(cases, async |(failure, phase)| {
        let server = server_after(1, move |recording, peer| async move {
            failure.happen(recording.play_until(peer, phase).await.unwrap()).await;
        })
        .await;
        assert_whole(server).await;
    })
    .await;
}

#[tokio::test]
async fn refusals_while_away_are_survived_whatever_they_say() {
    let waits = [None, Some("0"), Some("1000"), Some("soon")];
    let cases = [401, 403, 404, 429, 500, 502, 503, 504]
        .into_iter()
        .flat_map(|status| waits.map(|wait| (status, wait)));
    each(cases, async |(status, wait)| {
        let server = server_after(4, move |recording, peer| async move {
            if peer.index == 0 {
                return drop(recording.play_until(peer, Until::Output(2)).await.unwrap());
            }
            let headers: Vec<_> = wait.map(|wait| ("Retry-After", wait)).into_iter().collect();
            peer.answer(status, &headers, r#"{"detail":{"error":"No","message":"no"}}"#).await.unwrap();
        })
        .await;
        assert_whole(server).await;
    })
    .await;
}

#[tokio::test]
async fn refusals_to_connect_that_pass_are_survived() {
    let waits = [None, Some("0"), Some("0.01")];
    let cases = [429, 500, 502, 503, 504].into_iter().flat_map(|status| waits.map(|wait| (status, wait)));
    each(cases, async |(status, wait)| {
        let server = server_after(4, move |_, peer| async move {
            let headers: Vec<_> = wait.map(|wait| ("Retry-After", wait)).into_iter().collect();
            peer.answer(status, &headers, "").await.unwrap();
        })
        .await;
        assert_whole(server).await;
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_no_upgrade_are_survived_while_away() {
    let nonsense: [&[u8]; 4] =
        [b"", b"\0\x01\x02", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n"];
    each(nonsense, async |answer| {
        let server = server_after(3, move |recording, peer| async move {
            match peer.index {
                0 => drop(recording.play_until(peer, Until::Output(1)).await.unwrap()),
                _ => peer.raw(answer).await.unwrap_or_default(),
            }
        })
        .await;
        assert_whole(server).await;
    })
    .await;
}

#[tokio::test]
async fn the_same_acknowledgement_twice_changes_nothing() {
    let server = server_after(2, |recording, peer| async move {
        let first = peer.index == 0;
        let mut exec = recording.play_until(peer, Until::Started).await.unwrap();
        for _ in 0..3 {
            let id = exec.command_id().to_owned();
            exec.send(json!({"type": "started", "command_id": id, "pid": 43})).await.unwrap();
        }
        if first {
            exec.output("stdout", "one ", 0).await.unwrap();
        }
    })
    .await;
    assert_whole(server).await;
}

#[tokio::test]
async fn five_failures_without_progress_end_it_with_what_there_is() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let mut server = server_after(usize::MAX, move |recording, peer| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            match peer.index {
                0 => drop(recording.play_until(peer, Until::Output(1)).await.unwrap()),
                1 | 3 => peer.answer(503, &[], "").await.unwrap(),
                2 => drop(peer),
                _ => peer.accept().await.unwrap().close(1011).await.unwrap_or_default(),
            }
        }
    })
    .await;
    let command = run(&server).await;
    let error = bounded(command.result()).await.unwrap_err();
    assert_given_up(&error, "one ");
    assert_eq!(connections.load(Ordering::Relaxed), 6, "the first and five more");
    bounded(server.deserted()).await;
    server.finish().await;
}

#[tokio::test]
async fn a_quiet_command_outlives_many_connections() {
    let server = server_after(12, |recording, peer| async move {
        FAILURES[peer.index % FAILURES.len()]
            .happen(recording.play_until(peer, Until::Started).await.unwrap())
            .await;
    })
    .await;
    bounded(assert_whole(server)).await;
}

#[tokio::test]
async fn a_command_that_prints_a_little_each_time_outlives_as_many_as_it_takes() {
    let mut letters = Recording::new().exit(3);
    for letter in 0..100u8 {
        letters = letters.stdout([b'a' + letter % 26]);
    }
    let playing = letters.clone();
    let server = Server::start(move |peer| {
        let playing = playing.clone();
        async move {
            match peer.index {
                100 => playing.play(peer).await,
                index => {
                    let mut exec = playing.play_until(peer, Until::Started).await.unwrap();
                    let letter = playing.printed()[0][index];
                    exec.output("stdout", &char::from(letter).to_string(), index).await.unwrap();
                }
            }
        }
    })
    .await
    .unwrap();
    let command = run(&server).await;
    let heard = bounded(listen(&command)).await.unwrap();
    assert_eq!(heard, Heard { bytes: letters.printed(), gaps: Vec::new() });
    server.finish().await;
}

#[tokio::test]
async fn a_server_that_acknowledges_and_leaves_for_ever_is_given_up() {
    let server = server_after(usize::MAX, |recording, peer| async move {
        // The first connection says something, so that a server which forgets its command is not mistaken for a start.
        let until = if peer.index == 0 { Until::Output(1) } else { Until::Started };
        drop(recording.play_until(peer, until).await.unwrap());
    })
    .await;
    let command = run(&server).await;
    assert_given_up(&failure_of(&command).await, "one ");
    server.finish().await;
}

#[tokio::test]
async fn a_handle_of_reconnect_is_as_lasting() {
    let server = server_after(2, |recording, peer| async move {
        drop(recording.play_until(peer, Until::Output(1)).await.unwrap());
    })
    .await;
    let command = reconnect(&server, [0, 0]).await;
    assert_eq!(bounded(listen(&command)).await.unwrap(), whole());
    server.finish().await;
}

async fn reconnect(server: &Server, from: [u64; 2]) -> Command {
    client(server).reconnect(&target(server), "c1", from, options(), &Call::default()).await.unwrap()
}
