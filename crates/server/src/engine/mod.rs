//! Sandboxes and their commands: everything behind the API.
//!
//! [`Engine`] has the registry, which is made from the database at the start; each [`Sandbox`] is owned by one task, each [`Command`] by one more. All tasks belong
//! to the engine's tracker, and [`Engine::shutdown`] ends only when all of them have ended.

mod activity;
mod attachment;
mod backend;
mod channel;
mod command;
mod commands;
mod connections;
mod crash;
mod driver;
mod events;
mod fault;
mod files;
pub(crate) mod garbage;
mod group;
mod journal;
mod launch;
mod lifecycle;
mod link;
mod lock;
mod memory;
pub mod name;
mod port_grants;
mod ports;
mod registry;
mod requests;
mod resources;
mod ring;
mod sandbox;
mod secret;
mod settings;
mod state_dir;
mod stdin;
mod stdio;
mod stream;
pub(crate) mod tally;
mod text_map;
mod trash;
mod work;
mod writers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::histogram::Histogram;
use sandwire_protocol::limits::{CREATES_AT_ONCE, SWEEP_INTERVAL};
use sandwire_protocol::{Isolation, SandboxStatus};
use tokio_util::sync::CancellationToken;

pub use activity::InUse;
pub use attachment::{Attachment, View};
pub use backend::{Backend, Cell, CreateFailed};
pub use command::{Command, End, Status, Step, Summary};
pub use events::{Happened, Kind, Told, Watcher};
pub use fault::Fault;
pub(crate) use files::check_path;
pub use files::{FileError, Upload};
pub use port_grants::PortGrant;
pub use ports::ConnectError;
pub use requests::WindowSize;
pub use sandbox::Sandbox;
pub use secret::{Purpose, Secret};
pub use settings::{Settings, Update};
pub use state_dir::{StateDir, StateDirError};
pub use stdin::{Offered, Stdin};
pub use stream::Form;
pub use work::Work;

use crate::Policy;
use crate::store::{self, Row, Store, StoreError, StoredPhase};
pub(crate) use lock::lock;
use registry::Registry;
use resources::Resources;
use sandbox::Order;
use state_dir::Abandoned;

/// The states that sandboxes of a server are counted by.
const STATES: [SandboxStatus; 4] =
    [SandboxStatus::Provisioning, SandboxStatus::Ready, SandboxStatus::Stopped, SandboxStatus::Failed];

/// All sandboxes of a server.
pub struct Engine {
    resources: Arc<Resources>,
    registry: Mutex<Registry>,
    policy: Policy,
    stopping: CancellationToken,
}

/// Why a sandbox is not even begun, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The name is taken.
    #[error("a sandbox named {0:?} exists already")]
    Taken(String),
    /// The limit is reached, or the server ends.
    #[error("{0}")]
    NoRoom(String),
    /// It is not in the state for that.
    #[error("{0}")]
    State(String),
    /// The machine does not keep the new limits.
    #[error("{0}")]
    Limits(String),
    /// It could not be written down; nothing happened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A sandbox that was asked for.
pub struct Created {
    /// Which.
    pub sandbox: Arc<Sandbox>,
    /// Whether it was made for this request: one of the same name and settings is there already otherwise.
    pub fresh: bool,
}

impl Engine {
    /// An engine over a locked state directory, with the sandboxes of earlier servers in it, stopped. What killed servers
    /// left half done is finished in the background. Needs a tokio runtime; blocks for the database.
    ///
    /// # Errors
    /// The database can't be used.
    pub fn start(
        backend: Arc<dyn Backend>,
        state: &StateDir,
        policy: Policy,
    ) -> Result<Arc<Self>, StoreError> {
        let memory_default = || policy.memory_default.or_else(memory::default_limit);
        let memory_default = backend.isolation().limits.memory.then(memory_default).flatten();
        let store = Store::open((!state.is_ephemeral()).then(|| state.path()))?;
        let rows = store.write_blocking(store::load)?;
        let resources = Resources::new(backend, store, state, CREATES_AT_ONCE, memory_default);
        let engine = Arc::new(Self {
            resources: Arc::new(resources),
            registry: Mutex::default(),
            policy,
            stopping: CancellationToken::new(),
        });
        let mut leftovers = state.leftovers();
        let mut half_deleted = Vec::new();
        for row in rows {
            match &row.name {
                Some(name) if row.phase != StoredPhase::Deleting => {
                    if engine.remember(&row, name)? {
                        let dir = engine.resources.dir(row.id);
                        leftovers.retain(|leftover| *leftover != dir);
                    }
                }
                _ => half_deleted.push(row.id),
            }
        }
        let resources = Arc::clone(&engine.resources);
        engine.resources.tasks.spawn(tidy(resources, leftovers, half_deleted, state.abandoned()));
        engine.resources.tasks.spawn(Arc::clone(&engine).sweep());
        let trash = Arc::clone(&engine.resources.trash);
        engine.resources.tasks.spawn(engine.stopping.clone().run_until_cancelled_owned(trash.tend()));
        Ok(engine)
    }

