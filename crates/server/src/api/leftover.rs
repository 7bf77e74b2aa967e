//! What no handler has read of a request's body is read and thrown away before the answer goes out, within bounds.
//!
//! Else the connection is closed on bytes that nobody has read, and reset: a client that is refused while it still sends
//! loses the answer that says why, and one whose body did not matter finds the connection gone at its next request.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use sandwire_protocol::limits::{LEFTOVER_BODY_MAX, LEFTOVER_BODY_WAIT};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) async fn read_leftovers(request: Request, next: Next) -> Response {
    // Who asks first sends nothing after a refusal.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body.into_data_stream()));
    let lent = unfold(Arc::clone(&body), |body| async {
        let chunk = body.lock().await.next().await?;
        Some((chunk, body))
    });
    let response = next.run(Request::from_parts(parts, Body::from_stream(lent))).await;
    // Whoever passes it on while the answer comes in keeps it.
    if let Some(body) = Arc::into_inner(body) {
        // Too much or too slow: then the client has to live with the reset.
        let _ = timeout(LEFTOVER_BODY_WAIT, throw_away(body.into_inner())).await;
    }
    response
}

async fn throw_away(mut body: BodyDataStream) {
    let mut read = 0;
    while let Some(Ok(chunk)) = body.next().await {
        read += chunk.len();
        if read > LEFTOVER_BODY_MAX {
            break;
        }
    }
}
