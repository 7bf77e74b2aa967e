//! A command's stdin: a bounded queue between its attachments and the pipe.
//!
//! Attachments `push`, which waits while the queue is full, for as long as the command reads at all; the driver
//! `feed`s the pipe. Nothing else of a command ever waits for its stdin.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use bytes::{Buf, Bytes};
use sandwire_protocol::limits::{STDIN_BUFFER_MAX, STDIN_STALL};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lock::lock;

pub(super) struct Stdin {
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
}

/// The queue is full, and nothing of it was read for [`STDIN_STALL`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stalled;

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// No more is accepted; what is queued still goes out.
    closed: bool,
}

impl Stdin {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), drained: Notify::new() }
    }

    /// Queues `data`, once there is room. Input after the end is dropped, as a pipe without a reader would.
    pub(super) async fn push(&self, data: Bytes) -> Result<(), Stalled> {
        loop {
            let drained = self.drained.notified();
            if self.try_push(&data) {
                return Ok(());
            }
            timeout(STDIN_STALL, drained).await.map_err(|_| Stalled)?;
        }
    }

    fn try_push(&self, data: &Bytes) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed || data.is_empty() {
            return true;
        }
        // A message larger than what is free goes in whole: it is in memory already.
        if queue.bytes >= STDIN_BUFFER_MAX {
            return false;
        }
        queue.bytes += data.len();
        queue.chunks.push_back(data.clone());
        self.filled.notify_one();
        true
    }

    /// EOF after what is queued.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Nobody reads any more.
    pub(super) fn discard(&self) {
        *lock(&self.queue) = Queue { closed: true, ..Queue::default() };
        self.drained.notify_waiters();
    }

    /// Moves what is queued into the pipe until the queue is closed or the reader is gone; then closes the pipe.
    pub(super) async fn feed(&self, mut pipe: pipe::Sender) {
        if self.write_all(&mut pipe).await.is_err() {
            self.discard();
        }
    }

    async fn write_all(&self, pipe: &mut pipe::Sender) -> io::Result<()> {
        loop {
            let Some(mut chunk) = self.next() else {
                if lock(&self.queue).closed {
                    return Ok(());
                }
                self.filled.notified().await;
                continue;
            };
            while chunk.has_remaining() {
                let written = pipe.write(&chunk).await?;
                chunk.advance(written);
                let mut queue = lock(&self.queue);
                queue.bytes = queue.bytes.saturating_sub(written);
                drop(queue);
                self.drained.notify_waiters();
            }
        }
    }

    fn next(&self) -> Option<Bytes> {
        lock(&self.queue).chunks.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (io::PipeReader, pipe::Sender) {
        let (reader, writer) = io::pipe().unwrap();
        let writer: std::os::fd::OwnedFd = writer.into();
        (reader, pipe::Sender::from_owned_fd(writer).unwrap())
    }

    #[tokio::test]
    async fn what_was_queued_before_the_close_arrives() {
        let (mut reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(Bytes::from_static(b"ab")).await.unwrap();
        stdin.push(Bytes::from_static(b"c")).await.unwrap();
        stdin.close();
        stdin.push(Bytes::from_static(b"late")).await.unwrap();
        stdin.feed(writer).await;
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abc");
    }

    #[tokio::test]
    async fn a_full_queue_holds_its_writer_until_the_reader_is_gone() {
        let (reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(Bytes::from(vec![0; STDIN_BUFFER_MAX])).await.unwrap();
        let mut push = std::pin::pin!(stdin.push(Bytes::from_static(b"x")));
        assert!(futures_util::poll!(&mut push).is_pending());
        drop(reader);
        let (pushed, ()) = tokio::join!(push, stdin.feed(writer));
        assert_eq!(pushed, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_reader_that_takes_nothing_is_given_up() {
        let (reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(Bytes::from(vec![0; STDIN_BUFFER_MAX + 1])).await.unwrap();
        assert_eq!(stdin.push(Bytes::from_static(b"x")).await, Err(Stalled));
        // The pipe takes a little, which is not enough to make room, and then a little less than for ever passes.
        let slow = async {
            tokio::time::sleep(STDIN_STALL / 2).await;
            lock(&stdin.queue).bytes -= 1;
            stdin.drained.notify_waiters();
            tokio::time::sleep(STDIN_STALL / 2).await;
            lock(&stdin.queue).bytes -= 1;
            stdin.drained.notify_waiters();
        };
        let (pushed, ()) = tokio::join!(stdin.push(Bytes::from_static(b"x")), slow);
        assert_eq!(pushed, Ok(()));
        drop((reader, writer));
    }
}
