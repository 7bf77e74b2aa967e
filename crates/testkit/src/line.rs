//! The TCP connection under everything: counted while it is open, and cut after as many bytes as a test says.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    /// Bytes that may still be sent; `None` = any number.
    left: Option<u64>,
    _open: Open,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Line {
    pub(crate) fn new(stream: TcpStream, open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self { stream, left: None, _open: Open(open.clone()) }
    }

    /// Ends the sending side after `bytes` more bytes: what is sent beyond them fails.
    pub(crate) fn cut_after(&mut self, bytes: u64) {
        self.left = Some(bytes);
    }

    /// Reads and answers nothing, not even a ping, until the client has left.
    pub(crate) async fn outlast(&mut self) {
        let mut unread = [0; 4096];
        while self.stream.read(&mut unread).await.is_ok_and(|count| count > 0) {}
    }

    /// Ends the connection at once: the client gets a reset, which overtakes what it has not read.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = self
            .left
            .map_or(bytes.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
        let (now, _) = bytes.split_at(room);
        let sent = if now.is_empty() && !bytes.is_empty() {
            Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
        } else {
            Pin::new(&mut self.stream).poll_write(cx, now)
        };
        if let (Some(left), Poll::Ready(Ok(count))) = (&mut self.left, &sent) {
            *left -= u64::try_from(*count).unwrap_or(u64::MAX);
        }
        if self.left == Some(0) {
            // A socket's shutdown never waits.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        sent
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.send(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn pair(open: &watch::Sender<usize>) -> (Line, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Line::new(listener.accept().await.unwrap().0, open), client)
    }

    #[tokio::test]
    async fn a_cut_lets_exactly_its_bytes_through() {
        let (open, count) = watch::channel(0);
        for cut in [0, 1, 5, 9] {
            let (mut line, mut client) = pair(&open).await;
            line.cut_after(cut);
            assert_eq!(line.write_all(b"0123456789").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len() as u64, cut);
            assert_eq!(*count.borrow(), 1);
            drop(client);
            line.outlast().await;
            drop(line);
            assert_eq!(*count.borrow(), 0);
        }
    }

    #[tokio::test]
    async fn the_last_byte_before_a_cut_is_the_end_without_another_write() {
        let (open, _count) = watch::channel(0);
        let (mut line, mut client) = pair(&open).await;
        line.cut_after(3);
        line.write_all(b"abc").await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"abc");
    }
}
