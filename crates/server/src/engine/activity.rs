//! Whether a sandbox is in use: what its idle clock counts from.
//!
//! Requests to its data plane count for as long as they work; so does a running command (the sweep looks). Pings,
//! looks at its status and what a command left in the background do not.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::lock::lock;
use super::sandbox::Sandbox;

pub(super) struct Activity(Mutex<State>);

struct State {
    users: usize,
    last: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { users: 0, last: Instant::now() }))
    }

    /// Something happened just now.
    pub(super) fn touch(&self) {
        lock(&self.0).last = Instant::now();
    }

    /// Since when nothing happens; `None` while something does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = lock(&self.0);
        (state.users == 0).then_some(state.last)
    }

    fn enter(&self) {
        lock(&self.0).users += 1;
    }

    fn leave(&self) {
        let mut state = lock(&self.0);
        state.users -= 1;
        state.last = Instant::now();
    }
}

/// A sandbox that somebody uses. While it lives, the sandbox is not idle.
pub struct InUse(Arc<Sandbox>);

impl InUse {
    pub(super) fn new(sandbox: &Arc<Sandbox>) -> Self {
        sandbox.activity().enter();
        Self(Arc::clone(sandbox))
    }
}

impl Deref for InUse {
    type Target = Arc<Sandbox>;

    fn deref(&self) -> &Arc<Sandbox> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.activity().leave();
    }
}