    /// Takes a sandbox of an earlier server in. Returns whether its files are to be kept.
    fn remember(&self, row: &Row, name: &str) -> Result<bool, StoreError> {
        let settings: Settings = serde_json::from_str(&row.settings).map_err(StoreError::settings(row.id))?;
        let keep = settings.persistent;
        let (sandbox, orders) = Sandbox::remembered(row, name, settings, Arc::clone(&self.resources));
        if row.phase == StoredPhase::Live {
            sandbox.save_blocking()?;
        }
        lock(&self.registry).insert(&sandbox);
        self.resources.tasks.spawn(sandbox.live(orders, false));
        Ok(keep)
    }

    /// What sandboxes of this server are isolated by.
    pub fn isolation(&self) -> &Isolation {
        self.resources.backend.isolation()
    }

    /// What the operator decided.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long the making of sandboxes took.
    pub(crate) fn makings(&self) -> Histogram {
        self.resources.makings.clone()
    }

    /// How many sandboxes are in each state.
    pub(crate) fn states(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<_> = STATES.map(|status| (status.as_str(), 0)).into();
        for sandbox in lock(&self.registry).all() {
            let status = sandbox.status().0.as_str();
            if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == status) {
                *count += 1;
            }
        }
        counts
    }

    /// Begins to make a sandbox; it is provisioning and written down when this returns. A repeat of the same request, by
    /// its name and settings, gives the sandbox that is there.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn create(&self, name: Option<String>, settings: Settings) -> Result<Created, Refused> {
        let (sandbox, orders) = {
            let mut registry = lock(&self.registry);
            if registry.is_closed() {
                return Err(Refused::NoRoom("the server is shutting down".into()));
            }
            if let Some(there) = name.as_deref().and_then(|name| registry.by_name(name)) {
                return match *there.settings() == settings {
                    true => Ok(Created { sandbox: there, fresh: false }),
                    false => Err(Refused::Taken(name.unwrap_or_default())),
                };
            }
            let most = self.policy.sandboxes_max;
            if registry.len() >= most {
                return Err(Refused::NoRoom(format!("this server has {most} sandboxes, its limit")));
            }
            let name = name.map_or_else(|| registry.free_name(), Arc::from);
            let (sandbox, orders) = Sandbox::new(name, settings, Arc::clone(&self.resources));
            registry.insert(&sandbox);
            (sandbox, orders)
        };
        sandbox.tell(Kind::Created);
        // It is made while it is written down; its directory is nobody's if that does not come to an end.
        self.resources.tasks.spawn(Arc::clone(&sandbox).live(orders, true));
        if let Err(error) = sandbox.save_new().await {
            lock(&self.registry).remove(&sandbox.id().to_string());
            sandbox.begin_delete();
            return Err(error.into());
        }
        crash::point("create.saved");
        Ok(Created { sandbox, fresh: true })
    }

    /// A sandbox by name or id.
    pub fn get(&self, reference: &str) -> Option<Arc<Sandbox>> {
        lock(&self.registry).get(reference)
    }

    /// All sandboxes, the oldest first.
    pub fn list(&self) -> Vec<Arc<Sandbox>> {
        let mut all = lock(&self.registry).all();
        all.sort_by_key(|sandbox| (sandbox.times().0, sandbox.id()));
        all
    }

    /// What happens to sandboxes, after the event of that number or from now on.
    pub fn watch(&self, after: Option<u64>) -> Watcher {
        self.resources.events.watch(after)
    }

    /// Starts a sandbox that is stopped or failed; it is provisioning when this returns.
    ///
    /// # Errors
    /// It is neither.
    pub fn begin_start(&self, sandbox: &Arc<Sandbox>) -> Result<(), Refused> {
        if sandbox.begin_start(true) {
            return Ok(());
        }
        Err(Refused::State(format!(
            "the sandbox is {}: only one that is stopped or failed can be started",
            sandbox.status().0.as_str()
        )))
    }

    /// Stops a sandbox that is ready, and waits until nothing of it runs.
    ///
    /// # Errors
    /// It is not ready, or did not stop.
    pub async fn stop(&self, sandbox: &Arc<Sandbox>) -> Result<(), Refused> {
        sandbox.stop().await.map_err(|fault| Refused::State(fault.message))
    }

    /// Changes a sandbox.
    ///
    /// # Errors
    /// The name is taken, or the machine does not keep the new limits: then nothing changed. Or it is not written down.
    pub async fn update(&self, sandbox: &Arc<Sandbox>, update: &Update) -> Result<(), Refused> {
        if update.limits() && sandbox.link().is_ok() {
            self.limit(sandbox, update).await?;
        }
        {
            let mut registry = lock(&self.registry);
            if let Some(name) = &update.name {
                if registry.by_name(name).is_some_and(|other| other.id() != sandbox.id()) {
                    return Err(Refused::Taken(name.clone()));
                }
                registry.rename(sandbox, name);
            }
            sandbox.update(update);
        }
        sandbox.save().await?;
        crash::point("update.saved");
        sandbox.tell(Kind::Updated);
        Ok(())
    }

    /// Puts new limits on what runs.
    async fn limit(&self, sandbox: &Arc<Sandbox>, update: &Update) -> Result<(), Refused> {
        let limits = self.resources.limits(&update.apply(&sandbox.settings()));
        let (backend, id) = (Arc::clone(&self.resources.backend), sandbox.id().to_string());
        let limited = tokio::task::spawn_blocking(move || backend.limit(&id, &limits)).await;
        limited.unwrap_or_else(|error| Err(error.to_string())).map_err(Refused::Limits)
    }

    /// Takes a sandbox out, by name or id, and ends it; its name is free at once. Nothing of it runs any more, and it is
    /// written down that it goes, when this returns; `None` if there is none.
    ///
    /// # Errors
    /// It is not written down: it may come back with the next server.
    pub async fn delete(&self, reference: &str) -> Result<Option<()>, StoreError> {
        let Some(sandbox) = lock(&self.registry).remove(reference) else { return Ok(None) };
        sandbox.begin_delete();
        let (saved, ()) = tokio::join!(sandbox.save(), sandbox.gone());
        saved?;
        crash::point("delete.saved");
        Ok(Some(()))
    }

    /// Ends everything that runs and waits until it is cleaned up, files only for a bounded time. Sandboxes stay, stopped,
    /// unless the server is ephemeral.
    pub async fn shutdown(&self) {
        let sandboxes = lock(&self.registry).close();
        let order = if self.resources.ephemeral { Order::Delete } else { Order::Retire };
        sandboxes.iter().for_each(|sandbox| sandbox.order(order));
        self.resources.trash.hurry();
        self.stopping.cancel();
        self.resources.tasks.close();
        self.resources.tasks.wait().await;
    }

    async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            for sandbox in self.list() {
                if sandbox.sweep()
                    && let Err(error) = self.delete(&sandbox.id().to_string()).await
                {
                    tracing::error!(sandbox = %sandbox.id(), %error, "not deleted in time");
                }
            }
        }
    }
}

