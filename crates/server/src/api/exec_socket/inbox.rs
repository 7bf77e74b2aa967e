//! Input with positions on its way into a command's stdin. It never holds up the connection: what finds no room waits
//! here, at most [`STDIN_WINDOW`] bytes, which is what a client may send ahead of the acknowledgements. What waits here
//! is not taken: it is lost with the connection, and sent again by the next one.

use bytes::BytesMut;
use sandwire_protocol::limits::{FRAME_OUTPUT_MAX, STDIN_WINDOW};
use tokio::sync::watch;

use crate::engine::{Command, Fault, Offered};

pub(super) struct Inbox {
    writer: Option<String>,
    /// What of its writer was taken, for the half that speaks.
    taken: watch::Sender<Option<u64>>,
    waiting: BytesMut,
    /// Position of the first byte that waits.
    from: u64,
    /// stdin is to be closed after what waits; what comes later is nobody's.
    closing: bool,
}

impl Inbox {
    pub(super) fn new(writer: Option<String>, taken: watch::Sender<Option<u64>>) -> Self {
        Self { writer, taken, waiting: BytesMut::new(), from: 0, closing: false }
    }

    /// Takes in a message.
    pub(super) fn accept(&mut self, command: &Command, offset: u64, data: &[u8]) -> Result<(), Fault> {
        if data.len() > FRAME_OUTPUT_MAX {
            return Err(Fault::invalid(format!("an input message has more than {FRAME_OUTPUT_MAX} bytes")));
        }
        if self.closing {
            return Ok(());
        }
        if self.is_empty() {
            if !self.offer(command, offset, data)? {
                self.from = offset;
                self.waiting.extend_from_slice(data);
            }
            return Ok(());
        }
        let end = self.from + self.waiting.len() as u64;
        let known = end.checked_sub(offset).ok_or_else(|| jump(offset, end))?;
        let new = data.get(usize::try_from(known).unwrap_or(usize::MAX)..).unwrap_or_default();
        if self.waiting.len() + new.len() > STDIN_WINDOW {
            return Err(Fault::invalid(format!("more than {STDIN_WINDOW} bytes of input wait to be taken")));
        }
        self.waiting.extend_from_slice(new);
        Ok(())
    }

    /// Closes stdin after what waits.
    pub(super) fn close(&mut self, command: &Command) {
        if self.is_empty() {
            command.close_stdin();
        } else if !command.is_pty() {
            self.closing = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until there is room for what waits, and passes it on. Cancel safe.
    pub(super) async fn deliver(&mut self, command: &Command) -> Result<(), Fault> {
        command.stdin().room().await;
        if self.offer(command, self.from, &self.waiting)? {
            self.waiting = BytesMut::new();
            if self.closing {
                command.close_stdin();
            }
        }
        Ok(())
    }

    /// Whether it was taken.
    fn offer(&self, command: &Command, offset: u64, data: &[u8]) -> Result<bool, Fault> {
        let writer = self.writer.as_deref().ok_or_else(|| Fault::invalid("the connection has no writer"))?;
        match command.stdin().offer(writer, offset, data) {
            Offered::Taken(taken) => {
                self.taken.send_if_modified(|known| known.replace(taken) != Some(taken));
                Ok(true)
            }
            Offered::Full => Ok(false),
            Offered::Jump(taken) => Err(jump(offset, taken)),
        }
    }
}

fn jump(offset: u64, end: u64) -> Fault {
    Fault::invalid(format!("input at {offset}, where {end} bytes of this writer were taken"))
}
