//! Writing a file whole or not at all.

use std::io::Write;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::multipart::Multipart;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use futures_util::{Stream, StreamExt};
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{FILE_CHUNK, FILE_PATH_MAX};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{OCTAL, blocking, file_error, kernel_error, mode};
use crate::api::{ApiError, App, Named};
use crate::engine::Upload;

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::api) struct Options {
    #[schemars(length(min = 1, max = FILE_PATH_MAX))]
    path: String,
    /// Octal digits; else an existing file keeps its mode.
    #[schemars(regex(pattern = OCTAL))]
    mode: Option<String>,
}

/// `POST /upload`: from the part named `file` of a form, or from the body itself.
pub(in crate::api) async fn upload(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let Query(Options { path, mode: permissions }) =
        query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let mode = permissions.as_deref().map(mode).transpose()?;
    let sandbox = app.usable(&id).await?;
    let failed = |error| file_error(ErrorType::WriteError, error);
    let upload = sandbox.create_file(path, mode).await.map_err(failed)?;
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
