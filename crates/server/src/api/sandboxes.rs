//! One sandbox of the control plane: its object, its status, its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use sandwire_protocol::{ErrorType, ResourceStatus, RunConfig, Sandbox as Object};
use serde_json::Map;

use super::clock::rfc3339;
use super::{ApiError, App, Named};
use crate::engine::Sandbox;
use crate::store::StoreError;

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<Json<Object>, ApiError> {
    let sandbox = app.sandbox(&name)?;
    Ok(Json(app.object(&sandbox, &headers)))
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    Named(name): Named,
) -> Result<Json<ResourceStatus>, ApiError> {
    let (status, status_message) = app.sandbox(&name)?.status();
    Ok(Json(ResourceStatus { status: status.as_str().to_owned(), status_message }))
}

/// Answers when nothing runs any more; its files go in the background.
pub(super) async fn delete(State(app): State<Arc<App>>, Named(name): Named) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found(format!("Sandbox '{name}' not found"));
    app.engine.delete(&name).await?.ok_or_else(missing)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers at once; the status says when it is ready.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Object>), ApiError> {
    let sandbox = app.sandbox(&name)?;
    app.engine.begin_start(&sandbox)?;
    Ok((StatusCode::ACCEPTED, Json(app.object(&sandbox, &headers))))
}

/// Answers when nothing runs any more.
pub(super) async fn stop(State(app): State<Arc<App>>, Named(name): Named) -> Result<StatusCode, ApiError> {
    let sandbox = app.sandbox(&name)?;
    app.engine.stop(&sandbox).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorType::InternalError, error.to_string())
    }
}

impl App {
    /// The object as this client is to see it.
    pub(super) fn object(&self, sandbox: &Sandbox, headers: &HeaderMap) -> Object {
        let (status, status_message) = sandbox.status();
        let (created, updated) = sandbox.times();
        let settings = sandbox.settings();
        Object {
            id: Some(sandbox.id().to_string()),
            name: sandbox.name().to_string(),
            status: Some(status.as_str().to_owned()),
            status_message,
            dataplane_url: Some(format!("{}/sandboxes/{}", self.origin(headers), sandbox.id())),
            created_at: Some(rfc3339(created)),
            updated_at: Some(rfc3339(updated)),
            idle_ttl_seconds: Some(settings.idle_ttl_seconds),
            delete_after_stop_seconds: Some(settings.delete_after_stop_seconds),
            stopped_at: sandbox.stopped_at().map(rfc3339),
            snapshot_id: None,
            vcpus: settings.vcpus,
            mem_bytes: settings.mem_bytes,
            fs_capacity_bytes: None,
            cpu_millicores: settings.cpu_millicores,
            persistent: Some(settings.persistent),
            run_config: Some(settings.run_config.clone()).filter(|config| *config != RunConfig::default()),
            labels: Some(settings.labels.clone()),
            isolation: Some(self.engine.isolation().clone()),
            other: Map::new(),
        }
    }

    /// What clients reach this server by, without a path: what the operator said, else the host that this client used,
    /// which reaches this server from where the client is.
    pub(super) fn origin(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.engine.policy().public_url {
            return url.clone();
        }
        host(headers)
            .map_or_else(|| format!("http://{}", self.listen), |authority| format!("http://{authority}"))
    }

    /// The port of the host that the client used; `None` for the scheme's own.
    pub(super) fn port_of(&self, headers: &HeaderMap) -> Option<u16> {
        host(headers).map_or_else(|| Some(self.listen.port()), |authority| authority.port_u16())
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}
