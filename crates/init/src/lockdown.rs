//! Identity, host name, loopback, and then giving up every right that commands must not have.
//!
//! Order matters: everything that needs `CAP_SYS_ADMIN` or `CAP_NET_ADMIN` comes before [`drop_privileges`],
//! and the filter comes last because it forbids what the steps before it use.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::ptr;

use sandwire_init::wire::{Failure, decode_bpf};

use crate::failure::{check, from_io, last};

/// Capabilities that root inside keeps, all of them over the sandbox's own namespace only: what package
/// managers and services that change their user need. No mounting, tracing, raw sockets or devices.
const KEPT: &[u32] = &[
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_NET_BIND_SERVICE,
    CAP_SYS_CHROOT,
];

const CAP_CHOWN: u32 = 0;
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_FOWNER: u32 = 3;
const CAP_FSETID: u32 = 4;
const CAP_KILL: u32 = 5;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_SYS_CHROOT: u32 = 18;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes root of the user namespace. The server wrote the id maps only after this program was started, so
/// until now its ids were unmapped; the rights came through ambient capabilities.
pub(crate) fn become_root() -> Result<(), Failure> {
    // SAFETY: plain system calls; an empty group list needs no pointer.
    unsafe {
        // Refused where the namespace has a single id and so no groups to drop.
        if libc::setgroups(0, ptr::null()) < 0 && *libc::__errno_location() != libc::EPERM {
            return Err(last("setgroups"));
        }
        check(libc::setresgid(0, 0, 0), "setresgid")?;
        check(libc::setresuid(0, 0, 0), "setresuid")?;
        check(libc::setsid(), "setsid")?;
        libc::umask(0o022);
    }
    Ok(())
}

/// Enters the sandbox's cgroups and makes them the roots of what it sees.
///
/// That a task moves itself matters: moving another one stops every fork on the machine for milliseconds.
pub(crate) fn join_cgroups(mut files: Vec<OwnedFd>, leaf: bool) -> Result<(), Failure> {
    let join =
        |file: OwnedFd| File::from(file).write_all(b"0").map_err(|error| from_io("join a cgroup", &error));
    let leaf = if leaf { files.pop() } else { None };
    files.into_iter().try_for_each(join)?;
    // SAFETY: takes a scalar.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }, "unshare the cgroup namespace")?;
    leaf.map_or(Ok(()), join)
}

/// Sets the host name and starts the loopback interface.
pub(crate) fn bring_up(hostname: &str) -> Result<(), Failure> {
    // SAFETY: the pointer and length are those of a live string.
    unsafe { check(libc::sethostname(hostname.as_ptr().cast(), hostname.len()), "sethostname")? };
    // SAFETY: a new socket and an all-zero request, whose name stays NUL-terminated.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0), "socket")?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let result = check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request), "start loopback");
        libc::close(socket);
        result.map(|_| ())
    }
}

/// Drops capabilities, forbids regaining any, hides this process from tracing, and installs the filter.
pub(crate) fn drop_privileges(seccomp: &[u64]) -> Result<(), Failure> {
    drop_bounding_set()?;
    set_capabilities(KEPT.iter().fold(0, |mask, cap| mask | 1 << cap))?;
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prctl with scalar arguments, and setrlimit with a live struct.
    unsafe {
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core), "setrlimit core")?;
        check(
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
            "clear ambient set",
        )?;
        // Commands run with the same ids as this process; not being dumpable is what keeps them from tracing it
        // and from opening what is under /proc/1.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0), "forbid tracing")?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")?;
    }
    install_filter(seccomp)
}

fn drop_bounding_set() -> Result<(), Failure> {
    for capability in 0..64 {
        if KEPT.contains(&capability) {
            continue;
        }
        // SAFETY: prctl with scalar arguments.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0) };
        if dropped < 0 {
            // The first number that the kernel does not know ends the list.
            let failure = last("drop bounding set");
            return if failure.errno == libc::EINVAL { Ok(()) } else { Err(failure) };
        }
    }
    Ok(())
}

fn set_capabilities(mask: u32) -> Result<(), Failure> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [
        CapData { effective: mask, permitted: mask, inheritable: 0 },
        CapData { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: version 3 takes a header and two data structs.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(result, "capset").map(|_| ())
}

fn install_filter(packed: &[u64]) -> Result<(), Failure> {
    let mut filter: Vec<libc::sock_filter> = packed
        .iter()
        .map(|instruction| {
            let (code, jt, jf, k) = decode_bpf(*instruction);
            libc::sock_filter { code, jt, jf, k }
        })
        .collect();
    let len = u16::try_from(filter.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: the program describes a live array of `len` instructions.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result, "install the seccomp filter").map(|_| ())
}
