//! The handle to a command that runs.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sandwire_protocol::extension::Signal;
use sandwire_protocol::{ErrorCode, StreamKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::outbox::Reply;
use super::output::{Batch, End, Output};
use super::queue::Want;
use super::session::Session;
use super::task::Control;
use super::{ABORT_DEADLINE, CommandOutcome, CommandResult, StreamOptions};
use crate::Error;

/// A handle to a remote command. Dropping it ends the attachment; the command lives on unless it was started with
/// `kill_on_disconnect`.
#[derive(Debug)]
pub struct Command {
    command_id: String,
    pid: Option<i64>,
    pty: bool,
    extended: bool,
    /// When the server was first asked for it.
    opened: Instant,
    output: Arc<Output>,
    controls: mpsc::UnboundedSender<Control>,
    detach: CancellationToken,
    _detach_on_drop: DropGuard,
}

impl Command {
    /// The handle to an attachment that is about to run; `detach` ends it.
    pub(super) fn new(
        session: &Session,
        output: Arc<Output>,
        controls: mpsc::UnboundedSender<Control>,
        detach: CancellationToken,
    ) -> Self {
        Self {
            command_id: session.command_id().to_owned(),
            pid: session.pid(),
            pty: session.pty(),
            extended: session.extended(),
            opened: session.opened(),
            output,
            controls,
            _detach_on_drop: detach.clone().drop_guard(),
            detach,
        }
    }

    /// The id under which others can attach.
    #[must_use]
    pub fn command_id(&self) -> &str {
        &self.command_id
    }

    /// Process id inside the sandbox.
    #[must_use]
    pub fn pid(&self) -> Option<i64> {
        self.pid
    }

    /// Position after the last byte of a stream that was handed over: where to reconnect.
    #[must_use]
    pub fn position(&self, kind: StreamKind) -> u64 {
        self.output.position(kind)
    }

    /// Whether the server has the extension: raw bytes both ways, totals, signals and window sizes.
    #[must_use]
    pub fn extended(&self) -> bool {
        self.extended
    }

    /// The next output, at least one item; `None` after the last.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The stream's error, once to who takes both streams, and to each who takes one.
    pub async fn next_batch(&self, want: Want) -> Result<Option<Batch>, Error> {
        self.output.next_batch(want).await
    }

    /// Whether [`Command::next_batch`] would return at once.
    #[must_use]
    pub fn is_ready(&self, want: Want) -> bool {
        self.output.is_ready(want)
    }

    /// Hands over bytes instead of text from now on, or the other way round.
    pub fn set_raw(&self, raw: bool) {
        self.output.set_raw(raw);
    }

    /// Nobody will take this stream any more: it holds nothing back, and only the result has it.
    pub fn discard(&self, kind: StreamKind) {
        self.output.discard(kind);
    }

    /// Nobody takes batches until the next call of [`Command::next_batch`].
    pub fn pause(&self) {
        self.output.pause();
    }

    /// Waits for the end. Output that nobody takes is kept within the result's limits.
    ///
    /// # Errors
    /// The stream's error, with the partial result in its details.
    pub async fn result(&self) -> End {
        self.output.result().await
    }

    /// Kills the command; `false` if it was over. Input that still waits is dropped.
    ///
    /// # Errors
    /// The kill could not be handed over: the command may live on.
    pub async fn kill(&self) -> Result<bool, Error> {
        self.ask(Control::Kill).await
    }

    /// Sends another signal to the command's process group; `false` if it was over.
    ///
    /// # Errors
    /// `UNSUPPORTED` if the server can't.
    pub async fn signal(&self, signal: Signal) -> Result<bool, Error> {
        if signal == Signal::Kill {
            return self.kill().await;
        }
        if self.output.has_ended() {
            return Ok(false);
        }
        self.needs_extension(&format!("send {signal}"))?;
        self.ask(|reply| Control::Signal(signal, reply)).await
    }

    /// Gives the command's terminal another size; `false` if it was over.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` if it has no terminal, `UNSUPPORTED` if the server can't.
    pub async fn resize(&self, cols: u16, rows: u16) -> Result<bool, Error> {
        if self.output.has_ended() {
            return Ok(false);
        }
        self.needs_extension("resize a terminal")?;
        if !self.pty {
            let message = "the command has no terminal to resize; run it with `pty: true`";
            let error = Error::new(ErrorCode::Validation, message);
            return Err(error.with(|details| details.field = Some("pty".to_owned())));
        }
        self.ask(|reply| Control::Resize { cols, rows, reply }).await
    }

    fn needs_extension(&self, what: &str) -> Result<(), Error> {
        if self.extended {
            return Ok(());
        }
        let error = Error::new(ErrorCode::Unsupported, format!("this server can't {what}"));
        Err(error.with(|details| details.operation = Some("command")))
    }

    /// Writes to stdin; `false` if the command or its stdin was over. Returns when it was handed to the network; with
    /// the extension, what is lost there is sent again.
    ///
    /// # Errors
    /// Without the extension `UNSUPPORTED` for bytes that are not UTF-8.
    pub async fn send_input(&self, data: Bytes) -> Result<bool, Error> {
        self.ask(|reply| Control::Input(data, reply)).await
    }

    /// Ends stdin; `false` if the command was over.
    ///
    /// # Errors
    /// `UNSUPPORTED` if stdin ended inside a character.
    pub async fn close_input(&self) -> Result<bool, Error> {
        self.ask(Control::CloseInput).await
    }

    /// Ends the attachment.
    pub fn detach(&self) {
        self.detach.cancel();
    }

    async fn ask(&self, control: impl FnOnce(Reply) -> Control) -> Result<bool, Error> {
        if self.output.has_ended() {
            return Ok(false);
        }
        let (reply, answer) = oneshot::channel();
        // A channel that is closed means that the task, and so the command, is over.
        if self.controls.send(control(reply)).is_err() {
            return Ok(false);
        }
        answer.await.unwrap_or_else(|_| self.unanswered())
    }

    /// What a control that was never handed over is told: the command is over, or nobody knows.
    fn unanswered(&self) -> Result<bool, Error> {
        match self.output.end() {
            Some(Ok(result)) if result.outcome == CommandOutcome::Lost => {
                let message =
                    "the connection was lost and did not come back in time; the command may live on";
                Err(Error::new(ErrorCode::Connection, message)
                    .with(|details| details.operation = Some("command")))
            }
            Some(Err(error)) => Err(error),
            _ => Ok(false),
        }
    }

    /// Sends what the command reads first.
    pub(super) fn feed(&self, options: StreamOptions) {
        let Some(input) = options.input else { return };
        // Nobody waits for the answers: if the command is over, its end says so.
        let unheard = || oneshot::channel().0;
        let _ = self.controls.send(Control::Input(input, unheard()));
        if options.close_input {
            let _ = self.controls.send(Control::CloseInput(unheard()));
        }
    }

    /// Kills the command and says `error`, with what there is of a result.
    pub(super) async fn abort(&self, error: Error) -> Error {
        let ending = async {
            self.kill().await?;
            self.result().await
        };
        let partial = match timeout(ABORT_DEADLINE, ending).await {
            Ok(Ok(result)) => Some(result),
            Ok(Err(error)) => error.details().result.clone(),
            Err(_) => None,
        };
        let partial = partial.map_or_else(|| self.snapshot(), |result| (*result).clone());
        let partial = CommandResult { outcome: CommandOutcome::Aborted, ..partial };
        error.with(|details| {
            details.operation = Some("command");
            details.result = Some(Arc::new(partial));
        })
    }

    fn snapshot(&self) -> CommandResult {
        let (stdout, stderr) = self.output.retained();
        CommandResult {
            exit_code: None,
            outcome: CommandOutcome::Aborted,
            signal: None,
            duration: self.opened.elapsed(),
            stdout,
            stderr,
            gaps: Vec::new(),
        }
    }
}
