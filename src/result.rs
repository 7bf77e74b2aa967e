//! The end of a command. Its output stays native until somebody reads it.

use std::sync::Arc;

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use sandwire_client::CommandResult;

use crate::bridge::{Text, position};

/// How a command ended, with its output.
#[napi]
#[derive(Debug)]
pub struct NativeResult {
    inner: Arc<CommandResult>,
}

impl NativeResult {
    pub(crate) fn new(inner: Arc<CommandResult>) -> Self {
        Self { inner }
    }
}

#[napi]
impl NativeResult {
    /// The exit code, where the server said one.
    #[napi(getter)]
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.inner.exit_code
    }

    /// `exited`, `killed`, `timed_out`, `lost` or `aborted`.
    #[napi(getter)]
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        self.inner.outcome.as_str()
    }

    /// The signal that ended it, where that is certain.
    #[napi(getter)]
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.inner.signal
    }

    /// From the sending of the frame that executed or attached to the command, to its `exit` or other end.
    #[napi(getter)]
    #[must_use]
    pub fn duration_ms(&self) -> f64 {
        self.inner.duration.as_secs_f64() * 1000.0
    }

    /// Standard output as one string.
    #[napi(getter, ts_return_type = "string")]
    #[must_use]
    pub fn stdout(&self) -> Text {
        Text(self.inner.stdout.text())
    }

    /// Standard error as one string.
    #[napi(getter, ts_return_type = "string")]
    #[must_use]
    pub fn stderr(&self) -> Text {
        Text(self.inner.stderr.text())
    }

    /// Standard output as bytes.
    #[napi]
    #[must_use]
    pub fn stdout_bytes_buffer(&self) -> Buffer {
        Buffer::from(self.inner.stdout.bytes())
    }

    /// Standard error as bytes.
    #[napi]
    #[must_use]
    pub fn stderr_bytes_buffer(&self) -> Buffer {
        Buffer::from(self.inner.stderr.bytes())
    }

    /// Bytes of standard output that came, kept or not.
    #[napi(getter)]
    #[must_use]
    pub fn stdout_bytes(&self) -> f64 {
        position(self.inner.stdout.total())
    }

    /// Bytes of standard error that came, kept or not.
    #[napi(getter)]
    #[must_use]
    pub fn stderr_bytes(&self) -> f64 {
        position(self.inner.stderr.total())
    }

    /// Whether only head and tail of standard output are kept.
    #[napi(getter)]
    #[must_use]
    pub fn stdout_truncated(&self) -> bool {
        self.inner.stdout.truncated()
    }

    /// Whether only head and tail of standard error are kept.
    #[napi(getter)]
    #[must_use]
    pub fn stderr_truncated(&self) -> bool {
        self.inner.stderr.truncated()
    }

    /// `[{ stream, from, to }]` as JSON.
    #[napi(getter)]
    #[must_use]
    pub fn gaps(&self) -> String {
        serde_json::to_string(&self.inner.gaps).unwrap_or_else(|_| "[]".to_owned())
    }
}
