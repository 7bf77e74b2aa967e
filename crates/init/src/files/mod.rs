//! Opening files for the server, by paths of the sandbox.
//!
//! Everything here may race with hostile code that renames and relinks: nothing outside can be reached, because
//! this process sees nothing outside, and what is opened is judged by its descriptor, never by its path. Nothing here
//! takes long; what could is the work of [`crate::worker`].

pub(crate) mod path;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sandwire_init::wire::{Event, Failure};

use crate::failure::from_io;
use path::{Owner, absolute, permissions, regular};

const NEW_FILE_MODE: u32 = 0o644;

/// Links followed in a row, as in the kernel.
const LINKS_MAX: usize = 40;

type Answer = (Option<Event>, Option<OwnedFd>);

/// Opens a regular file for reading.
pub(crate) fn open(req: u64, path: &str) -> Answer {
    let opened = absolute(path)
        .and_then(|path| path::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY))
        .map_err(|error| from_io(format!("open {path}"), &error))
        .and_then(|file| regular(&file, path).map(|_| file));
    match opened {
        Ok(file) => (Some(Event::FileOpened { req }), Some(file.into())),
        Err(failure) => (Some(Event::Failed { req, failure }), None),
    }
}

/// Creates a temporary file beside the destination.
pub(crate) fn create(req: u64, path: &str, mode: Option<u32>, owner: &str) -> Answer {
    let created = Owner::find(owner).and_then(|owner| {
        let (dest, mode) = destination(path, mode)?;
        create_beside(dest, mode, owner).map_err(|error| from_io(format!("create {path}"), &error))
    });
    match created {
        Ok((file, temp, dest)) => (Some(Event::FileCreated { req, temp, dest }), Some(file.into())),
        Err(failure) => (Some(Event::Failed { req, failure }), None),
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
        Event::Connecting { req } => failed(*req, "pass the connection".to_owned(), error),
        other => other.clone(),
    }
}

/// Where the file is to be, and with which mode.
fn destination(path: &str, mode: Option<u32>) -> Result<(PathBuf, u32), Failure> {
    let failed = |error: io::Error| from_io(format!("create {path}"), &error);
    let absolute = absolute(path).map_err(failed)?;
    match path::look(&absolute) {
        Ok(existing) => {
            let mode = mode.unwrap_or(permissions(&regular(&existing, path)?));
            // Through links, to the file itself: replacing must not turn a link into a file.
            let dest = fs::read_link(format!("/proc/self/fd/{}", existing.as_raw_fd()));
            dest.map(|dest| (dest, mode)).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            link_target(&absolute).map(|dest| (dest, mode.unwrap_or(NEW_FILE_MODE))).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn create_beside(dest: PathBuf, mode: u32, owner: Owner) -> io::Result<(File, String, String)> {
    let (Some(parent), Some(_name)) = (dest.parent(), dest.file_name()) else {
        return Err(Errno::ISDIR.into());
    };
    let name = temp_name();
    let (temp, dir) = (parent.join(&name), path::directory(parent, owner)?);
    let (Some(temp), Some(dest)) = (text(temp), text(dest)) else { return Err(Errno::ILSEQ.into()) };
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = path::open_at(&dir, Path::new(&name), new)?;
    // In this order: a change of the owner takes set-id bits away.
    let owned = owner.own(&file).and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)));
    if let Err(error) = owned {
        let _ = rustix::fs::unlinkat(&dir, &name, rustix::fs::AtFlags::empty());
        return Err(error);
    }
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
    Err(Errno::LOOP.into())
}

fn temp_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let clock = fs::metadata("/proc/self").map_or(0, |metadata| metadata.ctime_nsec());
    format!(".sandwire-{clock:x}-{}.tmp", NEXT.fetch_add(1, Ordering::Relaxed))
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
    Event::Failed { req, failure: from_io(step, error) }
}
