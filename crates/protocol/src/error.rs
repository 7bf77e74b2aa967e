//! Error types of the wire, error bodies, and the codes that name every failure in server, client and JS.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// The `error` member of error bodies and the `error_type` of error frames (sections 3.1 to 3.7).
    ErrorType {
        /// Reading a file failed.
        ReadError = "ReadError",
        /// Writing a file failed.
        WriteError = "WriteError",
        /// Running a command failed.
        CommandError = "CommandError",
        /// A command exceeded its limit.
        CommandTimeout = "CommandTimeout",
        /// No such command.
        CommandNotFound = "CommandNotFound",
        /// The command ended longer ago than its TTL.
        SessionExpired = "SessionExpired",
        /// The file does not exist.
        FileNotFound = "FileNotFound",
        /// Not allowed inside the sandbox.
        PermissionDenied = "PermissionDenied",
        /// The sandbox can't be reached.
        ConnectionError = "ConnectionError",
        /// The sandbox is not ready.
        NotReady = "NotReady",
        /// The server can't serve now; nothing happened.
        ServiceUnavailable = "ServiceUnavailable",
        /// The request makes no sense.
        InvalidRequest = "InvalidRequest",
        /// The key is missing or wrong.
        Unauthorized = "Unauthorized",
        /// No such resource.
        NotFound = "NotFound",
        /// The name is taken.
        Conflict = "Conflict",
        /// The configuration can't be kept here.
        SandboxConfig = "SandboxConfig",
        /// No room for another sandbox.
        Unschedulable = "Unschedulable",
        /// The wait for readiness ended first.
        Timeout = "Timeout",
        /// This server has no such feature.
        NotSupported = "NotSupported",
        /// The server failed.
        InternalError = "InternalError",
    }
}

named! {
    /// Names every failure; `error.code` in JS. One class of `lib/errors.js` belongs to each.
    ErrorCode {
        /// Any other failure (`SandboxClientError`).
        Client = "CLIENT_ERROR",
        /// The server failed or the URL is wrong (`SandboxAPIError`).
        Api = "API_ERROR",
        /// Missing or wrong key (`SandboxAuthenticationError`).
        Authentication = "AUTHENTICATION_FAILED",
        /// No connection, or it was lost (`SandboxConnectionError`).
        Connection = "CONNECTION_FAILED",
        /// The server refused for now (`SandboxRetryableConnectionError`).
        ConnectionRetryable = "CONNECTION_RETRYABLE",
        /// No connection in time (`SandboxConnectTimeoutError`).
        ConnectTimeout = "CONNECT_TIMEOUT",
        /// The server restarts, the command lives on (`SandboxServerReloadError`).
        ServerReload = "SERVER_RELOAD",
        /// No such resource (`ResourceNotFoundError`).
        NotFound = "RESOURCE_NOT_FOUND",
        /// Not ready in time (`ResourceTimeoutError`).
        ResourceTimeout = "RESOURCE_TIMEOUT",
        /// Still in use (`ResourceInUseError`).
        InUse = "RESOURCE_IN_USE",
        /// Exists already (`ResourceAlreadyExistsError`).
        AlreadyExists = "RESOURCE_ALREADY_EXISTS",
        /// The new name is taken (`ResourceNameConflictError`).
        NameConflict = "RESOURCE_NAME_CONFLICT",
        /// Bad input (`ValidationError`).
        Validation = "VALIDATION_FAILED",
        /// A quota is used up (`QuotaExceededError`).
        QuotaExceeded = "QUOTA_EXCEEDED",
        /// Provisioning failed (`ResourceCreationError`).
        Creation = "RESOURCE_CREATION_FAILED",
        /// The sandbox has no data plane (`DataplaneNotConfiguredError`).
        DataplaneNotConfigured = "DATAPLANE_NOT_CONFIGURED",
        /// The sandbox is not ready (`SandboxNotReadyError`).
        NotReady = "SANDBOX_NOT_READY",
        /// Run, read or write failed (`SandboxOperationError`).
        Operation = "OPERATION_FAILED",
        /// The command exceeded its limit (`CommandTimeoutError`).
        CommandTimeout = "COMMAND_TIMEOUT",
        /// This server or platform has no such feature (`UnsupportedError`).
        Unsupported = "UNSUPPORTED",
        /// The machine lacks what isolation needs (`IsolationError`).
        Isolation = "ISOLATION_UNAVAILABLE",
        /// Cancelled by the caller's signal; JS rejects with the signal's reason instead.
        Aborted = "ABORTED",
    }
}

