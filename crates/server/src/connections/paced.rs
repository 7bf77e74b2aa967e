//! The stream of a connection, which ends by an error when its peer takes nothing for too long.
//!
//! Whoever writes to it waits for a slow peer, and not for one that is there and does not read: the kernel answers for
//! that for ever. A slow one is known by what its kernel acknowledges, which goes on long before the next write fits.
//! The kernel's own limit (`TCP_USER_TIMEOUT`) cuts off slow peers with small windows as well, hence this.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use sandwire_isolate::unacknowledged;
use sandwire_protocol::limits::WRITE_STALL;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// A stream whose writes end with [`io::ErrorKind::TimedOut`] after [`WRITE_STALL`] without progress.
pub(super) struct Paced {
    stream: TcpStream,
    stall: Option<Stall>,
}

/// A write that does not fit.
struct Stall {
    /// What the peer had not acknowledged when it was last looked.
    unacknowledged: Option<u64>,
    over: Pin<Box<Sleep>>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stall: None }
    }

    fn paced(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let now = || unacknowledged(self.stream.as_fd());
        let stall = self
            .stall
            .get_or_insert_with(|| Stall { unacknowledged: now(), over: Box::pin(sleep(WRITE_STALL)) });
        while stall.over.as_mut().poll(cx).is_ready() {
            let before = std::mem::replace(&mut stall.unacknowledged, now());
            if stall.unacknowledged >= before {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            stall.over.as_mut().reset(Instant::now() + WRITE_STALL);
        }
        Poll::Pending
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.paced(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.paced(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Neither waits for the peer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}
