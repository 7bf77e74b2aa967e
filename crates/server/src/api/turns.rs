//! Turns by sandbox: how much of one kind each may have under way, so that none takes the share of all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::engine::lock;

/// The turns of every sandbox, remembered for as long as one is taken.
pub struct Turns {
    each: usize,
    open: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
}

impl Turns {
    pub(super) fn new(each: usize) -> Self {
        Self { each, open: Mutex::default() }
    }

    /// Those of one sandbox.
    pub fn of(&self, sandbox: Uuid) -> Arc<Semaphore> {
        let mut open = lock(&self.open);
        open.get(&sandbox).and_then(Weak::upgrade).unwrap_or_else(|| {
            open.retain(|_, turns| turns.strong_count() > 0);
            let turns = Arc::new(Semaphore::new(self.each));
            open.insert(sandbox, Arc::downgrade(&turns));
            turns
        })
    }
}
