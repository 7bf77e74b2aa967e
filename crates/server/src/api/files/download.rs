//! Reading a file, or a part of it. The body is never encoded: ranges count the bytes of the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extracted};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{FILE_CHUNK, UNSIZED_FILE_MAX};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::range::{self, Part};
use super::state::{State, Verdict};
use super::{Target, blocking, file_error, kernel_error};
use crate::api::{ApiError, App, Named};
use crate::engine::InUse;

/// `GET` and `HEAD /download`.
pub(in crate::api) async fn download(
    Extracted(app): Extracted<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Target>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = Target::path(query)?;
    let sandbox = app.usable(&id).await?;
    serve(sandbox, path, &method, &headers).await
}

/// The answer to a `GET` or `HEAD` for a file, whoever it is that may have it.
pub(in crate::api) async fn serve(
    sandbox: InUse,
    path: String,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let file = sandbox.open_file(path).await.map_err(|error| file_error(ErrorType::ReadError, error))?;
    let state = State::of(&file, State::is_asked_for(method, request)).await.map_err(unreadable)?;
    let (state, source) = match state.size {
        0 => {
            let bytes = unsized_content(file).await?;
            let size = bytes.len() as u64;
            (if size == 0 { state } else { state.without_tag(size) }, Source::Memory(bytes))
        }
        _ => (state, Source::File(file, sandbox)),
    };
    let mut headers = state.headers();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    match state.judge(request) {
        Verdict::Answer => {}
        Verdict::NotModified => return Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        Verdict::Failed => return Err(changed()),
    }
    let size = state.size;
    let (status, part) = match wanted(&state, method, request) {
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(part) => {
            headers.insert(CONTENT_RANGE, content_range(&format!("{}-{}", part.start, part.end - 1), size));
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Part::Beyond => {
            headers.insert(CONTENT_RANGE, content_range("*", size));
            return Ok((headers, beyond(size)).into_response());
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
    let body = if method == Method::HEAD { Body::empty() } else { source.read(part).await? };
    Ok((status, headers, body).into_response())
}

/// Ranges are a matter of `GET` alone.
fn wanted(state: &State, method: &Method, request: &HeaderMap) -> Part {
    let header = request.get(RANGE).and_then(|header| header.to_str().ok());
    match header.filter(|_| method == Method::GET && state.in_range(request)) {
        Some(header) => range::parse(header, state.size),
        None => Part::Whole,
    }
}

fn content_range(range: &str, size: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {range}/{size}"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

fn beyond(size: u64) -> ApiError {
    let message = format!("the range begins beyond the end of the file, which has {size} bytes");
    ApiError::with_status(StatusCode::RANGE_NOT_SATISFIABLE, ErrorType::InvalidRequest, message)
}

fn changed() -> ApiError {
    let message = "the file is not in the state that the request's conditions name";
    ApiError::with_status(StatusCode::PRECONDITION_FAILED, ErrorType::InvalidRequest, message)
}

enum Source {
    Memory(Bytes),
    /// With the sandbox, which is in use while it is read.
    File(File, InUse),
}

impl Source {
    /// A small part in one piece; a large one as a stream that ends early, and so breaks the answer off, if the file is
    /// cut meanwhile.
    async fn read(self, part: Range<u64>) -> Result<Body, ApiError> {
        let (mut file, sandbox) = match self {
            Self::Memory(bytes) => {
                let [start, end] = [part.start, part.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
                return Ok(Body::from(bytes.slice(start.min(bytes.len())..end.min(bytes.len()))));
            }
            Self::File(file, sandbox) => (file, sandbox),
        };
        let length = part.end - part.start;
        file.seek(SeekFrom::Start(part.start)).map_err(unreadable)?;
        if length > FILE_CHUNK as u64 {
            let mut file = tokio::fs::File::from_std(file);
            file.set_max_buf_size(FILE_CHUNK);
            let chunks = ReaderStream::with_capacity(file.take(length), FILE_CHUNK);
            return Ok(Body::from_stream(chunks.inspect(move |_| _ = &sandbox)));
        }
        let read = blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let bytes = read.await.map_err(unreadable)?;
        if bytes.len() as u64 != length {
            return Err(ApiError::new(ErrorType::ReadError, "the file was cut while it was read"));
        }
        Ok(Body::from(bytes))
    }
}

/// A file of size 0 up to its end: those of procfs say so, whatever they have.
async fn unsized_content(file: File) -> Result<Bytes, ApiError> {
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
    Ok(Bytes::from(bytes))
}

fn unreadable(error: io::Error) -> ApiError {
    kernel_error(ErrorType::ReadError, error.raw_os_error(), &format!("read: {error}"))
}
