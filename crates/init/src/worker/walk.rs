//! Walking a tree that hostile code may change meanwhile.
//!
//! Links are never followed: each directory is opened by its name in the one above. Whatever vanishes or becomes
//! something else between being listed and opened is passed over; what can't be looked at for any other reason is told.
//! A tree of another file system is entered, `/proc` is
//! not, unless the walk begins there: it is no tree of files, and some of it makes readers wait.
//!
//! Paths come in the order of their bytes, so a directory `a` comes before `a-b`, and what is in it after that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, statat};
use rustix::io::Errno;
use sandwire_init::job::{DEPTH_MAX, PATH_MAX};
use sandwire_init::wire::Failure;

use super::report::{Report, Stop};
use crate::failure::from_io;
use crate::files::path::open_at;

/// Something that the walk came to.
pub(super) struct Found<'a> {
    /// The directory that it is in.
    pub(super) dir: &'a OwnedFd,
    pub(super) name: &'a OsStr,
    /// Below the start of the walk.
    pub(super) path: &'a Path,
    pub(super) kind: FileType,
}

/// Whoever looks at what is found.
pub(super) trait Visitor {
    /// What is known of a directory, for what is in it.
    type State;

    /// Looks at it. A directory is entered if there is a state for it.
    fn visit(&mut self, found: &Found<'_>, state: &Self::State) -> Result<Option<Self::State>, Stop>;

    /// Something is left out, because it is too deep or can't be read. Unless the visitor sees that otherwise, the work
    /// goes on and is not whole.
    fn left_out(&mut self, _: Failure) -> Result<(), Stop> {
        self.report().truncated = true;
        Ok(())
    }

    fn report(&mut self) -> &mut Report;
}

/// Walks what is below a directory.
pub(super) fn walk<V: Visitor>(dir: OwnedFd, state: &V::State, visitor: &mut V) -> Result<(), Stop> {
    let here = fstat(&dir).map(|stat| stat.st_dev).unwrap_or_default();
    Walk { visitor, path: PathBuf::new(), depth: 0 }.level(dir, here, state)
}

struct Walk<'a, V> {
    visitor: &'a mut V,
    path: PathBuf,
    depth: usize,
}

impl<V: Visitor> Walk<'_, V> {
    fn level(&mut self, dir: OwnedFd, device: u64, state: &V::State) -> Result<(), Stop> {
        let mut below: BTreeMap<Vec<u8>, V::State> = BTreeMap::new();
        let names = match names(&dir, &self.path, self.visitor.report()) {
            Err(Stop::Failed(failure)) => {
                self.visitor.left_out(failure)?;
                Vec::new()
            }
            names => names?,
        };
        for (name, kind) in names {
            while below.first_key_value().is_some_and(|(first, _)| first.as_slice() < name.as_bytes()) {
                self.enter_first(&dir, device, &mut below)?;
            }
            self.path.push(&name);
            let found = Found { dir: &dir, name: &name, path: &self.path, kind };
            let inner = self.visitor.visit(&found, state);
            self.path.pop();
            if let Some(inner) = inner? {
                let mut key = name.into_vec();
                key.push(b'/');
                below.insert(key, inner);
            }
        }
        while !below.is_empty() {
            self.enter_first(&dir, device, &mut below)?;
        }
        Ok(())
    }

    fn enter_first(
        &mut self,
        dir: &OwnedFd,
        device: u64,
        below: &mut BTreeMap<Vec<u8>, V::State>,
    ) -> Result<(), Stop> {
        let Some((mut name, state)) = below.pop_first() else { return Ok(()) };
        name.pop();
        let name = OsStr::from_bytes(&name);
        self.path.push(name);
        let entered = self.enter(dir, name, device, &state);
        self.path.pop();
        entered
    }

    fn enter(&mut self, dir: &OwnedFd, name: &OsStr, device: u64, state: &V::State) -> Result<(), Stop> {
        if self.depth >= DEPTH_MAX || self.path.as_os_str().len() >= PATH_MAX {
            let step = format!("{} is more than {DEPTH_MAX} directories deep", self.path.display());
            return self.visitor.left_out(Failure { step, errno: libc::ELOOP });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = match open_at(dir, Path::new(name), flags) {
            Ok(opened) => opened,
            Err(error) if vanished(&error) => return Ok(()),
            Err(error) => {
                return self.visitor.left_out(from_io(format!("open {}", self.path.display()), &error));
            }
        };
        let here = fstat(&opened).map(|stat| stat.st_dev).unwrap_or(device);
        if here != device && fstatfs(&opened).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC) {
            return Ok(());
        }
        self.depth += 1;
        let walked = self.level(opened.into(), here, state);
        self.depth -= 1;
        walked
    }
}

/// What is in a directory, in the order of bytes. `path` is what a failure calls it.
pub(super) fn names(
    dir: &OwnedFd,
    path: &Path,
    report: &mut Report,
) -> Result<Vec<(OsString, FileType)>, Stop> {
    let failed = |error: Errno| Stop::io(format!("read the directory {}", path.display()), &error.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(failed)? {
        report.step()?;
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(error) if vanished(&error.into()) => continue,
                Err(error) => return Err(failed(error)),
            },
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// Opens a regular file that was found; `None` if it is none any more.
pub(super) fn open_file(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match open_at(dir, Path::new(name), flags) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something is no longer what it was listed as. All else (no descriptors, a lease, a broken disk) says nothing
/// about what is there.
pub(super) fn vanished(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO))
}
