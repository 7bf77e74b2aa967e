//! Opening files for the server, by paths of the sandbox.
//!
//! Everything here may race with hostile code that renames and relinks: nothing outside can be reached, because
//! this process sees nothing outside, and what is opened is judged by its descriptor, never by its path. Links
//! of `/proc` that lead to open descriptors are refused, so that a planted link can't reach this process itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sandwire_init::wire::{Event, Failure};

use crate::failure::{c_string, from_io};

const HOME: &str = "/home/user";
const NEW_FILE_MODE: u32 = 0o644;

/// Links followed in a row, as in the kernel.
const LINKS_MAX: usize = 40;

type Answer = (Option<Event>, Option<OwnedFd>);

/// Opens a regular file for reading.
pub(crate) fn open(req: u64, path: &str) -> Answer {
    let opened = absolute(path).and_then(|path| {
        let file = open_at(&path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
        let metadata = regular(&file)?;
        Ok((file, metadata))
    });
    match opened {
        Ok((file, metadata)) => (
            Some(Event::FileOpened { req, size: metadata.len(), mtime: metadata.mtime() }),
            Some(file.into()),
        ),
        Err(error) => (Some(failed(req, format!("open {path}"), &error)), None),
    }
}

/// Creates a temporary file beside the destination.
pub(crate) fn create(req: u64, path: &str) -> Answer {
    match absolute(path).and_then(|path| create_beside(&path)) {
        Ok((file, temp, dest)) => match (text(temp), text(dest)) {
            (Some(temp), Some(dest)) => (Some(Event::FileCreated { req, temp, dest }), Some(file.into())),
            _ => (
                Some(failed(req, format!("create {path}"), &io::Error::from_raw_os_error(libc::EILSEQ))),
                None,
            ),
        },
        Err(error) => (Some(failed(req, format!("create {path}"), &error)), None),
    }
}

/// Puts a temporary file in its place.
pub(crate) fn commit(req: u64, temp: &str, dest: &str) -> Event {
    done(req, format!("replace {dest}"), fs::rename(temp, dest))
}

/// Removes a temporary file.
pub(crate) fn discard(req: u64, temp: &str) -> Event {
    done(req, format!("remove {temp}"), fs::remove_file(temp))
}

/// What to answer when the descriptor of `event` could not be passed. A temporary file is removed again.
pub(crate) fn refused(event: &Event, error: &io::Error) -> Event {
    match event {
        Event::FileCreated { req, temp, .. } => {
            let _ = fs::remove_file(temp);
            failed(*req, "pass the file".to_owned(), error)
        }
        Event::FileOpened { req, .. } => failed(*req, "pass the file".to_owned(), error),
        other => other.clone(),
    }
}

fn create_beside(path: &Path) -> io::Result<(File, PathBuf, PathBuf)> {
    let (dest, mode) = match open_at(path, libc::O_PATH) {
        Ok(existing) => {
            let mode = regular(&existing)?.mode() & 0o7777;
            // Through links, to the file itself: replacing must not turn a link into a file.
            (fs::read_link(format!("/proc/self/fd/{}", existing.as_raw_fd()))?, mode)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (link_target(path)?, NEW_FILE_MODE),
        Err(error) => return Err(error),
    };
    let dir = dest.parent().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    fs::create_dir_all(dir)?;
    let temp = dir.join(temp_name());
    let file = open_at(&temp, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok((file, temp, dest))
}

/// Where a file that does not exist is to be made: a link that leads nowhere yet says where.
fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        path.pop();
        path.push(target);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn temp_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let clock = fs::metadata("/proc/self").map_or(0, |metadata| metadata.ctime_nsec());
    format!(".sandwire-{clock:x}-{}.tmp", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn absolute(path: &str) -> io::Result<PathBuf> {
    if path.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    Ok(Path::new(HOME).join(path))
}

fn open_at(path: &Path, flags: libc::c_int) -> io::Result<File> {
    let path = c_string(path.to_str().unwrap_or_default(), "path")
        .map_err(|failure| io::Error::from_raw_os_error(failure.errno))?;
    // SAFETY: open_how is plain data, zero is valid for all of it.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = if flags & libc::O_CREAT == 0 { 0 } else { 0o600 };
    how.resolve = libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is NUL-terminated and `how` has the stated size.
    let fd = unsafe {
        let size = size_of::<libc::open_how>();
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    Ok(unsafe { File::from_raw_fd(fd as RawFd) })
}

fn regular(file: &File) -> io::Result<fs::Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !metadata.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(metadata)
}

fn text(path: PathBuf) -> Option<String> {
    path.into_os_string().into_string().ok()
}

fn done(req: u64, step: String, result: io::Result<()>) -> Event {
    match result {
        Ok(()) => Event::Done { req },
        Err(error) => failed(req, step, &error),
    }
}

fn failed(req: u64, step: String, error: &io::Error) -> Event {
    let failure: Failure = from_io(step, error);
    Event::Failed { req, failure }
}
