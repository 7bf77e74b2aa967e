//! The commands of a sandbox (an extension, see `docs/WIRE.md`): a list, one of them, and a kill without a socket.
//!
//! Looking does not use a sandbox: a stopped one stays stopped, and its idle clock goes on.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sandwire_protocol::limits::{COMMANDS_MAX, COMMANDS_PAGE_DEFAULT};
use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::rfc3339;
use super::{ApiError, App, Named};
use crate::engine::{Status, Summary};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<usize>,
}

/// All that the server remembers, the oldest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Named(id): Named,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(page) = page.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let limit = page.limit.unwrap_or(COMMANDS_PAGE_DEFAULT);
    if limit == 0 || limit > COMMANDS_MAX {
        return Err(ApiError::validation("limit", format!("must be 1 to {COMMANDS_MAX}")));
    }
    let (all, from) = (app.sandbox(&id)?.commands(), page.cursor.unwrap_or(0));
    let next = from.saturating_add(limit);
    let items: Vec<Value> =
        all.iter().skip(from).take(limit).map(|command| describe(&command.summary())).collect();
    Ok(Json(json!({ "items": items, "next_cursor": (next < all.len()).then(|| next.to_string()) })))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((id, command)) = path.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    Ok(Json(describe(&app.sandbox(&id)?.command(&command)?.summary())))
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

fn describe(summary: &Summary) -> Value {
    let (status, exit_code, signal, error) = match &summary.status {
        Status::Starting => ("starting", None, None, None),
        Status::Running => ("running", None, None, None),
        Status::Exited { code, signal } => ("exited", Some(*code), *signal, None),
        Status::TimedOut(message) => ("timed_out", None, None, Some(message)),
        Status::Lost(message) => ("lost", None, None, Some(message)),
        Status::Failed(message) => ("failed", None, None, Some(message)),
    };
    json!({
        "command_id": summary.id,
        "command": summary.command,
        "status": status,
        "pid": summary.pid,
        "exit_code": exit_code,
        "signal": signal,
        "error": error,
        "pty": summary.pty,
        "started_at": rfc3339(summary.started_at),
        "ended_at": summary.ended_at.map(rfc3339),
        "usage": summary.usage,
        "stdout_bytes": summary.totals.stdout_bytes,
        "stderr_bytes": summary.totals.stderr_bytes,
    })
}
