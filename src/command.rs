//! A handle to a remote command.

use std::sync::Arc;

use napi::{Env, Result};
use napi_derive::napi;
use sandwire_client::Command;
use sandwire_protocol::StreamKind;

use crate::bridge::{FlatBatch, InputBytes, Promised, position, promise};
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

    /// Whether `nextBatch` would resolve at once.
    #[napi(getter)]
    #[must_use]
    pub fn ready(&self) -> bool {
        self.inner.is_ready()
    }

    /// `[kind, data, offset, kind, ...]` as soon as there is a chunk; `null` at the end; the stream's error once.
    #[napi(ts_return_type = "Promise<Array<any> | null>")]
    pub fn next_batch<'env>(&self, env: &'env Env) -> Result<Promised<'env, Option<FlatBatch>>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { Ok(command.next_batch().await?.map(FlatBatch)) })
    }

    /// The loop was left: a waiting result need not hold output back for it. `nextBatch` takes it up again.
    #[napi]
    pub fn pause(&self) {
        self.inner.pause();
    }

    /// Waits for the end.
    #[napi(ts_return_type = "Promise<NativeResult>")]
    pub fn result<'env>(&self, env: &'env Env) -> Result<Promised<'env, NativeResult>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { command.result().await.map(NativeResult::new) })
    }

    /// Kills the command; `false` if it was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn kill<'env>(&self, env: &'env Env) -> Result<Promised<'env, bool>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { command.kill().await })
    }

    /// Writes to stdin; `false` if the command was over.
    #[napi(ts_args_type = "data: Buffer", ts_return_type = "Promise<boolean>")]
    pub fn send_input<'env>(&self, env: &'env Env, data: InputBytes) -> Result<Promised<'env, bool>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { command.send_input(data.0).await })
    }

    /// Ends stdin; `false` if the command was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn close_input<'env>(&self, env: &'env Env) -> Result<Promised<'env, bool>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { command.close_input().await })
    }

    /// Ends the attachment. Idempotent.
    #[napi]
    pub fn detach(&self) {
        self.inner.detach();
    }
}
