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
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use sandwire_isolate::job::Record;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{ARCHIVE_STALL, FILE_CHUNK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::search::check;
use super::{Target, file_error};
use crate::api::{ApiError, App, Named};
use crate::engine::{Fault, Work};

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
    match timeout(ARCHIVE_STALL, work.next())
        .await
        .map_err(|_| stalled(ErrorType::ReadError))?
        .map_err(failed)?
    {
        Record::Ready => {}
        Record::Failed(failure) => return Err(failed(failure.into())),
        _ => return Err(Fault::inside("the sandbox gave an unexpected answer").into()),
    }
    let (sender, chunks) = mpsc::channel(1);
    // A task of its own, so that a client that takes nothing ends it too. The sandbox goes along, which is in use until
    // the end.
    let moved = tokio::spawn(async move {
        let moved = tokio::select! {
            moved = receive(data, work, &sender) => moved,
            () = sender.closed() => Err(io::ErrorKind::BrokenPipe.into()),
        };
        moved.inspect_err(|error| tracing::info!(sandbox = %sandbox.id(), %error, "archive broken off"))
    });
    let chunks = stream::try_unfold((chunks, moved), |(mut chunks, moved)| async move {
        match chunks.recv().await {
            Some(chunk) => Ok(Some((chunk, (chunks, moved)))),
            None => moved.await.unwrap_or_else(|error| Err(io::Error::other(error))).map(|()| None),
        }
    });
    Ok(([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(chunks)))
}

/// Takes an archive from the worker to whoever sends it on, until its end or until one of them stalls.
async fn receive(mut data: Receiver, mut work: Work, chunks: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    loop {
        let mut chunk = BytesMut::with_capacity(FILE_CHUNK);
        if timeout(ARCHIVE_STALL, data.read_buf(&mut chunk)).await.map_err(stalled)?? == 0 {
            let done = timeout(ARCHIVE_STALL, work.done()).await.map_err(stalled)?;
            return done.map_err(io::Error::other);
        }
        let taken = timeout(ARCHIVE_STALL, chunks.send(chunk.freeze())).await.map_err(stalled)?;
        taken.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
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
            timeout(ARCHIVE_STALL, done).await.map_err(|_| stalled(ErrorType::WriteError))?
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
            Err(_) => return Err(stalled(ErrorType::WriteError)),
        }
    }
    Ok(())
}

fn stalled(operation: ErrorType) -> ApiError {
    let message = format!("nothing moved for {} seconds inside the sandbox", ARCHIVE_STALL.as_secs());
    ApiError::with_status(StatusCode::GATEWAY_TIMEOUT, operation, message)
}
