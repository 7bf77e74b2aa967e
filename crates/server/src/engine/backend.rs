//! The seam between the engine and isolation: what the engine asks of a machine that can make sandboxes.
//!
//! The real one is [`sandwire_isolate::Host`]. Tests put their own behind it, to run the engine's rules where no
//! namespace can be made. All calls block.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use sandwire_isolate::{CommandGroups, Error, Host, Limits, SandboxSpec};
use sandwire_protocol::Isolation;

/// Makes sandboxes.
pub trait Backend: Send + Sync + 'static {
    /// What sandboxes are isolated by here.
    fn isolation(&self) -> &Isolation;
    /// Makes one.
    ///
    /// # Errors
    /// It could not be made; nothing of it is left.
    fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Cell>, CreateFailed>;
    /// Puts other limits on a running sandbox.
    ///
    /// # Errors
    /// The kernel refuses, for one because more memory is in use.
    fn limit(&self, id: &str, limits: &Limits) -> Result<(), String>;
    /// Ids, as the server sees them, of a user inside.
    fn outside_ids(&self, uid: u32, gid: u32) -> (u32, u32);
}

/// A made sandbox.
pub trait Cell: Send + Sync {
    /// The non-blocking socket to its `init`.
    fn control(&self) -> BorrowedFd<'_>;
    /// Makes the cgroups of its commands; `None` where there can't be any.
    fn groups(&self) -> Option<Arc<CommandGroups>>;
    /// Kills everything in it.
    ///
    /// # Errors
    /// Something is left, which the error names.
    fn destroy(self: Box<Self>) -> Result<(), String>;
}

/// Why a sandbox could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct CreateFailed {
    /// Names the step and the remedy.
    pub message: String,
    /// The machine can't do what was asked for, now and later.
    pub unsupported: bool,
}

impl From<Error> for CreateFailed {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), unsupported: error.is_unsupported() }
    }
}

impl Backend for Host {
    fn isolation(&self) -> &Isolation {
        Host::isolation(self)
    }

    fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Cell>, CreateFailed> {
        Ok(Box::new(Host::create(self, spec)?))
    }

    fn limit(&self, id: &str, limits: &Limits) -> Result<(), String> {
        Host::limit(self, id, limits).map_err(|error| error.to_string())
    }

    fn outside_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        Host::outside_ids(self, uid, gid)
    }
}

impl Cell for sandwire_isolate::Sandbox {
    fn control(&self) -> BorrowedFd<'_> {
        sandwire_isolate::Sandbox::control(self)
    }

    fn groups(&self) -> Option<Arc<CommandGroups>> {
        sandwire_isolate::Sandbox::groups(self)
    }

    fn destroy(self: Box<Self>) -> Result<(), String> {
        sandwire_isolate::Sandbox::destroy(*self).map_err(|error| error.to_string())
    }
}
