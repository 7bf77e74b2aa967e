//! The running commands: which process belongs to which id, and what became of it.
//!
//! The number of a main process is its own until it is collected here; so is that of its process group, because it
//! leads a session and so can't leave the group. After that nothing is sent to it.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use sandwire_init::wire::{Event, Failure, Spawn, Used};

use crate::failure::check;
use crate::spawn::{Stdio, spawn};
use crate::terminal::Terminal;
use crate::tree;

/// Ended commands whose background processes can still be killed. The server asks for that only until it declares
/// a command over, moments after its main process died.
const ENDED_MAX: usize = 256;

/// Commands by the process id of their main process, which is also the id of their session.
#[derive(Default)]
pub(crate) struct Commands {
    running: HashMap<libc::pid_t, Running>,
    ended: VecDeque<(libc::pid_t, u64)>,
}

struct Running {
    id: u64,
    /// The slave of its terminal. Held so that the server reads an end only after the main process's own, not
    /// whenever that has its terminal closed for a while.
    _slave: Option<OwnedFd>,
}

impl Commands {
    /// Starts a command; also gives the master of its terminal.
    pub(crate) fn spawn(&mut self, request: &Spawn, fds: &[OwnedFd]) -> (Event, Option<OwnedFd>) {
        match self.start(request, fds) {
            Ok((pid, master)) => (Event::Spawned { id: request.id, pid }, master),
            Err(failure) => (Event::SpawnFailed { id: request.id, failure, begun: false }, None),
        }
    }

    fn start(&mut self, request: &Spawn, fds: &[OwnedFd]) -> Result<(libc::pid_t, Option<OwnedFd>), Failure> {
        let terminal = request.pty.map(|size| Terminal::open(size, request.uid, request.gid)).transpose()?;
        let (fds, group) = match fds.split_last() {
            Some((group, fds)) if request.joins => (fds, Some(group.as_fd())),
            None if request.joins => {
                return Err(Failure { step: "the entrance of a cgroup".to_owned(), errno: libc::EINVAL });
            }
            _ => (fds, None),
        };
        let stdio = match (&terminal, fds) {
            (Some(terminal), _) => Stdio::Terminal(terminal.slave.as_fd()),
            (None, [stdin, stdout, stderr]) => Stdio::Three([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
            (None, _) => return Err(Failure { step: "three descriptors".to_owned(), errno: libc::EINVAL }),
        };
        let pid = spawn(request, stdio, group)?;
        // The kernel gives a session's number to nobody else while the session has members; so the old one has
        // none, and is not this one.
        self.ended.retain(|(old, _)| *old != pid);
        let (master, slave) = terminal.map(|terminal| (terminal.master, terminal.slave)).unzip();
        self.running.insert(pid, Running { id: request.id, _slave: slave });
        Ok((pid, master))
    }

    /// Ends a command again of which the server could not be told.
    pub(crate) fn take_back(&mut self, id: u64) {
        self.kill(id);
        self.running.retain(|_, command| command.id != id);
    }

    /// Sends a signal to a running command's process group.
    pub(crate) fn signal(&self, id: u64, number: i32) {
        if let Some((pid, _)) = self.running.iter().find(|(_, command)| command.id == id) {
            // SAFETY: kill takes scalars. The main process is not collected yet, so the number is its group's.
            unsafe { libc::kill(-pid, number) };
        }
    }

    /// Kills a command's process tree, or what its main process left of it.
    pub(crate) fn kill(&self, id: u64) {
        let mut known =
            self.running.iter().map(|(pid, command)| (*pid, command.id)).chain(self.ended.iter().copied());
        if let Some((pid, _)) = known.find(|(_, known)| *known == id) {
            tree::kill(pid);
        }
    }

    /// Collects every dead child, adopted orphans included, and says which commands ended.
    pub(crate) fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let mut status = 0;
            // SAFETY: rusage is plain data, valid as zeroes; both are live.
            let (pid, used) = unsafe {
                let mut used: libc::rusage = std::mem::zeroed();
                (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut used), used)
            };
            if pid <= 0 {
                return events;
            }
            if let Some(Running { id, .. }) = self.running.remove(&pid) {
                if self.ended.len() == ENDED_MAX {
                    self.ended.pop_front();
                }
                self.ended.push_back((pid, id));
                events.push(exited(id, status, &used));
            }
        }
    }
}

fn exited(id: u64, status: libc::c_int, used: &libc::rusage) -> Event {
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let code = signal.map_or_else(|| libc::WEXITSTATUS(status), |signal| 128 + signal);
    let micros = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec) as u64;
    let used = Used {
        cpu_micros: micros(used.ru_utime) + micros(used.ru_stime),
        peak_bytes: used.ru_maxrss as u64 * 1024,
    };
    Event::Exited { id, code, signal, used }
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
