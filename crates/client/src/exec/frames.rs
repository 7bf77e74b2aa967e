//! What a WebSocket message means to a session.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use sandwire_protocol::extension::{HEADER, decode_output};
use sandwire_protocol::{ClientFrame, ErrorCode, ServerFrame};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::parse::{Text, output_text};
use super::session::{Session, Step};
use crate::Error;

/// Reads the messages of a connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    arena: BytesMut,
}

impl Frames {
    /// What a message means; `None` for those that only keep the connection alive.
    pub(crate) fn step(&mut self, received: Message, session: &mut Session) -> Option<Step> {
        step(received, &mut self.arena, session)
    }
}

fn step(received: Message, arena: &mut BytesMut, session: &mut Session) -> Option<Step> {
    let now = Instant::now();
    match received {
        Message::Text(text) => Some(on_text(text, arena, session, now)),
        Message::Binary(bytes) if session.extended() => Some(on_output(bytes, session, now)),
        // Some servers send the same JSON so.
        Message::Binary(bytes) => Some(on_json(&bytes, session, now)),
        _ => {
            session.on_alive(now);
            None
        }
    }
}

fn on_text(text: Utf8Bytes, arena: &mut BytesMut, session: &mut Session, now: Instant) -> Step {
    let Some(output) = output_text(text.as_str(), arena) else {
        return on_json(text.as_bytes(), session, now);
    };
    let bytes = match output.data {
        Text::Part(range) => Bytes::from(text).slice(range),
        Text::Resolved(bytes) => bytes,
    };
    session.on_output(output.kind, output.offset, bytes, now)
}

fn on_output(bytes: Bytes, session: &mut Session, now: Instant) -> Step {
    match decode_output(&bytes) {
        Some((kind, offset, _)) => session.on_output(kind, offset, bytes.slice(HEADER..), now),
        None => session.on_unreadable("the server sent a binary message that is no output".to_owned(), now),
    }
}

fn on_json(bytes: &[u8], session: &mut Session, now: Instant) -> Step {
    match serde_json::from_slice::<ServerFrame<'_>>(bytes) {
        Ok(frame) => session.on_frame(frame, now),
        Err(error) => {
            // Line and column only: the text may be the command's output.
            let place = format!("line {}, column {}", error.line(), error.column());
            session.on_unreadable(format!("the server sent a frame that can't be read ({place})"), now)
        }
    }
}

/// A frame as a message.
pub(super) fn message(frame: &ClientFrame) -> Result<Message, Error> {
    serde_json::to_string(frame).map(Message::text).map_err(|error| {
        Error::new(ErrorCode::Client, "a frame could not be written as JSON").caused_by(error)
    })
}
