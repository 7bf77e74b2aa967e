//! Places where a test lets the server die, to see what the next start makes of it.
//!
//! Only builds with debug assertions have them: `SANDWIRED_CRASH_AT=stop.saved` kills the process, as `kill -9` would,
//! when it comes to the place of that name. `scripts/crash.mjs` knows all the names.

/// Dies here if this is the place.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    static PLACE: OnceLock<Option<String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| std::env::var("SANDWIRED_CRASH_AT").ok());
    if place.as_deref() == Some(name) {
        let _dead = kill_process(getpid(), Signal::KILL);
    }
}

/// Nothing, in what is shipped.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) fn point(_name: &str) {}
