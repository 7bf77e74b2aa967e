//! The client's end of a WebSocket: [`Decoder`] for what comes, tungstenite's frames for what goes.

mod decode;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::poll_read_buf;

pub(crate) use decode::Decoder;

/// An open WebSocket. Answers pings and a close by itself.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    /// Frames on their way out.
    outgoing: BytesMut,
    /// The answer to the newest ping; older ones need none.
    pong: Option<Bytes>,
    /// Whether the server closed it, and whether we did.
    closed: bool,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Over a stream that was upgraded; `read` are bytes that came with the answer.
    pub(crate) fn new(stream: S, read: &[u8]) -> Self {
        let outgoing = BytesMut::new();
        Self { stream, decoder: Decoder::new(read), outgoing, pong: None, closed: false, closing: false }
    }

    fn put(&mut self, mut frame: Frame) -> Result<(), Error> {
        // So that no server can be made to see what we like on its wire.
        frame.header_mut().mask = Some(rand::random());
        let mut bytes = Vec::with_capacity(frame.len());
        frame.format(&mut bytes)?;
        self.outgoing.extend_from_slice(&bytes);
        Ok(())
    }

    /// Answers what has to be answered at once.
    fn react(&mut self, message: &Message) -> Result<(), Error> {
        match message {
            Message::Ping(payload) => {
                self.pong = Some(payload.clone());
                Ok(())
            }
            Message::Close(close) => {
                self.closed = true;
                if std::mem::replace(&mut self.closing, true) {
                    return Ok(());
                }
                self.put(Frame::close(close.clone()))
            }
            _ => Ok(()),
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.outgoing.is_empty()
            && !self.closing
            && let Some(payload) = self.pong.take()
        {
            self.put(Frame::pong(payload))?;
        }
        while self.outgoing.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(Error::Io(io::ErrorKind::WriteZero.into())));
            }
            self.outgoing.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_err(Error::Io)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.closed {
            return Poll::Ready(None);
        }
        loop {
            if let Some(message) = this.decoder.next()? {
                if message.is_ping() || message.is_close() {
                    this.react(&message)?;
                    // What does not go out now goes with the next write or flush.
                    let _ = this.poll_write_all(cx);
                }
                return Poll::Ready(Some(Ok(message)));
            }
            let read = ready!(poll_read_buf(Pin::new(&mut this.stream), cx, this.decoder.buffer()))?;
            if read == 0 {
                this.closed = true;
                return Poll::Ready(Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))));
            }
            this.decoder.appended();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_write_all(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if self.closing {
            return Err(Error::Protocol(ProtocolError::SendAfterClosing));
        }
        let frame = match message {
            Message::Text(text) => Frame::message(text, OpCode::Data(Data::Text), true),
            Message::Binary(bytes) => Frame::message(bytes, OpCode::Data(Data::Binary), true),
            Message::Ping(payload) => Frame::ping(payload),
            Message::Pong(payload) => Frame::pong(payload),
            Message::Close(close) => {
                self.closing = true;
                Frame::close(close)
            }
            Message::Frame(frame) => frame,
        };
        self.put(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_write_all(cx)
    }

    /// Says goodbye, and hears the server's.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.closing {
            self.as_mut().start_send(Message::Close(None))?;
        }
        ready!(self.poll_write_all(cx))?;
        while ready!(self.as_mut().poll_next(cx)).transpose()?.is_some() {}
        Poll::Ready(Ok(()))
    }
}
