//! Leaving the namespaces that the server was started in. Everything here runs before any thread exists.

use std::io::{self, PipeWriter, Read, Write};

/// Moves this process into new namespaces. The caller must be single-threaded, which the kernel checks for user
/// namespaces.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a scalar.
    if unsafe { libc::unshare(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A process that stayed behind in the old namespaces to do one thing there.
pub(crate) struct StayBehind {
    pid: libc::pid_t,
    go: PipeWriter,
}

/// Forks a process that waits for [`StayBehind::run`], does `work` in the namespaces of now, and exits.
///
/// The caller must be single-threaded: the child goes on in a copy of everything.
pub(crate) fn before_namespaces(work: impl FnOnce() -> io::Result<()>) -> io::Result<StayBehind> {
    let (mut wait, go) = io::pipe()?;
    // SAFETY: single-threaded, so the child's copy of every lock is free and it may allocate.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(go);
            let mut byte = [0];
            // An end without the byte means that the parent gave up.
            let done = matches!(wait.read(&mut byte), Ok(1)) && work().is_ok();
            // SAFETY: leaves without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        pid => Ok(StayBehind { pid, go }),
    }
}

impl StayBehind {
    /// Lets it work and waits for it; whether the work succeeded.
    pub(crate) fn run(mut self) -> io::Result<bool> {
        self.go.write_all(&[1])?;
        drop(self.go);
        let mut status = 0;
        // SAFETY: waits for this process's own child; `status` is live.
        if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
    }
}
