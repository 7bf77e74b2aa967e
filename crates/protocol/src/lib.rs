//! The wire of the LangSmith sandbox protocol, as client and server share it.
//!
//! Pure types and codecs: no I/O, no clock, no tokio. What a field means and which sender omits it is said at the
//! field; sections refer to `spec/langsmith.md`, the protocol as the official clients speak it.

#![forbid(unsafe_code)]

mod error;
mod exec;
pub mod extension;
mod isolation;
pub mod limits;
mod links;
mod sandbox;
mod text;

pub use error::{ErrorBody, ErrorCode, ErrorType};
pub use exec::{
    ClientFrame, CommandSpec, ExecuteRequest, ExecuteResponse, OutputFrame, RunConfig, ServerFrame,
    StreamKind,
};
pub use extension::{Signal, Totals};
pub use isolation::{CgroupVersion, IdMapping, Isolation, Mode, ResourceLimits};
pub use links::{
    Disposition, DownloadUrl, DownloadUrlRequest, ServiceAccess, ServiceGrant, ServiceGrantList, ServiceUrl,
    ServiceUrlRequest, SourceBundle,
};
pub use sandbox::{CreateSandbox, ResourceStatus, Sandbox, SandboxList, SandboxStatus, UpdateSandbox};
pub use text::utf8_prefix;
