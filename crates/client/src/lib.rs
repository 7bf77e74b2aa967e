//! The Rust core of the client: control plane, files and streamed commands of the sandbox protocol.
//!
//! Knows nothing of JavaScript. [`Client`] owns the connection pool and ends everything that it started when it
//! is closed; a [`Command`] owns one attachment to a remote command. Every call takes a [`Call`], which carries
//! per-call headers, the time limit and the cancellation.

#![forbid(unsafe_code)]

mod client;
mod config;
mod env;
mod error;
mod exec;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod retry;
mod sandboxes;
mod tls;

pub use client::{Client, Target};
pub use config::{Config, ConfigOptions, header_map, resolve_api_key, resolve_endpoint};
pub use error::{Details, Error, Phase};
pub use exec::{
    Backoff, Batch, Chunk, Command, CommandOutcome, CommandResult, Data, Gap, Item, RECONNECTS_MAX, Retained,
    StreamOptions, Want,
};
pub use http::Call;
