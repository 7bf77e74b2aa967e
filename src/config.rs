//! What `lib/` hands in: plain objects, checked there already, and their conversion.

use std::time::Duration;

use napi_derive::napi;
use sandwire_client::{
    Call, Config, ConfigOptions, Error, StreamOptions as Stream, Target as DataPlane, header_map,
    resolve_api_key as api_key, resolve_endpoint as endpoint,
};

use crate::bridge::{Cancel, InputBytes};

/// A client's configuration, with endpoint and key resolved.
#[napi(object, use_nullable = true)]
pub struct NativeConfig {
    /// Full URL of the sandbox API.
    pub api_endpoint: String,
    /// Key, or none.
    pub api_key: Option<String>,
    /// Limit of one HTTP exchange.
    pub timeout_ms: f64,
    /// Further attempts after the first.
    pub max_retries: u32,
    /// HTTP exchanges at the same time, or no limit.
    pub max_concurrency: Option<u32>,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
}

/// What one call adds.
#[napi(object, use_nullable = true)]
pub struct CallOptions {
    /// Headers that win over the client's.
    pub headers: Option<Vec<(String, String)>>,
    /// Limit of each exchange instead of the default.
    pub timeout_ms: Option<f64>,
}

/// A sandbox's data plane.
#[napi(object)]
pub struct Target {
    /// Name of the sandbox.
    pub name: String,
    /// Base URL.
    pub dataplane_url: String,
}

/// How output is delivered and kept.
#[napi(object, use_nullable = true, object_to_js = false)]
pub struct StreamOptions {
    /// Bytes per stream that the result keeps.
    pub max_output_bytes: f64,
    /// Close stdin, after `input`.
    pub close_input: bool,
    /// What the command reads first.
    #[napi(ts_type = "Buffer")]
    pub input: Option<InputBytes>,
    /// Deliver `Buffer`s instead of strings.
    pub raw: bool,
    /// Make a lost connection again.
    pub reconnect: bool,
}

/// The endpoint to use: the given one, else from the environment, else the hosted service.
#[napi]
#[must_use]
pub fn resolve_endpoint(api_endpoint: Option<String>) -> String {
    endpoint(api_endpoint.as_deref())
}

/// The key to use: `""` means none, `null` falls back to the environment.
#[napi]
#[must_use]
pub fn resolve_api_key(api_key: Option<String>) -> Option<String> {
    self::api_key(api_key.as_deref())
}

impl NativeConfig {
    pub(crate) fn checked(self) -> Result<Config, Error> {
        let options = ConfigOptions {
            endpoint: self.api_endpoint,
            headers: self.headers,
            timeout: millis(self.timeout_ms),
            max_retries: self.max_retries,
            max_concurrency: self.max_concurrency.and_then(|limit| usize::try_from(limit).ok()),
        };
        Config::new(options, self.api_key.as_deref())
    }
}

impl CallOptions {
    pub(crate) fn call(self, cancel: Option<&Cancel>) -> Result<Call, Error> {
        Ok(Call {
            headers: header_map(&self.headers.unwrap_or_default())?,
            timeout: self.timeout_ms.map(millis),
            cancel: Cancel::token(cancel),
        })
    }
}

impl From<Target> for DataPlane {
    fn from(target: Target) -> Self {
        Self { name: target.name, dataplane_url: target.dataplane_url }
    }
}

impl From<StreamOptions> for Stream {
    fn from(options: StreamOptions) -> Self {
        Self {
            max_output_bytes: bytes(options.max_output_bytes),
            close_input: options.close_input,
            input: options.input.map(|input| input.0),
            raw: options.raw,
            reconnect: options.reconnect,
        }
    }
}

/// `Infinity` and what is too long mean "practically never".
pub(crate) fn seconds(value: f64) -> Duration {
    const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
    if value.is_nan() || value <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(value).map_or(NEVER, |time| time.min(NEVER))
}

pub(crate) fn millis(value: f64) -> Duration {
    seconds(value / 1000.0)
}

/// Saturates: `Infinity` keeps everything.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, as wanted"
)]
fn bytes(value: f64) -> usize {
    value as usize
}

/// A position that JavaScript hands in; saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, as wanted"
)]
pub(crate) fn offset(value: f64) -> u64 {
    value as u64
}
