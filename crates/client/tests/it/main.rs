//! The client against a server whose every move the test decides.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic; the exemption of clippy.toml does not reach helpers of integration tests"
)]

mod away;
mod connecting;
mod control;
mod cuts;
mod faults;
mod files;
mod flow;
mod played;
mod reattach;
mod sandboxes;
mod streams;
mod support;
mod violations;
