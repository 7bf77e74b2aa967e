//! The sandbox's view of the file system, in the order in which it is built.
//!
//! 1. Nothing that happens here reaches the server's mounts, nor the reverse.
//! 2. The overlays, made by the server and passed as descriptors, are attached: `/` over a directory of the old
//!    view, the others inside it.
//! 3. `/proc` of the own pid namespace, with what describes the host covered; a minimal `/dev`; `/tmp` in memory.
//! 4. `pivot_root`, and the old view is gone.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use sandwire_init::wire::{Failure, Setup};

use crate::failure::{c_string, check, from_io, last};

/// Where the new root is attached before it becomes the root. Any directory of the host does; this one exists,
/// because the default base is made of it.
const STAGING: &CStr = c"/usr";

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Files of `/proc` that anybody may read and that describe the host rather than the sandbox. What only the
/// host's root may open needs no cover: no id inside is that root.
const COVERED_FILES: &[&str] = &[
    "cmdline",
    "diskstats",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "modules",
    "partitions",
    "sched_debug",
    "swaps",
    "timer_list",
];

/// Directories of `/proc` that describe the host.
const COVERED_DIRS: &[&str] = &["acpi", "asound", "bus", "driver", "fs", "irq", "scsi"];

/// Instances a sandbox may have; the kernel's default for a whole user is 128.
const INOTIFY_INSTANCES: &str = "32";

/// Terminals of its own, each for its user alone. The kernel's default is 3072 for all sandboxes of a machine together;
/// one must not have them all.
const TERMINALS: &CStr = c"newinstance,ptmxmode=0666,mode=0600,max=128";

const NO_EXEC: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
const MOVE_FROM_FD: libc::c_uint = 0x0000_0004;
const MOVE_TO_FD: libc::c_uint = 0x0000_0040;

/// Builds the view and makes it the root.
pub(crate) fn build(setup: &Setup, fds: Vec<OwnedFd>) -> Result<(), Failure> {
    if fds.len() != setup.mounts.len() || fds.is_empty() {
        return Err(Failure { step: "mounts and descriptors differ".to_owned(), errno: libc::EINVAL });
    }
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    attach_all(&setup.mounts, &fds)?;
    enter_staging()?;
    mount(Some(c"proc"), c"proc", Some(c"proc"), NO_EXEC, None)?;
    bound_quotas()?;
    cover_proc()?;
    let tmp_options = c_string(&format!("mode=1777,size={}", setup.tmp_bytes), "tmp size")?;
    build_dev(&tmp_options)?;
    mount(Some(c"tmpfs"), c"tmp", Some(c"tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, Some(&tmp_options))?;
    pivot()
}

fn attach_all(targets: &[String], fds: &[OwnedFd]) -> Result<(), Failure> {
    let mut root: Option<OwnedFd> = None;
    for (target, mount) in targets.iter().zip(fds) {
        let place = match &root {
            None => open_dir(libc::AT_FDCWD, STAGING, 0)?,
            // A link in the base must not lead the mount elsewhere.
            Some(root) => {
                let inside = c_string(target.trim_start_matches('/'), "mount target")?;
                open_dir(root.as_raw_fd(), &inside, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH)?
            }
        };
        move_mount(mount, &place, target)?;
        if root.is_none() {
            root = Some(open_dir(libc::AT_FDCWD, STAGING, 0)?);
        }
    }
    Ok(())
}

fn move_mount(mount: &OwnedFd, place: &OwnedFd, target: &str) -> Result<(), Failure> {
    // SAFETY: both descriptors live; empty paths with the two flags mean the descriptors themselves.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            place.as_raw_fd(),
            c"".as_ptr(),
            MOVE_FROM_FD | MOVE_TO_FD,
        )
    };
    check(result, &format!("attach {target}")).map(|_| ())
}

fn open_dir(at: RawFd, path: &CStr, resolve: u64) -> Result<OwnedFd, Failure> {
    // SAFETY: open_how is plain data, zero is valid for all of it.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: path is NUL-terminated and `how` has the stated size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, at, path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    let fd = check(fd, &format!("open {}", path.to_string_lossy()))?;
    // SAFETY: the descriptor is new.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn enter_staging() -> Result<(), Failure> {
    // SAFETY: a NUL-terminated literal.
    check(unsafe { libc::chdir(STAGING.as_ptr()) }, "enter the new root").map(|_| ())
}

