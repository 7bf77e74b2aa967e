//! The N-API bridge: hands the Rust client to `lib/`, and nothing else.
//!
//! One class per file. Absent values are `null`; control-plane data crosses as the JSON of the wire. `bridge` alone
//! knows environments and raw values; it is also the only place with `unsafe` code of our own.

#![deny(unsafe_code)]

mod bridge;
pub mod client;
pub mod command;
pub mod config;
pub mod result;

use napi::bindgen_prelude::create_custom_tokio_runtime;
use napi_derive::{module_init, napi};
use tokio::runtime::Builder;

/// One runtime for the process, shared by all worker threads of Node.
#[module_init]
fn init() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime =
        Builder::new_multi_thread().worker_threads(threads).thread_name("sandwire").enable_all().build();
    // Without it napi makes its own runtime: slower to start, but it works.
    if let Ok(runtime) = runtime {
        create_custom_tokio_runtime(runtime);
    }
}

/// The version of the native part.
#[napi]
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
