//! Starting a sandbox's init in new namespaces.
//!
//! The server is large and many-threaded, so nothing is copied: the child borrows the server's memory and the
//! calling thread waits until the child executes (`CLONE_VM | CLONE_VFORK`). Until then the child may only make
//! system calls on what was prepared for it: no allocation, no locks.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use sandwire_init::wire::CONTROL_FD;

const STACK_BYTES: usize = 64 * 1024;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Capabilities beyond those the kernel knows are refused with `EINVAL`, which ends the loop over them.
const CAPABILITIES: libc::c_ulong = 64;

/// The namespaces of a sandbox, but for the cgroup namespace: init makes that once it is in its cgroup.
pub(crate) const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// A started init.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

struct Plan {
    program: RawFd,
    control: RawFd,
    null: RawFd,
    errno: i32,
}

/// Starts the program at a descriptor in new namespaces, with `control` at [`CONTROL_FD`], nothing else open but
/// `null` as stdio, and all signals blocked. It has no ids until the caller maps them.
pub(crate) fn spawn_init(
    namespaces: libc::c_int,
    program: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
) -> io::Result<Init> {
    let mut plan =
        Plan { program: program.as_raw_fd(), control: control.as_raw_fd(), null: null.as_raw_fd(), errno: 0 };
    let init = with_signals_blocked(|| vfork(namespaces, execute_init, &mut plan))?;
    if plan.errno != 0 {
        reap(&init);
        return Err(io::Error::from_raw_os_error(plan.errno));
    }
    Ok(init)
}

/// Whether a new namespace of one kind can be made, by making one.
pub(crate) fn probe_namespace(flag: libc::c_int) -> io::Result<()> {
    let mut plan = Plan { program: -1, control: -1, null: -1, errno: 0 };
    let init = with_signals_blocked(|| vfork(libc::CLONE_NEWUSER | flag, exit_at_once, &mut plan))?;
    reap(&init);
    Ok(())
}

fn vfork(
    namespaces: libc::c_int,
    child: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    plan: &mut Plan,
) -> io::Result<Init> {
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK_BYTES / size_of::<u128>()];
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | namespaces | libc::SIGCHLD;
    // SAFETY: the stack is aligned and grows down from its end; CLONE_VFORK suspends this thread until the child
    // executes or exits, so stack, plan and pidfd outlive the child's use of them.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(child, top.cast(), flags, ptr::from_mut(plan).cast(), &raw mut pidfd)
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor, close-on-exec.
    Ok(Init { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

extern "C" fn exit_at_once(_: *mut libc::c_void) -> libc::c_int {
    0
}

extern "C" fn execute_init(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passed a pointer to its Plan and is suspended, so access is exclusive.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    // SAFETY: system calls on scalars and on literals and arrays of this frame.
    unsafe {
        keep_capabilities();
        // Any descriptor without close-on-exec came from whoever started the server.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for target in 0..3 {
            libc::dup2(plan.null, target);
        }
        if plan.control == CONTROL_FD {
            libc::fcntl(CONTROL_FD, libc::F_SETFD, 0);
        } else {
            // The program's descriptor may sit where the socket must go.
            if plan.program == CONTROL_FD {
                plan.program = libc::fcntl(CONTROL_FD, libc::F_DUPFD_CLOEXEC, CONTROL_FD + 1);
            }
            libc::dup2(plan.control, CONTROL_FD);
        }
        let argv = [c"sandwire-init".as_ptr(), ptr::null()];
        let envp = [ptr::null::<libc::c_char>()];
        libc::syscall(
            libc::SYS_execveat,
            plan.program,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        plan.errno = *libc::__errno_location();
    }
    127
}

/// The new process has every capability over its namespace, but no id there yet, and executing a program without
/// the id of root loses them; ambient ones stay.
///
/// # Safety
/// Only between clone and exec.
unsafe fn keep_capabilities() {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 takes a two-word header and twice effective, permitted, inheritable.
    unsafe {
        libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
        for [_, permitted, inheritable] in &mut data {
            *inheritable = *permitted;
        }
        libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr());
        for capability in 0..CAPABILITIES {
            if libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0
                && *libc::__errno_location() == libc::EINVAL
            {
                break;
            }
        }
    }
}

/// A handler of the server that ran in the child would run on the server's memory.
fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are initialised by the calls before they are read; only this thread's mask changes.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        result
    }
}

/// Waits for the end of a started process.
pub(crate) fn reap(init: &Init) {
    // SAFETY: waits for this process's own child.
    unsafe { libc::waitpid(init.pid, ptr::null_mut(), 0) };
}
