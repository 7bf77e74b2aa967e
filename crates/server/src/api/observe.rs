//! What happens around every request: it gets an id, it is counted and logged, a panic of its handler becomes an
//! answer, and while the server drains it is refused.
//!
//! Logged are the route's pattern and the sandbox, never the path, the query or a header: they may bear secrets. What is
//! for a program in a sandbox is all one route, whatever route of the API its path looks like.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{REQUEST_ID_MAX, RETRY_AFTER_DRAIN};
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::error::Problem;
use super::services::Host;
use super::{ApiError, App};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Routes that are answered while the server drains.
const ALWAYS: [&str; 2] = ["/healthz", "/metrics"];

/// The route of what leads nowhere.
const NOWHERE: &str = "none";
/// The route of all that is for programs in sandboxes.
const SERVICE: &str = "service";

pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let (method, (route, sandbox)) = (method(request.method()), destination(&request));
    let refuse = app.stopping.is_cancelled() && !ALWAYS.contains(&route.as_str());
    let under_way = (!refuse).then(|| app.requests.token());
    let response = if refuse {
        draining()
    } else {
        let counter = app.metrics.bytes_in(&route);
        let request = request.map(|body| Body::new(Watched { body, bytes: counter, _under_way: None }));
        let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        answered.unwrap_or_else(|_| {
            ApiError::new(ErrorType::InternalError, "the server failed; its log says why").into_response()
        })
    };
    let (status, took) = (response.status().as_u16(), began.elapsed());
    app.metrics.answered(&route, method, status, took);
    let took_ms = took.as_secs_f64() * 1000.0;
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request_id = %id, method, route, sandbox = sandbox.as_deref(), status, took_ms, "request failed");
    } else {
        tracing::debug!(request_id = %id, method, route, sandbox = sandbox.as_deref(), status, took_ms, "request");
    }
    let mut response = with_error_id(response, &id);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let bytes = app.metrics.bytes_out(&route);
    response.map(|body| Body::new(Watched { body, bytes, _under_way: under_way }))
}

/// The client's own id, if it can stand in a log as it is, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = given.filter(|id| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(plain));
    given.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

/// Anybody can make up methods; counters must not grow by them.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// The route's pattern, and the sandbox that is named.
fn destination(request: &Request) -> (String, Option<String>) {
    match Host::of(request) {
        Ok(Host::Api) => {
            let route = request.extensions().get::<MatchedPath>().map_or(NOWHERE, MatchedPath::as_str);
            (route.to_owned(), sandbox(route, request.uri().path()))
        }
        Ok(Host::Service(target)) => (SERVICE.to_owned(), Some(target.sandbox.to_string())),
        Err(_) => (NOWHERE.to_owned(), None),
    }
}

/// The segment of the path that names the sandbox.
fn sandbox(route: &str, path: &str) -> Option<String> {
    let at = route.split('/').position(|segment| matches!(segment, "{id}" | "{name}"))?;
    path.split('/').nth(at).map(str::to_owned)
}

fn draining() -> Response {
    let refused = ApiError::new(ErrorType::ServiceUnavailable, "the server is shutting down");
    ([(RETRY_AFTER, RETRY_AFTER_DRAIN.as_secs().to_string())], refused).into_response()
}

/// The same id in the body of a server's error, where clients show it.
fn with_error_id(mut response: Response, id: &str) -> Response {
    let Some(Problem(mut body)) = response.extensions_mut().remove::<Problem>() else { return response };
    if let Some(detail) = body.get_mut("detail").and_then(|detail| detail.as_object_mut()) {
        detail.insert("error_id".into(), id.into());
    }
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, Json(body).into_response().into_body())
}

/// A body whose bytes are counted, and whose request is under way until it is dropped.
struct Watched {
    body: Body,
    bytes: Counter,
    _under_way: Option<TaskTrackerToken>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.inc_by(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_forge_a_log_are_replaced() {
        let id = |given: &str| {
            let value = HeaderValue::from_bytes(given.as_bytes()).unwrap();
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        assert_eq!(id("0c1d-e_2.F"), "0c1d-e_2.F");
        for strange in ["", "a b", "a\tb", "a=\"b\"", "ä", &"x".repeat(REQUEST_ID_MAX + 1)] {
            assert_ne!(id(strange), strange);
            assert_eq!(id(strange).len(), 32);
        }
        assert_eq!(request_id(&HeaderMap::new()).len(), 32);
    }

    #[test]
    fn the_sandbox_is_found_and_nothing_else() {
        assert_eq!(
            sandbox("/v2/sandboxes/boxes/{name}/status", "/v2/sandboxes/boxes/mine/status"),
            Some("mine".into())
        );
        assert_eq!(sandbox("/sandboxes/{id}/download", "/sandboxes/7/download"), Some("7".into()));
        assert_eq!(sandbox("none", "/secret/path"), None);
        assert_eq!(sandbox("/healthz", "/healthz"), None);
    }

    #[test]
    fn methods_are_bounded() {
        assert_eq!(method(&Method::PATCH), "PATCH");
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
