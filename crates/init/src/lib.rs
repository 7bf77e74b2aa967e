//! What `sandwired` and the `sandwire-init` program must agree on.
//!
//! The program is PID 1 of every sandbox. It is built as a static binary, runs one thread, and allocates little:
//! there is one per sandbox, and everything in it is within reach of the kernel interfaces that hostile code
//! can call. This library half holds only the wire, so that `sandwire-isolate` can share it.

pub mod job;
pub mod pattern;
pub mod socket;
pub mod wire;
