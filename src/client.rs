//! A client.
#![expect(
    clippy::too_many_arguments,
    reason = "flat arguments cross to Rust without an object to take apart"
)]

use napi::bindgen_prelude::Buffer;
use napi::{Env, Result};
use napi_derive::napi;
use sandwire_client::{Client, Error};
use sandwire_protocol::{CommandSpec, ErrorCode};

use crate::bridge::{Cancel, InputBytes, Promised, coded, promise};
use crate::command::NativeCommand;
use crate::config::{CallOptions, NativeConfig, StreamOptions, Target, offset, seconds};
use crate::result::NativeResult;

/// Speaks to one server.
#[napi]
#[derive(Debug)]
pub struct NativeClient {
    inner: Client,
}

#[napi]
impl NativeClient {
    /// Nothing is sent yet. Throws the coded error of a bad configuration.
    #[napi(constructor)]
    pub fn new(env: Env, config: NativeConfig) -> Result<Self> {
        match config.checked().and_then(Client::new) {
            Ok(inner) => Ok(Self { inner }),
            Err(error) => Err(coded(&env, &error)?),
        }
    }

    /// Creates a sandbox.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn create_sandbox<'env>(
        &self,
        env: &'env Env,
        body: String,
        wait_seconds: f64,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, String>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.create_sandbox(body, seconds(wait_seconds), &call?).await })
    }

    /// A sandbox by name.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn get_sandbox<'env>(
        &self,
        env: &'env Env,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, String>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.get_sandbox(&name, &call?).await })
    }

    /// The sandboxes as a JSON array.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn list_sandboxes<'env>(
        &self,
        env: &'env Env,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, String>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.list_sandboxes(&call?).await })
    }

    /// Deletes a sandbox.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn delete_sandbox<'env>(
        &self,
        env: &'env Env,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, ()>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.delete_sandbox(&name, &call?).await })
    }

    /// A sandbox's status.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn sandbox_status<'env>(
        &self,
        env: &'env Env,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, String>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.sandbox_status(&name, &call?).await })
    }

    /// Waits until a sandbox is ready; times in seconds.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn wait_for_sandbox<'env>(
        &self,
        env: &'env Env,
        name: String,
        timeout: f64,
        poll_interval: f64,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, String>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        let (timeout, interval) = (seconds(timeout), seconds(poll_interval));
        promise(env, async move { client.wait_for_sandbox(&name, timeout, interval, &call?).await })
    }

    /// Starts a command; resolves when it runs.
    #[napi(ts_return_type = "Promise<NativeCommand>")]
    pub fn run<'env>(
        &self,
        env: &'env Env,
        target: Target,
        spec: String,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, NativeCommand>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move {
            let running = client.run(&target.into(), command_spec(&spec)?, options.into(), &call?).await;
            running.map(NativeCommand::new)
        })
    }

    /// Runs a command to its end; cancelling kills it.
    #[napi(ts_return_type = "Promise<NativeResult>")]
    pub fn run_to_end<'env>(
        &self,
        env: &'env Env,
        target: Target,
        spec: String,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, NativeResult>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move {
            let ended = client.run_to_end(&target.into(), command_spec(&spec)?, options.into(), &call?).await;
            ended.map(NativeResult::new)
        })
    }

    /// Attaches to a command.
    #[napi(ts_return_type = "Promise<NativeCommand>")]
    pub fn reconnect<'env>(
        &self,
        env: &'env Env,
        target: Target,
        command_id: String,
        stdout_offset: f64,
        stderr_offset: f64,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, NativeCommand>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        let from = [offset(stdout_offset), offset(stderr_offset)];
        promise(env, async move {
            let attached = client.reconnect(&target.into(), &command_id, from, options.into(), &call?).await;
            attached.map(NativeCommand::new)
        })
    }

    /// A file's content.
    #[napi(ts_return_type = "Promise<Buffer>")]
    pub fn read_file<'env>(
        &self,
        env: &'env Env,
        target: Target,
        path: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, Buffer>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move {
            let content = client.read_file(&target.into(), &path, &call?).await?;
            Ok(Buffer::from(Vec::from(content)))
        })
    }

    /// Replaces a file's content.
    #[napi(
        ts_args_type = "target: Target, path: string, data: Buffer, call: CallOptions, cancel?: Cancel | undefined | null",
        ts_return_type = "Promise<void>"
    )]
    pub fn write_file<'env>(
        &self,
        env: &'env Env,
        target: Target,
        path: String,
        data: InputBytes,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Promised<'env, ()>> {
        let (client, call) = (self.inner.clone(), call.call(cancel));
        promise(env, async move { client.write_file(&target.into(), &path, data.0, &call?).await })
    }

    /// Cancels what is under way and refuses what comes. Idempotent.
    #[napi]
    pub fn close(&self) {
        self.inner.close();
    }
}

/// Who runs a command or holds a handle keeps its client alive, so this is a client that nobody has any more, or one of
/// a thread that ended: nothing is left to take what is under way.
impl Drop for NativeClient {
    fn drop(&mut self) {
        self.inner.close();
    }
}

fn command_spec(json: &str) -> std::result::Result<CommandSpec, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::new(ErrorCode::Validation, format!("the command can't be read: {error}")))
}
