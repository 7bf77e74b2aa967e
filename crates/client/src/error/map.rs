//! From what the server answered to an [`Error`]: the tables of sections 3.1 to 3.7 as pure functions.

use reqwest::StatusCode;
use sandwire_protocol::{ErrorBody, ErrorCode, ErrorType};

use super::{Error, Phase};

/// An HTTP answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: ErrorBody,
    /// Without secrets.
    pub(crate) url: String,
    pub(crate) retry_after: Option<f64>,
    pub(crate) request_id: Option<String>,
}

/// What a call on the data plane works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'a> {
    pub(crate) sandbox: &'a str,
    /// Set where a 404 can only mean this file.
    pub(crate) path: Option<&'a str>,
}

impl Refusal {
    fn is(&self, kind: ErrorType) -> bool {
        self.body.error_type.as_deref() == Some(kind.as_str())
    }

    fn unauthorized(&self) -> bool {
        self.status == 401 || self.is(ErrorType::Unauthorized)
    }

    fn message(&self) -> String {
        self.body.message.clone().unwrap_or_else(|| {
            let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
            format!("HTTP {}: {}", self.status, reason.unwrap_or("unknown status"))
        })
    }

    fn error(&self, code: ErrorCode) -> Error {
        self.error_saying(code, self.message())
    }

    fn error_saying(&self, code: ErrorCode, message: String) -> Error {
        Error::new(code, message).with(|details| {
            details.status = Some(self.status);
            details.error_type.clone_from(&self.body.error_type);
            details.retry_after = self.retry_after;
            details.request_id = self.request_id.clone().or_else(|| self.body.error_id.clone());
        })
    }

    fn validation(&self) -> Error {
        self.error(ErrorCode::Validation).with(|details| {
            details.field.clone_from(&self.body.field);
            details.details.clone_from(&self.body.details);
        })
    }

    fn quota(&self, otherwise: Option<&'static str>) -> Error {
        let quota = quota_type(&self.message()).or(otherwise);
        self.error(ErrorCode::QuotaExceeded).with(|details| details.quota_type = quota)
    }
}

/// The sandbox of the call does not exist.
fn no_sandbox(refusal: &Refusal, name: &str) -> Error {
    refusal
        .error_saying(ErrorCode::NotFound, format!("Sandbox '{name}' not found"))
        .with(|details| details.resource_type = Some("sandbox"))
}

/// Section 3.2, after the rules for one sandbox (3.4), whose name is given where the call has one.
pub(crate) fn control(refusal: &Refusal, sandbox: Option<&str>) -> Error {
    match (refusal.status, sandbox) {
        (404, Some(name)) => no_sandbox(refusal, name),
        (404, None) => refusal.error_saying(
            ErrorCode::Api,
            format!("{} ({}): is the endpoint right?", refusal.message(), refusal.url),
        ),
        _ => generic(refusal),
    }
}

fn generic(refusal: &Refusal) -> Error {
    match refusal.status {
        401 | 403 => refusal.error(ErrorCode::Authentication),
        404 => refusal.error(ErrorCode::NotFound),
        422 => refusal.validation(),
        429 => refusal.quota(None),
        500 => refusal.error(ErrorCode::Api),
        501 if refusal.is(ErrorType::NotSupported) => refusal.error(ErrorCode::Unsupported),
        502 if refusal.is(ErrorType::ConnectionError) => refusal.error(ErrorCode::Connection),
        _ => refusal.error(ErrorCode::Client),
    }
}

/// Section 3.3.
pub(crate) fn creation(refusal: &Refusal) -> Error {
    let failed = |error_type: Option<String>| {
        refusal.error(ErrorCode::Creation).with(|details| {
            details.resource_type = Some("sandbox");
            details.error_type = error_type;
        })
    };
    match refusal.status {
        408 => {
            refusal.error(ErrorCode::ResourceTimeout).with(|details| details.resource_type = Some("sandbox"))
        }
        409 if refusal.is(ErrorType::Conflict) => {
            refusal.error(ErrorCode::AlreadyExists).with(|details| details.resource_type = Some("sandbox"))
        }
        422 if refusal.body.has_value_error() => refusal.validation(),
        422 => failed(refusal.body.error_type.clone()),
        429 => refusal.quota(Some("unknown")),
        503 => failed(Some(
            refusal.body.error_type.clone().unwrap_or_else(|| ErrorType::Unschedulable.as_str().to_owned()),
        )),
        _ => generic(refusal),
    }
}

