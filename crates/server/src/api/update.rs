//! Changing a sandbox (section 2.7).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use sandwire_protocol::{Sandbox as Object, UpdateSandbox};

use super::request::{self, Resources};
use super::{ApiError, App, Named, body};
use crate::engine::{Update, name};

/// Settings of the protocol that can't be changed here, beside those with a field of their own.
const UNSUPPORTED: &[&str] = &["tag_value_ids"];

pub(super) async fn update(
    State(app): State<Arc<App>>,
    Named(reference): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Object>, ApiError> {
    let request: UpdateSandbox = body::settings(body).await?;
    let sandbox = app.sandbox(&reference)?;
    let update = check(&app, request)?;
    if update != Update::default() {
        app.engine.update(&sandbox, &update).await?;
    }
    Ok(Json(app.object(&sandbox, &headers)))
}

fn check(app: &App, request: UpdateSandbox) -> Result<Update, ApiError> {
    if request.proxy_config.is_some() {
        return Err(ApiError::unsupported("proxy_config"));
    }
    if request.fs_capacity_bytes.is_some() {
        return Err(ApiError::unsupported("fs_capacity_bytes"));
    }
    request::check_others(&request.other, UNSUPPORTED, |_, value| {
        value.as_array().is_some_and(Vec::is_empty)
    })?;
    if let Some(reason) = request.name.as_deref().and_then(name::refusal) {
        return Err(ApiError::validation("name", reason));
    }
    request::check_minutes("idle_ttl_seconds", request.idle_ttl_seconds)?;
    request::check_minutes("delete_after_stop_seconds", request.delete_after_stop_seconds)?;
    let UpdateSandbox { vcpus, cpu_millicores, mem_bytes, .. } = request;
    Resources { vcpus, cpu_millicores, mem_bytes }.check(app.engine.isolation().limits)?;
    request.run_config.as_ref().map_or(Ok(()), request::check_run_config)?;
    Ok(Update {
        name: request.name,
        idle_ttl_seconds: request.idle_ttl_seconds,
        delete_after_stop_seconds: request.delete_after_stop_seconds,
        mem_bytes,
        vcpus,
        cpu_millicores,
        run_config: request.run_config,
    })
}
