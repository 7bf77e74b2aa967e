//! Files (section 5.3): the server moves bytes between the socket and a descriptor that `init` opened.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::multipart::Multipart;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LAST_MODIFIED};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{FILE_CHUNK, UNSIZED_FILE_MAX};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{ApiError, App, Named};
use crate::engine::{FileError, Opened, Upload};

/// The last second that an HTTP date can name, in the year 9999; a sandbox may date its files later.
const LAST_DATE: u64 = 253_402_300_799;

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    path: Option<String>,
}

impl Target {
    fn path(query: Result<Query<Self>, QueryRejection>) -> Result<String, ApiError> {
        let Query(target) = query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
        target.path.ok_or_else(|| ApiError::invalid("the query needs a path"))
    }
}

/// Writes a file whole or not at all: from the part named `file` of a form, or from the body itself.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Target>, QueryRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let path = Target::path(query)?;
    let sandbox = app.usable(&id).await?;
    let failed = |error| file_error(ErrorType::WriteError, error);
    let upload = sandbox.create_file(path).await.map_err(failed)?;
    let form = request.headers().get(CONTENT_TYPE).is_some_and(is_form);
    if form {
        let mut form = Multipart::from_request(request, &app).await.map_err(bad_form)?;
        loop {
            let field = form.next_field().await.map_err(bad_form)?;
            let field = field.ok_or_else(|| ApiError::invalid("the form has no part named file"))?;
            if field.name() == Some("file") {
                store(&upload, field.map(|chunk| chunk.map_err(bad_form))).await?;
                break;
            }
        }
    } else {
        let broken = |error: axum::Error| ApiError::invalid(format!("the body broke off: {error}"));
        store(&upload, request.into_body().into_data_stream().map(|chunk| chunk.map_err(broken))).await?;
    }
    upload.commit().await.map_err(failed)?;
    Ok(StatusCode::OK)
}

fn is_form(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data")
}

fn bad_form(error: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("the form can't be read: {error}"))
}

/// Collects what the socket gives into large writes.
async fn store(upload: &Upload, chunks: impl Stream<Item = Result<Bytes, ApiError>>) -> Result<(), ApiError> {
    let mut chunks = std::pin::pin!(chunks);
    let (mut batch, mut size) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await.transpose()? {
        size += chunk.len();
        batch.push(chunk);
        if size >= FILE_CHUNK {
            write(upload, std::mem::take(&mut batch)).await?;
            size = 0;
        }
    }
    write(upload, batch).await
}

async fn write(upload: &Upload, batch: Vec<Bytes>) -> Result<(), ApiError> {
    let Some(file) = upload.file().filter(|_| !batch.is_empty()) else { return Ok(()) };
    blocking(move || batch.iter().try_for_each(|chunk| (&*file).write_all(chunk))).await.map_err(|error| {
        kernel_error(ErrorType::WriteError, error.raw_os_error(), &format!("write: {error}"))
    })
}

/// Reads a file. `HEAD` gives the same headers.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Target>, QueryRejection>,
    method: Method,
) -> Result<Response, ApiError> {
    let path = Target::path(query)?;
    let sandbox = app.usable(&id).await?;
    let opened = sandbox.open_file(path).await;
    let Opened { file, size, modified } = opened.map_err(|error| file_error(ErrorType::ReadError, error))?;
    let (size, body) = match (size, &method) {
        (0, _) => {
            let bytes = unsized_content(file).await?;
            (bytes.len() as u64, Body::from(bytes))
        }
        (_, &Method::HEAD) => (size, Body::empty()),
        _ => (size, content(file, size).await?),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, size.into());
    let modified = u64::try_from(modified).unwrap_or_default().min(LAST_DATE);
    let modified = UNIX_EPOCH + Duration::from_secs(modified);
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(modified)) {
        headers.insert(LAST_MODIFIED, date);
    }
    Ok((headers, body).into_response())
}

/// A small file in one piece; a large one as a stream that ends early, and so breaks the answer off, if the file is
/// cut meanwhile.
async fn content(file: File, size: u64) -> Result<Body, ApiError> {
    if size > FILE_CHUNK as u64 {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(FILE_CHUNK);
        return Ok(Body::from_stream(ReaderStream::with_capacity(file.take(size), FILE_CHUNK)));
    }
    let read = blocking(move || {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.await.map_err(unreadable)?;
    if bytes.len() as u64 != size {
        return Err(ApiError::new(ErrorType::ReadError, "the file was cut while it was read"));
    }
    Ok(Body::from(bytes))
}

/// A file of size 0 up to its end: those of procfs say so, whatever they have.
async fn unsized_content(file: File) -> Result<Vec<u8>, ApiError> {
    let read = blocking(move || {
        let mut bytes = Vec::new();
        file.take(UNSIZED_FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.await.map_err(unreadable)?;
    if bytes.len() > UNSIZED_FILE_MAX {
        let message = format!("the file does not say its size and has more than {UNSIZED_FILE_MAX} bytes");
        return Err(ApiError::new(ErrorType::ReadError, message));
    }
    Ok(bytes)
}

fn unreadable(error: io::Error) -> ApiError {
    kernel_error(ErrorType::ReadError, error.raw_os_error(), &format!("read: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn file_error(operation: ErrorType, error: FileError) -> ApiError {
    match error {
        FileError::Inside(failure) => kernel_error(operation, Some(failure.errno), &failure.to_string()),
        FileError::Fault(fault) => fault.into(),
    }
}

/// The status and type that belong to the kernel's error number.
fn kernel_error(operation: ErrorType, errno: Option<i32>, message: &str) -> ApiError {
    let (status, kind) = match errno {
        Some(libc::ENOENT) => (StatusCode::NOT_FOUND, ErrorType::FileNotFound),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            (StatusCode::FORBIDDEN, ErrorType::PermissionDenied)
        }
        Some(libc::ENOSPC | libc::EDQUOT) => (StatusCode::INSUFFICIENT_STORAGE, operation),
        Some(
            libc::EISDIR
            | libc::ENOTDIR
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::EINVAL
            | libc::ETXTBSY
            | libc::EXDEV,
        ) => (StatusCode::BAD_REQUEST, operation),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, operation),
    };
    ApiError::with_status(status, kind, message)
}
