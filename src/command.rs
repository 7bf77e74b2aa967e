//! A handle to a remote command.

use std::sync::Arc;

use napi::Result;
use napi_derive::napi;
use sandwire_client::Command;
use sandwire_protocol::StreamKind;

use crate::bridge::{FlatBatch, InputBytes, Outcome, position};
use crate::result::NativeResult;

/// One attachment to a command. Collected by the garbage collector, it detaches.
#[napi]
#[derive(Debug)]
pub struct NativeCommand {
    inner: Arc<Command>,
}

impl NativeCommand {
    pub(crate) fn new(command: Command) -> Self {
        Self { inner: Arc::new(command) }
    }
}

#[napi]
impl NativeCommand {
    /// The id under which others can attach.
    #[napi(getter)]
    #[must_use]
    pub fn command_id(&self) -> String {
        self.inner.command_id().to_owned()
    }

    /// Process id inside the sandbox.
    #[napi(getter)]
    #[must_use]
    pub fn pid(&self) -> Option<i64> {
        self.inner.pid()
    }

    /// Position after the last byte of stdout that was handed over.
    #[napi(getter)]
    #[must_use]
    pub fn last_stdout_offset(&self) -> f64 {
        position(self.inner.position(StreamKind::Stdout))
    }

    /// Position after the last byte of stderr that was handed over.
    #[napi(getter)]
    #[must_use]
    pub fn last_stderr_offset(&self) -> f64 {
        position(self.inner.position(StreamKind::Stderr))
    }

    /// `[kind, data, offset, kind, ...]` as soon as there is a chunk; `null` at the end; the stream's error once.
    #[napi(ts_return_type = "Promise<Array<any> | null>")]
    pub async fn next_batch(&self) -> Result<Outcome<Option<FlatBatch>>> {
        Outcome::of(self.inner.next_batch().await.map(|batch| batch.map(FlatBatch)))
    }

    /// The loop was left: a waiting result need not hold output back for it. `nextBatch` takes it up again.
    #[napi]
    pub fn pause(&self) {
        self.inner.pause();
    }

    /// Waits for the end.
    #[napi(ts_return_type = "Promise<NativeResult>")]
    pub async fn result(&self) -> Result<Outcome<NativeResult>> {
        Outcome::of(self.inner.result().await.map(NativeResult::new))
    }

    /// Kills the command; `false` if it was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub async fn kill(&self) -> Result<Outcome<bool>> {
        Outcome::of(self.inner.kill().await)
    }

    /// Writes to stdin; `false` if the command was over.
    #[napi(ts_args_type = "data: Buffer", ts_return_type = "Promise<boolean>")]
    pub async fn send_input(&self, data: InputBytes) -> Result<Outcome<bool>> {
        Outcome::of(self.inner.send_input(data.0).await)
    }

    /// Ends stdin; `false` if the command was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub async fn close_input(&self) -> Result<Outcome<bool>> {
        Outcome::of(self.inner.close_input().await)
    }

    /// Ends the attachment. Idempotent.
    #[napi]
    pub fn detach(&self) {
        self.inner.detach();
    }
}
