//! What the fuzz targets drive: the parser and the state machine, behind owned types. Not part of the API.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sandwire_protocol::{CommandSpec, ServerFrame, StreamKind};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::Gap;
use crate::exec::fuzzing::{Backoff, Decoder, Delivery, Frames, Loss, OutputText, Step, Text, output_text};

/// Stream, position and bytes of an output frame, by the fast parser.
#[must_use]
pub fn parse_fast(message: &str) -> Option<(StreamKind, u64, Vec<u8>)> {
    let OutputText { kind, offset, data } = output_text(message, &mut BytesMut::new())?;
    let bytes = match data {
        Text::Part(range) => message.as_bytes().get(range)?.to_vec(),
        Text::Resolved(bytes) => bytes.to_vec(),
    };
    Some((kind, offset, bytes))
}

/// The same by `serde_json`.
#[must_use]
pub fn parse_slow(message: &str) -> Option<(StreamKind, u64, Vec<u8>)> {
    let (kind, output) = match serde_json::from_str(message).ok()? {
        ServerFrame::Stdout(output) => (StreamKind::Stdout, output),
        ServerFrame::Stderr(output) => (StreamKind::Stderr, output),
        _ => return None,
    };
    Some((kind, output.offset, output.data.into_owned().into_bytes()))
}

/// Reads a WebSocket's bytes as they come, in pieces of `size`. The messages that were whole, and whether the server
/// kept to the rules.
#[must_use]
pub fn read_messages(bytes: &[u8], size: usize) -> (Vec<Message>, bool) {
    let (mut decoder, mut messages) = (Decoder::new(&[]), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        decoder.buffer().extend_from_slice(piece);
        decoder.appended();
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, false),
            }
        }
    }
    (messages, true)
}

/// What came of an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing that matters here.
    Nothing,
    /// Attached to the command.
    Started,
    /// Output.
    Delivered {
        /// Of which stream.
        kind: StreamKind,
        /// Position of its first byte.
        offset: u64,
        /// Never empty.
        bytes: Bytes,
        /// What is missing before it.
        gap: Option<Gap>,
    },
    /// The connection is of no use any more.
    Lost,
    /// It is over; what is missing at the ends.
    Over(Vec<Gap>),
}

/// A session with a clock of its own.
#[derive(Debug)]
pub struct Session {
    inner: crate::exec::fuzzing::Session,
    frames: Frames,
    now: Instant,
}

impl Session {
    /// Of a command `id` that is to be executed, with a limit in seconds.
    #[must_use]
    pub fn execute(id: &str, limit: u64, extended: bool) -> Self {
        let now = Instant::now();
        let spec = CommandSpec { timeout_seconds: Some(limit), ..CommandSpec::new("x") };
        let mut inner =
            crate::exec::fuzzing::Session::execute(id.to_owned(), &spec, Some(Backoff::default()), now);
        inner.on_opening(extended, now);
        Self { inner, frames: Frames::default(), now }
    }

    /// A message came.
    pub fn message(&mut self, bytes: Vec<u8>, binary: bool) -> Event {
        let message = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) if !binary => Message::Text(text),
            _ => Message::binary(bytes),
        };
        self.frames.step(message, &mut self.inner).map_or(Event::Nothing, event)
    }

    /// The connection was closed.
    pub fn lost(&mut self, code: Option<u16>) -> Event {
        event(self.inner.on_lost(&Loss::Closed(code), self.now))
    }

    /// There is another one.
    pub fn reconnected(&mut self, extended: bool) -> Event {
        event(self.inner.on_reconnected(extended, self.now))
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inner.reconnects_at().is_some()
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) -> Event {
        self.now += time;
        event(self.inner.on_deadline(self.now))
    }

    /// The caller kills it.
    pub fn kill(&mut self) {
        self.inner.on_kill(self.now);
    }

    /// Positions of the next bytes of stdout and stderr.
    #[must_use]
    pub fn next_offsets(&self) -> [u64; 2] {
        self.inner.next_offsets()
    }

    /// What is missing.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        self.inner.gaps()
    }
}

fn event(step: Step) -> Event {
    match step {
        Step::Ignore | Step::Taken(_) => Event::Nothing,
        Step::Started { .. } => Event::Started,
        Step::Deliver(Delivery { kind, offset, bytes, gap }) => Event::Delivered { kind, offset, bytes, gap },
        Step::Reconnect => Event::Lost,
        Step::End(finish) => Event::Over(finish.missing),
    }
}
