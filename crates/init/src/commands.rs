//! The running commands: which process belongs to which id, and what became of it.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use sandwire_init::wire::{Event, Failure, Spawn};

use crate::failure::check;
use crate::spawn::spawn;
use crate::tree;

/// Ended commands whose background processes can still be killed. The server asks for that only until it declares
/// a command over, moments after its main process died.
const ENDED_MAX: usize = 256;

/// Commands by the process id of their main process, which is also the id of their session.
#[derive(Default)]
pub(crate) struct Commands {
    running: HashMap<libc::pid_t, u64>,
    ended: VecDeque<(libc::pid_t, u64)>,
}

impl Commands {
    /// Starts a command.
    pub(crate) fn spawn(&mut self, request: &Spawn, fds: Vec<OwnedFd>) -> Event {
        match spawn(request, &fds) {
            Ok(pid) => {
                // The kernel gives a session's number to nobody else while the session has members; so the old
                // one has none, and is not this one.
                self.ended.retain(|(old, _)| *old != pid);
                self.running.insert(pid, request.id);
                Event::Spawned { id: request.id, pid }
            }
            Err(failure) => Event::SpawnFailed { id: request.id, failure },
        }
    }

    /// Kills a command's process tree, or what its main process left of it.
    pub(crate) fn kill(&self, id: u64) {
        let mut known = self.running.iter().map(|(pid, id)| (*pid, *id)).chain(self.ended.iter().copied());
        if let Some((pid, _)) = known.find(|(_, known)| *known == id) {
            tree::kill(pid);
        }
    }

    /// Collects every dead child, adopted orphans included, and says which commands ended.
    pub(crate) fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let mut status = 0;
            // SAFETY: `status` is a live int.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return events;
            }
            if let Some(id) = self.running.remove(&pid) {
                if self.ended.len() == ENDED_MAX {
                    self.ended.pop_front();
                }
                self.ended.push_back((pid, id));
                events.push(exited(id, status));
            }
        }
    }
}

fn exited(id: u64, status: libc::c_int) -> Event {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        return Event::Exited { id, code: 128 + signal, signal: Some(signal) };
    }
    Event::Exited { id, code: libc::WEXITSTATUS(status), signal: None }
}

/// Blocks every signal and gives a descriptor that becomes readable when a child dies. As PID 1 this process
/// is immune to signals from inside that it has no handler for; blocking also holds against the host.
pub(crate) fn block_signals() -> Result<OwnedFd, Failure> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut child = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are initialised by sigfillset and sigemptyset before use; the descriptor is new.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()), "block signals")?;
        libc::sigemptyset(child.as_mut_ptr());
        libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
        let fd = libc::signalfd(-1, child.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        Ok(OwnedFd::from_raw_fd(check(fd, "signalfd")?))
    }
}

/// Empties the descriptor of [`block_signals`]. Signals merge, so what it says is not looked at.
pub(crate) fn drain(signals: &OwnedFd) {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: the buffer is live and of that size; the descriptor does not block.
    while unsafe { libc::read(signals.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}
