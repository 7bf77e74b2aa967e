//! Error answers in the standard form (section 3.1).

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sandwire_protocol::{ErrorBody, ErrorType};
use serde_json::Value;

use crate::engine::Fault;

/// Generated clients repeat every status from 500 on, unless this says that it is in vain.
const NO_RETRY: [(&str, &str); 1] = [("x-should-retry", "false")];

/// An error answer.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
}

impl ApiError {
    /// With the status that belongs to the type.
    pub(super) fn new(kind: ErrorType, message: impl AsRef<str>) -> Self {
        Self::with_status(status(kind), kind, message)
    }

    pub(super) fn with_status(status: StatusCode, kind: ErrorType, message: impl AsRef<str>) -> Self {
        Self { status, body: ErrorBody::standard(kind, message.as_ref()) }
    }

    pub(super) fn invalid(message: impl AsRef<str>) -> Self {
        Self::new(ErrorType::InvalidRequest, message)
    }

    pub(super) fn not_found(message: impl AsRef<str>) -> Self {
        Self::new(ErrorType::NotFound, message)
    }

    /// The list form, which alone clients take for a validation error.
    pub(super) fn validation(field: &str, message: impl AsRef<str>) -> Self {
        let message = format!("{field}: {}", message.as_ref());
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: ErrorBody::validation(field, &message) }
    }

    /// A feature that this server has not.
    pub(super) fn unsupported(feature: &str) -> Self {
        Self::new(ErrorType::NotSupported, format!("this server does not support {feature}"))
    }

    /// A body over its limit.
    pub(super) fn too_large(message: impl AsRef<str>) -> Self {
        Self::with_status(StatusCode::PAYLOAD_TOO_LARGE, ErrorType::InvalidRequest, message)
    }

    /// For an answer in another form: status, type and message.
    pub(super) fn into_parts(self) -> (StatusCode, Option<ErrorType>, String) {
        let text = |key: &str| self.body.pointer(&format!("/detail/{key}")).and_then(Value::as_str);
        let kind = text("error").and_then(ErrorType::parse);
        (self.status, kind, text("message").unwrap_or_default().to_owned())
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the path does not have this method";
        Self::with_status(StatusCode::METHOD_NOT_ALLOWED, ErrorType::InvalidRequest, message)
    }
}

/// The body of an answer with a server's error, beside it, for those who have to add to it.
#[derive(Clone)]
pub(super) struct Problem(pub(super) Value);

fn status(kind: ErrorType) -> StatusCode {
    match kind {
        ErrorType::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorType::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorType::NotFound | ErrorType::FileNotFound | ErrorType::CommandNotFound => StatusCode::NOT_FOUND,
        ErrorType::SessionExpired => StatusCode::GONE,
        ErrorType::Conflict => StatusCode::CONFLICT,
        ErrorType::Timeout => StatusCode::REQUEST_TIMEOUT,
        ErrorType::SandboxConfig => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorType::NotSupported => StatusCode::NOT_IMPLEMENTED,
        ErrorType::ServiceUnavailable | ErrorType::Unschedulable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorType::ConnectionError => StatusCode::BAD_GATEWAY,
        ErrorType::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // A feature that is missing is no incident.
        if self.status == StatusCode::NOT_IMPLEMENTED {
            return (self.status, NO_RETRY, Json(self.body)).into_response();
        }
        if self.status.is_server_error() {
            let problem = Problem(self.body.clone());
            return (self.status, Extension(problem), Json(self.body)).into_response();
        }
        (self.status, Json(self.body)).into_response()
    }
}
