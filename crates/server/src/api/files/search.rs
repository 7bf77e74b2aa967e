//! `POST /glob` and `POST /grep` (section 5.3): a worker inside the sandbox searches, within bounds.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use sandwire_isolate::job::{Entry, Job, Kind, Record};
use sandwire_isolate::pattern::Pattern;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{
    FILE_PATH_MAX, GREP_PATTERN_MAX, SEARCH_BYTES_MAX, SEARCH_DEADLINE, SEARCH_LIMIT_DEFAULT,
    SEARCH_LIMIT_MAX,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file_error;
use super::manage::modified_at;
use crate::api::{ApiError, App, Named, body};
use crate::engine::{FileError, Sandbox};

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct GlobRequest {
    #[schemars(length(min = 1))]
    pattern: String,
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    /// A greater number means the greatest.
    #[schemars(range(min = 1))]
    limit: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct GrepRequest {
    /// One line.
    #[schemars(length(min = 1, max = GREP_PATTERN_MAX))]
    pattern: String,
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    #[schemars(length(min = 1))]
    glob: Option<String>,
    /// A greater number means the greatest.
    #[schemars(range(min = 1))]
    limit: Option<usize>,
}

/// What was found; `truncated` if there may be more.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}es")]
pub(in crate::api) struct Found<T> {
    matches: Vec<T>,
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct GlobMatch {
    path: String,
    is_dir: bool,
    size_bytes: u64,
    modified_at: String,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct GrepMatch {
    path: String,
    line: u64,
    text: String,
}

pub(in crate::api) async fn glob(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Json<Found<GlobMatch>>, ApiError> {
    let GlobRequest { pattern, path, limit } = body::json(body).await?;
    let limit = bounded(limit)?;
    Pattern::new(&pattern).map_err(|why| invalid("pattern", &why))?;
    let sandbox = app.usable(&id).await?;
    search(&sandbox, Job::Glob { path, pattern, limit }, |record| match record {
        Record::Entry(entry) => Some(GlobMatch::from(entry)),
        _ => None,
    })
    .await
}

pub(in crate::api) async fn grep(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Json<Found<GrepMatch>>, ApiError> {
    let GrepRequest { pattern, path, glob, limit } = body::json(body).await?;
    let limit = bounded(limit)?;
    if pattern.is_empty() || pattern.len() > GREP_PATTERN_MAX || pattern.contains(['\n', '\0']) {
        return Err(invalid("pattern", &format!("must be one line of 1 to {GREP_PATTERN_MAX} bytes")));
    }
    glob.as_deref().map(Pattern::of_names).transpose().map_err(|why| invalid("glob", &why))?;
    let sandbox = app.usable(&id).await?;
    search(&sandbox, Job::Grep { path, pattern, glob, limit }, |record| match record {
        Record::Line { path, line, text } => Some(GrepMatch { path, line, text }),
        _ => None,
    })
    .await
}

/// Collects what a worker finds, up to the deadline and a number of bytes.
async fn search<T>(
    sandbox: &Sandbox,
    job: Job,
    take: impl Fn(Record) -> Option<T>,
) -> Result<Json<Found<T>>, ApiError> {
    let failed = |error| file_error(ErrorType::ReadError, error);
    if let Job::Glob { path, .. } | Job::Grep { path, .. } = &job {
        check(path)?;
    }
    let mut work = sandbox.work(job, SEARCH_DEADLINE).await.map_err(failed)?;
    let mut matches = Vec::new();
    let truncated = loop {
        match work.next().await {
            Ok(Record::End { truncated }) => break truncated,
            Ok(Record::Failed(failure)) => return Err(failed(failure.into())),
            Ok(_) if work.reported() > SEARCH_BYTES_MAX => break true,
            Ok(record) => matches.extend(take(record)),
            Err(FileError::Late) => break true,
            Err(error) => return Err(failed(error)),
        }
    };
    Ok(Json(Found { matches, truncated }))
}

fn bounded(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit {
        Some(0) => Err(invalid("limit", "must be at least 1")),
        limit => Ok(limit.unwrap_or(SEARCH_LIMIT_DEFAULT).min(SEARCH_LIMIT_MAX)),
    }
}

pub(super) fn check(path: &str) -> Result<(), ApiError> {
    if path.is_empty() || path.contains('\0') || path.len() > FILE_PATH_MAX {
        return Err(ApiError::invalid(format!("path must have 1 to {FILE_PATH_MAX} bytes and no NUL")));
    }
    Ok(())
}

pub(super) fn invalid(field: &str, why: &str) -> ApiError {
    ApiError::validation(field, why)
}

impl From<Entry> for GlobMatch {
    fn from(entry: Entry) -> Self {
        let modified_at = modified_at(&entry);
        let is_dir = entry.kind == Kind::Directory;
        Self { path: entry.path, is_dir, size_bytes: entry.size, modified_at }
    }
}
