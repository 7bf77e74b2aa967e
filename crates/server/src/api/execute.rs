//! Commands over plain HTTP (section 5.2): one request, one answer. The caller leaving kills the command. Output is
//! collected in memory, so the number of calls at a time is bounded, of each sandbox and of all. There is no word for a terminal here, and so none.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::BytesMut;
use sandwire_protocol::limits::{EXECUTE_OUTPUT_MAX, EXECUTE_WAIT};
use sandwire_protocol::{CommandSpec, ErrorType, ExecuteRequest, ExecuteResponse, StreamKind};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, SemaphorePermit};
use tokio::time::timeout;
use uuid::Uuid;

use super::{ApiError, App, Named, body, server_timing};
use crate::engine::{Attachment, End, Fault, Form, Step};

pub(super) async fn execute(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let request: ExecuteRequest = body::command(body).await?;
    let sandbox = app.usable(&id).await?;
    // Nobody learns its id, so nobody can come back to it.
    let spec = CommandSpec { ttl_seconds: Some(0), ..CommandSpec::from(request) };
    let run = async {
        let _turn = turn(&app, sandbox.id()).await?;
        let mut attachment = sandbox.execute(&spec, Form::Text)?;
        attachment.started().await?;
        let timing = attachment.command().spawning().map(|took| server_timing("spawn", took));
        collect(&mut attachment).await.map(|answer| (timing, Json(answer)))
    };
    tokio::select! {
        biased;
        () = app.ending.cancelled() => Err(Fault::command("the server is shutting down").into()),
        answer = run => answer,
    }
}

/// One of the sandbox and one of all, in this order: who waits for its own takes nothing of the others.
async fn turn(app: &App, sandbox: Uuid) -> Result<(OwnedSemaphorePermit, SemaphorePermit<'_>), ApiError> {
    let turns = async {
        let own = app.executes_of.of(sandbox).acquire_owned().await?;
        Ok::<_, AcquireError>((own, app.executes.acquire().await?))
    };
    if let Ok(Ok(turn)) = timeout(EXECUTE_WAIT, turns).await {
        return Ok(turn);
    }
    let message = "too many commands are running over this call, and this one was not started: try again, or use the \
                   WebSocket of the sandbox";
    Err(ApiError::new(ErrorType::ServiceUnavailable, message))
}

async fn collect(attachment: &mut Attachment) -> Result<ExecuteResponse, ApiError> {
    let (mut stdout, mut stderr, mut chunk) = (Vec::new(), Vec::new(), BytesMut::new());
    loop {
        chunk.clear();
        let output = match attachment.next(&mut chunk).await {
            Step::Output(StreamKind::Stdout, _) => &mut stdout,
            Step::Output(StreamKind::Stderr, _) => &mut stderr,
            Step::End(End::Exited { code: exit_code, .. }) => {
                let (stdout, stderr) = (text(stdout), text(stderr));
                return Ok(ExecuteResponse { stdout, stderr, exit_code });
            }
            Step::End(End::Failed(fault)) => return Err(failure(fault)),
        };
        if output.len() + chunk.len() > EXECUTE_OUTPUT_MAX {
            attachment.command().kill();
            let message = format!("the output exceeds {EXECUTE_OUTPUT_MAX} bytes, the limit of this call");
            return Err(Fault::command(message).into());
        }
        output.extend_from_slice(&chunk);
    }
}

/// This path has no word of its own for a timeout.
fn failure(fault: Fault) -> ApiError {
    match fault.kind {
        ErrorType::CommandTimeout => {
            ApiError::with_status(StatusCode::REQUEST_TIMEOUT, ErrorType::CommandError, fault.message)
        }
        _ => fault.into(),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
