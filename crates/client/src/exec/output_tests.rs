//! Bounds and order of the queue, without a socket.

use super::super::queue::QUEUE_BYTES;
use super::super::{Chunk, Data};
use super::*;
use StreamKind::{Stderr, Stdout};
use bytes::Bytes;
use proptest::prelude::*;

const MIB: usize = 1024 * 1024;

const PIECE: usize = 64 * 1024;

fn push(output: &Output, kind: StreamKind, offset: usize, bytes: &[u8]) {
    let delivery = Delivery { kind, offset: offset as u64, bytes: Bytes::copy_from_slice(bytes), gap: None };
    output.push(&mut vec![delivery]);
}

fn fill(output: &Output, kind: StreamKind, from: usize, pieces: usize) {
    for n in from..from + pieces {
        push(output, kind, n * PIECE, &vec![b'x'; PIECE]);
    }
}

/// Stream, position and length of an item's output; a gap has no length.
fn measures(item: &Item) -> (StreamKind, u64, usize) {
    match item {
        Item::Chunk(chunk) => {
            let length = match &chunk.data {
                Data::Latin1(bytes) | Data::Bytes(bytes) => bytes.len(),
                Data::Utf16(units) => String::from_utf16(units).unwrap().len() - chunk.surplus,
            };
            (chunk.kind, chunk.offset, length)
        }
        Item::Gap(gap) => (gap.stream, gap.from, 0),
    }
}

fn try_all(output: &Output) -> Vec<Item> {
    output.try_batch(Want::All).and_then(Result::ok).flatten().unwrap_or_default()
}

async fn lengths_of(output: &Output, want: Want) -> usize {
    let mut length = 0;
    while let Some(batch) = output.next_batch(want).await.unwrap() {
        length += batch.iter().map(|item| measures(item).2).sum::<usize>();
    }
    length
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
    fill(&output, Stdout, 0, 15);
    assert!(output.has_room());
    fill(&output, Stdout, 15, 1);
    assert!(!output.has_room());
    assert_eq!(try_all(&output).len(), 4);
    assert!(output.has_room());
}

