//! Locking without poisoning: a panic in one request must not take the whole sandbox with it, and every critical
//! section here leaves its data whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
