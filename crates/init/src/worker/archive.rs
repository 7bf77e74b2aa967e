//! Trees as tar archives, out of the sandbox and into it.
//!
//! An archive that comes in is as hostile as the tree it lands in. Every name is resolved by the kernel below the
//! directory that it is extracted to, and nothing leads out of it: neither `..`, nor absolute names, nor links that the
//! archive brought along or that were there, nor hard links.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, futimens, linkat,
    mkdirat, openat, openat2, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use sandwire_init::job::Record;
use sandwire_init::wire::Failure;
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::report::{Report, Stop};
use super::walk::{Found, Visitor, open_file, vanished, walk};
use crate::failure::from_io;
use crate::files::path::{Owner, absolute, directory, open};

const DIRECTORY_MODE: u32 = 0o755;

/// Set-id bits are not extracted: the archive's files get another owner than they had.
const MODE_MASK: u32 = 0o1777;

/// Writes an archive. Fifos, sockets and devices are left out, as they hold nothing.
pub(super) fn pack(path: &str, out: OwnedFd, report: &mut Report) -> Result<(), Stop> {
    let opened = absolute(path).and_then(|path| {
        open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(|file| (path, file))
    });
    let (absolute, file) = opened.map_err(|error| Stop::io(format!("open {path}"), &error))?;
    let metadata = file.metadata().map_err(|error| Stop::io(format!("look at {path}"), &error))?;
    let mut tar = Builder::new(io::BufWriter::with_capacity(256 * 1024, File::from(out)));
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(
            Failure { step: format!("{path} is neither file nor directory"), errno: libc::EINVAL }.into()
        );
    }
    report.tell_now(&Record::Ready)?;
    if metadata.is_file() {
        let name = absolute.file_name().map(PathBuf::from).unwrap_or_default();
        append_file(&mut tar, &name, file)?;
    } else {
        walk(file.into(), &(), &mut Pack { tar: &mut tar, report })?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(|error| Stop::io("write the archive", &error))
}

struct Pack<'a, W: Write> {
    tar: &'a mut Builder<W>,
    report: &'a mut Report,
}

impl<W: Write> Visitor for Pack<'_, W> {
    type State = ();

    fn visit(&mut self, found: &Found<'_>, (): &()) -> Result<Option<()>, Stop> {
        self.report.step()?;
        let failed = |error: io::Error| Stop::io(format!("archive {}", found.path.display()), &error);
        match found.kind {
            FileType::RegularFile => {
                // One that vanished meanwhile is not there; one that can't be read would be missing.
                if let Some(file) = open_file(found.dir, found.name).map_err(failed)? {
                    append_file(self.tar, found.path, file)?;
                }
            }
            FileType::Directory => {
                let stat = statat(found.dir, found.name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
                let Some(stat) = unless_vanished(stat).map_err(failed)? else { return Ok(None) };
                let mut header = header(EntryType::Directory, &stat);
                self.tar.append_data(&mut header, found.path, io::empty()).map_err(failed)?;
                return Ok(Some(()));
            }
            FileType::Symlink => {
                let Some((stat, target)) = unless_vanished(link(found)).map_err(failed)? else {
                    return Ok(None);
                };
                let target = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
                let mut header = header(EntryType::Symlink, &stat);
                // As it is; the library would rewrite some. A longer one needs an entry of its own, which it makes.
                match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                    Ok(()) => self.tar.append_data(&mut header, found.path, io::empty()).map_err(failed)?,
                    Err(_) => self.tar.append_link(&mut header, found.path, target).map_err(failed)?,
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn left_out(&mut self, failure: Failure) -> Result<(), Stop> {
        Err(failure.into())
    }

    fn report(&mut self) -> &mut Report {
        self.report
    }
}

/// A link, and where it leads.
fn link(found: &Found<'_>) -> io::Result<(Stat, CString)> {
    let target = readlinkat(found.dir, found.name, Vec::new()).map_err(|error| match error {
        // It is no link any more.
        Errno::INVAL => Errno::NOENT,
        error => error,
    })?;
    Ok((statat(found.dir, found.name, AtFlags::SYMLINK_NOFOLLOW)?, target))
}

fn unless_vanished<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(error) if vanished(&error) => Ok(None),
        looked => looked.map(Some),
    }
}

fn append_file(tar: &mut Builder<impl Write>, path: &Path, file: File) -> Result<(), Stop> {
    let failed = |error: io::Error| Stop::io(format!("archive {}", path.display()), &error);
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    let mut header = header(EntryType::Regular, &stat);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    header.set_size(size);
    let mut content = Counted { file: file.take(size), left: size };
    tar.append_data(&mut header, path, &mut content).map_err(failed)?;
    if content.left > 0 {
        return Err(Failure {
            step: format!("{} was cut while it was archived", path.display()),
            errno: libc::EIO,
        }
        .into());
    }
    Ok(())
}

struct Counted {
    file: io::Take<File>,
    left: u64,
}

impl Read for Counted {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(space)?;
        self.left -= read as u64;
        Ok(read)
    }
}

fn header(kind: EntryType, stat: &rustix::fs::Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}

