//! Which connection a writer has to a command. A writer is one handle of a client and has one connection at a time: when
//! it comes by another one, the earlier was cut where only the client saw it. Left alone it would hold the command
//! back for output that nobody reads, until its silence is noticed.

use std::sync::{Arc, Mutex, Weak};

use tokio_util::sync::CancellationToken;

use super::lock::lock;

/// Connections by their writers; those that are gone are forgotten with the next one.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<(String, Weak<CancellationToken>)>>);

impl Connections {
    /// Notes the connection of a writer, and ends the one that it had. The connection is over when the token that it
    /// gets is cancelled; it holds the token for as long as it lives.
    pub(super) fn hand_over(&self, writer: &str) -> Arc<CancellationToken> {
        let token = Arc::new(CancellationToken::new());
        let mut known = lock(&self.0);
        known.retain(|(name, connection)| match connection.upgrade() {
            Some(earlier) if name == writer => {
                earlier.cancel();
                false
            }
            connection => connection.is_some(),
        });
        known.push((writer.to_owned(), Arc::downgrade(&token)));
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_has_one_connection() {
        let connections = Connections::default();
        let (first, other) = (connections.hand_over("a"), connections.hand_over("b"));
        let second = connections.hand_over("a");
        assert!(first.is_cancelled() && !second.is_cancelled() && !other.is_cancelled());
        drop((first, second, other));
        drop(connections.hand_over("c"));
        assert_eq!(lock(&connections.0).len(), 1, "those that are gone are not kept");
    }
}
