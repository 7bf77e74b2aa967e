//! The client against a server whose every move the test decides.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic; the exemption of clippy.toml does not reach helpers of integration tests"
)]

mod connecting;
mod control;
mod faults;
mod files;
mod flow;
mod sandboxes;
mod streams;
mod support;