/// Bounds what the kernel otherwise counts against the server's own user, for all sandboxes and the host together.
fn bound_quotas() -> Result<(), Failure> {
    match fs::write("proc/sys/user/max_inotify_instances", INOTIFY_INSTANCES) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(from_io("bound inotify instances", &error))
        }
        _ => Ok(()),
    }
}

fn cover_proc() -> Result<(), Failure> {
    for name in COVERED_FILES {
        cover(name, |target| mount(Some(c"/dev/null"), target, None, libc::MS_BIND, None))?;
    }
    // One empty directory covers them all: each file system of its own would cost kernel memory in every sandbox.
    let mut empty: Option<CString> = None;
    for name in COVERED_DIRS {
        cover(name, |target| match &empty {
            Some(empty) => mount(Some(empty), target, None, libc::MS_BIND, None),
            None => {
                mount(
                    Some(c"tmpfs"),
                    target,
                    Some(c"tmpfs"),
                    NO_EXEC | libc::MS_RDONLY,
                    Some(c"size=4k,mode=555"),
                )?;
                empty = Some(target.to_owned());
                Ok(())
            }
        })?;
    }
    Ok(())
}

fn cover(name: &str, mut cover: impl FnMut(&CStr) -> Result<(), Failure>) -> Result<(), Failure> {
    let path = c_string(&format!("proc/{name}"), "proc")?;
    match cover(&path) {
        // Which of them exist depends on the kernel's configuration.
        Err(failure) if failure.errno == libc::ENOENT => Ok(()),
        result => result,
    }
}

fn build_dev(shm_options: &CStr) -> Result<(), Failure> {
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(Some(c"tmpfs"), c"dev", Some(c"tmpfs"), flags, Some(c"mode=755,size=64k"))?;
    for name in DEVICES {
        let source = c_string(&format!("/dev/{name}"), "device")?;
        let target = c_string(&format!("dev/{name}"), "device")?;
        // SAFETY: NUL-terminated path; the new descriptor is closed at once.
        unsafe {
            let fd = libc::open(target.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o666);
            libc::close(check(fd, &format!("create /dev/{name}"))?);
        }
        mount(Some(&source), &target, None, libc::MS_BIND, None)?;
    }
    for dir in [c"dev/pts", c"dev/shm"] {
        // SAFETY: NUL-terminated path.
        check(unsafe { libc::mkdir(dir.as_ptr(), 0o755) }, "mkdir in /dev")?;
    }
    let pts_flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(Some(c"devpts"), c"dev/pts", Some(c"devpts"), pts_flags, Some(TERMINALS))?;
    mount(Some(c"tmpfs"), c"dev/shm", Some(c"tmpfs"), NO_EXEC, Some(shm_options))?;
    for (link, to) in [
        (c"dev/ptmx", c"pts/ptmx"),
        (c"dev/fd", c"/proc/self/fd"),
        (c"dev/stdin", c"/proc/self/fd/0"),
        (c"dev/stdout", c"/proc/self/fd/1"),
        (c"dev/stderr", c"/proc/self/fd/2"),
    ] {
        // SAFETY: both are NUL-terminated literals.
        check(unsafe { libc::symlink(to.as_ptr(), link.as_ptr()) }, "link in /dev")?;
    }
    Ok(())
}

/// Swaps the roots: with both arguments the current directory, the old root ends up stacked on the new one,
/// from where it is detached.
fn pivot() -> Result<(), Failure> {
    // SAFETY: NUL-terminated literals throughout.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()), "pivot_root")?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), "detach the old root")?;
        check(libc::chdir(c"/".as_ptr()), "chdir /")?;
    }
    Ok(())
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> Result<(), Failure> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a live NUL-terminated string.
    let result = unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    };
    if result < 0 { Err(last(format!("mount {}", target.to_string_lossy()))) } else { Ok(()) }
}
