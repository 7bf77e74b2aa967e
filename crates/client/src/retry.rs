//! When a failed HTTP exchange is tried again, and after which pause (section 4.1).
//!
//! A connection that never came about did nothing, so it is always safe to try again. An answer that asks for
//! patience is believed only where running the request twice has the effect of running it once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Longest pause between two attempts, seconds.
const BACKOFF_MAX: f64 = 10.0;

/// A server that wants a longer pause than this is not waited for: its answer goes to the caller at once.
const RETRY_AFTER_MAX: f64 = 60.0;

/// Attempts to start one command (section 4.3).
pub(crate) const CONNECT_ATTEMPTS: u32 = 6;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Failure {
    /// No connection came about.
    Connect,
    /// The exchange broke off; the server may have acted.
    Broken,
    /// The server answered.
    Status { status: u16, retry_after: Option<f64> },
}

/// How often, for which requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) max_retries: u32,
    /// Whether running the request twice equals running it once.
    pub(crate) idempotent: bool,
}

impl Policy {
    /// The pause before the next attempt, or `None` if this was the last; `attempt` counts from 0 and `jitter` is
    /// in `[0, 1)`.
    pub(crate) fn pause(self, attempt: u32, failure: Failure, jitter: f64) -> Option<Duration> {
        if attempt >= self.max_retries {
            return None;
        }
        let power = f64::from(2u32.saturating_pow(attempt));
        let seconds = match failure {
            Failure::Connect => (power + jitter).min(BACKOFF_MAX),
            Failure::Status { status: 429, retry_after } if self.idempotent => {
                retry_after.unwrap_or(1.0) * power + jitter
            }
            Failure::Status { status: 502..=504, .. } if self.idempotent => (power + jitter).min(BACKOFF_MAX),
            Failure::Broken | Failure::Status { .. } => return None,
        };
        (seconds <= RETRY_AFTER_MAX).then(|| Duration::from_secs_f64(seconds))
    }
}

/// A pause of the exec connect phase (section 4.3); a server's `Retry-After` replaces it.
pub(crate) fn exec_pause(backoff: Duration, retry_after: Option<f64>, jitter: f64) -> Duration {
    match retry_after {
        Some(seconds) => Duration::from_secs_f64(seconds.clamp(0.0, RETRY_AFTER_MAX)),
        None => backoff.mul_f64(0.8 + 0.2 * jitter),
    }
}

/// `Retry-After` in seconds; dates are ignored here, as the official clients do.
pub(crate) fn retry_after(value: &str) -> Option<f64> {
    value.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

/// A number in `[0, 1)`: pauses of many clients must not fall together. The hasher's keys are random per call.
pub(crate) fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Policy = Policy { max_retries: 3, idempotent: true };

    fn seconds(policy: Policy, attempt: u32, failure: Failure) -> Option<f64> {
        policy.pause(attempt, failure, 0.5).map(|pause| pause.as_secs_f64())
    }

    #[test]
    fn connect_failures_are_always_tried_again() {
        let once = Policy { idempotent: false, ..ALL };
        let pauses: Vec<_> = (0..4).map(|attempt| seconds(once, attempt, Failure::Connect)).collect();
        assert_eq!(pauses, [Some(1.5), Some(2.5), Some(4.5), None]);
        let many = Policy { max_retries: 40, ..once };
        assert_eq!(seconds(many, 35, Failure::Connect), Some(10.0));
    }

    #[test]
    fn answers_only_where_nothing_can_run_twice() {
        for status in [429, 502, 503, 504] {
            let failure = Failure::Status { status, retry_after: None };
            assert!(seconds(ALL, 0, failure).is_some());
            assert_eq!(seconds(Policy { idempotent: false, ..ALL }, 0, failure), None);
        }
        for status in [400, 408, 409, 500, 501] {
            assert_eq!(seconds(ALL, 0, Failure::Status { status, retry_after: None }), None);
        }
        assert_eq!(seconds(ALL, 0, Failure::Broken), None);
    }

    #[test]
    fn retry_after_counts_for_429() {
        let failure = |retry_after| Failure::Status { status: 429, retry_after };
        assert_eq!(seconds(ALL, 2, failure(Some(2.0))), Some(8.5));
        assert_eq!(seconds(ALL, 1, failure(Some(0.0))), Some(0.5));
        assert_eq!(seconds(ALL, 0, failure(Some(3600.0))), None);
        assert_eq!((retry_after("1.5"), retry_after("-1"), retry_after("soon")), (Some(1.5), None, None));
        assert_eq!(retry_after("inf"), None);
    }

    #[test]
    fn exec_pauses() {
        let second = Duration::from_secs(1);
        assert_eq!(exec_pause(second, None, 1.0), second);
        assert_eq!(exec_pause(second, None, 0.0), second.mul_f64(0.8));
        assert_eq!(exec_pause(second, Some(12.0), 0.0), second * 12);
        assert_eq!(exec_pause(second, Some(1e9), 0.0), second * 60);
        let jitter = jitter();
        assert!((0.0..1.0).contains(&jitter));
    }
}
