//! The state directory: `lock`, `boxes/<id>/` and `trash/`, all private to the server's user.
//!
//! One server holds the lock; a second one is refused. What a killed server left in `boxes/` and `trash/` is removed
//! at the next start: sandboxes that survive their server come with a later version.
//! Removing a tree may take long, so it is first renamed into `trash/` and removed by a task, one tree at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another server holds it.
    #[error("the state directory {} is in use by another sandwired", .0.display())]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("the state directory can't be used: {}: {source}", path.display())]
    Io {
        /// What could not be made or opened.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A locked state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    temporary: bool,
    /// Held for as long as the server lives.
    _lock: File,
}

impl StateDir {
    /// Opens or makes the directory at `path`.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        Self::prepare(path, false)
    }

    /// Makes a fresh directory, which [`StateDir::close`] removes.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn temporary() -> Result<Self, StateDirError> {
        let path = std::env::temp_dir().join(format!("sandwired-{}", Uuid::new_v4().simple()));
        Self::prepare(&path, true)
    }

    fn prepare(path: &Path, temporary: bool) -> Result<Self, StateDirError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            |source| StateDirError::Io { path, source }
        };
        private_dir(path).map_err(fail(path))?;
        let path = path.canonicalize().map_err(fail(path))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(fail(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateDirError::InUse(path)),
            Err(error) => return Err(fail(&lock_path)(error.into())),
        }
        for dir in ["boxes", "trash"].map(|name| path.join(name)) {
            private_dir(&dir).map_err(fail(&dir))?;
        }
        Ok(Self { path, temporary, _lock: lock })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the sandboxes' files are, a directory for each.
    pub(super) fn boxes(&self) -> PathBuf {
        self.path.join("boxes")
    }

    /// What removes trees of this directory.
    pub(super) fn trash(&self) -> Trash {
        Trash { dir: self.path.join("trash"), turn: Mutex::new(()) }
    }

    /// Trees that a killed server left.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        let inside = |name: &str| std::fs::read_dir(self.path.join(name)).into_iter().flatten();
        let entries = inside("boxes").chain(inside("trash"));
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
    }

    /// Ends the use: a temporary directory is removed.
    ///
    /// # Errors
    /// It could not be removed completely.
    pub fn close(mut self) -> io::Result<()> {
        if std::mem::take(&mut self.temporary) { std::fs::remove_dir_all(&self.path) } else { Ok(()) }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "temporary directory not removed");
        }
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes trees.
pub(super) struct Trash {
    dir: PathBuf,
    turn: Mutex<()>,
}

impl Trash {
    /// Moves a tree out of the way and removes it. A tree that does not exist is fine.
    pub(super) async fn discard(&self, tree: &Path) {
        let target = self.dir.join(Uuid::new_v4().simple().to_string());
        match std::fs::rename(tree, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return tracing::error!(tree = %tree.display(), %error, "not moved to the trash"),
        }
        let _turn = self.turn.lock().await;
        let removed =
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&target).map_err(|e| (target, e)));
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err((tree, error))) => tracing::error!(tree = %tree.display(), %error, "not removed"),
            Err(error) => tracing::error!(%error, "removal failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::InUse(_))));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn everything_is_private_and_a_temporary_one_goes() {
        let state = StateDir::temporary().unwrap();
        let path = state.path().to_owned();
        for dir in [path.clone(), path.join("boxes"), path.join("trash")] {
            assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        state.close().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn leftovers_are_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let tree = state.boxes().join("box");
        std::fs::create_dir_all(tree.join("upper/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("trash/old")).unwrap();
        assert_eq!(state.leftovers().len(), 2);
        for tree in state.leftovers() {
            state.trash().discard(&tree).await;
        }
        assert_eq!(state.leftovers(), Vec::<PathBuf>::new());
    }
}
