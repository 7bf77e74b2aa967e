//! What survives the server: a SQLite database in the state directory.
//!
//! One thread owns the connection. Changes queue up for it and those that wait together are committed together, so
//! that many creates cost few commits; whoever awaits a change learns of it only after its commit. Nothing is read
//! from here while the server runs: the engine's memory is the truth, and this is what it is made from at a start.
//!
//! The journal is written ahead and not synchronised at each commit: what was acknowledged survives the death of the
//! server, however sudden; after a power failure the last moments may be missing, as they are of the sandboxes' files.

mod sandboxes;

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use sandwire_protocol::limits::STORE_BATCH_MAX;
use tokio::sync::oneshot;
use uuid::Uuid;

pub(crate) use sandboxes::{Row, StoredPhase, delete, insert, load, update};

/// The database's file in the state directory.
pub(crate) const FILE: &str = "sandwired.db";

/// Changes of the schema in their order; how many of them a database has is its `user_version`.
const MIGRATIONS: &[&str] =
    &[include_str!("migrations/001_sandboxes.sql"), include_str!("migrations/002_service_urls.sql")];

/// Another process reads at most for moments: `sandwired gc`, a backup.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses.
    #[error("the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What it says of a sandbox can't be understood.
    #[error("the settings of sandbox {id} in the database can't be read: {error}")]
    Settings {
        /// Whose.
        id: Uuid,
        /// Why.
        error: serde_json::Error,
    },
    /// A later version made it.
    #[error(
        "the database is of version {found}, and this server knows {known}: use the newer sandwired again, or another state directory"
    )]
    Newer {
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A commit failed, and with it all changes of its batch.
    #[error("the database could not commit: {0}")]
    Commit(String),
    /// The thread is gone.
    #[error("the database is closed")]
    Closed,
    /// Its file or its thread could not be made.
    #[error("the database can't be opened: {0}")]
    Io(#[from] io::Error),
}

impl StoreError {
    pub(crate) fn settings(id: Uuid) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| Self::Settings { id, error }
    }
}

/// The open database. Dropping it waits until everything that was queued is committed.
pub(crate) struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Does its work and gives the answer, which is sent once the commit's outcome is known.
type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Option<&rusqlite::Error>) + Send>;

impl Store {
    /// Opens or makes the database of a state directory; `None` is one in memory, for servers that leave nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) fn open(state_dir: Option<&Path>) -> Result<Self, StoreError> {
        let mut connection = match state_dir {
            Some(dir) => open_private(&dir.join(FILE))?,
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(BUSY_WAIT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        migrate(&mut connection)?;
        let (jobs, queue) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || work(connection, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Makes a change and waits for its commit. A change that fails leaves nothing, and others of its batch alone.
    ///
    /// # Errors
    /// See [`StoreError`]; the change was not made.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.begin(change).committed().await
    }

    /// Queues a change at once: changes are made in the order of these calls.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (sender, outcome) = oneshot::channel();
        // Without a thread to take it the sender is dropped, which says as much.
        let _closed = self.queue(change, |outcome| drop(sender.send(outcome)));
        Pending(outcome)
    }

    /// Like [`Store::write`], for the start, when nothing else waits.
    ///
    /// # Errors
    /// See [`StoreError`]; the change was not made.
    pub(crate) fn write_blocking<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, outcome) = mpsc::sync_channel(1);
        self.queue(change, move |outcome| drop(sender.send(outcome)))?;
        outcome.recv().map_err(|_| StoreError::Closed)?
    }

    fn queue<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        tell: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let job: Job = Box::new(move |transaction| {
            let changed = in_savepoint(transaction, change);
            Box::new(move |failed| {
                tell(match failed {
                    None => changed.map_err(StoreError::from),
                    Some(error) => Err(StoreError::Commit(error.to_string())),
                });
            })
        });
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(StoreError::Closed)
    }
}

/// A change on its way.
#[must_use = "whether it was made is known only then"]
pub(crate) struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// Waits for the commit.
    ///
    /// # Errors
    /// See [`StoreError`]; the change was not made.
    pub(crate) async fn committed(self) -> Result<T, StoreError> {
        self.0.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// It holds what users think secret. SQLite gives the files beside it the same mode.
fn open_private(path: &Path) -> Result<Connection, StoreError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Connection::open(path)?)
}

fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    transaction.execute_batch("SAVEPOINT change")?;
    let changed = change(transaction);
    let end = if changed.is_ok() { "RELEASE change" } else { "ROLLBACK TO change; RELEASE change" };
    transaction.execute_batch(end)?;
    changed
}

/// The thread: whole batches, until nobody can queue any more.
fn work(mut connection: Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let jobs = std::iter::once(first).chain(queue.try_iter().take(STORE_BATCH_MAX - 1));
        let mut answers = Vec::new();
        let committed = connection.transaction().and_then(|mut transaction| {
            answers.extend(jobs.map(|job| job(&mut transaction)));
            transaction.commit()
        });
        if let Err(error) = &committed {
            tracing::error!(%error, "changes are lost: the database does not commit");
        }
        for answer in answers {
            answer(committed.as_ref().err());
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or_default();
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { found, known: MIGRATIONS.len() });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(store: &Store) -> i64 {
        let count = |tx: &Transaction<'_>| tx.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        store.write(count).await.unwrap()
    }

    fn make(store: &Store) {
        store.write_blocking(|tx| tx.execute_batch("CREATE TABLE t (x INTEGER UNIQUE)")).unwrap();
    }

    #[test]
    fn a_failed_change_leaves_nothing_and_the_others_alone() {
        let store = Store::open(None).unwrap();
        make(&store);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let twice = |x: i64| {
                store.write(move |tx| {
                    tx.execute("INSERT INTO t VALUES (?1)", [x])?;
                    tx.execute("INSERT INTO t VALUES (?1)", [x])
                })
            };
            let once = |x: i64| store.write(move |tx| tx.execute("INSERT INTO t VALUES (?1)", [x]));
            let (a, b, c) = tokio::join!(once(1), twice(2), once(3));
            assert!(a.is_ok() && b.is_err() && c.is_ok());
            assert_eq!(count(&store).await, 2);
        });
    }

    #[test]
    fn what_was_queued_is_there_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Some(dir.path())).unwrap();
        make(&store);
        for x in 0..100 {
            store.queue(move |tx| tx.execute("INSERT INTO t VALUES (?1)", [x]), drop).unwrap();
        }
        drop(store);
        let store = Store::open(Some(dir.path())).unwrap();
        let count = |tx: &Transaction<'_>| tx.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        assert_eq!(store.write_blocking::<i64>(count).unwrap(), 100);
    }

    #[test]
    fn nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Some(dir.path())).unwrap();
        make(&store);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        }
    }

    #[test]
    fn a_later_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(Some(dir.path())).unwrap());
        drop(Store::open(Some(dir.path())).unwrap());
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(Store::open(Some(dir.path())), Err(StoreError::Newer { found: 999, .. })));
    }
}
