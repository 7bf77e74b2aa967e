//! Looking at files and directories, making, renaming and removing them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, fchmod,
    fchown, fstat, futimens, readlinkat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sandwire_init::job::{Entry, Kind, Record};
use sandwire_init::wire::Failure;

use super::report::{Report, Stop};
use super::walk::{names, vanished};
use crate::failure::from_io;
use crate::files::path::{Owner, absolute, directory, look, make, open, open_at};

const DIRECTORY_MODE: u32 = 0o755;

/// How a directory is opened whose content is wanted.
const READ_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

pub(super) fn entry(path: String, stat: &Stat, target: Option<String>) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    Entry {
        path,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: stat.st_mtime,
        modified_nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        target,
    }
}

/// Reports what is in a directory.
pub(super) fn list(path: &str, offset: usize, limit: usize, report: &mut Report) -> Result<(), Stop> {
    let dir = absolute(path).and_then(|path| open(&path, READ_DIRECTORY));
    let dir: OwnedFd = dir.map_err(|error| Stop::io(format!("open {path}"), &error))?.into();
    let late = |stop: Stop| stop.unless_whole(format!("list {path}"));
    let names = names(&dir, Path::new(path), report).map_err(late)?;
    report.truncated = names.len().saturating_sub(offset) > limit;
    for (name, _) in names.iter().skip(offset).take(limit) {
        report.step().map_err(late)?;
        // What vanished meanwhile is no longer in it.
        let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from) {
            Ok(stat) => stat,
            Err(error) if vanished(&error) => continue,
            Err(error) => return Err(Stop::io(format!("look at {} in {path}", name.display()), &error)),
        };
        let target = readlinkat(&dir, name, Vec::new()).ok();
        let target = target.map(|target| target.to_string_lossy().into_owned());
        report.tell(&Record::Entry(entry(name.to_string_lossy().into_owned(), &stat, target)))?;
    }
    Ok(())
}

/// Reports on each path.
pub(super) fn stat(paths: &[String], report: &mut Report) -> Result<(), Stop> {
    for path in paths {
        report.step().map_err(|stop| stop.unless_whole(format!("look at {path}")))?;
        report.tell(&match stat_one(path) {
            Ok(entry) => Record::Entry(entry),
            Err(error) => {
                Record::Missing { path: path.clone(), failure: from_io(format!("look at {path}"), &error) }
            }
        })?;
    }
    Ok(())
}

fn stat_one(path: &str) -> io::Result<Entry> {
    let file = open(&absolute(path)?, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = fstat(&file)?;
    let target = readlinkat(&file, c"", Vec::new()).ok();
    Ok(entry(path.to_owned(), &stat, target.map(|target| target.to_string_lossy().into_owned())))
}

/// Makes a directory.
pub(super) fn make_directory(
    path: &str,
    mode: Option<u32>,
    parents: bool,
    owner: &str,
) -> Result<(), Failure> {
    let owner = Owner::find(owner)?;
    let made = absolute(path).and_then(|absolute| {
        let (dir, name) = split(&absolute, |parent| match parents {
            true => directory(parent, owner),
            false => Ok(look(parent)?.into()),
        })?;
        let mode = mode.unwrap_or(DIRECTORY_MODE);
        match make(&dir, &name, mode, owner)? {
            // What it was made with went through the mask.
            (made, true) => Ok(fchmod(&made, Mode::from_raw_mode(mode))?),
            (_, false) if parents => Ok(()),
            (_, false) => Err(Errno::EXIST.into()),
        }
    });
    made.map_err(|error| from_io(format!("make {path}"), &error))
}

/// Opens the directory of a path.
fn split(path: &Path, open: impl FnOnce(&Path) -> io::Result<OwnedFd>) -> io::Result<(OwnedFd, PathBuf)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((open(parent)?, name.into())),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Renames; a regular file also to another file system.
pub(super) fn rename(from: &str, to: &str, overwrite: bool) -> Result<(), Failure> {
    let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    let renamed = absolute(from).and_then(|from| {
        let to = absolute(to)?;
        match renameat_with(CWD, &from, CWD, &to, flags) {
            Err(Errno::XDEV) => carry(&from, &to, flags),
            result => Ok(result?),
        }
    });
    renamed.map_err(|error| from_io(format!("move {from} to {to}"), &error))
}

/// Copies a file to another file system under another name, puts it in its place and removes the old one.
fn carry(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    let old = open(from, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&old)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::XDEV.into());
    }
    let (dir, name) = split(to, |parent| Ok(look(parent)?.into()))?;
    let temp = format!(".sandwire-move-{}.tmp", std::process::id());
    let new = open_at(&dir, Path::new(&temp), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    let carried = copy(&old, &new, &stat).and_then(|()| Ok(renameat_with(&dir, &temp, &dir, &name, flags)?));
    if carried.is_err() {
        let _ = unlinkat(&dir, &temp, AtFlags::empty());
    }
    carried.and_then(|()| Ok(unlinkat(CWD, from, AtFlags::empty())?))
}

