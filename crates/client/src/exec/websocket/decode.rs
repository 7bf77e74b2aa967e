//! Messages out of the bytes that a server sends (RFC 6455, sections 5 and 7).
//!
//! A plain value: bytes go in as the network brings them, messages come out as they are whole. Payloads are parts of
//! the buffer that was read into, not copies; tungstenite's reader clears that buffer for every read and asks the
//! kernel for little at a time, which made up most of what streaming cost (see `docs/ARCHITECTURE.md`).

use std::collections::VecDeque;
use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Largest message. Servers keep frames below 1 MiB for the sake of other clients; a multiple of that is generous, and
/// bounds what a broken server can make us hold.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Largest payload of a control frame.
const CONTROL_MAX: u64 = 125;

/// Space for the first read. A connection is made for each command, and most say little.
const READ_MIN: usize = 8 * 1024;

/// Space for the reads of a connection that brings much.
const READ_MAX: usize = 128 * 1024;

/// What such a connection reads into: with room for the beginning of a message that the last block ended in.
const BLOCK: usize = READ_MAX + READ_MAX / 2;

/// Blocks that are used again once nothing of them is in use: about what a full queue holds. Memory that comes fresh from
/// the kernel costs more than all that is done with it here.
const BLOCKS_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// The frame whose payload is not whole yet.
    header: Option<(FrameHeader, usize)>,
    /// The message that comes in several frames.
    fragments: Option<Fragments>,
    /// Space to offer to the next read.
    space: usize,
    /// Handles to blocks that may be in use still, the oldest first.
    blocks: VecDeque<BytesMut>,
}

#[derive(Debug)]
struct Fragments {
    text: bool,
    bytes: BytesMut,
}

impl Decoder {
    /// `read` are bytes that came with the answer to the upgrade.
    pub(crate) fn new(read: &[u8]) -> Self {
        let (buffer, blocks) = (BytesMut::from(read), VecDeque::new());
        Self { buffer, header: None, fragments: None, space: READ_MIN, blocks }
    }

