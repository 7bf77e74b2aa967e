//! A server whose every move a test decides: HTTP answers and WebSocket frames by hand, healthy or not.
//!
//! The test passes a handler that gets each connection as a [`Peer`], in the order of arrival. Faults are what the
//! handler does or leaves out: refuse, answer nonsense, cut, fall silent.

#![forbid(unsafe_code)]

mod exec;
mod peer;
mod server;

pub use exec::Exec;
pub use peer::Peer;
pub use server::Server;
