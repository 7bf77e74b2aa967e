//! Whole trees as tar archives, an addition of this server. A worker inside the sandbox reads and writes the tree; the
//! server moves the bytes and never looks into them.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use sandwire_isolate::job::Record;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{ARCHIVE_STALL, FILE_CHUNK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Sender;
use tokio::time::timeout;

use super::search::check;
use super::{Target, file_error};
use crate::api::{ApiError, App, Named};
use crate::engine::Fault;

/// `GET /archive`: what goes wrong after the first byte breaks the answer off.
pub(in crate::api) async fn pack(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Target>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let path = Target::path(query)?;
    check(&path)?;
    let sandbox = app.usable(&id).await?;
    let failed = |error| file_error(ErrorType::ReadError, error);
    let (mut work, data) = sandbox.pack(path).await.map_err(failed)?;
    match work.next().await.map_err(failed)? {
        Record::Ready => {}
        Record::Failed(failure) => return Err(failed(failure.into())),
        _ => return Err(Fault::inside("the sandbox gave an unexpected answer").into()),
    }
    // The sandbox goes along, which is in use until the end.
    let chunks = stream::try_unfold((data, work, sandbox), |(mut data, mut work, sandbox)| async move {
        let mut chunk = BytesMut::with_capacity(FILE_CHUNK);
        let read = timeout(ARCHIVE_STALL, data.read_buf(&mut chunk)).await;
        if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? > 0 {
            return Ok(Some((chunk.freeze(), (data, work, sandbox))));
        }
        match work.done().await {
            Ok(()) => Ok(None),
            Err(error) => {
                tracing::info!(sandbox = %sandbox.id(), %error, "archive broken off");
                Err(io::Error::other(error))
            }
        }
    });
    Ok(([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(chunks)))
}

/// `PUT` and `POST /archive`: the body is the archive. The first entry that can't be extracted ends it.
pub(in crate::api) async fn unpack(
    State(app): State<Arc<App>>,
    Named(id): Named,
    query: Result<Query<Target>, QueryRejection>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let path = Target::path(query)?;
    check(&path)?;
    let sandbox = app.usable(&id).await?;
    let failed = |error| file_error(ErrorType::WriteError, error);
    let (mut work, data) = sandbox.unpack(path).await.map_err(failed)?;
    let mut done = std::pin::pin!(work.done());
    let done = tokio::select! {
        biased;
        sent = send(body, data) => {
            sent?;
            timeout(ARCHIVE_STALL, done).await.map_err(|_| stalled())?
        }
        // It failed, its sandbox was stopped, or the archive is over: whoever sends the rest is told.
        done = &mut done => done,
    };
    done.map(|()| StatusCode::NO_CONTENT).map_err(failed)
}

async fn send(body: Body, mut data: Sender) -> Result<(), ApiError> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::invalid(format!("the body broke off: {error}")))?;
        match timeout(ARCHIVE_STALL, data.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            // The worker has ended and says why; it may be that the archive was over.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(stalled()),
        }
    }
    Ok(())
}

fn stalled() -> ApiError {
    let message = format!("nothing moved for {} seconds inside the sandbox", ARCHIVE_STALL.as_secs());
    ApiError::new(ErrorType::WriteError, message)
}