fn copy(mut old: &File, mut new: &File, stat: &Stat) -> io::Result<()> {
    io::copy(&mut old, &mut new)?;
    fchown(new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |tv_sec, nanos| Timespec { tv_sec, tv_nsec: i64::try_from(nanos).unwrap_or_default() };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(futimens(new, &times)?)
}

/// Removes a file, a link, or a directory.
pub(super) fn remove(path: &str, recursive: bool, report: &mut Report) -> Result<(), Stop> {
    let failed = |error: io::Error| Stop::io(format!("remove {path}"), &error);
    let (dir, name) = absolute(path)
        .and_then(|path| split(&path, |parent| Ok(open(parent, READ_DIRECTORY)?.into())))
        .map_err(failed)?;
    match unlinkat(&dir, &name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return result.map_err(|error| failed(error.into())),
    }
    match unlinkat(&dir, &name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) if recursive => {
            let below = open_at(&dir, &name, READ_DIRECTORY | OFlags::NOFOLLOW).map_err(failed)?;
            Tree { path, above: Vec::new() }.remove(below.into(), report)?;
            unlinkat(&dir, &name, AtFlags::REMOVEDIR).map_err(|error| failed(error.into()))
        }
        result => result.map_err(|error| failed(error.into())),
    }
}

/// A tree that is being emptied. However deep it is, one descriptor is open: the way up is `..`, and what that leads to
/// must be where the way down came from, or else somebody moved it.
struct Tree<'a> {
    path: &'a str,
    /// The directories above the current one: what they are, and the name of the next one in them.
    above: Vec<((u64, u64), PathBuf)>,
}

impl Tree<'_> {
    fn remove(&mut self, mut dir: OwnedFd, report: &mut Report) -> Result<(), Stop> {
        loop {
            if let Some(name) = self.empty(&dir, report)? {
                let below = open_at(&dir, &name, READ_DIRECTORY | OFlags::NOFOLLOW);
                let below = below.map_err(|error| self.failed(&error))?;
                self.above.push((self.identity(&dir)?, name));
                dir = below.into();
                continue;
            }
            let Some((identity, name)) = self.above.pop() else { return Ok(()) };
            let up = open_at(&dir, Path::new(".."), READ_DIRECTORY).map_err(|error| self.failed(&error))?;
            dir = up.into();
            if self.identity(&dir)? != identity {
                return Err(self.failed(&Errno::STALE.into()));
            }
            unlinkat(&dir, &name, AtFlags::REMOVEDIR).map_err(|error| self.failed(&error.into()))?;
        }
    }

    /// Removes what is no directory, and empty ones; gives the name of the first that is not empty.
    fn empty(&self, dir: &OwnedFd, report: &mut Report) -> Result<Option<PathBuf>, Stop> {
        let entries = Dir::read_from(dir).map_err(|error| self.failed(&error.into()))?;
        for entry in entries {
            report.step().map_err(|stop| stop.unless_whole(format!("remove {}", self.path)))?;
            let entry = entry.map_err(|error| self.failed(&error.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let removed = match unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => unlinkat(dir, name, AtFlags::REMOVEDIR),
                result => result,
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    return Ok(Some(std::ffi::OsStr::from_bytes(name.to_bytes()).into()));
                }
                Err(error) => return Err(self.failed(&error.into())),
            }
        }
        Ok(None)
    }

    fn identity(&self, dir: &OwnedFd) -> Result<(u64, u64), Stop> {
        let stat = fstat(dir).map_err(|error| self.failed(&error.into()))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn failed(&self, error: &io::Error) -> Stop {
        let depth = self.above.len();
        Stop::io(format!("remove what is {depth} directories below {}", self.path), error)
    }
}
