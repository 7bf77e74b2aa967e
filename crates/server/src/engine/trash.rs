//! Removing trees of any shape in constant memory.
//!
//! A sandbox can nest directories deeper than any stack or table of descriptors, so nothing here recurses. The
//! directory `trash/` is the queue: trees are renamed into it, and of each directory in it the files are removed and
//! the non-empty directories renamed to its top level, where their turn comes. Nothing is ever looked at below the
//! second level; what is left at any moment is a valid queue for the next start; and what is mounted somewhere is
//! safe, because a mount point can be neither removed nor renamed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sandwire_protocol::limits::TRASH_INTERVAL;
use tokio::sync::Mutex;
use uuid::Uuid;

pub(super) struct Trash {
    dir: PathBuf,
    turn: Mutex<()>,
    grace: Duration,
    deadline: OnceLock<Instant>,
}

impl Trash {
    /// Over the directory `dir`. After [`Trash::hurry`] it works for `grace` at most.
    pub(super) fn new(dir: PathBuf, grace: Duration) -> Self {
        Self { dir, turn: Mutex::new(()), grace, deadline: OnceLock::new() }
    }

    /// The server ends: removal stops after the grace.
    pub(super) fn hurry(&self) {
        self.deadline.get_or_init(|| Instant::now() + self.grace);
    }

    /// Whether the server ends.
    pub(super) fn is_hurried(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Moves a tree in. One that does not exist is fine.
    pub(super) fn take(&self, tree: &Path) -> io::Result<()> {
        match std::fs::rename(tree, self.dir.join(fresh_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves a tree in and removes it.
    pub(super) async fn discard(self: &Arc<Self>, tree: &Path) {
        match self.take(tree) {
            Ok(()) => self.clear().await,
            Err(error) => tracing::error!(tree = %tree.display(), %error, "not moved to the trash"),
        }
    }

    /// Removes what is in it, without blocking the caller's thread.
    pub(super) async fn clear(self: &Arc<Self>) {
        // One at a time: whoever comes later finds little to do.
        let _turn = self.turn.lock().await;
        let trash = Arc::clone(self);
        let emptied = tokio::task::spawn_blocking(move || trash.empty()).await;
        if let Err(error) = emptied.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(trash = %self.dir.display(), %error, "not everything is removed");
        }
    }

    /// Removes now and then what could not be removed when it came, as what was still mounted or busy then.
    pub(super) async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TRASH_INTERVAL).await;
            self.clear().await;
        }
    }

    /// Removes what is in it. Blocks.
    pub(super) fn empty(&self) -> io::Result<()> {
        let mut pass = Pass { trash: open(CWD, &self.dir)?, deadline: self.deadline.get(), failure: None };
        while pass.once()? {}
        pass.failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

struct Pass<'a> {
    trash: OwnedFd,
    deadline: Option<&'a Instant>,
    /// The first failure of this look.
    failure: Option<Errno>,
}

impl Pass<'_> {
    /// Looks at everything once. Returns whether that changed anything.
    fn once(&mut self) -> io::Result<bool> {
        self.failure = None;
        let mut progress = false;
        for entry in Dir::read_from(&self.trash)? {
            let entry = entry?;
            progress |= match remove(&self.trash, entry.file_name()) {
                Ok(Removed::Yes) => true,
                Ok(Removed::NotEmpty) => self.flatten(entry.file_name())?,
                Ok(Removed::Itself) => false,
                Err(error) => self.fail(error),
            };
        }
        Ok(progress)
    }

