//! A command's stdin: a bounded queue between its attachments and the pipe or terminal.
//!
//! Attachments `push`, which waits while the queue is full, for as long as the command reads at all, or `offer` what
//! bears a writer's position, which never waits and takes each byte of a writer once. The driver `feed`s the command.
//! Nothing else of a command ever waits for its stdin.

use std::io;
use std::sync::Mutex;

use bytes::{Buf, Bytes, BytesMut};
use sandwire_protocol::limits::{STDIN_BUFFER_MAX, STDIN_STALL};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lock::lock;
use super::writers::Writers;

/// A command's stdin.
pub struct Stdin {
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
}

/// The queue is full, and nothing of it was read for [`STDIN_STALL`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stalled;

/// What became of input with a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    /// All bytes of this writer up to here are taken.
    Taken(u64),
    /// There is no room now.
    Full,
    /// It begins behind the bytes that are taken of this writer, which are so many.
    Jump(u64),
}

#[derive(Default)]
struct Queue {
    /// Copied together, so that many small inputs take no more memory than their bytes.
    waiting: BytesMut,
    /// Also those that are being written.
    bytes: usize,
    /// No more is accepted; what is queued still goes out.
    closed: bool,
    writers: Writers,
}

impl Queue {
    fn is_full(&self) -> bool {
        !self.closed && self.bytes >= STDIN_BUFFER_MAX
    }

    /// Input after the end is dropped, as a pipe without a reader would.
    fn add(&mut self, data: &[u8]) {
        if !self.closed {
            self.bytes += data.len();
            self.waiting.extend_from_slice(data);
        }
    }
}

