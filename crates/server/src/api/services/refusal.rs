//! What a service's host answers when there is no service: plain text, since a person in a browser reads it.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sandwire_protocol::ErrorType;

use super::access::LoginRefused;
use crate::api::ApiError;
use crate::engine::ConnectError;

/// The header that tells an answer of this server from one of the program.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-sandwire-service-error");

/// Why a request did not reach a program.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// One word for programs.
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn unauthorized() -> Self {
        let message = "This service needs a valid token of its own. Ask for a new service URL and open its browser_url, or \
                       send its token in the header X-Langsmith-Sandbox-Service-Token.";
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(super) fn too_many() -> Self {
        let message = "Too many connections to this sandbox are open. Try again when some have ended.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub(super) fn silent() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "The program on this port took the request and did not answer.",
        )
    }

    pub(super) fn confused() -> Self {
        let message = "The program on this port changed to a protocol that nobody asked for.";
        Self::new(StatusCode::BAD_GATEWAY, "ConnectionError", message)
    }

    pub(super) fn broken(error: &hyper::Error) -> Self {
        let message = format!("The program on this port does not answer in HTTP: {error}.");
        Self::new(StatusCode::BAD_GATEWAY, "ConnectionError", message)
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Port { port, source } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
                let message = format!(
                    "Nothing listens on port {port} of this sandbox. Start the program, then try again."
                );
                Self::new(StatusCode::BAD_GATEWAY, "ConnectionError", message)
            }
            ConnectError::Port { port, source } => {
                let message = format!("Port {port} of this sandbox can't be reached: {source}.");
                Self::new(StatusCode::BAD_GATEWAY, "ConnectionError", message)
            }
            ConnectError::Fault(fault) => ApiError::from(fault).into(),
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (status, kind, message) = error.into_parts();
        Self::new(status, kind.unwrap_or(ErrorType::InternalError).as_str(), message)
    }
}

impl From<LoginRefused> for Refusal {
    fn from(refused: LoginRefused) -> Self {
        let (status, message) = match refused {
            LoginRefused::Invalid => {
                (StatusCode::UNAUTHORIZED, "This link is not valid, or not valid any more.")
            }
            LoginRefused::Spent => (StatusCode::UNAUTHORIZED, "This link was used before; it works once."),
            LoginRefused::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Too many links are in use."),
        };
        Self::new(status, "Unauthorized", format!("{message} Ask for a new service URL."))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (MARK, HeaderValue::from_static(self.code)),
        ];
        (self.status, headers, self.message + "\n").into_response()
    }
}
