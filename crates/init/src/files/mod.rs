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

use rustix::fs::{AtFlags, CWD, OFlags, fstat, linkat, unlinkat};
use rustix::io::Errno;
use sandwire_init::wire::{Event, Failure};

use crate::failure::from_io;
use path::{Owner, absolute, permissions, regular};

const NEW_FILE_MODE: u32 = 0o644;

/// Links followed in a row, as in the kernel.
const LINKS_MAX: usize = 40;

/// How often a file that is replaced all the time is looked at for its path.
const RACES_MAX: usize = 16;

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

/// Creates a file that has no name yet, or a temporary one beside the destination.
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

/// Puts a file in its place.
pub(crate) fn commit(req: u64, temp: &str, dest: &str, file: Option<OwnedFd>) -> Event {
    let placed = name_it(temp, file).and_then(|()| {
        // Of what can't be put there nothing is left.
        fs::rename(temp, dest).inspect_err(|_| drop(fs::remove_file(temp)))
    });
    done(req, format!("replace {dest}"), placed)
}

/// Gives a file that has no name the temporary one.
fn name_it(temp: &str, file: Option<OwnedFd>) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    if fstat(&file)?.st_nlink > 0 {
        return Ok(());
    }
    Ok(linkat(CWD, descriptor(&file), CWD, temp, AtFlags::SYMLINK_FOLLOW)?)
}

/// Removes a temporary file; one that never had its name is gone already.
pub(crate) fn discard(req: u64, temp: &str) -> Event {
    let removed = match fs::remove_file(temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    done(req, format!("remove {temp}"), removed)
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
            let dest = (0..RACES_MAX).find_map(|_| path_of(&absolute));
            dest.map_or_else(|| link_target(&absolute), Ok).map(|dest| (dest, mode)).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            link_target(&absolute).map(|dest| (dest, mode.unwrap_or(NEW_FILE_MODE))).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The path, without links, of the file that a path leads to; none if it was replaced meanwhile: the kernel then calls
/// the old one "… (deleted)", which may be anybody's name.
fn path_of(path: &Path) -> Option<PathBuf> {
    let existing = path::look(path).ok()?;
    let dest = fs::read_link(descriptor(&existing)).ok()?;
    let there = path::open(&dest, path::LOOK | OFlags::NOFOLLOW).ok()?.metadata().ok()?;
    let existing = existing.metadata().ok()?;
    ((there.dev(), there.ino()) == (existing.dev(), existing.ino())).then_some(dest)
}

/// The magic link to a descriptor of this process.
fn descriptor(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn create_beside(dest: PathBuf, mode: u32, owner: Owner) -> io::Result<(File, String, String)> {
    let (Some(parent), Some(_name)) = (dest.parent(), dest.file_name()) else {
        return Err(Errno::ISDIR.into());
    };
    let name = temp_name();
    let (temp, dir) = (parent.join(&name), path::directory(parent, owner)?);
    let (Some(temp), Some(dest)) = (text(temp), text(dest)) else { return Err(Errno::ILSEQ.into()) };
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    // Without a name nothing is left of it, whatever happens. Not all file systems have that.
    let file = path::open_at(&dir, Path::new("."), OFlags::WRONLY | OFlags::TMPFILE)
        .or_else(|_| path::open_at(&dir, Path::new(&name), new))?;
    // In this order: a change of the owner takes set-id bits away.
    let owned = owner.own(&file).and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)));
    if let Err(error) = owned {
        let _ = unlinkat(&dir, &name, AtFlags::empty());
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ROOT: Owner = Owner { uid: 0, gid: 0 };

    #[test]
    fn a_file_that_is_replaced_all_the_time_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("f"), dir.path().join("t"));
        fs::write(&path, "").unwrap();
        let replaced = path.clone();
        let ended = std::sync::Arc::new(AtomicU64::new(0));
        let end = std::sync::Arc::clone(&ended);
        let replacing = std::thread::spawn(move || {
            while end.load(Ordering::Relaxed) == 0 {
                fs::write(&other, "").unwrap();
                fs::rename(&other, &replaced).unwrap();
            }
        });
        for _ in 0..20_000 {
            assert_eq!(destination(path.to_str().unwrap(), None).unwrap().0, path);
        }
        ended.store(1, Ordering::Relaxed);
        replacing.join().unwrap();
    }

    #[test]
    fn an_upload_has_no_name_before_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let names =
            || fs::read_dir(dir.path()).unwrap().map(|name| name.unwrap().file_name()).collect::<Vec<_>>();
        let dest = dir.path().join("f");
        let (mut file, temp, dest) = create_beside(dest, 0o600, ROOT).unwrap();
        file.write_all(b"content").unwrap();
        assert!(names().is_empty());
        assert_eq!(discard(1, &temp), Event::Done { req: 1 });
        assert_eq!(commit(2, &temp, &dest, Some(file.into())), Event::Done { req: 2 });
        assert_eq!((names(), fs::read(&dest).unwrap()), (vec!["f".into()], b"content".to_vec()));

        fs::create_dir_all(dir.path().join("d/e")).unwrap();
        let (file, temp, dest) = create_beside(dir.path().join("d"), 0o600, ROOT).unwrap();
        assert!(matches!(commit(3, &temp, &dest, Some(file.into())), Event::Failed { .. }));
        assert_eq!(names().len(), 2, "what can't be put in its place is gone");
    }
}