impl Stdin {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), drained: Notify::new() }
    }

    /// Queues `data`, once there is room.
    pub(super) async fn push(&self, data: &[u8]) -> Result<(), Stalled> {
        loop {
            let drained = self.drained.notified();
            if self.try_push(data) {
                return Ok(());
            }
            timeout(STDIN_STALL, drained).await.map_err(|_| Stalled)?;
        }
    }

    fn try_push(&self, data: &[u8]) -> bool {
        let mut queue = lock(&self.queue);
        // A message larger than what is free goes in whole: it is in memory already.
        if queue.is_full() && !data.is_empty() {
            return false;
        }
        queue.add(data);
        self.filled.notify_one();
        true
    }

    /// Queues what is new of a writer's bytes from `offset` on, all of it or nothing.
    pub fn offer(&self, writer: &str, offset: u64, data: &[u8]) -> Offered {
        let mut queue = lock(&self.queue);
        let taken = queue.writers.taken(writer);
        let Some(known) = taken.checked_sub(offset) else { return Offered::Jump(taken) };
        let new = data.get(usize::try_from(known).unwrap_or(usize::MAX)..).unwrap_or_default();
        if queue.is_full() && !new.is_empty() {
            return Offered::Full;
        }
        queue.add(new);
        let taken = taken + new.len() as u64;
        queue.writers.set(writer, taken);
        self.filled.notify_one();
        Offered::Taken(taken)
    }

    /// Bytes taken of that writer so far.
    pub fn taken(&self, writer: &str) -> u64 {
        let mut queue = lock(&self.queue);
        let taken = queue.writers.taken(writer);
        // One that never wrote need not be known, and must not push out one that did.
        if taken > 0 {
            queue.writers.set(writer, taken);
        }
        taken
    }

    /// Waits until the queue is not full. Cancel safe.
    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if !lock(&self.queue).is_full() {
                return;
            }
            drained.await;
        }
    }

    /// EOF after what is queued.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Nobody reads any more. What writers wrote still counts as taken.
    pub(super) fn discard(&self) {
        let mut queue = lock(&self.queue);
        (queue.closed, queue.bytes, queue.waiting) = (true, 0, BytesMut::new());
        drop(queue);
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Moves what is queued into the pipe until the queue is closed or the reader is gone; then closes the pipe.
    pub(super) async fn feed(&self, mut pipe: impl AsyncWrite + Unpin) {
        if self.write_all(&mut pipe).await.is_err() {
            self.discard();
        }
    }

    async fn write_all(&self, pipe: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            let (mut waiting, closed) = self.next();
            if waiting.is_empty() {
                if closed {
                    return Ok(());
                }
                self.filled.notified().await;
            }
            while waiting.has_remaining() {
                let written = pipe.write(&waiting).await?;
                waiting.advance(written);
                let mut queue = lock(&self.queue);
                queue.bytes = queue.bytes.saturating_sub(written);
                drop(queue);
                self.drained.notify_waiters();
            }
        }
    }

    fn next(&self) -> (Bytes, bool) {
        let mut queue = lock(&self.queue);
        (std::mem::take(&mut queue.waiting).freeze(), queue.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use tokio::net::unix::pipe;

    fn pipe() -> (io::PipeReader, pipe::Sender) {
        let (reader, writer) = io::pipe().unwrap();
        let writer: std::os::fd::OwnedFd = writer.into();
        (reader, pipe::Sender::from_owned_fd(writer).unwrap())
    }

    #[tokio::test]
    async fn what_was_queued_before_the_close_arrives() {
        let (mut reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(b"ab").await.unwrap();
        stdin.push(b"c").await.unwrap();
        stdin.close();
        stdin.push(b"late").await.unwrap();
        stdin.feed(writer).await;
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abc");
    }

    #[tokio::test]
    async fn a_full_queue_holds_its_writer_until_the_reader_is_gone() {
        let (reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(&vec![0; STDIN_BUFFER_MAX]).await.unwrap();
        let mut push = std::pin::pin!(stdin.push(b"x"));
        assert!(futures_util::poll!(&mut push).is_pending());
        drop(reader);
        let (pushed, ()) = tokio::join!(push, stdin.feed(writer));
        assert_eq!(pushed, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_reader_that_takes_nothing_is_given_up() {
        let (reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(&vec![0; STDIN_BUFFER_MAX + 1]).await.unwrap();
        assert_eq!(stdin.push(b"x").await, Err(Stalled));
        // The pipe takes a little, which is not enough to make room, and then a little less than for ever passes.
        let slow = async {
            tokio::time::sleep(STDIN_STALL / 2).await;
            lock(&stdin.queue).bytes -= 1;
            stdin.drained.notify_waiters();
            tokio::time::sleep(STDIN_STALL / 2).await;
            lock(&stdin.queue).bytes -= 1;
            stdin.drained.notify_waiters();
        };
        let (pushed, ()) = tokio::join!(stdin.push(b"x"), slow);
        assert_eq!(pushed, Ok(()));
        drop((reader, writer));
    }

    #[tokio::test]
    async fn each_byte_of_a_writer_is_taken_once() {
        let (mut reader, writer) = pipe();
        let stdin = Stdin::new();
        assert_eq!(stdin.offer("a", 0, b"abc"), Offered::Taken(3));
        assert_eq!(stdin.offer("b", 0, b"12"), Offered::Taken(2));
        assert_eq!(stdin.offer("a", 0, b"ab"), Offered::Taken(3), "known");
        assert_eq!(stdin.offer("a", 1, b"bcde"), Offered::Taken(5), "partly known");
        assert_eq!(stdin.offer("a", 6, b"g"), Offered::Jump(5));
        assert_eq!((stdin.taken("a"), stdin.taken("b"), stdin.taken("c")), (5, 2, 0));
        stdin.close();
        assert_eq!(stdin.offer("a", 5, b"late"), Offered::Taken(9), "dropped, but never asked for again");
        stdin.feed(writer).await;
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abc12de");
        stdin.discard();
        assert_eq!(stdin.taken("a"), 9);
    }

    #[tokio::test]
    async fn an_offer_never_waits_and_takes_all_or_nothing() {
        let (reader, writer) = pipe();
        let stdin = Stdin::new();
        stdin.push(&vec![0; STDIN_BUFFER_MAX]).await.unwrap();
        assert_eq!(stdin.offer("a", 0, b"x"), Offered::Full);
        assert_eq!(stdin.offer("a", 0, b""), Offered::Taken(0));
        let mut room = std::pin::pin!(stdin.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        drop(reader);
        tokio::join!(room, stdin.feed(writer));
        assert_eq!(stdin.offer("a", 0, b"x"), Offered::Taken(1));
    }
}
