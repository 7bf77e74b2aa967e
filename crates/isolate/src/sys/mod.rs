//! The only unsafe code of this crate: what neither the standard library nor `rustix` offers safely.

#![expect(unsafe_code, reason = "raw system calls; each block states why it is sound")]

mod clone;
mod mount;
mod process;
mod socket;

pub(crate) use clone::{Init, NAMESPACES, probe_namespace, reap, spawn_init};
pub(crate) use mount::set_id_map;
pub(crate) use process::{before_namespaces, unshare};
pub use socket::unacknowledged;
