//! `sandwired`: sandboxes on plain Linux, behind the LangSmith sandbox protocol.
//!
//! `api` speaks HTTP and WebSocket and knows no processes; `engine` owns sandboxes and commands and knows no HTTP;
//! `store` remembers sandboxes beyond the server; `serve` is the life of the server between them. Isolation itself is `sandwire-isolate`'s.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod api;
pub mod cli;
mod config;
mod connections;
mod doctor;
pub mod engine;
mod gc;
mod metrics;
mod policy;
mod serve;
mod store;

/// What the fuzz targets drive: parsers that are private otherwise.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::api::fuzzing::{list_is_asked_for, part_of_file, service_of_host};
}

pub use api::{ApiError, ApiKey, App, Services, Turns, app};
pub use metrics::Metrics;
pub use policy::Policy;
pub use store::StoreError;
