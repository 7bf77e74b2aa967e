//! Walking a tree that hostile code may change meanwhile.
//!
//! Links are never followed: each directory is opened by its name in the one above. Whatever vanishes or becomes
//! something else between being listed and opened is passed over. A tree of another file system is entered, `/proc` is
//! not, unless the walk begins there: it is no tree of files, and some of it makes readers wait.
//!
//! Paths come in the order of their bytes, so a directory `a` comes before `a-b`, and what is in it after that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, statat};
use sandwire_init::job::{DEPTH_MAX, PATH_MAX};

use super::report::{Report, Stop};
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

    /// A directory is too deep to be entered.
    fn too_deep(&mut self, path: &Path) -> Result<(), Stop>;

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
        for (name, kind) in names(&dir, self.visitor.report())? {
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
            return self.visitor.too_deep(&self.path);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(opened) = open_at(dir, Path::new(name), flags) else { return Ok(()) };
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

/// What is in a directory, in the order of bytes.
pub(super) fn names(dir: &OwnedFd, report: &mut Report) -> Result<Vec<(OsString, FileType)>, Stop> {
    // One that can't be read is like an empty one.
    let Ok(entries) = Dir::read_from(dir) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries.map_while(Result::ok) {
        report.step()?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// Opens a regular file that was found; `None` if it is none any more.
pub(super) fn open_file(dir: &OwnedFd, name: &OsStr) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_at(dir, Path::new(name), flags).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}