    /// Takes everything out of the directory `name` of the trash and removes it.
    fn flatten(&mut self, name: &CStr) -> io::Result<bool> {
        let dir = match open(&self.trash, name) {
            Err(Errno::ACCESS) => chmodat(&self.trash, name, Mode::RWXU, AtFlags::empty())
                .and_then(|()| open(&self.trash, name)),
            opened => opened,
        };
        let dir = match dir {
            Ok(dir) => dir,
            Err(error) => return Ok(self.fail(error)),
        };
        let mut progress = false;
        for entry in Dir::read_from(&dir)? {
            if self.is_late() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let entry = entry?;
            progress |= match self.take_out(&dir, entry.file_name()) {
                Ok(progress) => progress,
                Err(error) => self.fail(error),
            };
        }
        Ok(match remove(&self.trash, name) {
            Ok(removed) => progress | matches!(removed, Removed::Yes),
            Err(error) => self.fail(error) | progress,
        })
    }

    /// Removes an entry of `dir`, or moves it to the top level.
    fn take_out(&self, dir: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        match remove(dir, name)? {
            Removed::Yes => Ok(true),
            Removed::Itself => Ok(false),
            Removed::NotEmpty => {
                let up = || renameat(dir, name, &self.trash, fresh_name());
                match up() {
                    // Only without the rights of root: a directory that is moved to another is written to.
                    Err(Errno::ACCESS) => {
                        chmodat(dir, name, Mode::RWXU, AtFlags::empty()).and_then(|()| up())?;
                    }
                    moved => moved?,
                }
                Ok(true)
            }
        }
    }

    fn fail(&mut self, error: Errno) -> bool {
        self.failure.get_or_insert(error);
        false
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= *deadline)
    }
}

enum Removed {
    Yes,
    NotEmpty,
    /// The directory itself, or the one above it.
    Itself,
}

fn remove(dir: &OwnedFd, name: &CStr) -> Result<Removed, Errno> {
    if matches!(name.to_bytes(), b"." | b"..") {
        return Ok(Removed::Itself);
    }
    let removed = match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(dir, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(Removed::Yes),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Removed::NotEmpty),
        Err(error) => Err(error),
    }
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn fresh_name() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const DEEP: usize = 20_000;

    fn trash(dir: &Path, grace: Duration) -> Trash {
        Trash::new(dir.to_owned(), grace)
    }

    /// Nested far beyond the longest path.
    fn nest(top: &Path) {
        fs::create_dir(top).unwrap();
        let mut at = open(CWD, top).unwrap();
        for _ in 0..DEEP {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open(&at, "d").unwrap();
        }
    }

    fn is_empty(dir: &Path) -> bool {
        fs::read_dir(dir).unwrap().next().is_none()
    }

    #[tokio::test]
    async fn depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let (home, tree) = (dir.path().join("trash"), dir.path().join("tree"));
        fs::create_dir(&home).unwrap();
        nest(&tree);
        let trash = Arc::new(trash(&home, Duration::ZERO));
        trash.discard(&tree).await;
        trash.discard(&tree).await;
        assert!(is_empty(&home) && !tree.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, other) = (dir.path().join("trash"), dir.path().join("other"));
        fs::create_dir_all(other.join("sub")).unwrap();
        fs::create_dir_all(home.join("tree/sub")).unwrap();
        for link in ["link", "tree/link", "tree/sub/link"] {
            symlink(&other, home.join(link)).unwrap();
        }
        fs::write(home.join("tree/sub/file"), "x").unwrap();
        trash(&home, Duration::ZERO).empty().unwrap();
        assert!(is_empty(&home) && other.join("sub").exists());
    }

    #[test]
    fn modes_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("tree/closed");
        fs::create_dir_all(inner.join("full/file")).unwrap();
        for closed in [inner.join("full"), inner] {
            fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
        }
        trash(dir.path(), Duration::ZERO).empty().unwrap();
        assert!(is_empty(dir.path()));
    }

    #[test]
    fn who_is_late_leaves_a_queue() {
        let dir = tempfile::tempdir().unwrap();
        nest(&dir.path().join("tree"));
        let late = trash(dir.path(), Duration::ZERO);
        late.hurry();
        assert_eq!(late.empty().unwrap_err().kind(), io::ErrorKind::TimedOut);
        trash(dir.path(), Duration::ZERO).empty().unwrap();
        assert!(is_empty(dir.path()));
    }
}