impl ErrorCode {
    /// The JS class that carries this code.
    #[must_use]
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Client | Self::Aborted => "SandboxClientError",
            Self::Api => "SandboxAPIError",
            Self::Authentication => "SandboxAuthenticationError",
            Self::Connection => "SandboxConnectionError",
            Self::ConnectionRetryable => "SandboxRetryableConnectionError",
            Self::ConnectTimeout => "SandboxConnectTimeoutError",
            Self::ServerReload => "SandboxServerReloadError",
            Self::NotFound => "ResourceNotFoundError",
            Self::ResourceTimeout => "ResourceTimeoutError",
            Self::InUse => "ResourceInUseError",
            Self::AlreadyExists => "ResourceAlreadyExistsError",
            Self::NameConflict => "ResourceNameConflictError",
            Self::Validation => "ValidationError",
            Self::QuotaExceeded => "QuotaExceededError",
            Self::Creation => "ResourceCreationError",
            Self::DataplaneNotConfigured => "DataplaneNotConfiguredError",
            Self::NotReady => "SandboxNotReadyError",
            Self::Operation => "SandboxOperationError",
            Self::CommandTimeout => "CommandTimeoutError",
            Self::Unsupported => "UnsupportedError",
            Self::Isolation => "IsolationError",
        }
    }

    /// Whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ConnectionRetryable
                | Self::ConnectTimeout
                | Self::ServerReload
                | Self::ResourceTimeout
                | Self::NotReady
        )
    }
}

/// What could be read of an error body (section 3.1).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ErrorBody {
    /// The `error` member, as sent.
    pub error_type: Option<String>,
    /// Human-readable text, with the server's error id appended; `None` where the body has none.
    pub message: Option<String>,
    /// The server's id for this failure.
    pub error_id: Option<String>,
    /// The raw validation list, where the body is one.
    pub details: Option<Value>,
    /// The last element of the first validation item's `loc`.
    pub field: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    detail: Value,
}

#[derive(Serialize)]
struct Standard<'a> {
    error: &'a str,
    message: &'a str,
}

impl ErrorBody {
    /// Reads any of the three forms; what is none of them gives an empty value.
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.detail) {
            Ok(Value::String(text)) => Self { message: Some(text), ..Self::default() },
            Ok(Value::Array(items)) => Self::from_validation(items),
            Ok(Value::Object(detail)) => {
                let text = |key: &str| detail.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
                let error_id = text("error_id").map(str::to_owned);
                let message = text("message").map(|message| match &error_id {
                    Some(id) => format!("{message} (error_id={id})"),
                    None => message.to_owned(),
                });
                Self { error_type: text("error").map(str::to_owned), message, error_id, ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    fn from_validation(items: Vec<Value>) -> Self {
        let messages: Vec<&str> =
            items.iter().filter_map(|item| item.get("msg").and_then(Value::as_str)).collect();
        let message = (!messages.is_empty()).then(|| messages.join("; "));
        let field =
            items.first().and_then(|item| item.get("loc")?.as_array()?.last()).map(|last| match last {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
        Self { message, field, details: Some(Value::Array(items)), ..Self::default() }
    }

    /// Whether the validation list has an item of type `value_error`, which alone makes a refused create a
    /// validation error (section 3.3).
    #[must_use]
    pub fn has_value_error(&self) -> bool {
        let items = self.details.as_ref().and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(|item| item.get("type") == Some(&json!("value_error"))))
    }

    /// The standard body.
    #[must_use]
    pub fn standard(error_type: ErrorType, message: &str) -> Value {
        json!({ "detail": Standard { error: error_type.as_str(), message } })
    }

    /// The validation list with one item.
    #[must_use]
    pub fn validation(field: &str, message: &str) -> Value {
        json!({ "detail": [{ "loc": ["body", field], "msg": message, "type": "value_error" }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_standard_form() {
        let body = ErrorBody::parse(br#"{"detail":{"error":"NotReady","message":"wait","error_id":"e1"}}"#);
        assert_eq!(body.error_type.as_deref(), Some("NotReady"));
        assert_eq!(body.message.as_deref(), Some("wait (error_id=e1)"));
    }

    #[test]
    fn reads_the_validation_form() {
        let body = ErrorBody::parse(
            br#"{"detail":[{"loc":["body","vcpus"],"msg":"a","type":"value_error"},{"msg":"b"}]}"#,
        );
        assert_eq!(body.message.as_deref(), Some("a; b"));
        assert_eq!(body.field.as_deref(), Some("vcpus"));
        assert!(body.has_value_error());
    }

    #[test]
    fn reads_the_plain_form_and_survives_the_rest() {
        assert_eq!(ErrorBody::parse(br#"{"detail":"no"}"#).message.as_deref(), Some("no"));
        assert_eq!(ErrorBody::parse(br#"{"detail":{"error":"X"}}"#).message, None);
        assert_eq!(ErrorBody::parse(b"<html>"), ErrorBody::default());
        assert_eq!(ErrorBody::parse(b"[1]"), ErrorBody::default());
    }

    #[test]
    fn what_the_server_writes_is_read_back() {
        let written = ErrorBody::standard(ErrorType::Conflict, "taken").to_string();
        let read = ErrorBody::parse(written.as_bytes());
        assert_eq!((read.error_type.as_deref(), read.message.as_deref()), (Some("Conflict"), Some("taken")));
        let written = ErrorBody::validation("name", "too long").to_string();
        assert!(ErrorBody::parse(written.as_bytes()).has_value_error());
    }

    #[test]
    fn names_are_unique_and_parse() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
        }
        for kind in ErrorType::ALL {
            assert_eq!(ErrorType::parse(kind.as_str()), Some(*kind));
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ErrorBody::parse(&body);
        }
    }
}
