//! An open connection: reads and writes at the same time, in one task.
//!
//! Neither waits for the other: a server that is stuck writing output to us must still get our `kill`, and we must
//! read on while it does not take our input.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::outbox::Outbox;
use super::socket::Socket;

/// How long the farewell may take; nobody waits for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What reading brings: nothing more, or a message or failure.
pub(super) type Received = Option<Result<Message, WsError>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Idle,
    Flushing,
    /// If anybody reads, that will tell what happened.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    writing: Writing,
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, writing: Writing::Idle }
    }

    /// Writes what waits in the outbox; ready when a message came, if `read`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, read: bool) -> Poll<Received> {
        if self.writing != Writing::Broken && matches!(self.poll_write(cx, outbox), Poll::Ready(Err(_))) {
            self.writing = Writing::Broken;
        }
        match self.writing {
            _ if read => self.socket.poll_next_unpin(cx),
            // Nobody reads, so nothing else would tell; what is unread will be asked for again.
            Writing::Broken => Poll::Ready(None),
            Writing::Idle | Writing::Flushing => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<Result<(), WsError>> {
        loop {
            if self.writing == Writing::Flushing {
                ready!(self.socket.poll_flush_unpin(cx))?;
                self.writing = Writing::Idle;
                outbox.written();
            }
            ready!(self.socket.poll_ready_unpin(cx))?;
            let Some(message) = outbox.next() else { return Poll::Ready(Ok(())) };
            self.socket.start_send_unpin(message)?;
            self.writing = Writing::Flushing;
        }
    }

    /// Leaves in good order, as far as the other side lets us.
    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.socket.close()).await;
    }
}
