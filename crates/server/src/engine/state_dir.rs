//! The state directory: `lock`, `version`, `ephemeral` while nothing in it is to be kept, the database, `boxes/<id>/` with the files of each sandbox, `commands/<id>`
//! with its journal, `trash/`, and what isolation keeps in it; all private to the server's user.
//!
//! One server holds the lock; a second one is refused, and so is a server that is older than the layout. What is in
//! `boxes/` without being in the database is removed at the next start, as is everything in `trash/`.
//!
//! An ephemeral server removes at its end what servers make in the directory, and the directory if it made that too.
//! Temporary directories of a user share a parent, so that what a killed server left there is found by the next one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdirat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sandwire_protocol::limits::{REMOVAL_GRACE, REMOVAL_GRACE_EPHEMERAL};
use uuid::Uuid;

use super::secret;
use super::trash::Trash;
use crate::store;

const LOCK: &str = "lock";
const BOXES: &str = "boxes";
const TRASH: &str = "trash";
const JOURNALS: &str = "commands";
const VERSION_FILE: &str = "version";
/// Is there while all that is in the directory may go.
const EPHEMERAL: &str = "ephemeral";
/// Of what is described above; the database has its own.
const VERSION: u32 = 1;
/// Directories of `sandwire_isolate`, which removes its record of cgroups itself once they are gone.
const ISOLATION: [&str; 2] = ["base", "proof"];

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another server holds it.
    #[error("the state directory {} is in use by another sandwired", .0.display())]
    InUse(PathBuf),
    /// A later version made it.
    #[error(
        "the state directory {} has layout {found}, and this server knows {VERSION}: use the newer sandwired again, or \
         another directory", path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// It has sandboxes that are to be kept.
    #[error(
        "the state directory {} has sandboxes of a server that keeps them, and an ephemeral one would remove them: use \
         another directory, or run without --ephemeral", .0.display()
    )]
    Kept(PathBuf),
    /// It has files of sandboxes, and nothing says whose.
    #[error(
        "the state directory {} has files of sandboxes and no {} that knows them: put that back from a backup, or \
         remove boxes/ if nobody needs them", .0.display(), store::FILE
    )]
    NoDatabase(PathBuf),
    /// The file system refuses.
    #[error("the state directory can't be used: {}: {source}", path.display())]
    Io {
        /// What could not be made or opened.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn fail(path: &Path) -> impl Fn(io::Error) -> StateDirError {
    |source| StateDirError::Io { path: path.to_owned(), source }
}

/// A locked state directory.
pub struct StateDir {
    path: PathBuf,
    trash: Arc<Trash>,
    /// What this server made is to go at the end.
    ephemeral: bool,
    /// The directory did not exist before.
    made: bool,
    /// The open parent that temporary directories of this user share.
    parent: Option<File>,
    /// Held for as long as the server lives.
    _lock: File,
}

