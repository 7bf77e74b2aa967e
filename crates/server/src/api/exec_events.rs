//! Commands over server-sent events (section 5.5), for clients that can have no WebSocket.
//!
//! One response is one attachment; the client comes back with a resume. There is no way to speak to the command: stdin
//! is closed at its start, and leaving does not kill it. Output travels as raw bytes in base64.
//! The offsets of a resume acknowledge all output before them. A response ends with `ack_required` after so much output
//! that more could not be kept until it is acknowledged; a client that reads slowly just makes the socket full.
//! While the server drains a response goes on; what has not ended by then is told to come back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use futures_util::stream;
use sandwire_protocol::limits::{SSE_HEARTBEAT, SSE_UNACKNOWLEDGED_MAX};
use sandwire_protocol::{CommandSpec, ErrorType, StreamKind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, App, Named, body};
use crate::engine::{Attachment, End, Fault, Form, InUse, Step, View};

/// What a client does about a server that is about to end: it resumes.
const SHUTTING_DOWN: &str = "ServerShuttingDown";

/// What comes back to a command says.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Resume {
    #[schemars(length(min = 1))]
    command_id: String,
    #[serde(default)]
    stdout_offset: u64,
    #[serde(default)]
    stderr_offset: u64,
}

pub(super) async fn start(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Response, ApiError> {
    let spec: CommandSpec = body::command(body).await?;
    if spec.pty == Some(true) || spec.kill_on_disconnect == Some(true) {
        return Err(ApiError::invalid("pty and kill_on_disconnect need the WebSocket of this sandbox"));
    }
    let spec = CommandSpec { close_stdin: Some(true), writer: None, ..spec };
    let sandbox = app.usable(&id).await?;
    let attached = sandbox.execute(&spec, Form::Raw);
    respond(app, sandbox, attached, View::all(Form::Raw))
}

pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Response, ApiError> {
    let Resume { command_id, stdout_offset, stderr_offset } = body::command(body).await?;
    let sandbox = app.usable(&id).await?;
    let view = View { form: Form::Raw, stdout_offset, stderr_offset };
    let attached = sandbox.reconnect(&command_id, view);
    respond(app, sandbox, attached, view)
}

/// What is about the command itself is told by an event, what is about the request by the status.
fn respond(
    app: Arc<App>,
    sandbox: InUse,
    attached: Result<Attachment, Fault>,
    view: View,
) -> Result<Response, ApiError> {
    let waiting = match attached {
        Ok(attachment) => Told::attached(app, sandbox, attachment, view),
        Err(fault) if matches!(fault.kind, ErrorType::CommandError | ErrorType::SessionExpired) => {
            return Ok(respond_with(stream::iter([Ok(error(fault.kind.as_str(), &fault.message))])));
        }
        Err(fault) => return Err(fault.into()),
    };
    Ok(respond_with(stream::unfold(waiting, Told::next)))
}

fn respond_with(events: impl stream::Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_HEARTBEAT)).into_response()
}

/// How far one response is.
struct Told {
    app: Arc<App>,
    /// Keeps it in use.
    _sandbox: InUse,
    attachment: Attachment,
    started: bool,
    over: bool,
    /// Where the client is once it has all that was told: stdout and stderr.
    cursors: (u64, u64),
    unacknowledged: usize,
    buffer: BytesMut,
    next: VecDeque<Event>,
}

impl Told {
    fn attached(app: Arc<App>, sandbox: InUse, attachment: Attachment, view: View) -> Self {
        let cursors = (view.stdout_offset, view.stderr_offset);
        attachment.command().acknowledge(attachment.key(), cursors.0, cursors.1);
        Self {
            app,
            _sandbox: sandbox,
            attachment,
            started: false,
            over: false,
            cursors,
            unacknowledged: 0,
            buffer: BytesMut::new(),
            next: VecDeque::new(),
        }
    }

    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while self.next.is_empty() && !self.over {
            self.go_on().await;
        }
        let event = self.next.pop_front()?;
        Some((Ok(event), self))
    }

    async fn go_on(&mut self) {
        let ending = self.app.ending.clone();
        let told = ending
            .run_until_cancelled(async { if self.started { self.tell().await } else { self.start().await } });
        if told.await.is_none() {
            self.end(error(SHUTTING_DOWN, "the server is shutting down"));
        }
    }

    async fn start(&mut self) {
        match self.attachment.started().await {
            Ok(pid) => {
                self.started = true;
                let id = self.attachment.command().id();
                self.next.push_back(event("started", &json!({ "command_id": id, "pid": pid })));
            }
            Err(fault) => self.end(error(fault.kind.as_str(), &fault.message)),
        }
    }

    async fn tell(&mut self) {
        if self.unacknowledged >= SSE_UNACKNOWLEDGED_MAX {
            let (stdout, stderr) = self.cursors;
            let data = json!({ "stdout_offset": stdout, "stderr_offset": stderr });
            return self.end(event("ack_required", &data));
        }
        self.buffer.clear();
        match self.attachment.next(&mut self.buffer).await {
            Step::Output(kind, offset) => {
                let size = self.buffer.len();
                let cursor = match kind {
                    StreamKind::Stdout => &mut self.cursors.0,
                    StreamKind::Stderr => &mut self.cursors.1,
                };
                *cursor = offset + size as u64;
                self.unacknowledged += size;
                let data = json!({ "data": BASE64_STANDARD.encode(&self.buffer), "offset": offset });
                self.next.push_back(event(kind.as_str(), &data));
            }
            Step::End(end) => self.finish(end),
        }
    }

    fn finish(&mut self, end: End) {
        let totals = self.attachment.command().totals();
        for (stream, offset) in [("stdout", totals.stdout_bytes), ("stderr", totals.stderr_bytes)] {
            self.next.push_back(event("stream_end", &json!({ "stream": stream, "offset": offset })));
        }
        self.end(match end {
            End::Exited { code, .. } => event("exit", &json!({ "exit_code": code })),
            End::Failed(fault) => error(fault.kind.as_str(), &fault.message),
        });
    }

    fn end(&mut self, last: Event) {
        self.over = true;
        self.next.push_back(last);
    }
}

fn error(kind: &str, message: &str) -> Event {
    event("error", &json!({ "error_type": kind, "error": message }))
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
