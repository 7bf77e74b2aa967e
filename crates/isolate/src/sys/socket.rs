//! What the kernel knows of a connection.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that were written to a TCP socket and that its peer has not acknowledged; `None` where the kernel does not tell.
#[must_use]
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int, and `bytes` outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| result == 0)
}