/// A temporary directory whose server is dead. The lock keeps others from taking it too.
pub(super) struct Abandoned {
    pub(super) path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens or makes the directory at `path`.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let made = make(path).map_err(fail(path))?;
        Self::prepare(path, made, false, None)
    }

    /// Like [`StateDir::open`]; [`StateDir::close`] removes what servers make in it, and the directory if it did not
    /// exist before.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn ephemeral(path: &Path) -> Result<Self, StateDirError> {
        let made = make(path).map_err(fail(path))?;
        Self::prepare(path, made, true, None)
    }

    /// Makes a fresh directory, which [`StateDir::close`] removes. `user` is the user's id as the machine knows it:
    /// in a user namespace everybody is 0.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn temporary(user: u32) -> Result<Self, StateDirError> {
        Self::temporary_in(&std::env::temp_dir(), user)
    }

    fn temporary_in(temp: &Path, user: u32) -> Result<Self, StateDirError> {
        let shared = temp.join(format!("sandwired-{user}"));
        let name = Uuid::new_v4().simple().to_string();
        if let Some(parent) = private_parent(&shared) {
            // Held until the new directory has its own lock: without that it looks abandoned.
            let parent = Locked::exclusively(parent).map_err(fail(&shared))?;
            // Fails if the last server has just removed the parent.
            if mkdirat(&parent.0, &name, Mode::RWXU).is_ok() {
                return Self::prepare(&shared.join(name), true, true, Some(&parent.0));
            }
        }
        let path = temp.join(format!("sandwired-{name}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(fail(&path))?;
        Self::prepare(&path, true, true, None)
    }

    fn prepare(
        path: &Path,
        made: bool,
        ephemeral: bool,
        parent: Option<&File>,
    ) -> Result<Self, StateDirError> {
        let path = path.canonicalize().map_err(fail(path))?;
        let file = path.join(LOCK);
        let lock = lock(&file).map_err(fail(&file))?.ok_or_else(|| StateDirError::InUse(path.clone()))?;
        check_version(&path)?;
        check_purpose(&path, ephemeral)?;
        for dir in [BOXES, TRASH, JOURNALS].map(|name| path.join(name)) {
            private_dir(&dir).map_err(fail(&dir))?;
        }
        let parent = parent.map(File::try_clone).transpose().map_err(fail(&path))?;
        let grace = if ephemeral { REMOVAL_GRACE_EPHEMERAL } else { REMOVAL_GRACE };
        let trash = Arc::new(Trash::new(path.join(TRASH), grace));
        Ok(Self { path, trash, ephemeral, made, parent, _lock: lock })
    }

    /// Whether a server has used that directory as its own.
    pub fn is_one(path: &Path) -> bool {
        path.join(LOCK).is_file() && path.join(BOXES).is_dir()
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the sandboxes' files are, a directory for each.
    pub(super) fn boxes(&self) -> PathBuf {
        self.path.join(BOXES)
    }

    /// Where the journals of their commands are, a file for each.
    pub(super) fn journals(&self) -> PathBuf {
        self.path.join(JOURNALS)
    }

    /// What an ephemeral server left is about to go: from here on it is a directory of sandboxes that are kept.
    pub(super) fn keep(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(EPHEMERAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether nothing of it outlives the server.
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Where trees wait for their removal.
    pub(super) fn trash_dir(&self) -> PathBuf {
        self.path.join(TRASH)
    }

    /// What removes trees of this directory.
    pub(super) fn trash(&self) -> Arc<Trash> {
        Arc::clone(&self.trash)
    }

    /// Sandboxes that a killed server left.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        entries(&self.boxes())
    }

    /// For a temporary directory: those beside it whose servers were killed.
    pub(super) fn abandoned(&self) -> Vec<Abandoned> {
        let (Some(parent), Some(dir)) = (&self.parent, self.path.parent()) else { return Vec::new() };
        let Ok(_parent) = parent.try_clone().and_then(Locked::exclusively) else { return Vec::new() };
        let take = |path: PathBuf| Some(Abandoned { _lock: lock(&path.join(LOCK)).ok()??, path });
        entries(dir).into_iter().filter_map(take).collect()
    }

    /// Ends the use. What isolation mounted below must be detached before.
    ///
    /// # Errors
    /// What is to go could not be removed completely.
    pub fn close(mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ephemeral) { self.remove() } else { Ok(()) }
    }

    fn remove(&self) -> io::Result<()> {
        self.trash.hurry();
        for name in ISOLATION.iter().chain([&BOXES, &JOURNALS, &VERSION_FILE, &EPHEMERAL]) {
            self.trash.take(&self.path.join(name))?;
        }
        self.trash.empty()?;
        fs::remove_dir(self.path.join(TRASH))?;
        match fs::remove_file(self.path.join(secret::FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_file(self.path.join(LOCK))?;
        if self.made {
            unless_in_use(fs::remove_dir(&self.path))?;
        }
        if let (Some(parent), Some(dir)) = (&self.parent, self.path.parent()) {
            let _parent = Locked::exclusively(parent.try_clone()?)?;
            unless_in_use(fs::remove_dir(dir))?;
        }
        Ok(())
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.ephemeral
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, path = %self.path.display(), "state directory not removed");
        }
    }
}

/// Somebody else's files may stay where they are.
fn unless_in_use(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a private directory with its parents; false if it exists.
fn make(path: &Path) -> io::Result<bool> {
    path.parent().map_or(Ok(()), private_dir)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens or makes the directory at `path`, unless it is not ours alone: in a directory for temporary files anybody
/// may have made one of that name first.
fn private_parent(path: &Path) -> Option<File> {
    make(path).ok()?;
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let dir = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = dir.metadata().ok()?;
    (metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0).then_some(dir)
}

/// What is in the directory must not be taken for what a killed ephemeral server left, by which it says so itself.
fn check_purpose(path: &Path, ephemeral: bool) -> Result<(), StateDirError> {
    let there = |name: &str| path.join(name).try_exists().map_err(fail(&path.join(name)));
    let (database, disposable) = (there(store::FILE)?, there(EPHEMERAL)?);
    let boxes = path.join(BOXES);
    let empty = match fs::read_dir(&boxes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        entries => entries.map_err(fail(&boxes))?.next().is_none(),
    };
    match (ephemeral, database) {
        (true, true) => Err(StateDirError::Kept(path.to_owned())),
        _ if !database && !disposable && !empty => Err(StateDirError::NoDatabase(path.to_owned())),
        (true, false) => fs::write(path.join(EPHEMERAL), "").map_err(fail(&path.join(EPHEMERAL))),
        _ => Ok(()),
    }
}

/// Marks a new directory; refuses one of a later layout.
fn check_version(path: &Path) -> Result<(), StateDirError> {
    let file = path.join(VERSION_FILE);
    match fs::read_to_string(&file) {
        Ok(text) if text.trim().parse().is_ok_and(|found: u32| found <= VERSION) => Ok(()),
        Ok(text) => Err(StateDirError::Newer { path: path.to_owned(), found: text.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Whole or not at all.
            let new = path.join("version.new");
            fs::write(&new, VERSION.to_string()).and_then(|()| fs::rename(&new, &file)).map_err(fail(&file))
        }
        Err(error) => Err(fail(&file)(error)),
    }
}

/// The lock of a directory; `None` while somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Its last holder may have removed it meanwhile: then it locks nothing.
        match fs::symlink_metadata(path) {
            Ok(now) if now.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// A directory that is locked for a moment.
struct Locked(File);

impl Locked {
    fn exclusively(dir: File) -> io::Result<Self> {
        flock(&dir, FlockOperation::LockExclusive)?;
        Ok(Self(dir))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Clones of the file share the lock, so that closing this one would not end it.
        let _unlocked = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests;
