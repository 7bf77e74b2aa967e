//! Paths of the sandbox, and opening what they lead to.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use sandwire_init::wire::{Event, Failure};

use crate::failure::from_io;
use crate::users;

const HOME: &str = "/home/user";
const DIRECTORY_MODE: u32 = 0o755;

/// How a path was opened that is only looked at.
pub(crate) const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// User and group, as the sandbox has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// The owner that `run_config.user` names.
    pub(crate) fn find(user: &str) -> Result<Self, Failure> {
        if matches!(user, "root" | "0") {
            return Ok(Self { uid: 0, gid: 0 });
        }
        match users::find(0, user) {
            Event::UserFound { account, .. } => Ok(Self { uid: account.uid, gid: account.gid }),
            // Not to be taken for a file that is not there.
            Event::Failed { failure, .. } => Err(Failure { errno: libc::EINVAL, ..failure }),
            _ => Err(Failure { step: format!("look up {user}"), errno: libc::EINVAL }),
        }
    }

    /// Gives it what is open.
    pub(crate) fn own(self, file: impl AsFd) -> io::Result<()> {
        Ok(rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?)
    }

    /// Gives it what this process has just made, which is root's already.
    pub(crate) fn own_new(self, file: impl AsFd) -> io::Result<()> {
        if self == (Self { uid: 0, gid: 0 }) { Ok(()) } else { self.own(file) }
    }

    /// Gives it a link, which can't be opened.
    pub(crate) fn own_link(self, dir: impl AsFd, name: &Path) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// The path itself, or below the home directory.
pub(crate) fn absolute(path: &str) -> io::Result<PathBuf> {
    if path.is_empty() {
        return Err(Errno::NOENT.into());
    }
    Ok(Path::new(HOME).join(path))
}

/// Opens a path. Links of `/proc` that lead to open descriptors are refused, so that a planted link can't reach
/// this process itself.
pub(crate) fn open_at(dir: impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let new = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    let mode = if new { Mode::from_raw_mode(0o600) } else { Mode::empty() };
    let resolve = ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve)?.into())
}

/// Opens an absolute path.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    open_at(rustix::fs::CWD, path, flags)
}

/// Looks at what a path leads to, through links.
pub(crate) fn look(path: &Path) -> io::Result<File> {
    open(path, LOOK)
}

/// Opens a directory, whose parents exist or are made, and it too. What is made is owned by `owner`.
pub(crate) fn directory(path: &Path, owner: Owner) -> io::Result<OwnedFd> {
    let (mut dir, missing) = existing(path)?;
    for name in missing.iter().rev() {
        dir = make(&dir, name, DIRECTORY_MODE, owner)?.0;
    }
    Ok(dir)
}

/// The nearest directory that exists, and the names that are missing below it, the last one first.
fn existing(path: &Path) -> io::Result<(OwnedFd, Vec<PathBuf>)> {
    let (mut at, mut missing) = (path, Vec::new());
    loop {
        match open(at, LOOK | OFlags::DIRECTORY) {
            Ok(dir) => return Ok((dir.into(), missing)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) => {
                let (Some(name), Some(parent)) = (at.file_name(), at.parent()) else { return Err(error) };
                missing.push(name.into());
                at = parent;
            }
        }
    }
}

/// Makes a directory and opens it; also says whether it is new. One that is there already stays as it is.
pub(crate) fn make(dir: impl AsFd, name: &Path, mode: u32, owner: Owner) -> io::Result<(OwnedFd, bool)> {
    let new = match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = if new { OFlags::RDONLY | OFlags::NOFOLLOW } else { LOOK };
    let made = open_at(dir, name, flags | OFlags::DIRECTORY)?;
    if new {
        owner.own(&made)?;
    }
    Ok((made.into(), new))
}

/// The attributes of a file that is open or looked at, if it is a regular one.
pub(crate) fn regular(file: &File, path: &str) -> Result<Metadata, Failure> {
    let metadata = file.metadata().map_err(|error| from_io(format!("look at {path}"), &error))?;
    let kind = match metadata.file_type() {
        kind if kind.is_file() => return Ok(metadata),
        kind if kind.is_dir() => return Err(Failure { step: path.to_owned(), errno: libc::EISDIR }),
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_socket() => "socket",
        kind if kind.is_symlink() => "link",
        _ => "device",
    };
    Err(Failure { step: format!("{path} is a {kind} and no regular file"), errno: libc::EINVAL })
}

/// The permission bits of what is open.
pub(crate) fn permissions(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}
