//! The HTTP API: one file per noun, and the table that says which path leads where.
//!
//! The control plane stands under every base that clients derive from an endpoint (section 1.3), the data plane
//! under `/sandboxes/{id}`. Everything but the bare `/healthz` needs the key. What the protocol has and this server
//! has not yet answers 501 with the feature's name; what the protocol has not answers 404.

mod auth;
mod body;
mod clock;
mod commands;
mod create;
mod error;
mod events;
mod exec_events;
mod exec_socket;
mod execute;
mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod health;
mod leftover;
mod links;
mod list;
mod metrics;
mod observe;
mod openapi;
mod request;
mod sandboxes;
mod services;
mod turns;
mod update;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, delete, get, post};
use sandwire_protocol::ErrorType;
use sandwire_protocol::limits::{EXECUTES_AT_ONCE, EXECUTES_OF_SANDBOX};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use auth::ApiKey;
pub use error::ApiError;
pub use services::Services;
pub use turns::Turns;

use crate::engine::{Engine, InUse, Sandbox};
use crate::metrics::Metrics;

/// What every request needs.
pub struct App {
    /// The sandboxes.
    pub engine: Arc<Engine>,
    /// The one key.
    pub key: ApiKey,
    /// Programs in sandboxes that are reached from outside.
    pub services: Services,
    /// Where the server listens, for clients that do not say how they reached it.
    pub listen: SocketAddr,
    /// The server drains: exec sockets close, nothing new begins.
    pub stopping: CancellationToken,
    /// The drain is over: whatever still waits or streams, gives up.
    pub ending: CancellationToken,
    /// Calls of `POST /execute` that may collect output in memory.
    pub executes: Semaphore,
    /// Those of each sandbox.
    pub executes_of: Turns,
    /// Open exec sockets, and connections of services that speak another protocol than HTTP.
    pub sockets: TaskTracker,
    /// Requests whose answers are not written yet.
    pub requests: TaskTracker,
    /// What was asked so far.
    pub metrics: Metrics,
}

/// Under each of these stands the control plane (section 1.3).
const BASES: [&str; 3] = ["/v2/sandboxes", "/api/v2/sandboxes", "/api/v1/v2/sandboxes"];

/// The whole API over `app`.
pub fn app(app: Arc<App>) -> Router {
    around(routes(app.engine.policy().metrics), app)
}

fn routes(metrics: bool) -> Router<Arc<App>> {
    let mut router = Router::new()
        .route("/healthz", get(health::health))
        .route("/openapi.json", get(openapi::openapi))
        .route("/download/{token}", get(links::download));
    if metrics {
        router = router.route("/metrics", get(self::metrics::metrics));
    }
    for base in BASES {
        router = router.nest(base, control_plane());
    }
    router.nest("/sandboxes/{id}", data_plane())
}

/// Only what observes the server, for an address of its own.
pub(crate) fn observers(app: Arc<App>) -> Router {
    let router =
        Router::new().route("/healthz", get(health::health)).route("/metrics", get(metrics::metrics));
    around(router, app)
}

/// What holds for every path.
fn around(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .fallback(|| async { ApiError::not_found("no such path") })
        .layer(from_fn_with_state(Arc::clone(&app), auth::require_key))
        .layer(from_fn_with_state(Arc::clone(&app), services::by_host))
        .layer(from_fn(leftover::read_leftovers))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

fn control_plane() -> Router<Arc<App>> {
    Router::new()
        .route("/boxes", post(create::create).get(list::list))
        .route("/boxes/{name}", get(sandboxes::get).delete(sandboxes::delete).patch(update::update))
        .route("/boxes/{name}/status", get(sandboxes::status))
        .route("/boxes/{name}/start", post(sandboxes::start))
        .route("/boxes/{name}/stop", post(sandboxes::stop))
        .route("/boxes/{name}/snapshot", missing("snapshots"))
        .route("/boxes/{name}/service-url", post(services::create))
        .route("/boxes/{name}/service-urls", get(services::list).delete(services::revoke))
        .route("/boxes/{name}/download-url", post(links::create))
        .route("/events", get(events::events))
        .route("/snapshots", missing("snapshots"))
        .route("/snapshots/{*reference}", missing("snapshots"))
        .route("/snapshots-by-name/{*name}", missing("snapshots"))
        .route("/registries", missing("registries"))
        .route("/registries/{name}", missing("registries"))
        .route("/volumes", missing("volumes"))
        .route("/volumes/{name}", missing("volumes"))
        .route("/templates", missing("templates"))
        .route("/templates/{name}", missing("templates"))
        .route("/pools", missing("pools"))
        .route("/pools/{name}", missing("pools"))
        .route("/usage/costs", missing("usage costs"))
}

fn data_plane() -> Router<Arc<App>> {
    Router::new()
        .route("/execute", post(execute::execute))
        .route("/execute/ws", any(exec_socket::upgrade))
        .route("/execute/stream/start", post(exec_events::start))
        .route("/execute/stream/resume", post(exec_events::resume))
        .route("/commands", get(commands::list))
        .route("/commands/{command}", get(commands::get).delete(commands::kill))
        .route("/upload", post(files::upload).layer(DefaultBodyLimit::disable()))
        .route("/download", get(files::download))
        .route("/glob", post(files::glob))
        .route("/grep", post(files::grep))
        .route("/stat", post(files::stat))
        .route("/list", post(files::list))
        .route("/mkdir", post(files::make_directory))
        .route("/move", post(files::rename))
        .route("/files", delete(files::remove))
        .route(
            "/archive",
            get(files::pack).put(files::unpack).post(files::unpack).layer(DefaultBodyLimit::disable()),
        )
        .route("/tunnel", missing("tunnels"))
}

fn missing(feature: &'static str) -> MethodRouter<Arc<App>> {
    any(move || unsupported(feature))
}

async fn unsupported(feature: &'static str) -> ApiError {
    ApiError::unsupported(feature)
}

impl App {
    /// Over an engine, for those who have the key.
    #[must_use]
    pub fn new(engine: Arc<Engine>, key: ApiKey, services: Services, listen: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            engine,
            key,
            services,
            listen,
            stopping: CancellationToken::new(),
            ending: CancellationToken::new(),
            executes: Semaphore::new(EXECUTES_AT_ONCE),
            executes_of: Turns::new(EXECUTES_OF_SANDBOX),
            sockets: TaskTracker::new(),
            requests: TaskTracker::new(),
            metrics: Metrics::new(),
        })
    }

    /// A sandbox of the control plane, by name or id.
    fn sandbox(&self, reference: &str) -> Result<Arc<Sandbox>, ApiError> {
        let missing = || ApiError::not_found(format!("Sandbox '{reference}' not found"));
        self.engine.get(reference).ok_or_else(missing)
    }

    /// A sandbox of the data plane, once it is usable: a stopped one is started. It is not idle while the answer lives.
    async fn usable(&self, reference: &str) -> Result<InUse, ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::new(ErrorType::ServiceUnavailable, "the server is shutting down"));
        }
        Ok(self.sandbox(reference)?.enter().await?)
    }
}

/// The sandbox that a path names, percent-decoded.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|rejection| ApiError::invalid(rejection.body_text()))
    }
}

/// The header that tells benchmarks what a step took here, without the way to here.
fn server_timing(step: &str, took: Duration) -> [(HeaderName, String); 1] {
    let millis = took.as_secs_f64() * 1000.0;
    [(HeaderName::from_static("server-timing"), format!("{step};dur={millis:.3}"))]
}