    /// Where the next bytes are to be appended: it has room for some. A new block is begun early enough that little has
    /// to be moved into it.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        let spare = self.buffer.capacity() - self.buffer.len();
        let length = self.header.as_ref().map_or(0, |(_, length)| *length);
        let missing = length.saturating_sub(self.buffer.len()).min(READ_MAX);
        if spare < missing.max(self.space / 4) {
            if self.space == READ_MAX && self.buffer.len() <= BLOCK - READ_MAX {
                self.begin_block();
            } else {
                self.buffer.reserve(self.space.max(missing));
            }
        }
        &mut self.buffer
    }

    fn begin_block(&mut self) {
        let rest = self.buffer.split();
        let reusable = self.blocks.front_mut().is_some_and(|oldest| oldest.try_reclaim(BLOCK));
        let reused = if reusable { self.blocks.pop_front() } else { None };
        let mut block = reused.unwrap_or_else(|| BytesMut::with_capacity(BLOCK));
        if self.blocks.len() < BLOCKS_MAX {
            self.blocks.push_back(block.split_to(0));
        }
        block.extend_from_slice(&rest);
        self.buffer = block;
    }

    /// Something was appended. Where that left no space, there is more of it next time.
    pub(crate) fn appended(&mut self) {
        if self.buffer.len() == self.buffer.capacity() {
            self.space = (self.space * 2).min(READ_MAX);
        }
    }

    /// The next message that is whole.
    ///
    /// # Errors
    /// The server broke the rules; nothing of use can follow.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some((header, payload)) = self.frame()? {
            if let Some(message) = self.on_frame(&header, payload)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next frame that is whole.
    fn frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, Error> {
        let (header, length) = match self.header.take() {
            Some(header) => header,
            None => match self.header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            self.header = Some((header, length));
            return Ok(None);
        }
        Ok(Some((header, self.buffer.split_to(length).freeze())))
    }

    fn header(&mut self) -> Result<Option<(FrameHeader, usize)>, Error> {
        let mut cursor = Cursor::new(&self.buffer);
        let Some((header, length)) = FrameHeader::parse(&mut cursor)? else { return Ok(None) };
        let read = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Error::Protocol(ProtocolError::NonZeroReservedBits));
        }
        if header.mask.is_some() {
            return Err(Error::Protocol(ProtocolError::MaskedFrameFromServer));
        }
        if matches!(header.opcode, OpCode::Control(_)) {
            if !header.is_final {
                return Err(Error::Protocol(ProtocolError::FragmentedControlFrame));
            }
            if length > CONTROL_MAX {
                return Err(Error::Protocol(ProtocolError::ControlFrameTooBig));
            }
        }
        let length = self.bounded(length)?;
        self.buffer.advance(read.min(self.buffer.len()));
        Ok(Some((header, length)))
    }

    /// The length of a frame, if its message may become so long.
    fn bounded(&self, length: u64) -> Result<usize, Error> {
        let before = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        let size = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(before);
        if size > MESSAGE_MAX {
            return Err(Error::Capacity(CapacityError::MessageTooLong { size, max_size: MESSAGE_MAX }));
        }
        Ok(size - before)
    }

    fn on_frame(&mut self, header: &FrameHeader, payload: Bytes) -> Result<Option<Message>, Error> {
        match (header.opcode, header.is_final) {
            (OpCode::Control(control), _) => on_control(control, payload).map(Some),
            (OpCode::Data(Data::Text | Data::Binary), _) if self.fragments.is_some() => {
                Err(Error::Protocol(ProtocolError::ExpectedFragment(data_of(header.opcode))))
            }
            (OpCode::Data(Data::Text), true) => text(payload).map(Some),
            (OpCode::Data(Data::Binary), true) => Ok(Some(Message::Binary(payload))),
            (OpCode::Data(data @ (Data::Text | Data::Binary)), false) => {
                self.fragments = Some(Fragments { text: data == Data::Text, bytes: BytesMut::from(payload) });
                Ok(None)
            }
            (OpCode::Data(Data::Continue), last) => self.on_continuation(&payload, last),
            (OpCode::Data(Data::Reserved(code)), _) => {
                Err(Error::Protocol(ProtocolError::UnknownDataFrameType(code)))
            }
        }
    }

    fn on_continuation(&mut self, payload: &[u8], last: bool) -> Result<Option<Message>, Error> {
        let Some(mut fragments) = self.fragments.take() else {
            return Err(Error::Protocol(ProtocolError::UnexpectedContinueFrame));
        };
        fragments.bytes.extend_from_slice(payload);
        if !last {
            self.fragments = Some(fragments);
            return Ok(None);
        }
        let bytes = fragments.bytes.freeze();
        if fragments.text { text(bytes).map(Some) } else { Ok(Some(Message::Binary(bytes))) }
    }
}

fn data_of(opcode: OpCode) -> Data {
    match opcode {
        OpCode::Data(data) => data,
        OpCode::Control(_) => Data::Continue,
    }
}

fn text(payload: Bytes) -> Result<Message, Error> {
    Utf8Bytes::try_from(payload).map(Message::Text).map_err(|error| Error::Utf8(error.to_string()))
}

fn on_control(control: Control, payload: Bytes) -> Result<Message, Error> {
    match control {
        Control::Ping => Ok(Message::Ping(payload)),
        Control::Pong => Ok(Message::Pong(payload)),
        Control::Close => close(payload).map(Message::Close),
        Control::Reserved(code) => Err(Error::Protocol(ProtocolError::UnknownControlFrameType(code))),
    }
}

fn close(mut payload: Bytes) -> Result<Option<CloseFrame>, Error> {
    match payload.len() {
        0 => Ok(None),
        1 => Err(Error::Protocol(ProtocolError::InvalidCloseSequence)),
        _ => {
            let code = CloseCode::from(payload.get_u16());
            let reason = Utf8Bytes::try_from(payload).map_err(|error| Error::Utf8(error.to_string()))?;
            Ok(Some(CloseFrame { code, reason }))
        }
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
