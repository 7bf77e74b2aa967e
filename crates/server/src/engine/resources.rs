//! What all sandboxes of an engine share, and the changes on disk that more than one of them makes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus_client::metrics::histogram::Histogram;
use sandwire_isolate::Limits;
use sandwire_protocol::limits::PIDS_DEFAULT;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::backend::{Backend, Cell};
use super::events::Events;
use super::journal::Journal;
use super::settings::Settings;
use super::state_dir::StateDir;
use super::trash::Trash;
use crate::metrics::durations;
use crate::store::Store;

pub(super) struct Resources {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) store: Store,
    pub(super) events: Events,
    pub(super) trash: Arc<Trash>,
    pub(super) tasks: TaskTracker,
    /// How long makings took; those that failed do not count.
    pub(super) makings: Histogram,
    /// To make sandboxes, a few at a time.
    pub(super) permits: Semaphore,
    /// Nothing is to outlive the server.
    pub(super) ephemeral: bool,
    boxes: PathBuf,
    journals: PathBuf,
    /// Memory limit of sandboxes that ask for none, where the machine can keep one.
    memory_default: Option<u64>,
}

impl Resources {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        store: Store,
        state: &StateDir,
        permits: usize,
        memory_default: Option<u64>,
    ) -> Self {
        Self {
            backend,
            store,
            events: Events::new(),
            trash: state.trash(),
            tasks: TaskTracker::new(),
            makings: durations(),
            permits: Semaphore::new(permits),
            ephemeral: state.is_ephemeral(),
            boxes: state.boxes(),
            journals: state.journals(),
            memory_default,
        }
    }

    /// The directory of a sandbox's files.
    pub(super) fn dir(&self, id: Uuid) -> PathBuf {
        self.boxes.join(id.to_string())
    }

    /// The journal of a sandbox's commands.
    pub(super) fn journal(&self, id: Uuid) -> Journal {
        Journal::new((!self.ephemeral).then(|| self.journals.join(id.to_string())))
    }

    /// Every sandbox has a process and a memory limit where the machine can keep them; processors are limited on demand.
    /// Limits that were asked for and can't be kept were refused before.
    pub(super) fn limits(&self, settings: &Settings) -> Limits {
        let pids = self.backend.isolation().limits.pids.then_some(PIDS_DEFAULT);
        settings.limits(self.memory_default, pids)
    }

    /// Puts the limits of these settings on what runs.
    pub(super) async fn limit(&self, id: Uuid, settings: &Settings) -> Result<(), String> {
        let (backend, limits) = (Arc::clone(&self.backend), self.limits(settings));
        let limited = tokio::task::spawn_blocking(move || backend.limit(&id.to_string(), &limits)).await;
        limited.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Takes a sandbox's files away at once; they are removed when there is time.
    pub(super) fn discard(&self, id: Uuid) {
        let dir = self.dir(id);
        if let Err(error) = self.trash.take(&dir) {
            tracing::error!(sandbox = %id, %error, "files not moved to the trash");
        }
        let trash = Arc::clone(&self.trash);
        self.tasks.spawn(async move { trash.clear().await });
    }
}

/// Makes a sandbox's directory, unless it is there from before.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Ends what runs in a sandbox.
pub(super) async fn destroy(id: Uuid, cell: Box<dyn Cell>) {
    let destroyed = tokio::task::spawn_blocking(move || cell.destroy()).await;
    if let Err(error) = destroyed.unwrap_or_else(|error| Err(error.to_string())) {
        tracing::error!(sandbox = %id, %error, "sandbox not destroyed completely");
    }
}
