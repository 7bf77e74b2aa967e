//! The half of a connection that speaks: it sends what comes next of the command, and pings while nothing does.

use axum::body::Bytes;
use axum::extract::ws::Message;
use bytes::{BufMut, BytesMut};
use futures_util::SinkExt;
use sandwire_protocol::extension::{HEADER, encode_output_header};
use sandwire_protocol::limits::{FRAME_OUTPUT_MAX, PING_INTERVAL};
use sandwire_protocol::{OutputFrame, ServerFrame, StreamKind};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::heard::Heard;
use super::listen::Dialect;
use super::{Close, Sender};
use crate::engine::{Attachment, End, Step};

/// Sends everything from `started` to the end.
pub(super) async fn speak(
    sender: &mut Sender,
    dialect: Dialect,
    attachment: &mut Attachment,
    heard: &Heard,
    acks: watch::Receiver<Option<u64>>,
) -> Close {
    let pid = match attachment.started().await {
        Ok(pid) => pid,
        Err(fault) => return Close::Refuse(fault),
    };
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let buffer = BytesMut::new();
    let mut speaker = Speaker { sender, dialect, attachment, heard, acks, pings, buffer };
    speaker.run(pid).await.unwrap_or(Close::Gone)
}

struct Speaker<'a> {
    sender: &'a mut Sender,
    dialect: Dialect,
    attachment: &'a mut Attachment,
    heard: &'a Heard,
    /// How much of the writer was taken.
    acks: watch::Receiver<Option<u64>>,
    pings: Interval,
    /// The next output frame.
    buffer: BytesMut,
}

impl Speaker<'_> {
    async fn run(&mut self, pid: i32) -> Result<Close, axum::Error> {
        self.start(pid).await?;
        loop {
            self.acknowledge().await?;
            self.begin_frame();
            let step = match self.attachment.try_next(&mut self.buffer) {
                Some(step) => step,
                None => {
                    self.flush().await?;
                    tokio::select! {
                        step = self.attachment.next(&mut self.buffer) => step,
                        Ok(()) = self.acks.changed() => {
                            self.acks.mark_changed();
                            continue;
                        }
                        _ = self.pings.tick() => {
                            if self.heard.nothing_for_too_long() {
                                return Ok(Close::Gone);
                            }
                            self.feed(Message::Ping(Bytes::new())).await?;
                            continue;
                        }
                    }
                }
            };
            match step {
                Step::Output(kind, offset) => {
                    let frame = self.output(kind, offset);
                    self.feed(frame).await?;
                }
                Step::End(end) => {
                    // What was taken while it was waited for.
                    self.acknowledge().await?;
                    return self.end(end).await;
                }
            }
        }
    }

    async fn start(&mut self, pid: i32) -> Result<(), axum::Error> {
        let command = self.attachment.command();
        let frame = encode(&ServerFrame::Started {
            command_id: command.id().into(),
            pid: Some(pid.into()),
            pty: self.dialect == Dialect::Extended && command.is_pty(),
            stdin_offset: *self.acks.borrow_and_update(),
        });
        self.feed(frame).await
    }

    async fn end(&mut self, end: End) -> Result<Close, axum::Error> {
        let (exit_code, signal) = match end {
            End::Exited { code, signal } => (code, signal),
            End::Failed(fault) => return Ok(Close::Refuse(fault)),
        };
        let frame = match self.dialect {
            Dialect::Plain => ServerFrame::exit(exit_code),
            Dialect::Extended => {
                let command = self.attachment.command();
                let (totals, usage) = (Some(command.totals()), command.usage());
                ServerFrame::Exit { exit_code, signal, totals, usage }
            }
        };
        self.feed(encode(&frame)).await?;
        Ok(Close::Done)
    }

    /// Only the newest count matters, however many there were.
    async fn acknowledge(&mut self) -> Result<(), axum::Error> {
        if !self.acks.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let Some(offset) = *self.acks.borrow_and_update() else { return Ok(()) };
        self.feed(encode(&ServerFrame::StdinAck { offset })).await
    }

    /// Makes room for one frame; a raw one begins with its header.
    fn begin_frame(&mut self) {
        self.buffer.clear();
        if self.dialect == Dialect::Extended {
            self.buffer.reserve(HEADER + FRAME_OUTPUT_MAX);
            self.buffer.put_bytes(0, HEADER);
        }
    }

    fn output(&mut self, kind: StreamKind, offset: u64) -> Message {
        if self.dialect == Dialect::Extended {
            if let Some(header) = self.buffer.first_chunk_mut() {
                *header = encode_output_header(kind, offset);
            }
            return Message::Binary(self.buffer.split().freeze());
        }
        // Borrows: the engine's output is text.
        let output = OutputFrame { data: String::from_utf8_lossy(&self.buffer), offset };
        encode(&match kind {
            StreamKind::Stdout => ServerFrame::Stdout(output),
            StreamKind::Stderr => ServerFrame::Stderr(output),
        })
    }

    async fn feed(&mut self, message: Message) -> Result<(), axum::Error> {
        let began = Instant::now();
        self.sender.feed(message).await?;
        self.waited_since(began);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), axum::Error> {
        let began = Instant::now();
        self.sender.flush().await?;
        self.waited_since(began);
        Ok(())
    }

    /// A client that reads slowly answers pings late: the wait for it is not its silence. One that does not read at all
    /// is cut off by its connection.
    fn waited_since(&self, began: Instant) {
        if began.elapsed() > PING_INTERVAL {
            self.heard.now();
        }
    }
}

pub(super) fn encode(frame: &ServerFrame<'_>) -> Message {
    // Frames are strings and numbers, which always are JSON; a client could do nothing with an empty frame.
    Message::Text(serde_json::to_string(frame).unwrap_or_default().into())
}