#[test]
fn tiny_chunks_are_bounded_too() {
    let output = Output::new(8 * MIB, [0; 2], false, true);
    let count = (0..).take_while(|n| {
        push(&output, Stdout, *n, b"x");
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
    while !lock(&output.state).queue.result_wanted {
        tokio::task::yield_now().await;
    }
    fill(&output, Stdout, 0, 160);
    assert!(output.has_room());
    assert!(output.queued() <= QUEUE_BYTES, "{}", output.queued());
    output.finish(finished(&output), Vec::new());
    assert_eq!(waiting.await.unwrap().unwrap().stdout.total(), 160 * PIECE as u64);
    assert_eq!(lengths_of(&output, Want::All).await, 160 * PIECE);
    assert_eq!(output.position(Stdout), 160 * PIECE as u64);
}

#[tokio::test]
async fn a_loop_beyond_what_is_kept_holds_the_command_back_until_it_pauses() {
    let output = Output::new(MIB / 2, [0; 2], false, true);
    lock(&output.state).queue.result_wanted = true;
    lock(&output.state).queue.iterating = true;
    fill(&output, Stdout, 0, 20);
    assert!(!output.has_room(), "four are in the head, the others are the loop's alone");
    output.pause();
    assert!(output.has_room());
    fill(&output, Stdout, 20, 28);
    assert!(output.has_room());
    let items: Vec<Item> =
        std::iter::from_fn(|| Some(try_all(&output)).filter(|batch| !batch.is_empty())).flatten().collect();
    let Some(Item::Gap(gap)) = items.iter().find(|item| matches!(item, Item::Gap(_))) else {
        panic!("what nobody kept is not told")
    };
    let got: usize = items.iter().map(|item| measures(item).2).sum();
    assert_eq!(got as u64 + gap.to - gap.from, 48 * PIECE as u64);
}

#[tokio::test]
async fn an_unread_stream_never_stalls_the_other() {
    let output = Output::new(64 * MIB, [0; 2], true, true);
    let mut taken = 0;
    for asked_for in [false, true] {
        assert!(output.try_batch(Want::Only(Stdout)).is_none());
        if asked_for {
            let batch = output.next_batch(Want::Only(Stderr)).await.unwrap().unwrap();
            taken = batch.iter().map(|item| measures(item).2).sum();
        }
        let from = if asked_for { 64 } else { 0 };
        fill(&output, Stderr, from, 64);
        assert!(output.has_room(), "{asked_for}");
    }
    push(&output, Stdout, 0, b"a");
    let batch = output.next_batch(Want::Only(Stdout)).await.unwrap().unwrap();
    assert_eq!(batch.iter().map(measures).collect::<Vec<_>>(), [(Stdout, 0, 1)]);
    output.finish(finished(&output), Vec::new());
    assert_eq!(taken + lengths_of(&output, Want::Only(Stderr)).await, 128 * PIECE);
    assert!(output.next_batch(Want::Only(Stdout)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_loop_gets_everything_though_its_result_is_waited_for() {
    let output = Output::new(4 * MIB, [0; 2], false, true);
    try_all(&output);
    lock(&output.state).queue.result_wanted = true;
    let mut pushed = 0;
    while output.has_room() {
        fill(&output, Stdout, pushed, 3);
        pushed += 3;
    }
    fill(&output, Stdout, pushed, 64);
    output.finish(finished(&output), Vec::new());
    let items: Vec<Item> =
        std::iter::from_fn(|| Some(try_all(&output)).filter(|batch| !batch.is_empty())).flatten().collect();
    assert!(!items.iter().any(|item| matches!(item, Item::Gap(_))));
    assert_eq!(items.iter().map(|item| measures(item).2).sum::<usize>(), (pushed + 64) * PIECE);
}

#[tokio::test]
async fn who_reads_one_stream_frees_the_task_that_the_other_holds() {
    let output = Output::new(64 * MIB, [0; 2], true, true);
    fill(&output, Stdout, 0, 16);
    assert!(!output.has_room());
    let mut room = std::pin::pin!(output.room());
    assert!(futures_util::poll!(&mut room).is_pending());
    assert!(output.try_batch(Want::Only(Stderr)).is_none());
    assert!(futures_util::poll!(&mut room).is_ready() && output.has_room());
}

#[test]
fn small_pieces_that_stay_do_not_hold_the_blocks_they_came_in() {
    let output = Output::new(64 * MIB, [0; 2], true, true);
    let block = Bytes::from(vec![b'x'; PIECE]);
    let deliver = |kind, offset, bytes| {
        output.push(&mut vec![Delivery { kind, offset, bytes, gap: None }]);
    };
    deliver(Stderr, 0, block.slice(0..1));
    assert!(output.try_batch(Want::Only(Stdout)).is_none());
    deliver(Stderr, 1, block.slice(1..2));
    assert!(block.is_unique());
}

#[test]
fn a_stream_of_holes_is_bounded_and_what_goes_is_told() {
    let output = Output::new(64 * MIB, [0; 2], true, true);
    lock(&output.state).queue.result_wanted = true;
    let count = 300_000;
    for n in 0..count {
        push(&output, Stdout, 2 * n, b"x");
        output.has_room();
    }
    let items: Vec<Item> =
        std::iter::from_fn(|| Some(try_all(&output)).filter(|batch| !batch.is_empty())).flatten().collect();
    assert!(items.len() < count, "{}", items.len());
    let Some(Item::Gap(gap)) = items.first() else { panic!("what went is not told") };
    assert_eq!((gap.from, items.get(1).map(|item| measures(item).1)), (0, Some(gap.to + 1)));
    assert_eq!(items.last().map(|item| measures(item).1), Some(2 * (count as u64 - 1)));
}

#[tokio::test]
async fn both_streams_hold_the_command_back_if_neither_is_read() {
    let output = Output::new(64 * MIB, [0; 2], true, true);
    output.try_batch(Want::Only(Stdout));
    output.try_batch(Want::Only(Stderr));
    fill(&output, Stdout, 0, 8);
    fill(&output, Stderr, 0, 8);
    assert!(!output.has_room());
    output.discard(Stderr);
    assert!(output.has_room());
    fill(&output, Stderr, 8, 64);
    assert_eq!(output.queued(), 8 * (PIECE + 64));
}

#[tokio::test]
async fn the_error_is_told_once() {
    let output = Output::new(MIB, [0; 2], false, true);
    push(&output, Stderr, 0, b"last words");
    output.finish(Err(Error::aborted()), Vec::new());
    assert_eq!(output.next_batch(Want::All).await.unwrap().unwrap().len(), 1);
    assert!(output.next_batch(Want::All).await.is_err());
    assert!(output.next_batch(Want::All).await.unwrap().is_none());
    assert!(output.result().await.is_err());
}

#[tokio::test]
async fn each_stream_is_told_the_error() {
    let output = Output::new(MIB, [0; 2], false, true);
    output.finish(Err(Error::aborted()), Vec::new());
    for kind in [Stdout, Stderr] {
        assert!(output.next_batch(Want::Only(kind)).await.is_err());
        assert!(output.next_batch(Want::Only(kind)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn gaps_come_in_order_and_characters_end_before_them() {
    let output = Output::new(MIB, [0; 2], false, true);
    push(&output, Stdout, 0, b"a\xe2");
    let gap = Gap { stream: Stdout, from: 2, to: 5 };
    let bytes = Bytes::from_static(b"b");
    output.push(&mut vec![Delivery { kind: Stdout, offset: 5, bytes, gap: Some(gap) }]);
    let missing = Gap { stream: Stderr, from: 0, to: 1 };
    output.finish(finished(&output), vec![missing]);
    let batch = output.next_batch(Want::All).await.unwrap().unwrap();
    let text = |text: &str| Data::text(text);
    let chunk = |offset, data, surplus| Item::Chunk(Chunk { kind: Stdout, offset, data, surplus });
    let expected = [
        chunk(0, text("a"), 0),
        chunk(1, text("\u{FFFD}"), 2),
        Item::Gap(gap),
        chunk(5, text("b"), 0),
        Item::Gap(missing),
    ];
    assert!(matches!(&batch[0], Item::Chunk(Chunk { data: Data::Utf16(units), .. }) if units == &[97]));
    assert_eq!(batch[1..], expected[1..]);
}

#[test]
fn positions_follow_the_consumer() {
    let output = Output::new(MIB, [5, 0], false, true);
    push(&output, Stdout, 5, "é".as_bytes());
    assert_eq!(output.position(Stdout), 5, "nobody has it yet");
    lock(&output.state).queue.result_wanted = true;
    assert_eq!(output.position(Stdout), 7, "the result has it");
    lock(&output.state).queue.result_wanted = false;
    try_all(&output);
    push(&output, Stdout, 7, b"more");
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
            for item in try_all(&output) {
                let Item::Chunk(Chunk { kind, offset, data: Data::Bytes(bytes), .. }) = item else {
                    panic!("neither text nor gaps")
                };
                let side = &mut got[usize::from(kind == Stderr)];
                assert_eq!(offset, side.len() as u64);
                side.extend(bytes);
            }
        };
        for (index, (stderr, len, action)) in steps.into_iter().enumerate() {
            let piece = vec![index as u8; len];
            let side = &mut sent[usize::from(stderr)];
            push(&output, if stderr { Stderr } else { Stdout }, side.len(), &piece);
            side.extend(piece);
            output.has_room();
            match action {
                0 => collect(&mut got),
                1 => lock(&output.state).queue.result_wanted = true,
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
