//! The commands of a sandbox (an extension, see `docs/WIRE.md`): a list, one of them, and a kill without a socket.
//!
//! Looking does not use a sandbox: a stopped one stays stopped, and its idle clock goes on.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sandwire_protocol::extension::Usage;
use sandwire_protocol::limits::{COMMANDS_MAX, COMMANDS_PAGE_DEFAULT};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clock::rfc3339;
use super::{ApiError, App, Named};
use crate::engine::{Status, Summary};

/// What the query of a list says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Page {
    #[schemars(range(min = 1, max = COMMANDS_MAX))]
    limit: Option<usize>,
    cursor: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct CommandList {
    items: Vec<Command>,
    /// None: this was the last page.
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Command {
    command_id: String,
    /// The beginning of its text.
    command: String,
    status: CommandStatus,
    /// Id of its main process inside the sandbox.
    pid: Option<i32>,
    /// Exit code, or 128 + signal number.
    exit_code: Option<i32>,
    /// The signal that ended it.
    signal: Option<i32>,
    /// Why it has no exit code, once it is over.
    error: Option<String>,
    pty: bool,
    started_at: String,
    ended_at: Option<String>,
    usage: Option<Usage>,
    stdout_bytes: u64,
    stderr_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum CommandStatus {
    Starting,
    Running,
    Exited,
    TimedOut,
    Lost,
    Failed,
}

/// All that the server remembers, the oldest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Named(id): Named,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<CommandList>, ApiError> {
    let Query(page) = page.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let limit = page.limit.unwrap_or(COMMANDS_PAGE_DEFAULT);
    if limit == 0 || limit > COMMANDS_MAX {
        return Err(ApiError::validation("limit", format!("must be 1 to {COMMANDS_MAX}")));
    }
    let (all, from) = (app.sandbox(&id)?.commands(), page.cursor.unwrap_or(0));
    let next = from.saturating_add(limit);
    let items = all.iter().skip(from).take(limit).map(|command| command.summary().into()).collect();
    Ok(Json(CommandList { items, next_cursor: (next < all.len()).then(|| next.to_string()) }))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Command>, ApiError> {
    let Path((id, command)) = path.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    Ok(Json(app.sandbox(&id)?.command(&command)?.summary().into()))
}

/// Kills its whole process tree; after its end nothing happens.
pub(super) async fn kill(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path((id, command)) = path.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    app.sandbox(&id)?.command(&command)?.kill();
    Ok(StatusCode::NO_CONTENT)
}

impl From<Summary> for Command {
    fn from(summary: Summary) -> Self {
        let (status, exit_code, signal, error) = match summary.status {
            Status::Starting => (CommandStatus::Starting, None, None, None),
            Status::Running => (CommandStatus::Running, None, None, None),
            Status::Exited { code, signal } => (CommandStatus::Exited, Some(code), signal, None),
            Status::TimedOut(message) => (CommandStatus::TimedOut, None, None, Some(message)),
            Status::Lost(message) => (CommandStatus::Lost, None, None, Some(message)),
            Status::Failed(message) => (CommandStatus::Failed, None, None, Some(message)),
        };
        Self {
            command_id: summary.id,
            command: summary.command,
            status,
            pid: summary.pid,
            exit_code,
            signal,
            error,
            pty: summary.pty,
            started_at: rfc3339(summary.started_at),
            ended_at: summary.ended_at.map(rfc3339),
            usage: summary.usage,
            stdout_bytes: summary.totals.stdout_bytes,
            stderr_bytes: summary.totals.stderr_bytes,
        }
    }
}
