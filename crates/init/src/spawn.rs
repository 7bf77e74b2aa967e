//! Starting a command: a child that borrows this process's memory, and `execve`.
//!
//! The child shares the memory until it executes, so it allocates nothing, and it reports a failure by writing it
//! where the parent reads it. The parent does not sleep in `vfork` meanwhile: the child already has the sandbox's
//! ids, and hostile code that stops it there would stop this process for good. It waits for a pipe that closes when
//! the child executes or dies, for a bounded time, and then kills the child.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use sandwire_init::wire::{CONTROL_FD, Failure, Spawn};

use crate::failure::{c_string, check};

/// How long a child may take to execute. It takes a fraction of a millisecond.
const EXECUTE_DEADLINE_MS: libc::c_int = 5_000;

const STACK_BYTES: usize = 64 * 1024;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a command reads and writes.
pub(crate) enum Stdio<'a> {
    /// Its stdin, stdout and stderr.
    Three([BorrowedFd<'a>; 3]),
    /// All three of them, and the controlling terminal of its session.
    Terminal(BorrowedFd<'a>),
}

/// The steps of the child, for the report.
#[derive(Clone, Copy)]
enum Step {
    Group,
    Terminal,
    Stdio,
    Cwd,
    User,
    Exec,
}

/// Everything the child needs, ready before it exists.
struct Plan {
    candidates: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<libc::gid_t>,
    stdio: [RawFd; 3],
    terminal: Option<RawFd>,
    group: Option<RawFd>,
    descriptors: libc::rlimit,
    failed: Option<(Step, i32)>,
}

/// Starts a command and gives its process id.
///
/// `group` is the file by which it joins its cgroup.
pub(crate) fn spawn(
    request: &Spawn,
    stdio: Stdio<'_>,
    group: Option<BorrowedFd<'_>>,
) -> Result<libc::pid_t, Failure> {
    let (stdio, terminal) = match stdio {
        Stdio::Three(fds) => (fds.map(|fd| fd.as_raw_fd()), None),
        Stdio::Terminal(slave) => ([slave.as_raw_fd(); 3], Some(slave.as_raw_fd())),
    };
    let argv = strings(request.argv.iter().cloned(), "argument")?;
    let envp = strings(request.env.iter().map(|(name, value)| format!("{name}={value}")), "environment")?;
    let mut plan = Plan {
        candidates: candidates(request)?,
        argv: pointers(&argv),
        envp: pointers(&envp),
        cwd: c_string(&request.cwd, "cwd")?,
        uid: request.uid,
        gid: request.gid,
        groups: request.groups.clone(),
        stdio,
        terminal,
        group: group.map(|fd| fd.as_raw_fd()),
        descriptors: descriptor_limit(),
        failed: None,
    };
    let (done, child_end) = pipe()?;
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK_BYTES / size_of::<u128>()];
    let pid = start(&mut plan, &mut stack)?;
    drop(child_end);
    if !executes_or_dies(&done) {
        // SAFETY: the child is this process's own and not waited for yet, so its number is its own too.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, ptr::null_mut(), 0);
        }
        return Err(Failure {
            step: "the new process was stopped before it started".to_owned(),
            errno: libc::ETIMEDOUT,
        });
    }
    match plan.failed {
        None => Ok(pid),
        Some((step, errno)) => {
            // SAFETY: the child has exited already; nobody else waits for it.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(Failure { step: describe(step, request), errno })
        }
    }
}

/// Half of what this process may open. All that a user has in flight between sockets counts against the limit of
/// whoever sends next; so commands, by filling theirs, can't keep this process from answering.
fn descriptor_limit() -> libc::rlimit {
    let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut own) };
    let half = own.rlim_cur / 2;
    libc::rlimit { rlim_cur: half.min(1024), rlim_max: half }
}

