//! Making a sandbox (section 2.3). A setting that can't be kept is refused by its name, never ignored.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use sandwire_protocol::limits::{CREATE_WAIT_DEFAULT, CREATE_WAIT_MAX};
use sandwire_protocol::{CreateSandbox, ErrorType, SandboxStatus};
use serde_json::Value;

use super::request::{self, Resources};
use super::{ApiError, App, body, server_timing};
use crate::engine::{CreateFailed, Created, Refused, Sandbox, Settings, name};

/// Settings of the protocol that this server can't keep, beside those with a field of their own.
const UNSUPPORTED: &[&str] = &[
    "access_delegation",
    "mount_config",
    "mounts",
    "preserve_memory_on_stop",
    "restore_memory",
    "tag_value_ids",
    "ttl_seconds",
    "volumes",
];

pub(super) async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let request: CreateSandbox = body::settings(body).await?;
    let settings = settings(&app, &request)?;
    let wait = wait(&request)?;
    let name = request.name.filter(|name| !name.is_empty());
    let Created { sandbox, fresh } = app.engine.create(name, settings).await?;
    if let Some(limit) = wait {
        if !fresh && sandbox.status().0 == SandboxStatus::Stopped {
            // Who waits wants one that is ready. Somebody else may have started it meanwhile: just as well.
            let _started = app.engine.begin_start(&sandbox);
        }
        wait_until_ready(&app, &sandbox, limit, fresh).await?;
    }
    let timing = wait.and(sandbox.making()).map(|took| server_timing("create", took));
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, timing, Json(app.object(&sandbox, &headers))))
}

/// How long to hold the request.
fn wait(request: &CreateSandbox) -> Result<Option<Duration>, ApiError> {
    let seconds = request.timeout.unwrap_or(CREATE_WAIT_DEFAULT);
    if seconds == 0 || seconds > CREATE_WAIT_MAX {
        return Err(ApiError::validation("timeout", format!("must be 1 to {CREATE_WAIT_MAX} seconds")));
    }
    Ok((request.wait_for_ready == Some(true)).then(|| Duration::from_secs(seconds)))
}

fn settings(app: &App, request: &CreateSandbox) -> Result<Settings, ApiError> {
    check_fields(request)?;
    if let Some(reason) = request.name.as_deref().filter(|name| !name.is_empty()).and_then(name::refusal) {
        return Err(ApiError::validation("name", reason));
    }
    request::check_minutes("idle_ttl_seconds", request.idle_ttl_seconds)?;
    request::check_minutes("delete_after_stop_seconds", request.delete_after_stop_seconds)?;
    let CreateSandbox { vcpus, cpu_millicores, mem_bytes, .. } = *request;
    Resources { vcpus, cpu_millicores, mem_bytes }.check(app.engine.isolation().limits)?;
    request.run_config.as_ref().map_or(Ok(()), request::check_run_config)?;
    request::check_variables("env_vars", request.env_vars.as_ref())?;
    request::check_labels(request.labels.as_ref())?;
    let policy = app.engine.policy();
    Ok(Settings {
        mem_bytes,
        vcpus,
        cpu_millicores,
        idle_ttl_seconds: request.idle_ttl_seconds.unwrap_or(policy.idle_ttl_default),
        delete_after_stop_seconds: request
            .delete_after_stop_seconds
            .unwrap_or(policy.delete_after_stop_default),
        persistent: request.persistent.unwrap_or(true),
        run_config: request.run_config.clone().unwrap_or_default(),
        env_vars: request.env_vars.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
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
    request::check_others(&request.other, UNSUPPORTED, means_nothing)
}

/// Values that ask for what is the case anyway.
fn means_nothing(field: &str, value: &Value) -> bool {
    match field {
        "preserve_memory_on_stop" | "restore_memory" => value == &Value::Bool(false),
        "tag_value_ids" | "volumes" | "mounts" => value.as_array().is_some_and(Vec::is_empty),
        "ttl_seconds" => value == 0,
        _ => false,
    }
}

async fn wait_until_ready(
    app: &App,
    sandbox: &Sandbox,
    limit: Duration,
    fresh: bool,
) -> Result<(), ApiError> {
    match tokio::time::timeout(limit, sandbox.provisioned()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failed)) => {
            // Its maker is told here; a failed sandbox that only takes its name away helps nobody.
            if fresh {
                app.engine.delete(&sandbox.id().to_string()).await?;
            }
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
            Refused::State(_) => ErrorType::InvalidRequest,
            Refused::Gone(_) => ErrorType::NotFound,
            Refused::Limits(_) => ErrorType::SandboxConfig,
            Refused::Store(_) => ErrorType::InternalError,
        };
        Self::new(kind, refused.to_string())
    }
}
