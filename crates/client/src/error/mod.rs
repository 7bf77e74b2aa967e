//! One error for every failure of the client: a code, a message, and facts for whoever handles it.

mod map;

use std::fmt;
use std::sync::Arc;

use sandwire_protocol::ErrorCode;
use serde::Serialize;
use serde_json::Value;

use crate::exec::CommandResult;

pub(crate) use map::{Refusal, Resource, control, creation, data_plane, error_frame, upgrade};

/// In which part of a command's life it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the server said that the command runs.
    Connect,
    /// While it ran.
    Stream,
}

/// What is known of a failure, under the names of the wire.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Details {
    /// Kind of the resource: `sandbox`, `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<&'static str>,
    /// Last status seen before a wait ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<String>,
    /// The server's own name for the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// The input at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The raw validation list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Which quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_type: Option<&'static str>,
    /// What was tried: `command`, `read`, `write`, `reconnect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    /// Limit that was exceeded, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// When the server wants to be asked again, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    /// The server's id for the request or the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Part of a command's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What the command had done until then. Its output can be large, so it does not travel as JSON.
    #[serde(skip)]
    pub result: Option<Arc<CommandResult>>,
}

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// A failure. Cheap to clone, because the end of a command is told to everyone who waits for it.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: ErrorCode,
    message: String,
    details: Details,
    /// Whether it will be the same next time, whatever holds for its code.
    permanent: bool,
    source: Option<Source>,
}

impl Error {
    /// A failure without further facts.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let (message, details) = (message.into(), Details::default());
        Self(Box::new(Inner { code, message, details, permanent: false, source: None }))
    }

    /// The caller cancelled.
    #[must_use]
    pub fn aborted() -> Self {
        Self::new(ErrorCode::Aborted, "the call was aborted")
    }

    /// The client was closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorCode::Client, "the client is closed")
    }

    pub(crate) fn with(mut self, fill: impl FnOnce(&mut Details)) -> Self {
        fill(&mut self.0.details);
        self
    }

    pub(crate) fn permanent(mut self) -> Self {
        self.0.permanent = true;
        self
    }

    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.0.code.retryable() && !self.0.permanent
    }

    /// Facts about it.
    #[must_use]
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    /// The text of what lies at the bottom of it.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        self.0.source.as_deref().map(|source| root_cause(source))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// The innermost text: libraries wrap "connection refused" in layers that say only that there was an error.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
