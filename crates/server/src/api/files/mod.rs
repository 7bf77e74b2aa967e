//! Files (section 5.3): the server moves bytes between the socket and a descriptor that `init` opened. What needs more
//! than one file is done by a worker inside the sandbox.

mod archive;
mod download;
mod manage;
pub(super) mod range;
mod search;
mod state;
mod upload;

use std::io;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::FILE_PATH_MAX;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use archive::{pack, unpack};
pub(super) use download::{download, serve};
pub(super) use manage::{
    ListRequest, Listed, MakeDirectory, Move, Remove, StatRequest, Stats, list, make_directory, remove,
    rename, stat,
};
pub(super) use search::{Found, GlobMatch, GlobRequest, GrepMatch, GrepRequest, glob, grep};
pub(super) use upload::{Options as UploadOptions, upload};

use super::ApiError;
use crate::engine::FileError;

/// What the query of a request for one path says.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Target {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
}

impl Target {
    fn path(query: Result<Query<Self>, QueryRejection>) -> Result<String, ApiError> {
        let Query(target) = query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
        Ok(target.path)
    }
}

/// What [`mode`] takes, as a pattern for the description of the API.
const OCTAL: &str = "^[0-7]{1,4}$";

/// Permission bits in octal digits, as `chmod` takes them.
fn mode(text: &str) -> Result<u32, ApiError> {
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.ok_or_else(|| ApiError::invalid(format!("mode: {text:?} is not 1 to 4 octal digits, such as 0644")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn file_error(operation: ErrorType, error: FileError) -> ApiError {
    match error {
        FileError::Inside(failure) => kernel_error(operation, Some(failure.errno), &failure.to_string()),
        FileError::Late => {
            ApiError::with_status(StatusCode::GATEWAY_TIMEOUT, operation, "it took longer than it may")
        }
        FileError::Fault(fault) => fault.into(),
    }
}

fn kernel_error(operation: ErrorType, errno: Option<i32>, message: &str) -> ApiError {
    let (status, kind) = errno_error(operation, errno);
    ApiError::with_status(status, kind, message)
}

/// The status and type that belong to the kernel's error number.
fn errno_error(operation: ErrorType, errno: Option<i32>) -> (StatusCode, ErrorType) {
    match errno {
        Some(libc::ENOENT) => (StatusCode::NOT_FOUND, ErrorType::FileNotFound),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            (StatusCode::FORBIDDEN, ErrorType::PermissionDenied)
        }
        Some(libc::ETIMEDOUT) => (StatusCode::GATEWAY_TIMEOUT, operation),
        Some(libc::EAGAIN) => (StatusCode::SERVICE_UNAVAILABLE, operation),
        Some(libc::ENOSPC | libc::EDQUOT) => (StatusCode::INSUFFICIENT_STORAGE, operation),
        Some(
            libc::EISDIR
            | libc::ENOTDIR
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::EINVAL
            | libc::EBUSY
            | libc::EEXIST
            | libc::ENOTEMPTY
            | libc::ENXIO
            | libc::ENODEV
            | libc::EILSEQ
            | libc::ETXTBSY
            | libc::EXDEV
            | libc::EBADMSG
            | libc::EOPNOTSUPP
            | libc::ESTALE,
        ) => (StatusCode::BAD_REQUEST, operation),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, operation),
    }
}