/// Guessed from the message, in this order (section 3.1).
fn quota_type(message: &str) -> Option<&'static str> {
    let text = message.to_lowercase();
    let has = |word: &str| text.contains(word);
    let counted = has("count") || has("limit");
    match () {
        () if has("sandbox") && counted => Some("sandbox_count"),
        () if has("cpu") => Some("cpu"),
        () if has("memory") => Some("memory"),
        () if has("volume") && counted => Some("volume_count"),
        () if has("storage") => Some("storage"),
        () => None,
    }
}

/// Section 3.5, in its order, after what the section leaves generic: a wrong key and a missing sandbox, which our
/// server tells apart from a missing file.
pub(crate) fn data_plane(refusal: &Refusal, resource: Resource<'_>) -> Error {
    let operation = |operation: Option<&'static str>| {
        refusal.error(ErrorCode::Operation).with(|details| details.operation = operation)
    };
    let missing = |message: String| {
        refusal
            .error_saying(ErrorCode::NotFound, message)
            .with(|details| details.resource_type = Some("file"))
    };
    if refusal.unauthorized() {
        return refusal.error(ErrorCode::Authentication);
    }
    if refusal.is(ErrorType::NotFound) {
        return no_sandbox(refusal, resource.sandbox);
    }
    if let (404, Some(path)) = (refusal.status, resource.path) {
        return missing(format!("File '{path}' not found in sandbox '{}'", resource.sandbox));
    }
    let status = refusal.status;
    match refusal.body.error_type.as_deref().and_then(ErrorType::parse) {
        Some(ErrorType::WriteError) => operation(Some("write")),
        Some(ErrorType::ReadError) => operation(Some("read")),
        Some(ErrorType::CommandError) => operation(Some("command")),
        _ if status == 403 => operation(None)
            .with(|details| details.error_type = Some(ErrorType::PermissionDenied.as_str().to_owned())),
        Some(ErrorType::ConnectionError) if status == 502 => refusal.error(ErrorCode::Connection),
        Some(ErrorType::NotReady) if status == 400 => refusal.error(ErrorCode::NotReady),
        Some(ErrorType::NotSupported) => refusal.error(ErrorCode::Unsupported),
        Some(ErrorType::ServiceUnavailable) if status == 503 => refusal.error(ErrorCode::NotReady),
        Some(ErrorType::FileNotFound) => missing(refusal.message()),
        _ if status == 404 => missing(refusal.message()),
        _ => refusal.error(ErrorCode::Client),
    }
}

/// Section 3.6, for answers that are HTTP, after a wrong key and a missing sandbox.
pub(crate) fn upgrade(refusal: &Refusal, sandbox: &str) -> Error {
    let (status, url) = (refusal.status, &refusal.url);
    let said = refusal.body.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let error = match status {
        _ if refusal.unauthorized() => refusal.error(ErrorCode::Authentication),
        _ if refusal.is(ErrorType::NotFound) => no_sandbox(refusal, sandbox),
        404 => refusal
            .error_saying(
                ErrorCode::Connection,
                format!("the server has no WebSocket exec endpoint at {url} (HTTP 404){said}"),
            )
            .permanent(),
        429 | 500 | 502 | 503 | 504 => refusal.error_saying(
            ErrorCode::ConnectionRetryable,
            format!("the server refused the connection to {url} for now (HTTP {status}){said}"),
        ),
        _ => refusal
            .error_saying(
                ErrorCode::Connection,
                format!("the server refused the connection to {url} (HTTP {status}){said}"),
            )
            .permanent(),
    };
    error.with(|details| details.phase = Some(Phase::Connect))
}

/// Section 3.7. `reconnecting` names the command of a `reconnect`; `timeout` is the limit that the caller set.
pub(crate) fn error_frame(
    error_type: &str,
    message: &str,
    reconnecting: Option<&str>,
    timeout: Option<f64>,
) -> Error {
    let text = if message.is_empty() { "the command failed" } else { message };
    let (code, message, operation) = match (ErrorType::parse(error_type), reconnecting) {
        (Some(ErrorType::CommandTimeout), _) => (ErrorCode::CommandTimeout, text.to_owned(), "command"),
        (Some(ErrorType::CommandNotFound), Some(id)) => {
            (ErrorCode::Operation, format!("Command not found: {id}"), "reconnect")
        }
        (Some(ErrorType::SessionExpired), Some(id)) => {
            (ErrorCode::Operation, format!("Session expired: {id}"), "reconnect")
        }
        (Some(ErrorType::NotSupported), _) => (ErrorCode::Unsupported, text.to_owned(), "command"),
        _ => (ErrorCode::Operation, text.to_owned(), "command"),
    };
    Error::new(code, message).with(|details| {
        details.operation = Some(operation);
        details.error_type = Some(error_type.to_owned());
        details.timeout = timeout.filter(|_| code == ErrorCode::CommandTimeout);
    })
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