fn describe(step: Step, request: &Spawn) -> String {
    match step {
        Step::Group => "join the command's cgroup".to_owned(),
        Step::Terminal => "controlling terminal".to_owned(),
        Step::Stdio => "stdio".to_owned(),
        Step::Cwd => format!("working directory {}", request.cwd),
        Step::User => format!("user {}:{}", request.uid, request.gid),
        Step::Exec => format!("execute {}", request.argv.first().map_or("", String::as_str)),
    }
}

fn candidates(request: &Spawn) -> Result<Vec<CString>, Failure> {
    let program = request.argv.first().map_or("", String::as_str);
    if program.contains('/') {
        return Ok(vec![c_string(program, "program")?]);
    }
    let path = request.env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    path.split(':').map(|dir| c_string(&format!("{dir}/{program}"), "program")).collect()
}

fn strings(texts: impl Iterator<Item = String>, step: &str) -> Result<Vec<CString>, Failure> {
    texts.map(|text| c_string(&text, step)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// The caller keeps `plan` and `stack` until the child executed or died.
fn start(plan: &mut Plan, stack: &mut [MaybeUninit<u128>]) -> Result<libc::pid_t, Failure> {
    // SAFETY: the stack is aligned and grows down from its end; the caller sees to lifetimes and touches neither
    // meanwhile.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(child, top.cast(), libc::CLONE_VM | libc::SIGCHLD, ptr::from_mut(plan).cast())
    };
    check(pid, "clone")
}

/// A pipe whose writing end a child closes by executing or dying.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which are new.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), "pipe")?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Waits for the end of the pipe; `false` at the deadline, or when the server is gone.
fn executes_or_dies(done: &OwnedFd) -> bool {
    let mut ready = [
        libc::pollfd { fd: done.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        // No events asked for: only the hang-up, which is always told.
        libc::pollfd { fd: CONTROL_FD, events: 0, revents: 0 },
    ];
    // SAFETY: an array of two entries.
    unsafe { libc::poll(ready.as_mut_ptr(), 2, EXECUTE_DEADLINE_MS) };
    ready[0].revents != 0
}

extern "C" fn child(plan: *mut c_void) -> libc::c_int {
    // SAFETY: the parent passed a pointer to its Plan and leaves it alone until this process executed or died.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let step = execute(plan);
    // SAFETY: errno is this child's last failure; nothing ran in between.
    plan.failed = Some((step, unsafe { *libc::__errno_location() }));
    127
}

/// By bare calls: the C library's would have all threads of this process follow, and the memory that says which there
/// are is the parent's.
///
/// # Safety
/// Only in the child.
unsafe fn becomes_user(plan: &Plan) -> bool {
    let (uid, gid, groups) = (plan.uid, plan.gid, &plan.groups);
    // SAFETY: scalars, and a live array of that length.
    unsafe {
        (groups.is_empty() || libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0)
            && (gid == 0 || libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0)
            && (uid == 0 || libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0)
    }
}

/// Returns only on failure, with `errno` set.
fn execute(plan: &Plan) -> Step {
    // SAFETY: async-signal-safe calls on prepared memory; no allocation, no locks.
    unsafe {
        libc::setsid();
        let placed = match plan.group {
            Some(file) => libc::write(file, c"0".as_ptr().cast(), 1) == 1,
            None => libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) == 0,
        };
        if !placed {
            return Step::Group;
        }
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const plan.descriptors);
        if plan.terminal.is_some_and(|slave| libc::ioctl(slave, libc::TIOCSCTTY, 0) < 0) {
            return Step::Terminal;
        }
        for (to, from) in (0..).zip(plan.stdio) {
            if libc::dup2(from, to) < 0 {
                return Step::Stdio;
            }
        }
        if !becomes_user(plan) {
            return Step::User;
        }
        if libc::chdir(plan.cwd.as_ptr()) < 0 {
            return Step::Cwd;
        }
        // The Rust runtime ignores SIGPIPE and this process blocks everything; a command expects neither.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        let mut denied = false;
        for program in &plan.candidates {
            libc::execve(program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => denied = true,
                _ => return Step::Exec,
            }
        }
        if denied {
            *libc::__errno_location() = libc::EACCES;
        }
        Step::Exec
    }
}
