//! A command's stdin on its way to the server, over as many connections as it takes.
//!
//! A server with the extension counts what it took from us, so what a lost connection swallowed is sent again and
//! nothing twice, and no more than [`STDIN_WINDOW`] is ever under way. Any other server takes text and says nothing
//! of it: there a message counts as arrived once it was written.
//!
//! A caller is answered when its last byte was written. The server's word may stand behind output that the same caller
//! has yet to take.

use std::collections::VecDeque;

use bytes::Bytes;
use sandwire_protocol::ClientFrame;
use sandwire_protocol::extension::{HEADER, encode_input_header};
use sandwire_protocol::limits::{FRAME_OUTPUT_MAX, STDIN_WINDOW};
use tokio_tungstenite::tungstenite::Message;

use super::frames::message;
use super::input::Encoder;
use super::outbox::{Reply, answer};

const END_OF_TRANSMISSION: &str = "\u{4}";

/// See the module.
#[derive(Debug)]
pub(super) struct Stdin {
    /// A terminal has no end of file but its own character for it.
    pty: bool,
    /// Whether its end was asked for.
    over: bool,
    /// Whether the command was killed: what still waits is worth nothing.
    dropped: bool,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Text(TextWay),
    Counted(CountedWay),
}

impl Stdin {
    /// `over`: the command was started without.
    pub(super) fn new(pty: bool, over: bool, extended: bool) -> Self {
        let way = if extended { Way::Counted(CountedWay::default()) } else { Way::Text(TextWay::default()) };
        Self { pty, over, dropped: false, way }
    }

    /// Whether a kill may have to wait behind it.
    pub(super) fn can_block(&self) -> bool {
        matches!(&self.way, Way::Text(text) if text.used)
    }

    pub(super) fn send(&mut self, data: Bytes, reply: Reply) {
        if self.over || self.dropped {
            return answer(reply, Ok(false));
        }
        match &mut self.way {
            Way::Text(text) => text.send(&data, reply),
            Way::Counted(counted) => counted.send(data, reply),
        }
    }

    pub(super) fn close(&mut self, reply: Reply) {
        if self.pty {
            return self.send(Bytes::from_static(END_OF_TRANSMISSION.as_bytes()), reply);
        }
        if self.over || self.dropped {
            return answer(reply, Ok(!self.dropped));
        }
        let closed = match &mut self.way {
            Way::Text(text) => text.encoder.finish(),
            Way::Counted(_) => Ok(()),
        };
        if let Err(error) = closed {
            return answer(reply, Err(error));
        }
        self.over = true;
        match &mut self.way {
            Way::Text(text) => text.close(reply),
            Way::Counted(counted) => counted.end = End::Asked(Some(reply)),
        }
    }

