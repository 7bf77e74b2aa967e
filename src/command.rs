//! A handle to a remote command.

use std::sync::Arc;

use napi::{Env, Result};
use napi_derive::napi;
use sandwire_client::{Backoff, Command, Error, RECONNECTS_MAX, Want};
use sandwire_protocol::extension::UnknownSignal;
use sandwire_protocol::{ErrorCode, Signal, StreamKind};

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

    /// Whether `nextBatch` of both streams would resolve at once.
    #[napi(getter)]
    #[must_use]
    pub fn ready(&self) -> bool {
        self.inner.is_ready(Want::All)
    }

    /// Whether the server knows the extension: signals, terminal sizes, any bytes on stdin.
    #[napi(getter)]
    #[must_use]
    pub fn extended(&self) -> bool {
        self.inner.extended()
    }

    /// `[tag, data, offset, tag, ...]` as soon as there is something, of both streams or of the one given (0 stdout, 1
    /// stderr); `null` at the end; the stream's error once.
    #[napi(ts_return_type = "Promise<Array<any> | null>")]
    pub fn next_batch<'env>(
        &self,
        env: &'env Env,
        only: Option<u8>,
    ) -> Result<Promised<'env, Option<FlatBatch>>> {
        let command = Arc::clone(&self.inner);
        let want = only.map_or(Want::All, |number| Want::Only(stream(number)));
        promise(env, async move { Ok(command.next_batch(want).await?.map(FlatBatch)) })
    }

    /// From now on bytes instead of strings, or the other way round.
    #[napi]
    pub fn set_raw(&self, raw: bool) {
        self.inner.set_raw(raw);
    }

    /// Nobody takes this stream any more (0 stdout, 1 stderr): only the result keeps of it.
    #[napi]
    pub fn discard(&self, number: u8) {
        self.inner.discard(stream(number));
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

    /// Sends a signal by its name; `false` if the command was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn signal<'env>(&self, env: &'env Env, name: String) -> Result<Promised<'env, bool>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move {
            let signal = name.parse::<Signal>();
            command.signal(signal.map_err(|error| unknown(&name, error))?).await
        })
    }

    /// Gives the terminal another size; `false` if the command was over.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn resize<'env>(&self, env: &'env Env, cols: u16, rows: u16) -> Result<Promised<'env, bool>> {
        let command = Arc::clone(&self.inner);
        promise(env, async move { command.resize(cols, rows).await })
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

fn stream(number: u8) -> StreamKind {
    if number == 0 { StreamKind::Stdout } else { StreamKind::Stderr }
}

fn unknown(name: &str, error: UnknownSignal) -> Error {
    Error::new(ErrorCode::Validation, format!("kill: {name}: {error}"))
}

/// How lost connections are made again.
#[napi(object)]
#[derive(Debug)]
pub struct ReconnectPolicy {
    /// Attempts in a row, without progress in between.
    pub attempts: u32,
    /// Pause before the first, seconds; it doubles each time.
    pub backoff_base: f64,
    /// Longest pause, seconds.
    pub backoff_max: f64,
}

/// What `lib/` shows as constants.
#[napi]
#[must_use]
pub fn reconnect_policy() -> ReconnectPolicy {
    let Backoff { base, max } = Backoff::default();
    ReconnectPolicy {
        attempts: RECONNECTS_MAX,
        backoff_base: base.as_secs_f64(),
        backoff_max: max.as_secs_f64(),
    }
}
