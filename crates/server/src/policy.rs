//! What the operator decided and requests are answered by. `config` makes it at the start; it never changes while the
//! server runs, so the engine owns it and everybody reads it there.

use sandwire_protocol::limits::{DELETE_AFTER_STOP_DEFAULT, IDLE_TTL_DEFAULT, SANDBOXES_MAX};

/// The operator's decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Sandboxes of this server, stopped ones included.
    pub sandboxes_max: usize,
    /// Memory limit of sandboxes that ask for none, bytes; `None` for half of the machine's memory. Counts only where
    /// the machine can keep limits.
    pub memory_default: Option<u64>,
    /// Idle seconds after which a sandbox that says nothing about it is stopped; 0 for never.
    pub idle_ttl_default: u64,
    /// Seconds from a sandbox's stop to its deletion, if it says nothing about it; 0 for never.
    pub delete_after_stop_default: u64,
    /// Whether `/metrics` is on the API's own address.
    pub metrics: bool,
    /// What clients reach this server by, `scheme://authority` without a path; `None` for `http` and the host that the
    /// request names.
    pub public_url: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sandboxes_max: SANDBOXES_MAX,
            memory_default: None,
            idle_ttl_default: IDLE_TTL_DEFAULT,
            delete_after_stop_default: DELETE_AFTER_STOP_DEFAULT,
            metrics: true,
            public_url: None,
        }
    }
}
