//! Making a sandbox (section 2.3). A setting that can't be kept is refused by its name, never ignored.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use sandwire_protocol::limits::{CONTROL_BODY_MAX, CREATE_WAIT_DEFAULT, CREATE_WAIT_MAX, MEMORY_MIN};
use sandwire_protocol::{CreateSandbox, ErrorType, ResourceLimits};
use serde_json::{Map, Value};

use super::{ApiError, App, read_body, server_timing};
use crate::engine::{CreateFailed, Refused, Sandbox, Settings, name};

/// Settings of the protocol that this server can't keep yet, beside those with a field of their own.
const UNSUPPORTED: &[&str] = &[
    "access_delegation",
    "cpu_millicores",
    "env_vars",
    "labels",
    "mount_config",
    "mounts",
    "persistent",
    "preserve_memory_on_stop",
    "restore_memory",
    "run_config",
    "tag_value_ids",
    "ttl_seconds",
    "volumes",
];

pub(super) async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let request = parse(&read_body(body, CONTROL_BODY_MAX).await?)?;
    let settings = settings(&request, app.engine.isolation().limits)?;
    let wait = wait(&request)?;
    let sandbox = app.engine.create(request.name.filter(|name| !name.is_empty()), settings)?;
    if let Some(limit) = wait {
        wait_until_ready(&app, &sandbox, limit).await?;
    }
    let timing = wait.and(sandbox.making()).map(|took| server_timing("create", took));
    Ok((StatusCode::CREATED, timing, Json(app.object(&sandbox, &headers))))
}

fn parse(body: &[u8]) -> Result<CreateSandbox, ApiError> {
    if body.is_empty() {
        return Ok(CreateSandbox::default());
    }
    let fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| ApiError::validation("body", error.to_string()))?;
    // Field by field first: serde does not say which one it stumbled over.
    for (field, value) in &fields {
        let alone = Value::Object(Map::from_iter([(field.clone(), value.clone())]));
        serde_json::from_value::<CreateSandbox>(alone)
            .map_err(|error| ApiError::validation(field, error.to_string()))?;
    }
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| ApiError::validation("body", error.to_string()))
}

/// How long to hold the request.
fn wait(request: &CreateSandbox) -> Result<Option<Duration>, ApiError> {
    let seconds = request.timeout.unwrap_or(CREATE_WAIT_DEFAULT);
    if seconds == 0 || seconds > CREATE_WAIT_MAX {
        return Err(ApiError::validation("timeout", format!("must be 1 to {CREATE_WAIT_MAX} seconds")));
    }
    Ok((request.wait_for_ready == Some(true)).then(|| Duration::from_secs(seconds)))
}

fn settings(request: &CreateSandbox, can: ResourceLimits) -> Result<Settings, ApiError> {
    check_fields(request)?;
    if let Some(reason) = request.name.as_deref().filter(|name| !name.is_empty()).and_then(name::refusal) {
        return Err(ApiError::validation("name", reason));
    }
    for (field, value) in [
        ("idle_ttl_seconds", request.idle_ttl_seconds),
        ("delete_after_stop_seconds", request.delete_after_stop_seconds),
    ] {
        if value.is_some_and(|seconds| seconds % 60 != 0) {
            return Err(ApiError::validation(field, "must be a multiple of 60"));
        }
    }
    if request.idle_ttl_seconds.is_some_and(|seconds| seconds > 0) {
        return Err(ApiError::unsupported("idle_ttl_seconds other than 0, as sandboxes can't be stopped"));
    }
    if request.vcpus == Some(0) {
        return Err(ApiError::validation("vcpus", "must be positive"));
    }
    if request.mem_bytes.is_some_and(|bytes| bytes < MEMORY_MIN) {
        return Err(ApiError::validation("mem_bytes", format!("must be at least {MEMORY_MIN}")));
    }
    keepable("mem_bytes", request.mem_bytes.is_some(), can.memory)?;
    keepable("vcpus", request.vcpus.is_some(), can.cpu)?;
    Ok(Settings {
        mem_bytes: request.mem_bytes,
        vcpus: request.vcpus,
        delete_after_stop_seconds: request.delete_after_stop_seconds,
    })
}

fn check_fields(request: &CreateSandbox) -> Result<(), ApiError> {
    let given = [
        ("snapshot_id", request.snapshot_id.is_some()),
        ("snapshot", request.snapshot.is_some()),
        ("snapshot_name", request.snapshot_name.is_some()),
        ("template_name", request.template_name.is_some()),
        ("fs_capacity_bytes", request.fs_capacity_bytes.is_some()),
        ("proxy_config", request.proxy_config.as_ref().is_some_and(|config| !config.is_null())),
    ];
    if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
        return Err(ApiError::unsupported(field));
    }
    for (field, value) in request.other.iter().filter(|(_, value)| !value.is_null()) {
        // No sandbox stops here, so its files persist for as long as it is there.
        if field == "persistent" && value == &Value::Bool(true) {
            continue;
        }
        return Err(match UNSUPPORTED.contains(&field.as_str()) {
            true => ApiError::unsupported(field),
            false => ApiError::validation(field, "is not a known field"),
        });
    }
    Ok(())
}

fn keepable(field: &str, asked: bool, can: bool) -> Result<(), ApiError> {
    if asked && !can {
        let message = format!("{field}: this machine can't keep that limit; `sandwired doctor` says why");
        return Err(ApiError::new(ErrorType::SandboxConfig, message));
    }
    Ok(())
}

async fn wait_until_ready(app: &App, sandbox: &Sandbox, limit: Duration) -> Result<(), ApiError> {
    match tokio::time::timeout(limit, sandbox.provisioned()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failed)) => {
            // Its maker is told here; a failed sandbox that only takes its name away helps nobody.
            app.engine.remove(&sandbox.id().to_string());
            Err(failed.into())
        }
        Err(_) => {
            let (status, _) = sandbox.status();
            let message = format!("not ready within {} s; last status: {}", limit.as_secs(), status.as_str());
            Err(ApiError::new(ErrorType::Timeout, message))
        }
    }
}

impl From<CreateFailed> for ApiError {
    fn from(failed: CreateFailed) -> Self {
        let kind = if failed.unsupported { ErrorType::SandboxConfig } else { ErrorType::InternalError };
        Self::with_status(StatusCode::UNPROCESSABLE_ENTITY, kind, failed.message)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::Taken(_) => ErrorType::Conflict,
            Refused::NoRoom(_) => ErrorType::Unschedulable,
        };
        Self::new(kind, refused.to_string())
    }
}
