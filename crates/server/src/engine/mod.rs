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

use std::sync::{Arc, Mutex};

use prometheus_client::metrics::histogram::Histogram;
use sandwire_protocol::limits::{CREATES_AT_ONCE, SWEEP_INTERVAL};
use sandwire_protocol::{Isolation, SandboxStatus};
use tokio::sync::mpsc::UnboundedReceiver;
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
use crate::store::{self, Pending, Row, Store, StoreError, StoredPhase};
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
    /// It was deleted meanwhile.
    #[error("Sandbox '{0}' not found")]
    Gone(String),
    /// The machine does not keep the new limits.
    #[error("{0}")]
    Limits(String),
    /// It could not be written down: a restart may undo it.
    #[error("the change is not written down, and a restart may undo it: {0}")]
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
        let trash = state.trash();
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
        // At once: whoever starts a sandbox without files must not find those of earlier, or lose its own later.
        for tree in leftovers {
            if let Err(error) = trash.take(&tree) {
                tracing::error!(tree = %tree.display(), %error, "not moved to the trash");
            }
        }
        if !state.is_ephemeral() {
            state.keep().map_err(StoreError::Io)?;
        }
        let resources = Arc::clone(&engine.resources);
        engine.resources.tasks.spawn(tidy(resources, half_deleted, state.abandoned()));
        engine.resources.tasks.spawn(Arc::clone(&engine).sweep());
        let trash = Arc::clone(&engine.resources.trash);
        engine.resources.tasks.spawn(engine.stopping.clone().run_until_cancelled_owned(trash.tend()));
        Ok(engine)
    }

    /// Takes a sandbox of an earlier server in. Returns whether its files are to be kept.
    fn remember(&self, row: &Row, name: &str) -> Result<bool, StoreError> {
        let settings: Settings = serde_json::from_str(&row.settings).map_err(StoreError::settings(row.id))?;
        let keep = settings.persistent;
        let mut row = row.clone();
        if keep && row.phase == StoredPhase::Stopped && !self.resources.dir(row.id).try_exists()? {
            row.phase = StoredPhase::Failed;
            row.failure = Some("its files are missing from the state directory".into());
            tracing::error!(sandbox = %row.id, name, "the files of a sandbox are missing");
        }
        let (sandbox, orders) = Sandbox::remembered(&row, name, settings, Arc::clone(&self.resources));
        if row.phase == StoredPhase::Live {
            if keep {
                // Its server may have died before it made one; from here on a sandbox without files has lost them.
                resources::make_dir(&self.resources.dir(row.id))?;
            }
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
    pub async fn create(
        self: &Arc<Self>,
        name: Option<String>,
        settings: Settings,
    ) -> Result<Created, Refused> {
        let (sandbox, orders, saved) = match self.register(name, settings)? {
            Registered::There(sandbox) => {
                if !*sandbox.saved.wait().await {
                    return Err(Refused::State("the same sandbox is just being made, and can't be".into()));
                }
                return Ok(Created { sandbox, fresh: false });
            }
            Registered::New(sandbox, orders, saved) => (sandbox, orders, saved),
        };
        sandbox.tell(Kind::Created);
        // It is made while it is written down; its directory is nobody's if that does not come to an end.
        self.resources.tasks.spawn(Arc::clone(&sandbox).live(orders, true));
        // A task of its own, because a caller that leaves half-way would leave it half-way.
        let (engine, made) = (Arc::clone(self), Arc::clone(&sandbox));
        let saving = self.resources.tasks.spawn(async move {
            let outcome = saved.committed().await;
            let _first_time = made.saved.set(outcome.is_ok());
            if outcome.is_err() {
                lock(&engine.registry).remove(&made.id().to_string());
                made.begin_delete(|_| true);
                // There is no row that would have to say so.
                let _first_time = made.deletion_saved.set(true);
            }
            outcome
        });
        saving.await.unwrap_or(Err(StoreError::Closed))?;
        crash::point("create.saved");
        Ok(Created { sandbox, fresh: true })
    }

    /// Takes a name, and queues the row under the same lock.
    fn register(&self, name: Option<String>, settings: Settings) -> Result<Registered, Refused> {
        let mut registry = lock(&self.registry);
        if registry.is_closed() {
            return Err(Refused::NoRoom("the server is shutting down".into()));
        }
        if let Some(there) = name.as_deref().and_then(|name| registry.by_name(name)) {
            return match *there.settings() == settings {
                true => Ok(Registered::There(there)),
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
        let saved = sandbox.begin_save_new();
        Ok(Registered::New(sandbox, orders, saved))
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
        let _one_at_a_time = sandbox.updating.lock().await;
        self.check_name(&lock(&self.registry), sandbox, update)?;
        let limited = update.limits() && sandbox.link().is_ok();
        if limited {
            let new = update.apply(&sandbox.settings());
            self.resources.limit(sandbox.id(), &new).await.map_err(Refused::Limits)?;
        }
        let saved = self.change(sandbox, update);
        let saved = match saved {
            Ok(saved) => saved,
            Err(refused) => {
                if limited && let Err(error) = self.resources.limit(sandbox.id(), &sandbox.settings()).await {
                    tracing::warn!(sandbox = %sandbox.id(), %error, "limits not put back");
                }
                return Err(refused);
            }
        };
        saved.committed().await?;
        crash::point("update.saved");
        sandbox.tell(Kind::Updated);
        Ok(())
    }

    /// Changes the record, and queues it under the same lock.
    fn change(&self, sandbox: &Arc<Sandbox>, update: &Update) -> Result<Pending<()>, Refused> {
        let mut registry = lock(&self.registry);
        self.check_name(&registry, sandbox, update)?;
        if let Some(name) = &update.name {
            registry.rename(sandbox, name);
        }
        sandbox.update(update);
        Ok(sandbox.begin_save())
    }

    fn check_name(&self, registry: &Registry, sandbox: &Sandbox, update: &Update) -> Result<(), Refused> {
        if !registry.has(sandbox) {
            return Err(Refused::Gone(sandbox.name().to_string()));
        }
        let other = update.name.as_ref().and_then(|name| registry.by_name(name));
        match other {
            Some(other) if other.id() != sandbox.id() => Err(Refused::Taken(other.name().to_string())),
            _ => Ok(()),
        }
    }

    /// Takes a sandbox out, by name or id, and ends it; its name is free at once. Nothing of it runs any more, and it is
    /// written down that it goes, when this returns; `None` if there is none.
    ///
    /// # Errors
    /// It is not written down: it comes back with the next server, with its files.
    pub async fn delete(self: &Arc<Self>, reference: &str) -> Result<Option<()>, StoreError> {
        let Some(sandbox) = lock(&self.registry).get(reference) else { return Ok(None) };
        if !sandbox.begin_delete(|_| true) {
            // Somebody else is at it.
            sandbox.gone().await;
            return Ok(None);
        }
        self.take_out(sandbox).await.map(Some)
    }

    /// The rest of a deletion that was begun, in a task of its own: a caller that leaves must not leave it half-way.
    async fn take_out(self: &Arc<Self>, sandbox: Arc<Sandbox>) -> Result<(), StoreError> {
        let engine = Arc::clone(self);
        let deleting = self.resources.tasks.spawn(async move {
            let saved = {
                let mut registry = lock(&engine.registry);
                registry.remove(&sandbox.id().to_string());
                sandbox.begin_save()
            };
            let saved = saved.committed().await;
            crash::point("delete.saved");
            let _first_time = sandbox.deletion_saved.set(saved.is_ok());
            sandbox.gone().await;
            saved
        });
        deleting.await.unwrap_or(Err(StoreError::Closed))
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
                sandbox.sweep();
                if sandbox.begin_expiry()
                    && let Err(error) = self.take_out(Arc::clone(&sandbox)).await
                {
                    tracing::error!(sandbox = %sandbox.id(), %error, "not deleted in time");
                }
            }
        }
    }
}

enum Registered {
    /// One of the same name and settings.
    There(Arc<Sandbox>),
    New(Arc<Sandbox>, UnboundedReceiver<Order>, Pending<()>),
}

/// Removes what killed servers left, as far as it gets before the end.
async fn tidy(resources: Arc<Resources>, half_deleted: Vec<uuid::Uuid>, abandoned: Vec<Abandoned>) {
    let trash = &resources.trash;
    trash.clear().await;
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
