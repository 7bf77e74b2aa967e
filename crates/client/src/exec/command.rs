//! Starting commands, and the handle to one that runs.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sandwire_protocol::extension::Signal;
use sandwire_protocol::{ClientFrame, CommandSpec, ErrorCode, StreamKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::connect::{Connecting, Limits};
use super::connection::Connection;
use super::frames::Frames;
use super::outbox::{Outbox, Reply};
use super::output::{Batch, End, Output};
use super::queue::Want;
use super::session::Session;
use super::socket::Dialer;
use super::stdin::Stdin;
use super::task::{Attachment, Control};
use super::{ABORT_DEADLINE, Backoff, CommandOutcome, CommandResult, StreamOptions};
use crate::retry::CONNECT_ATTEMPTS;
use crate::{Call, Client, Error, Target};

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

/// What an attachment is opened with.
struct Opening {
    session: Session,
    frame: ClientFrame,
    from: [u64; 2],
    /// Whether the command is started without stdin.
    input_over: bool,
    options: StreamOptions,
    /// Whether anybody takes batches.
    deliver: bool,
    detach: CancellationToken,
}

impl Client {
    /// Starts a command; returns when it runs.
    ///
    /// # Errors
    /// Sections 3.6 and 3.7, after the attempts of 4.3. If `call` is cancelled the command is killed.
    pub async fn run(
        &self,
        target: &Target,
        spec: CommandSpec,
        options: StreamOptions,
        call: &Call,
    ) -> Result<Command, Error> {
        let opening = self.execute(spec, options, true, self.closed().child_token())?;
        self.open(target, opening, call).await
    }

    /// Runs a command to its end. If `call` is cancelled the command is killed.
    ///
    /// # Errors
    /// Those of [`Client::run`] and [`Command::result`].
    pub async fn run_to_end(
        &self,
        target: &Target,
        spec: CommandSpec,
        options: StreamOptions,
        call: &Call,
    ) -> Result<Arc<CommandResult>, Error> {
        let opening = self.execute(spec, options, false, CancellationToken::new())?;
        let command = self.open(target, opening, call).await?;
        tokio::select! {
            biased;
            end = command.result() => end,
            () = call.cancel.cancelled() => Err(command.abort(Error::aborted()).await),
            () = self.closed().cancelled() => Err(command.abort(Error::closed()).await),
        }
    }

    /// Attaches to a command that runs or ended lately; `from` are the first bytes of stdout and stderr wanted.
    ///
    /// # Errors
    /// Sections 3.6 and 3.7.
    pub async fn reconnect(
        &self,
        target: &Target,
        command_id: &str,
        from: [u64; 2],
        options: StreamOptions,
        call: &Call,
    ) -> Result<Command, Error> {
        let [stdout_offset, stderr_offset] = from;
        let opening = Opening {
            session: Session::reconnect(command_id.to_owned(), from, self.backoff(&options), Instant::now()),
            frame: ClientFrame::Reconnect {
                command_id: command_id.to_owned(),
                stdout_offset,
                stderr_offset,
                writer: None,
            },
            from,
            input_over: false,
            options,
            deliver: true,
            detach: self.closed().child_token(),
        };
        self.open(target, opening, call).await
    }

    fn execute(
        &self,
        mut spec: CommandSpec,
        options: StreamOptions,
        deliver: bool,
        detach: CancellationToken,
    ) -> Result<Opening, Error> {
        let input_over = options.close_input && options.input.is_none() && spec.pty != Some(true);
        if input_over {
            spec.close_stdin = Some(true);
        }
        let id = spec.command_id.get_or_insert_with(|| Uuid::now_v7().to_string()).clone();
        let session = Session::execute(id, &spec, self.backoff(&options), Instant::now());
        let frame = ClientFrame::Execute(Box::new(spec));
        Ok(Opening { session, frame, from: [0; 2], input_over, options, deliver, detach })
    }

    fn backoff(&self, options: &StreamOptions) -> Option<Backoff> {
        options.reconnect.then_some(self.http.config.backoff)
    }

    async fn open(&self, target: &Target, opening: Opening, call: &Call) -> Result<Command, Error> {
        // Who wants single connections wants the protocol as others speak it, with positions to compute with.
        let extension = opening.options.reconnect;
        let url = target.url("/execute/ws")?;
        let dialer = Dialer::new(&url, self.http.headers(call), &target.name, extension)?;
        let config = &self.http.config;
        let open = call.timeout.or(config.ws_open_timeout);
        let attempts = if config.max_retries == 0 { 1 } else { CONNECT_ATTEMPTS };
        let (budget, backoff) = (config.ws_connect_budget, config.backoff);
        let limits = Limits { open, budget, attempts, backoff };
        let Opening { mut session, frame, from, input_over, options, deliver, detach } = opening;
        let kills = matches!(frame, ClientFrame::Execute(_));
        let writer = Uuid::new_v4().to_string();
        let binary_input = options.input.as_ref().is_some_and(|input| std::str::from_utf8(input).is_err());
        let mut connecting = Connecting::new(dialer, &frame, &writer, binary_input, limits)?;
        let connected = tokio::select! {
            biased;
            () = call.cancel.cancelled() => Err(Error::aborted()),
            () = self.closed().cancelled() => Err(Error::closed()),
            connected = connecting.run(&mut session) => Ok(connected?),
        };
        let first = match connected {
            Ok(first) => first,
            Err(error) => {
                if kills {
                    connecting.abort(session).await;
                }
                return Err(error);
            }
        };
        let output = Arc::new(Output::new(options.max_output_bytes, from, options.raw, deliver));
        let (controls, requests) = mpsc::unbounded_channel();
        let command = Command {
            command_id: session.command_id().to_owned(),
            pid: session.pid(),
            pty: session.pty(),
            extended: session.extended(),
            opened: session.opened(),
            output: Arc::clone(&output),
            controls,
            _detach_on_drop: detach.clone().drop_guard(),
            detach: detach.clone(),
        };
        let socket = connecting.socket().ok_or_else(Error::closed)?;
        command.feed(options);
        let stdin = Stdin::new(session.pty(), input_over, session.extended());
        let attachment = Attachment {
            session,
            output,
            controls: requests,
            outbox: Outbox::new(stdin),
            frames: Frames::default(),
            detour: connecting.detour(),
            writer,
            deliveries: Vec::new(),
            kill: None,
            over: CancellationToken::new(),
        };
        tokio::spawn(attachment.run(Connection::new(socket), first, detach));
        Ok(command)
    }
}

impl Command {
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
    fn feed(&self, options: StreamOptions) {
        let Some(input) = options.input else { return };
        // Nobody waits for the answers: if the command is over, its end says so.
        let unheard = || oneshot::channel().0;
        let _ = self.controls.send(Control::Input(input, unheard()));
        if options.close_input {
            let _ = self.controls.send(Control::CloseInput(unheard()));
        }
    }

    /// Kills the command and says `error`, with what there is of a result.
    async fn abort(&self, error: Error) -> Error {
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