/// Removes what killed servers left, as far as it gets before the end.
async fn tidy(
    resources: Arc<Resources>,
    leftovers: Vec<PathBuf>,
    half_deleted: Vec<uuid::Uuid>,
    abandoned: Vec<Abandoned>,
) {
    let trash = &resources.trash;
    trash.clear().await;
    for tree in leftovers {
        trash.discard(&tree).await;
    }
    for id in half_deleted {
        finish_deletion(&resources, id).await;
    }
    for dir in abandoned.into_iter().take_while(|_| !trash.is_hurried()) {
        let path = dir.path.clone();
        // Blocks for as long as a dying sandbox keeps its cgroup.
        if let Err(error) = tokio::task::spawn_blocking(move || sandwire_isolate::clean(&path)).await {
            tracing::warn!(%error, "cgroups of a killed server not removed");
        }
        trash.discard(&dir.path).await;
    }
}

/// A deletion that an earlier server began: its files are among the leftovers.
async fn finish_deletion(resources: &Resources, id: uuid::Uuid) {
    if let Err(error) = resources.journal(id).remove() {
        tracing::warn!(sandbox = %id, %error, "journal of commands not removed");
    }
    if let Err(error) = resources.store.write(move |tx| store::delete(tx, id)).await {
        tracing::error!(sandbox = %id, %error, "the row of a deleted sandbox stays until the next start");
    }
}
