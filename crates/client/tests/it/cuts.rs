//! A session cut at every single byte of what the server sends, the answer to the upgrade included: nothing is lost,
//! nothing comes twice, and the end is the command's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandwire_client::{Call, StreamOptions};
use sandwire_protocol::CommandSpec;
use sandwire_testkit::{Recording, Server};

use crate::support::{Heard, bounded, client, each, listen, options, target};

/// Cuts that are tried at the same time.
const AT_ONCE: u64 = 32;

/// How many connections in a row are cut at that byte.
#[derive(Clone, Copy)]
enum Cuts {
    First,
    FirstTwo,
}

/// Plays `recording` to a client whose first connections are cut after `bytes`; says how many connections it took.
async fn cut(recording: &Recording, bytes: u64, cuts: Cuts, options: StreamOptions) -> usize {
    let (playing, connections) = (recording.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let server = Server::start(move |peer| {
        let playing = playing.clone();
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let cut = peer.index == 0 || (peer.index == 1 && matches!(cuts, Cuts::FirstTwo));
            playing.play(if cut { peer.cut_after(bytes) } else { peer }).await;
        }
    })
    .await
    .unwrap();
    let spec = CommandSpec { timeout_seconds: Some(0), ..CommandSpec::new("x") };
    let command = client(&server).run(&target(&server), spec, options, &Call::default()).await.unwrap();
    let heard = listen(&command).await.unwrap();
    let result = command.result().await.unwrap();
    let printed = recording.printed();
    assert_eq!(heard, Heard { bytes: printed.clone(), gaps: Vec::new() }, "cut after {bytes} bytes");
    assert_eq!((result.exit_code, &result.gaps), (Some(3), &Vec::new()), "cut after {bytes} bytes");
    let kept = [&result.stdout, &result.stderr].map(|stream| stream.bytes());
    assert_eq!(kept, printed, "cut after {bytes} bytes");
    drop(command);
    server.finish().await;
    connections.load(Ordering::Relaxed)
}

/// Cuts after 0, 1, 2... bytes, until a cut comes after the end.
async fn at_every_byte(recording: &Recording, cuts: Cuts, options: StreamOptions) {
    let mut from = 0;
    loop {
        let uncut = AtomicUsize::new(0);
        each(from..from + AT_ONCE, async |bytes| {
            let connections = cut(recording, bytes, cuts, options.clone()).await;
            uncut.fetch_add(usize::from(connections == 1), Ordering::Relaxed);
        })
        .await;
        from += AT_ONCE;
        if uncut.into_inner() as u64 == AT_ONCE {
            return;
        }
    }
}

fn spoken() -> Recording {
    Recording::new()
        .stdout("one\n")
        .stderr("naïve: \"no\"\n")
        .stdout("два\n")
        .stdout("🙂\u{1b}[0m")
        .stderr("!")
        .exit(3)
}

/// Frames end inside characters.
fn torn() -> Recording {
    let smile = "🙂".as_bytes();
    Recording::new()
        .stdout("one\nд".as_bytes().split_at(5).0)
        .stderr(smile.split_at(3).0)
        .stdout("one\nдва".as_bytes().split_at(5).1)
        .stderr(smile.split_at(3).1)
        .stdout("!")
        .exit(3)
        .extended()
}

#[tokio::test]
async fn of_json() {
    at_every_byte(&spoken(), Cuts::First, options()).await;
}

#[tokio::test]
async fn of_json_and_of_the_connection_after_it() {
    at_every_byte(&spoken(), Cuts::FirstTwo, options()).await;
}

#[tokio::test]
async fn of_the_extension() {
    at_every_byte(&torn(), Cuts::First, options()).await;
}

#[tokio::test]
async fn of_the_extension_and_of_the_connection_after_it() {
    at_every_byte(&torn(), Cuts::FirstTwo, options()).await;
}

#[tokio::test]
async fn of_bytes_that_are_no_text() {
    let noise = (0..=255).collect::<Vec<u8>>();
    let recording = Recording::new().stdout(noise.clone()).stderr([0xFF, 0xC0]).stdout(noise).exit(3);
    at_every_byte(&recording.extended(), Cuts::First, StreamOptions { raw: true, ..options() }).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_keep_their_places_as_text() {
    let recording =
        Recording::new().stdout([b'a', 0xFF, b'b']).stdout([0xC3]).stdout([b'c']).exit(3).extended();
    let printed = recording.printed();
    let server = Server::start(move |peer| {
        let recording = recording.clone();
        async move { recording.play(peer).await }
    })
    .await
    .unwrap();
    let command = crate::support::run(&server).await;
    let heard = bounded(listen(&command)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.bytes[0]), "a\u{FFFD}b\u{FFFD}c");
    let result = command.result().await.unwrap();
    assert_eq!((result.stdout.total(), result.stdout.bytes()), (5, printed[0].clone()));
}
