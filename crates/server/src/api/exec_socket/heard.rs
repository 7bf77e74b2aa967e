//! When the client was last heard: how both halves of a connection know that it is still there.

use std::sync::Mutex;

use sandwire_protocol::limits::PONG_DEADLINE;
use tokio::time::Instant;

use crate::engine::lock;

/// When the client was last heard; `None` while nobody listens.
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    pub(super) fn now(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    /// Nobody listens, so its silence means nothing.
    pub(super) fn pause(&self) {
        *lock(&self.0) = None;
    }

    pub(super) fn nothing_for_too_long(&self) -> bool {
        lock(&self.0).is_some_and(|at| at.elapsed() > PONG_DEADLINE)
    }
}