    /// The command is killed.
    pub(super) fn discard(&mut self) {
        self.dropped = true;
        // Dropped replies read as "the command is over".
        self.way = match self.way {
            Way::Text(TextWay { used, .. }) => Way::Text(TextWay { used, ..TextWay::default() }),
            Way::Counted(_) => Way::Counted(CountedWay { held: true, ..CountedWay::default() }),
        };
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Option<Message> {
        match &mut self.way {
            Way::Text(text) => text.queue.front().and_then(|(frame, _)| message(frame).ok()),
            Way::Counted(counted) => counted.next(),
        }
    }

    /// The message that [`Stdin::next`] gave last was written.
    pub(super) fn written(&mut self) {
        match &mut self.way {
            Way::Text(text) => text.written(),
            Way::Counted(counted) => counted.written(),
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        if let Way::Counted(counted) = &mut self.way {
            counted.held = true;
        }
    }

    /// The command is attached to, and its server took so much of our input.
    pub(super) fn attached(&mut self, offset: Option<u64>) {
        match &mut self.way {
            Way::Text(text) => text.repeat_end(),
            Way::Counted(counted) if !self.dropped => counted.attached(offset.unwrap_or(0)),
            Way::Counted(_) => {}
        }
    }

    /// The server took our input up to there.
    pub(super) fn taken(&mut self, offset: u64) {
        if let Way::Counted(counted) = &mut self.way {
            counted.taken(offset);
        }
    }
}

/// Frames of text; a reply comes when the last frame of a call was written.
#[derive(Debug, Default)]
struct TextWay {
    used: bool,
    encoder: Encoder,
    queue: VecDeque<(ClientFrame, Option<Reply>)>,
    /// Whether the end was queued.
    closing: bool,
}

impl TextWay {
    fn send(&mut self, data: &[u8], reply: Reply) {
        self.used = true;
        match self.encoder.frames(data) {
            Ok(mut frames) => match frames.pop() {
                Some(last) => {
                    self.queue.extend(frames.into_iter().map(|frame| (frame, None)));
                    self.queue.push_back((last, Some(reply)));
                }
                None => answer(reply, Ok(true)),
            },
            Err(error) => answer(reply, Err(error)),
        }
    }

    fn close(&mut self, reply: Reply) {
        self.closing = true;
        self.queue.push_back((ClientFrame::CloseStdin, Some(reply)));
    }

    fn written(&mut self) {
        if let Some((_, Some(reply))) = self.queue.pop_front() {
            answer(reply, Ok(true));
        }
    }

    /// Whether the end arrived is not known; twice is as good as once.
    fn repeat_end(&mut self) {
        if self.closing && self.queue.is_empty() {
            self.queue.push_back((ClientFrame::CloseStdin, None));
        }
    }
}

/// Whether stdin is to end, and who waits for that to be written.
#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Asked(Option<Reply>),
    Sent,
}

/// Bytes by their position.
#[derive(Debug, Default)]
struct CountedWay {
    unsent: VecDeque<Bytes>,
    /// Written, but not taken yet as far as is known.
    sent: VecDeque<Bytes>,
    /// Position after what was taken, after what was written, and after everything.
    taken: u64,
    cursor: u64,
    total: u64,
    replies: VecDeque<(u64, Reply)>,
    /// Size of the message that is being written.
    under_way: usize,
    end: End,
    /// Whether it has to wait for the server's word about what it took.
    held: bool,
}

impl CountedWay {
    fn send(&mut self, data: Bytes, reply: Reply) {
        if data.is_empty() {
            return answer(reply, Ok(true));
        }
        self.total += length(&data);
        self.unsent.push_back(data);
        self.replies.push_back((self.total, reply));
    }

    fn next(&mut self) -> Option<Message> {
        if self.held {
            return None;
        }
        let Some(front) = self.unsent.front() else { return self.end_message() };
        let ahead = usize::try_from(self.cursor - self.taken).unwrap_or(usize::MAX);
        let size = front.len().min(FRAME_OUTPUT_MAX).min(STDIN_WINDOW.saturating_sub(ahead));
        let piece = front.get(..size).filter(|piece| !piece.is_empty())?;
        self.under_way = size;
        let mut bytes = Vec::with_capacity(HEADER + piece.len());
        bytes.extend_from_slice(&encode_input_header(self.cursor));
        bytes.extend_from_slice(piece);
        Some(Message::binary(bytes))
    }

    fn end_message(&self) -> Option<Message> {
        match self.end {
            End::Asked(_) => message(&ClientFrame::CloseStdin).ok(),
            End::Open | End::Sent => None,
        }
    }

    fn written(&mut self) {
        let Some(front) = self.unsent.front_mut() else {
            if let End::Asked(Some(reply)) = std::mem::replace(&mut self.end, End::Sent) {
                answer(reply, Ok(true));
            }
            return;
        };
        let piece = front.split_to(self.under_way.min(front.len()));
        if front.is_empty() {
            self.unsent.pop_front();
        }
        self.cursor += length(&piece);
        self.sent.push_back(piece);
        while let Some((end, _)) = self.replies.front()
            && *end <= self.cursor
        {
            if let Some((_, reply)) = self.replies.pop_front() {
                answer(reply, Ok(true));
            }
        }
    }

    fn attached(&mut self, offset: u64) {
        self.taken(offset);
        while let Some(piece) = self.sent.pop_back() {
            self.unsent.push_front(piece);
        }
        self.cursor = self.taken;
        self.held = false;
        if matches!(self.end, End::Sent) {
            self.end = End::Asked(None);
        }
    }

    fn taken(&mut self, offset: u64) {
        while self.taken < offset
            && let Some(front) = self.sent.front_mut()
        {
            let known = usize::try_from(offset - self.taken).unwrap_or(usize::MAX).min(front.len());
            let piece = front.split_to(known);
            if front.is_empty() {
                self.sent.pop_front();
            }
            self.taken += length(&piece);
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "stdin_tests.rs"]
mod tests;
