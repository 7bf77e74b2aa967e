//! A server whose every move a test decides: HTTP answers and WebSocket frames by hand, healthy or not.
//!
//! The test passes a handler that gets each connection as a [`Peer`], in the order of arrival. Faults are what the
//! handler does or leaves out: refuse, answer nonsense, cut, fall silent. A [`Recording`] is a command that a handler
//! plays whole or in part, from wherever the client asks, so that a session can be cut and taken up again.

#![forbid(unsafe_code)]

mod exec;
mod line;
mod log;
mod peer;
mod recording;
mod server;

pub use exec::Exec;
pub(crate) use line::Line;
pub use log::Log;
pub use peer::Peer;
pub use recording::{EXTENSION, Recording, Until};
pub use server::Server;
