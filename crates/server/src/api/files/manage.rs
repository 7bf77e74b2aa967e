//! Additions of this server: looking at files, directories made, renamed and removed. A worker inside the sandbox does
//! it. `docs/WIRE.md` describes them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use sandwire_isolate::job::{Entry, Job, Kind, Record};
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{
    FILE_PATH_MAX, LIST_PAGE_DEFAULT, SEARCH_BYTES_MAX, SEARCH_DEADLINE, SEARCH_LIMIT_MAX, STAT_PATHS_MAX,
    WORK_DEADLINE,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::search::{check, invalid};
use super::{OCTAL, errno_error, file_error, mode};
use crate::api::clock::rfc3339_of;
use crate::api::{ApiError, App, Named, body};
use crate::engine::{FileError, Sandbox};

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct MakeDirectory {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    #[schemars(regex(pattern = OCTAL))]
    mode: Option<String>,
    #[serde(default)]
    parents: bool,
}

pub(in crate::api) async fn make_directory(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<MakeDirectory>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(MakeDirectory { path, mode: permissions, parents }) =
        query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    check(&path)?;
    let mode = permissions.as_deref().map(mode).transpose()?;
    let sandbox = app.usable(&id).await?;
    let owner = sandbox.default_user();
    change(&sandbox, Job::MakeDirectory { path, mode, parents, owner }).await
}

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct Move {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    from: String,
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    to: String,
    #[serde(default)]
    overwrite: bool,
}

pub(in crate::api) async fn rename(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let Move { from, to, overwrite } = body::json(body).await?;
    check(&from)?;
    check(&to)?;
    change(&*app.usable(&id).await?, Job::Move { from, to, overwrite }).await
}

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct Remove {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    #[serde(default)]
    recursive: bool,
}

pub(in crate::api) async fn remove(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Remove>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(Remove { path, recursive }) =
        query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    check(&path)?;
    change(&*app.usable(&id).await?, Job::Remove { path, recursive }).await
}

async fn change(sandbox: &Sandbox, job: Job) -> Result<StatusCode, ApiError> {
    let failed = |error| file_error(ErrorType::WriteError, error);
    let mut work = sandbox.work(job, WORK_DEADLINE).await.map_err(failed)?;
    work.done().await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct StatRequest {
    #[schemars(length(min = 1, max = STAT_PATHS_MAX), inner(length(min = 1, max = FILE_PATH_MAX)))]
    paths: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct Stats {
    entries: Vec<Looked>,
}

/// What a path leads to, or why it leads nowhere.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Looked {
    Entry(FileAttributes),
    Missing { path: String, error: &'static str, message: String },
}

#[derive(Serialize, JsonSchema)]
struct FileAttributes {
    path: String,
    #[serde(rename = "type")]
    kind: FileType,
    size_bytes: u64,
    mode: String,
    uid: u32,
    gid: u32,
    modified_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// What there is, links not followed. `other` is a fifo, socket or device.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FileType {
    File,
    Directory,
    Link,
    Other,
}

pub(in crate::api) async fn stat(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Json<Stats>, ApiError> {
    let StatRequest { paths } = body::json(body).await?;
    if paths.is_empty() || paths.len() > STAT_PATHS_MAX {
        return Err(invalid("paths", &format!("must be 1 to {STAT_PATHS_MAX} paths")));
    }
    paths.iter().try_for_each(|path| check(path))?;
    let sandbox = app.usable(&id).await?;
    let (records, _) = collect(&sandbox, Job::Stat { paths }).await?;
    let entries = records.into_iter().filter_map(|record| match record {
        Record::Entry(entry) => Some(Looked::Entry(entry.into())),
        Record::Missing { path, failure } => {
            let (_, kind) = errno_error(ErrorType::ReadError, Some(failure.errno));
            Some(Looked::Missing { path, error: kind.as_str(), message: failure.to_string() })
        }
        _ => None,
    });
    Ok(Json(Stats { entries: entries.collect() }))
}

#[derive(Deserialize, JsonSchema)]
pub(in crate::api) struct ListRequest {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    #[serde(default)]
    offset: usize,
    #[schemars(range(min = 1, max = SEARCH_LIMIT_MAX))]
    limit: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct Listed {
    entries: Vec<FileAttributes>,
    /// The offset of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    Named(id): Named,
    body: Body,
) -> Result<Json<Listed>, ApiError> {
    let ListRequest { path, offset, limit } = body::json(body).await?;
    check(&path)?;
    let limit = limit.unwrap_or(LIST_PAGE_DEFAULT);
    if limit == 0 || limit > SEARCH_LIMIT_MAX {
        return Err(invalid("limit", &format!("must be 1 to {SEARCH_LIMIT_MAX}")));
    }
    let sandbox = app.usable(&id).await?;
    let (records, truncated) = collect(&sandbox, Job::List { path, offset, limit }).await?;
    let entries = records.into_iter().filter_map(|record| match record {
        Record::Entry(entry) => Some(entry.into()),
        _ => None,
    });
    let entries: Vec<_> = entries.collect();
    // What vanished meanwhile has no place in the directory any more, so the next page begins after what is here.
    let next = truncated.then_some(offset.saturating_add(entries.len()));
    Ok(Json(Listed { entries, next }))
}

/// The records of work that has a known number of them, up to a number of bytes; whether there are more.
async fn collect(sandbox: &Sandbox, job: Job) -> Result<(Vec<Record>, bool), ApiError> {
    let failed = |error| file_error(ErrorType::ReadError, error);
    let mut work = sandbox.work(job, SEARCH_DEADLINE).await.map_err(failed)?;
    let mut records = Vec::new();
    loop {
        match work.next().await.map_err(failed)? {
            Record::End { truncated } => return Ok((records, truncated)),
            Record::Failed(failure) => return Err(failed(FileError::Inside(failure))),
            _ if work.reported() > SEARCH_BYTES_MAX => return Ok((records, true)),
            record => records.push(record),
        }
    }
}

/// When something was last modified.
pub(super) fn modified_at(entry: &Entry) -> String {
    rfc3339_of(entry.modified, entry.modified_nanos / 1_000_000)
}

impl From<Kind> for FileType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Directory => Self::Directory,
            Kind::Link => Self::Link,
            Kind::Other => Self::Other,
        }
    }
}

impl From<Entry> for FileAttributes {
    fn from(entry: Entry) -> Self {
        let modified_at = modified_at(&entry);
        let Entry { path, kind, size, mode, uid, gid, target, .. } = entry;
        let kind = kind.into();
        Self { path, kind, size_bytes: size, mode: format!("{mode:04o}"), uid, gid, modified_at, target }
    }
}
