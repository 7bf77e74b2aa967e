//! `GET /events`: what happens to sandboxes, as server-sent events (an extension, see `docs/WIRE.md`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use sandwire_protocol::limits::SSE_HEARTBEAT;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::clock::rfc3339;
use super::{ApiError, App};
use crate::engine::{Happened, Told, Watcher};

const LAST_SEEN: &str = "last-event-id";

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct From {
    after: Option<u64>,
}

/// From now on, or after the event that the query or the header of a browser names.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let Query(from) = query.map_err(|_| ApiError::validation("after", "must be the number of an event"))?;
    let last_seen = headers.get(LAST_SEEN).and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let watcher = app.engine.watch(from.after.or(last_seen));
    let stream = futures_util::stream::unfold((app, watcher), next);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(SSE_HEARTBEAT)))
}

async fn next(
    (app, mut watcher): (Arc<App>, Watcher),
) -> Option<(Result<Event, Infallible>, (Arc<App>, Watcher))> {
    let told = tokio::select! {
        biased;
        told = watcher.next() => told?,
        () = app.stopping.cancelled() => return None,
    };
    let event = match told {
        Told::Event(happened) => describe(&happened),
        Told::Missed(count) => Event::default().event("missed").data(json!({ "count": count }).to_string()),
    };
    Some((Ok(event), (app, watcher)))
}

fn describe(happened: &Happened) -> Event {
    let data = json!({
        "type": happened.kind.as_str(),
        "at": rfc3339(happened.at),
        "sandbox_id": happened.id.to_string(),
        "name": &*happened.name,
        "status": happened.status.as_str(),
        "status_message": happened.message,
    });
    Event::default().id(happened.number.to_string()).event(happened.kind.as_str()).data(data.to_string())
}
