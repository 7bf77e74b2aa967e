//! What clients sent, per connection, for tests that look at it afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Frames of all connections of a server.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Vec<Value>>>>);

impl Log {
    /// A frame came on connection `index`.
    pub(crate) fn note(&self, index: usize, frame: &Value) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= index {
            all.resize(index + 1, Vec::new());
        }
        if let Some(frames) = all.get_mut(index) {
            frames.push(frame.clone());
        }
    }

    /// The frames so far, by connection.
    #[must_use]
    pub fn all(&self) -> Vec<Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
