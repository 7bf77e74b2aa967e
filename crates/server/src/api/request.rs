//! What is asked of a new sandbox or one that changes: every field is checked, and refused by its name.

use std::collections::BTreeMap;

use sandwire_protocol::limits::{LABEL_TEXT_MAX, LABELS_MAX, MEMORY_MIN, TTL_SECONDS_MAX};
use sandwire_protocol::{ErrorType, ResourceLimits, RunConfig};
use serde_json::{Map, Value};

use super::ApiError;

/// Fields without a place in the request's type: what the protocol has and this server has not is told so; `harmless`
/// says which values of those mean nothing.
pub(super) fn check_others(
    others: &Map<String, Value>,
    unsupported: &[&str],
    harmless: impl Fn(&str, &Value) -> bool,
) -> Result<(), ApiError> {
    let asks = |(field, value): &(&String, &Value)| !value.is_null() && !harmless(field, value);
    match others.iter().find(asks) {
        Some((field, _)) if unsupported.contains(&field.as_str()) => Err(ApiError::unsupported(field)),
        Some((field, _)) => Err(ApiError::validation(field, "is not a known field")),
        None => Ok(()),
    }
}

/// Times to live are whole minutes.
pub(super) fn check_minutes(field: &str, seconds: Option<u64>) -> Result<(), ApiError> {
    match seconds {
        Some(seconds) if seconds % 60 != 0 => Err(ApiError::validation(field, "must be a multiple of 60")),
        Some(seconds) if seconds > TTL_SECONDS_MAX => {
            Err(ApiError::validation(field, format!("must be at most {TTL_SECONDS_MAX}; 0 is for ever")))
        }
        _ => Ok(()),
    }
}

/// Resources that were asked for.
pub(super) struct Resources {
    pub(super) vcpus: Option<u32>,
    pub(super) cpu_millicores: Option<u32>,
    pub(super) mem_bytes: Option<u64>,
}

impl Resources {
    /// Refuses what makes no sense, and what this machine can't keep.
    pub(super) fn check(&self, can: ResourceLimits) -> Result<(), ApiError> {
        for (field, value) in [("vcpus", self.vcpus), ("cpu_millicores", self.cpu_millicores)] {
            if value == Some(0) {
                return Err(ApiError::validation(field, "must be positive"));
            }
            keepable(field, value.is_some(), can.cpu)?;
        }
        if self.mem_bytes.is_some_and(|bytes| bytes < MEMORY_MIN) {
            return Err(ApiError::validation("mem_bytes", format!("must be at least {MEMORY_MIN}")));
        }
        keepable("mem_bytes", self.mem_bytes.is_some(), can.memory)
    }
}

fn keepable(field: &str, asked: bool, can: bool) -> Result<(), ApiError> {
    if asked && !can {
        let message = format!("{field}: this machine can't keep that limit; `sandwired doctor` says why");
        return Err(ApiError::new(ErrorType::SandboxConfig, message));
    }
    Ok(())
}

/// Defaults of commands. Whether the user exists is known only when a command runs.
pub(super) fn check_run_config(config: &RunConfig) -> Result<(), ApiError> {
    let field = "run_config";
    if config.work_dir.as_deref().is_some_and(|dir| !dir.starts_with('/') || dir.contains('\0')) {
        return Err(ApiError::validation(field, "work_dir must be an absolute path"));
    }
    if config.user.as_deref().is_some_and(|user| user.is_empty() || user.contains('\0')) {
        return Err(ApiError::validation(field, "user must be a name, a uid, name:group or uid:gid"));
    }
    check_variables(field, config.env_vars.as_ref())
}

pub(super) fn check_variables(
    field: &str,
    variables: Option<&BTreeMap<String, String>>,
) -> Result<(), ApiError> {
    let bad = |(name, value): &(&String, &String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    match variables.into_iter().flatten().find(bad) {
        // The value may be a secret.
        Some((name, _)) => Err(ApiError::validation(
            field,
            format!("{name:?} can't be an environment variable with that value"),
        )),
        None => Ok(()),
    }
}

pub(super) fn check_labels(labels: Option<&BTreeMap<String, String>>) -> Result<(), ApiError> {
    let Some(labels) = labels else { return Ok(()) };
    let long = |text: &String| text.len() > LABEL_TEXT_MAX;
    if labels.len() > LABELS_MAX {
        return Err(ApiError::validation("labels", format!("there must be at most {LABELS_MAX}")));
    }
    if labels.iter().any(|(key, value)| key.is_empty() || key.contains('=') || long(key) || long(value)) {
        let message = format!(
            "keys must have 1 to {LABEL_TEXT_MAX} bytes and no '=', values at most {LABEL_TEXT_MAX} bytes"
        );
        return Err(ApiError::validation("labels", message));
    }
    Ok(())
}
