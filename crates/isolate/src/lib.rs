//! Real sandboxes from plain Linux: namespaces, overlayfs, cgroups, seccomp and a PID 1.
//!
//! Synchronous and without a runtime: [`Host`] is what the machine and the server's rights allow, found once by
//! trying; [`Host::create`] makes a [`Sandbox`], which owns the init process and the cgroup until
//! [`Sandbox::destroy`]. What happens inside is asked of init through [`Sandbox::control`].
//!
//! All unsafe code is in `sys`.

mod base;
mod cgroup;
mod doctor;
mod enter;
mod error;
mod host;
mod ids;
mod overlay;
mod sandbox;
mod seccomp;
mod sys;

pub use cgroup::{CommandGroup, CommandGroups, GroupUsage};
pub use doctor::{Check, Verdict, doctor};
pub use enter::enter;
pub use error::Error;
pub use host::{Host, HostConfig, clean};
pub use sandbox::{Limits, Sandbox, SandboxSpec};
pub use sandwire_init::{job, pattern, socket, wire};
pub use sys::unacknowledged;
