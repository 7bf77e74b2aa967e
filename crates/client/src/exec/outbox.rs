//! What waits to be sent to the server: the opening frames of a connection, then the newest acknowledgement of output,
//! then orders, then stdin.
//!
//! It outlives connections. A message leaves it when it was written whole, so one that a lost connection cut is sent
//! again: the server can't have had it.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::stdin::Stdin;
use crate::Error;

/// Answers a control: whether the command was still there.
pub(super) type Reply = oneshot::Sender<Result<bool, Error>>;

/// A message, and who is told when it was written.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    reply: Option<Reply>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    opening: VecDeque<Message>,
    acknowledgement: Option<Message>,
    orders: VecDeque<Outgoing>,
    pub(super) stdin: Stdin,
    under_way: Option<Source>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Opening,
    Acknowledgement,
    Orders,
    Stdin,
}

impl Outbox {
    pub(super) fn new(stdin: Stdin) -> Self {
        let (opening, orders) = (VecDeque::new(), VecDeque::new());
        Self { opening, acknowledgement: None, orders, stdin, under_way: None }
    }

    /// Queues a kill, a signal, a new size or a ping.
    pub(super) fn order(&mut self, message: Message, reply: Option<Reply>) {
        self.orders.push_back(Outgoing { message, reply });
    }

    /// There is a new connection, on which `opening` comes first.
    pub(super) fn reopen(&mut self, opening: Vec<Message>) {
        self.opening = opening.into();
    }

    /// Output arrived; an older acknowledgement says less and need not be sent any more.
    pub(super) fn acknowledge(&mut self, acknowledgement: Message) {
        self.acknowledgement = Some(acknowledgement);
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.under_way = None;
        self.acknowledgement = None;
        self.orders.retain(|outgoing| !outgoing.message.is_ping());
        self.stdin.lost();
    }

    /// The next message, if there is one.
    pub(super) fn next(&mut self) -> Option<Message> {
        let (source, message) = if let Some(opening) = self.opening.front() {
            (Source::Opening, opening.clone())
        } else if let Some(acknowledgement) = self.acknowledgement.take() {
            (Source::Acknowledgement, acknowledgement)
        } else if let Some(order) = self.orders.front() {
            (Source::Orders, order.message.clone())
        } else {
            (Source::Stdin, self.stdin.next()?)
        };
        self.under_way = Some(source);
        Some(message)
    }

    /// The message that [`Outbox::next`] gave last was written.
    pub(super) fn written(&mut self) {
        match self.under_way.take() {
            Some(Source::Opening) => drop(self.opening.pop_front()),
            Some(Source::Orders) => {
                if let Some(Outgoing { reply: Some(reply), .. }) = self.orders.pop_front() {
                    answer(reply, Ok(true));
                }
            }
            Some(Source::Stdin) => self.stdin.written(),
            Some(Source::Acknowledgement) | None => {}
        }
    }
}

pub(super) fn answer(reply: Reply, value: Result<bool, Error>) {
    // Nobody has to wait for the answer.
    let _ = reply.send(value);
}
