//! Bounds and order of the queue, without a socket.

use super::*;
use StreamKind::{Stderr, Stdout};
use proptest::prelude::*;

const MIB: usize = 1024 * 1024;

fn fill(output: &Output, pieces: usize) {
    let piece = vec![b'x'; 64 * 1024];
    for n in 0..pieces {
        output.push(Stdout, (n * piece.len()) as u64, &piece);
    }
}

async fn bytes_of(output: &Output) -> Vec<(StreamKind, u64, usize)> {
    let mut seen = Vec::new();
    while let Some(batch) = output.next_batch().await.unwrap() {
        seen.extend(batch.into_iter().map(|chunk| (chunk.kind, chunk.offset, chunk.len)));
    }
    seen
}

fn finished(output: &Output) -> End {
    let (stdout, stderr) = output.retained();
    Ok(Arc::new(CommandResult {
        exit_code: Some(0),
        outcome: crate::CommandOutcome::Exited,
        signal: None,
        duration: std::time::Duration::ZERO,
        stdout,
        stderr,
        gaps: Vec::new(),
    }))
}

#[test]
fn a_full_queue_says_so_until_a_batch_is_taken() {
    let output = Output::new(8 * MIB, [0; 2], false, true);
    fill(&output, 15);
    assert!(output.has_room());
    fill(&output, 1);
    assert!(!output.has_room());
    assert_eq!(output.try_batch().unwrap().unwrap().unwrap().len(), 4);
    assert!(output.has_room());
}

#[test]
fn tiny_chunks_are_bounded_too() {
    let output = Output::new(8 * MIB, [0; 2], false, true);
    let count = (0u64..).take_while(|n| {
        output.push(Stdout, *n, b"x");
        output.has_room()
    });
    assert!(count.count() < 20_000);
}

#[tokio::test]
async fn a_waiting_result_lifts_the_bound_without_memory_and_a_later_loop_misses_nothing() {
    let output = Arc::new(Output::new(64 * MIB, [0; 2], false, true));
    let waiting = tokio::spawn({
        let output = Arc::clone(&output);
        async move { output.result().await }
    });
    while !output.lock().result_wanted {
        tokio::task::yield_now().await;
    }
    fill(&output, 160);
    assert!(output.has_room());
    assert!(output.queued() <= QUEUE_BYTES, "{}", output.queued());
    output.finish(finished(&output));
    assert_eq!(waiting.await.unwrap().unwrap().stdout.total(), 160 * 64 * 1024);
    let seen = bytes_of(&output).await;
    assert_eq!(seen.iter().map(|chunk| chunk.2).sum::<usize>(), 160 * 64 * 1024);
    assert_eq!(output.position(Stdout), 160 * 64 * 1024);
}

#[tokio::test]
async fn a_loop_beyond_what_is_kept_holds_the_command_back_until_it_pauses() {
    let output = Output::new(MIB / 2, [0; 2], false, true);
    assert!(output.lock().end.is_none());
    output.lock().result_wanted = true;
    output.lock().iterating = true;
    fill(&output, 16);
    assert!(!output.has_room());
    output.pause();
    assert!(output.has_room());
}

#[tokio::test]
async fn the_error_is_told_once() {
    let output = Output::new(MIB, [0; 2], false, true);
    output.push(Stderr, 0, b"last words");
    output.finish(Err(Error::aborted()));
    assert_eq!(output.next_batch().await.unwrap().unwrap().len(), 1);
    assert!(output.next_batch().await.is_err());
    assert!(output.next_batch().await.unwrap().is_none());
    assert!(output.result().await.is_err());
}

#[test]
fn positions_follow_the_consumer() {
    let output = Output::new(MIB, [5, 0], false, true);
    output.push(Stdout, 5, "é".as_bytes());
    assert_eq!(output.position(Stdout), 7);
    output.try_batch();
    output.push(Stdout, 7, b"more");
    assert_eq!(output.position(Stdout), 7);
}

proptest! {
    #[test]
    fn whatever_the_order_every_byte_comes_once(
        steps in proptest::collection::vec((any::<bool>(), 0usize..200_000, 0u8..8), 1..40),
    ) {
        let output = Output::new(64 * MIB, [0; 2], true, true);
        let (mut sent, mut got) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let collect = |got: &mut [Vec<u8>; 2]| {
            let Some(Ok(Some(batch))) = output.try_batch() else { return };
            for chunk in batch {
                let Data::Bytes(bytes) = chunk.data else { panic!("text") };
                let side = &mut got[usize::from(chunk.kind == Stderr)];
                assert_eq!(chunk.offset, side.len() as u64);
                side.extend(bytes);
            }
        };
        for (index, (stderr, len, action)) in steps.into_iter().enumerate() {
            let piece = vec![index as u8; len];
            let side = &mut sent[usize::from(stderr)];
            output.push(if stderr { Stderr } else { Stdout }, side.len() as u64, &piece);
            side.extend(piece);
            match action {
                0 => collect(&mut got),
                1 => output.lock().result_wanted = true,
                2 => output.pause(),
                _ => {}
            }
        }
        for _ in 0..200 {
            collect(&mut got);
        }
        prop_assert!(sent == got);
    }
}
