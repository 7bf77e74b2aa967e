//! Slow consumers hold the server back and lose nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandwire_client::{Call, Chunk, Data, StreamOptions, Want};
use sandwire_protocol::{CommandSpec, StreamKind};
use sandwire_testkit::Server;

use crate::support::{MIB, chunks, client, options, run, target};

const TOTAL: usize = 64 * MIB;

/// A server that offers 64 MiB, and a count of what it could send.
async fn offering() -> (Server, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(move |peer| {
        let count = Arc::clone(&count);
        async move {
            let mut exec = peer.accept().await.unwrap();
            exec.start().await.unwrap();
            let line = "x".repeat(32 * 1024);
            while count.load(Ordering::Relaxed) < TOTAL {
                exec.output("stdout", &line, count.load(Ordering::Relaxed)).await.unwrap();
                count.fetch_add(line.len(), Ordering::Relaxed);
            }
            exec.exit(0).await.unwrap();
            exec.drained().await;
        }
    })
    .await
    .unwrap();
    (server, sent)
}

/// Waits until the server can send no more.
async fn stalled(sent: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Bytes of a chunk of ASCII text.
fn length(chunk: &Chunk) -> u64 {
    match &chunk.data {
        Data::Latin1(bytes) | Data::Bytes(bytes) => bytes.len() as u64,
        Data::Utf16(units) => units.len() as u64,
    }
}

#[tokio::test]
async fn a_consumer_that_takes_nothing_stops_the_server_and_then_gets_everything() {
    let (server, sent) = offering().await;
    let command = run(&server).await;
    // The queue, one frame beyond it, and what the two kernels buffer.
    let held = stalled(&sent).await;
    assert!(held < TOTAL / 2, "{held} bytes were taken though nobody read them");
    let mut received = 0;
    while let Some(batch) = command.next_batch(Want::All).await.unwrap() {
        for chunk in chunks(batch) {
            assert_eq!((chunk.kind, chunk.offset), (StreamKind::Stdout, received));
            received += length(&chunk);
        }
    }
    assert_eq!(received, TOTAL as u64);
    server.finish().await;
}

#[tokio::test]
async fn a_result_alone_reads_everything_and_keeps_head_and_tail() {
    let (server, _) = offering().await;
    let spec = CommandSpec { timeout_seconds: Some(0), ..CommandSpec::new("x") };
    let options = StreamOptions { max_output_bytes: MIB, ..options() };
    let command = client(&server).run(&target(&server), spec, options, &Call::default()).await.unwrap();
    let result = command.result().await.unwrap();
    assert_eq!((result.stdout.total(), result.stdout.truncated()), (TOTAL as u64, true));
    assert_eq!(result.stdout.bytes().len(), MIB);
    server.finish().await;
}

#[tokio::test]
async fn a_loop_beside_a_waiting_result_misses_nothing_even_beyond_what_is_kept() {
    let (server, _) = offering().await;
    let options = StreamOptions { max_output_bytes: MIB, ..options() };
    let command = Arc::new(
        client(&server)
            .run(&target(&server), CommandSpec::new("x"), options, &Call::default())
            .await
            .unwrap(),
    );
    let first = command.next_batch(Want::All).await.unwrap().unwrap();
    let result = tokio::spawn({
        let command = Arc::clone(&command);
        async move { command.result().await }
    });
    let mut received: u64 = chunks(first).iter().map(length).sum();
    while let Some(batch) = command.next_batch(Want::All).await.unwrap() {
        for chunk in chunks(batch) {
            assert_eq!(chunk.offset, received);
            received += length(&chunk);
        }
    }
    assert_eq!(received, TOTAL as u64);
    assert!(result.await.unwrap().unwrap().stdout.truncated());
    server.finish().await;
}
