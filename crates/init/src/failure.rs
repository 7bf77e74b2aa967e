//! Turning return values of system calls into [`Failure`]s that name their step.

use std::ffi::CString;
use std::io;

use sandwire_init::wire::Failure;

/// A failure of `step` with the thread's current `errno`.
pub(crate) fn last(step: impl Into<String>) -> Failure {
    from_io(step, &io::Error::last_os_error())
}

/// A failure of `step` with the kernel's number in `error`.
pub(crate) fn from_io(step: impl Into<String>, error: &io::Error) -> Failure {
    Failure { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// Checks the return value of a system call.
pub(crate) fn check<T: Into<i64> + Copy>(result: T, step: &str) -> Result<T, Failure> {
    if result.into() < 0 { Err(last(step)) } else { Ok(result) }
}

/// A C string, or `EINVAL` for one with a NUL inside.
pub(crate) fn c_string(text: &str, step: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure { step: step.to_owned(), errno: libc::EINVAL })
}
