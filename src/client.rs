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

use crate::bridge::{Cancel, InputBytes, Outcome, coded};
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
    pub async fn create_sandbox(
        &self,
        body: String,
        wait_seconds: f64,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<String>> {
        Outcome::of(
            async {
                let call = call.call(cancel)?;
                self.inner.create_sandbox(body, seconds(wait_seconds), &call).await
            }
            .await,
        )
    }

    /// A sandbox by name.
    #[napi(ts_return_type = "Promise<string>")]
    pub async fn get_sandbox(
        &self,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<String>> {
        Outcome::of(async { self.inner.get_sandbox(&name, &call.call(cancel)?).await }.await)
    }

    /// The sandboxes as a JSON array.
    #[napi(ts_return_type = "Promise<string>")]
    pub async fn list_sandboxes(
        &self,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<String>> {
        Outcome::of(async { self.inner.list_sandboxes(&call.call(cancel)?).await }.await)
    }

    /// Deletes a sandbox.
    #[napi(ts_return_type = "Promise<void>")]
    pub async fn delete_sandbox(
        &self,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<()>> {
        Outcome::of(async { self.inner.delete_sandbox(&name, &call.call(cancel)?).await }.await)
    }

    /// A sandbox's status.
    #[napi(ts_return_type = "Promise<string>")]
    pub async fn sandbox_status(
        &self,
        name: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<String>> {
        Outcome::of(async { self.inner.sandbox_status(&name, &call.call(cancel)?).await }.await)
    }

    /// Waits until a sandbox is ready; times in seconds.
    #[napi(ts_return_type = "Promise<string>")]
    pub async fn wait_for_sandbox(
        &self,
        name: String,
        timeout: f64,
        poll_interval: f64,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<String>> {
        let (timeout, interval) = (seconds(timeout), seconds(poll_interval));
        Outcome::of(
            async {
                let call = call.call(cancel)?;
                self.inner.wait_for_sandbox(&name, timeout, interval, &call).await
            }
            .await,
        )
    }

    /// Starts a command; resolves when it runs.
    #[napi(ts_return_type = "Promise<NativeCommand>")]
    pub async fn run(
        &self,
        target: Target,
        spec: String,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<NativeCommand>> {
        Outcome::of(
            async {
                let (call, target) = (call.call(cancel)?, target.into());
                let running = self.inner.run(&target, command_spec(&spec)?, options.into(), &call);
                running.await.map(NativeCommand::new)
            }
            .await,
        )
    }

    /// Runs a command to its end; cancelling kills it.
    #[napi(ts_return_type = "Promise<NativeResult>")]
    pub async fn run_to_end(
        &self,
        target: Target,
        spec: String,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<NativeResult>> {
        Outcome::of(
            async {
                let (call, target) = (call.call(cancel)?, target.into());
                let running = self.inner.run_to_end(&target, command_spec(&spec)?, options.into(), &call);
                running.await.map(NativeResult::new)
            }
            .await,
        )
    }

    /// Attaches to a command.
    #[napi(ts_return_type = "Promise<NativeCommand>")]
    pub async fn reconnect(
        &self,
        target: Target,
        command_id: String,
        stdout_offset: f64,
        stderr_offset: f64,
        options: StreamOptions,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<NativeCommand>> {
        let from = [offset(stdout_offset), offset(stderr_offset)];
        Outcome::of(
            async {
                let (call, target) = (call.call(cancel)?, target.into());
                let attaching = self.inner.reconnect(&target, &command_id, from, options.into(), &call);
                attaching.await.map(NativeCommand::new)
            }
            .await,
        )
    }

    /// A file's content.
    #[napi(ts_return_type = "Promise<Buffer>")]
    pub async fn read_file(
        &self,
        target: Target,
        path: String,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<Buffer>> {
        Outcome::of(
            async {
                let call = call.call(cancel)?;
                let content = self.inner.read_file(&target.into(), &path, &call).await?;
                Ok(Buffer::from(Vec::from(content)))
            }
            .await,
        )
    }

    /// Replaces a file's content.
    #[napi(
        ts_args_type = "target: Target, path: string, data: Buffer, call: CallOptions, cancel?: Cancel | undefined | null",
        ts_return_type = "Promise<void>"
    )]
    pub async fn write_file(
        &self,
        target: Target,
        path: String,
        data: InputBytes,
        call: CallOptions,
        cancel: Option<&Cancel>,
    ) -> Result<Outcome<()>> {
        Outcome::of(
            async {
                let call = call.call(cancel)?;
                self.inner.write_file(&target.into(), &path, data.0, &call).await
            }
            .await,
        )
    }

    /// Cancels what is under way and refuses what comes. Idempotent.
    #[napi]
    pub fn close(&self) {
        self.inner.close();
    }
}

fn command_spec(json: &str) -> std::result::Result<CommandSpec, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::new(ErrorCode::Validation, format!("the command can't be read: {error}")))
}
