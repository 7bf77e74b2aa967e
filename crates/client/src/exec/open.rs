//! Starting commands and attaching to them: from a call to the task of a [`Command`].

use std::sync::Arc;
use std::time::Instant;

use sandwire_protocol::{ClientFrame, CommandSpec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::command::Command;
use super::connect::{Connecting, Limits};
use super::connection::Connection;
use super::frames::Frames;
use super::outbox::Outbox;
use super::output::Output;
use super::session::Session;
use super::socket::Dialer;
use super::stdin::Stdin;
use super::task::Attachment;
use super::{Backoff, CommandResult, StreamOptions};
use crate::retry::CONNECT_ATTEMPTS;
use crate::{Call, Client, Error, Target};

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
                    // Seldom needed, and larger than all the rest: not a part of every call.
                    Box::pin(connecting.abort(session)).await;
                }
                return Err(error);
            }
        };
        let output = Arc::new(Output::new(options.max_output_bytes, from, options.raw, deliver));
        let (controls, requests) = mpsc::unbounded_channel();
        let command = Command::new(&session, Arc::clone(&output), controls, detach.clone());
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