/// Extracts an archive, up to the first entry that can't be, which the failure names.
pub(super) fn unpack(path: &str, owner: &str, data: OwnedFd, report: &mut Report) -> Result<(), Stop> {
    let owner = Owner::find(owner)?;
    let root = absolute(path).and_then(|path| directory(&path, owner));
    let root = root.map_err(|error| Stop::io(format!("open {path}"), &error))?;
    // Modes are those of the archive.
    rustix::process::umask(Mode::empty());
    let mut archive = Archive::new(io::BufReader::with_capacity(256 * 1024, File::from(data)));
    let broken = |error: io::Error| {
        Stop::from(Failure { step: format!("the archive can't be read: {error}"), errno: libc::EBADMSG })
    };
    let mut unpack = Unpack { root: &root, owner, parent: None };
    for entry in archive.entries().map_err(broken)? {
        report.step()?;
        let mut entry = entry.map_err(broken)?;
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
        unpack.entry(&mut entry, &name).map_err(|error| Stop::Failed(refusal(&name, &error)))?;
    }
    Ok(())
}

fn refusal(name: &Path, error: &io::Error) -> Failure {
    let why = match error.raw_os_error() {
        Some(libc::EXDEV) => ", which leads out of the directory",
        Some(libc::EOPNOTSUPP) => ", which is neither file nor directory nor link",
        _ => "",
    };
    from_io(format!("extract {}{why}", name.display()), error)
}

struct Unpack<'a> {
    root: &'a OwnedFd,
    owner: Owner,
    /// The directory of the entry before, which usually is that of the next one too.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Unpack<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, name: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = inside(name)?;
        let Some(base) = name.file_name().map(Path::new) else {
            // The directory that is extracted to is the caller's own matter.
            return if kind.is_dir() { Ok(()) } else { Err(Errno::INVAL.into()) };
        };
        let dir = self.directory_of(&name)?;
        let mode = Mode::from_raw_mode(entry.header().mode()? & MODE_MASK);
        match kind {
            EntryType::Directory => make_directory(&dir, base, mode, self.owner),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &dir, base, mode)
            }
            EntryType::Symlink => {
                let target = link_name(entry)?;
                replacing(&dir, base, || symlinkat(&target, &dir, base))?;
                self.owner.own_link(&dir, base)
            }
            EntryType::Link => {
                let target = inside(&link_name(entry)?)?;
                let target_base = target.file_name().ok_or(Errno::INVAL)?;
                let from = open_below(self.root, parent(&target), OFlags::PATH | OFlags::DIRECTORY)?;
                replacing(&dir, base, || linkat(&from, target_base, &dir, base, AtFlags::empty()))
            }
            _ => Err(Errno::OPNOTSUPP.into()),
        }
    }

    fn file(
        &self,
        entry: &mut Entry<'_, impl Read>,
        dir: &OwnedFd,
        base: &Path,
        mode: Mode,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(replacing(dir, base, || openat(dir, base, flags, mode))?);
        let size = entry.size();
        if io::copy(entry, &mut file)? != size {
            return Err(Errno::BADMSG.into());
        }
        self.owner.own_new(&file)?;
        let modified = i64::try_from(entry.header().mtime()?).unwrap_or_default();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: modified, tv_nsec: 0 },
        };
        Ok(futimens(&file, &times)?)
    }

    /// Opens the directory that `name` is in; missing ones are made.
    fn directory_of(&mut self, name: &Path) -> io::Result<OwnedFd> {
        let wanted = parent(name);
        if let Some((path, dir)) = &self.parent
            && path == wanted
        {
            return dir.try_clone();
        }
        let dir = match open_below(self.root, wanted, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.file_name().is_some() => {
                let above = self.directory_of(wanted)?;
                let base = wanted.file_name().map(Path::new).unwrap_or(wanted);
                make_directory(&above, base, Mode::from_raw_mode(DIRECTORY_MODE), self.owner)?;
                open_below(self.root, wanted, OFlags::PATH | OFlags::DIRECTORY)?
            }
            result => result?,
        };
        self.parent = Some((wanted.to_owned(), dir.try_clone()?));
        Ok(dir)
    }
}

/// Makes a directory, or takes one that is there as it is.
fn make_directory(dir: &OwnedFd, base: &Path, mode: Mode, owner: Owner) -> io::Result<()> {
    let new = match mkdirat(dir, base, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let made = open_below(dir, base, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
    if new { owner.own_new(&made) } else { Ok(()) }
}

/// Makes something in the place of what is there; a directory is not replaced.
fn replacing<T>(
    dir: &OwnedFd,
    base: &Path,
    mut make: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(dir, base, AtFlags::empty())?;
            Ok(make()?)
        }
        result => Ok(result?),
    }
}

/// Opens a path below a directory; links on the way may lead about below it, but not out of it.
fn open_below(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// A name without `.`; one with `..` or from the root is refused.
fn inside(name: &Path) -> io::Result<PathBuf> {
    name.components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(Errno::XDEV.into()),
        })
        .collect()
}

fn link_name(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let name = entry.link_name_bytes().ok_or_else(|| io::Error::from(Errno::BADMSG))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&name)))
}
