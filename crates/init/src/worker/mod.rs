//! Work that takes long: searches, archives, whole trees. A fork of this process does it, so that the sandbox is served
//! meanwhile.
//!
//! The fork is plain: one thread, nothing locked. It closes all that it was not given, first of all the control socket:
//! a worker looks into files of hostile code and must not be able to speak for `init`. It keeps the rest of `init`'s
//! lock-down: no rights beyond it, not traceable. It ends by itself: at its deadline, when the server no longer reads
//! its reports, and, being in the pid namespace, with `init`. What hostile code does to it (kill or stop it) the server
//! sees as a worker that ended early or is late.

mod archive;
mod manage;
mod report;
mod search;
mod walk;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use sandwire_init::job::{Job, KILL_AFTER};
use sandwire_init::wire::{Event, Failure};

use crate::failure::last;
use report::{Report, Stop};

/// Starts a worker. It reports on the first descriptor; an archive goes through the second.
pub(crate) fn start(req: u64, job: Job, seconds: u32, fds: Vec<OwnedFd>) -> Event {
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { libc::fork() } {
        -1 => Event::Failed { req, failure: last("start a worker") },
        0 => work(&job, seconds, fds),
        _ => Event::Done { req },
    }
}

/// The whole life of a worker.
fn work(job: &Job, seconds: u32, fds: Vec<OwnedFd>) -> ! {
    close_all_but(fds.iter().map(AsRawFd::as_raw_fd).collect());
    // SAFETY: plain calls; the set is initialised by sigemptyset. The kernel ends a worker that does not end itself.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"sandwire-worker".as_ptr());
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::alarm(seconds.saturating_add(KILL_AFTER));
    }
    let mut fds = fds.into_iter();
    if let Some(report) = fds.next() {
        let mut report = Report::new(report, seconds);
        let result = run(job, fds.next(), &mut report);
        report.finish(result);
    }
    // SAFETY: ends the process without running what belongs to init.
    unsafe { libc::_exit(0) }
}

fn run(job: &Job, data: Option<OwnedFd>, report: &mut Report) -> Result<(), Stop> {
    match job {
        Job::Glob { path, pattern, limit } => search::glob(path, pattern, *limit, report),
        Job::Grep { path, pattern, glob, limit } => {
            search::grep(path, pattern, glob.as_deref(), *limit, report)
        }
        Job::List { path, offset, limit } => manage::list(path, *offset, *limit, report),
        Job::Stat { paths } => manage::stat(paths, report),
        Job::MakeDirectory { path, mode, parents, owner } => {
            Ok(manage::make_directory(path, *mode, *parents, owner)?)
        }
        Job::Move { from, to, overwrite } => Ok(manage::rename(from, to, *overwrite)?),
        Job::Remove { path, recursive } => manage::remove(path, *recursive, report),
        Job::Pack { path } => archive::pack(path, need(data)?, report),
        Job::Unpack { path, owner } => archive::unpack(path, owner, need(data)?, report),
    }
}

fn need(data: Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    data.ok_or_else(|| Failure { step: "a descriptor for the archive".to_owned(), errno: libc::EINVAL })
}

fn close_all_but(mut kept: Vec<RawFd>) {
    kept.sort_unstable();
    let mut next = 0;
    for fd in kept.into_iter().map(RawFd::unsigned_abs).chain([u32::MAX]) {
        if next < fd {
            // SAFETY: what is closed belongs to the copy of init that this process no longer is; nothing uses it.
            unsafe { libc::syscall(libc::SYS_close_range, next, fd.saturating_sub(1), 0) };
        }
        next = fd.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
