//! Sandboxes and their commands: everything behind the API.
//!
//! [`Engine`] is the registry; each [`Sandbox`] is owned by one task, each [`Command`] by one more. All tasks belong
//! to the engine's tracker, and [`Engine::shutdown`] ends only when all of them have ended.

mod attachment;
mod backend;
mod channel;
mod command;
mod commands;
mod driver;
mod fault;
mod files;
mod launch;
mod link;
mod lock;
mod memory;
mod metered;
pub mod name;
mod requests;
mod ring;
mod sandbox;
mod state_dir;
mod stdin;
mod stdio;
mod stream;
pub(crate) mod tally;
mod text_map;
mod trash;
mod writers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::histogram::Histogram;
use sandwire_isolate::{Limits, SandboxSpec};
use sandwire_protocol::limits::{CREATES_AT_ONCE, PIDS_DEFAULT, SWEEP_INTERVAL};
use sandwire_protocol::{Isolation, SandboxStatus};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use attachment::{Attachment, View};
pub use backend::{Backend, Cell, CreateFailed};
pub use command::{Command, End, Step};
pub use fault::Fault;
pub use files::{FileError, Upload};
pub use requests::WindowSize;
pub use sandbox::{Sandbox, Settings};
pub use state_dir::{StateDir, StateDirError};
pub use stdin::{Offered, Stdin};
pub use stream::Form;

pub(crate) use lock::lock;
use metered::Metered;
use sandbox::Site;
use state_dir::Abandoned;
use trash::Trash;

use crate::Policy;

/// The states that sandboxes of a server are counted by.
const STATES: [SandboxStatus; 4] =
    [SandboxStatus::Provisioning, SandboxStatus::Ready, SandboxStatus::Stopped, SandboxStatus::Failed];

/// All sandboxes of a server.
pub struct Engine {
    backend: Arc<dyn Backend>,
    boxes: PathBuf,
    trash: Arc<Trash>,
    registry: Mutex<Registry>,
    permits: Arc<Semaphore>,
    policy: Policy,
    makings: Histogram,
    /// Memory limit of sandboxes that ask for none, where the machine can keep one.
    memory_default: Option<u64>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Default)]
struct Registry {
    by_id: HashMap<Uuid, Arc<Sandbox>>,
    by_name: HashMap<String, Uuid>,
    closed: bool,
}

/// Why a sandbox is not even begun.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The name is taken.
    #[error("a sandbox named {0:?} exists already")]
    Taken(String),
    /// The limit is reached, or the server ends.
    #[error("{0}")]
    NoRoom(String),
}

impl Engine {
    /// An engine over a locked state directory. Leftovers of killed servers are removed in the background. Needs a
    /// tokio runtime.
    #[must_use]
    pub fn start(backend: Arc<dyn Backend>, state: &StateDir, policy: Policy) -> Arc<Self> {
        let (backend, makings) = Metered::over(backend);
        let memory_default = || policy.memory_default.or_else(memory::default_limit);
        let memory_default = backend.isolation().limits.memory.then(memory_default).flatten();
        let engine = Arc::new(Self {
            backend,
            boxes: state.boxes(),
            trash: state.trash(),
            registry: Mutex::default(),
            permits: Arc::new(Semaphore::new(CREATES_AT_ONCE)),
            policy,
            makings,
            memory_default,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        engine.tasks.spawn(tidy(Arc::clone(&engine.trash), state.leftovers(), state.abandoned()));
        engine.tasks.spawn(Arc::clone(&engine).sweep());
        engine
    }

    /// What sandboxes of this server are isolated by.
    pub fn isolation(&self) -> &Isolation {
        self.backend.isolation()
    }

    /// What the operator decided.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long the making of sandboxes took.
    pub(crate) fn makings(&self) -> Histogram {
        self.makings.clone()
    }

    /// How many sandboxes are in each state.
    pub(crate) fn states(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<_> = STATES.map(|status| (status.as_str(), 0)).into();
        for sandbox in lock(&self.registry).by_id.values() {
            let status = sandbox.status().0.as_str();
            if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == status) {
                *count += 1;
            }
        }
        counts
    }

    /// Begins to make a sandbox; it is provisioning when this returns.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn create(&self, name: Option<String>, settings: Settings) -> Result<Arc<Sandbox>, Refused> {
        let limits = self.limits(&settings);
        let mut registry = lock(&self.registry);
        if registry.closed {
            return Err(Refused::NoRoom("the server is shutting down".into()));
        }
        let most = self.policy.sandboxes_max;
        if registry.by_id.len() >= most {
            return Err(Refused::NoRoom(format!("this server has {most} sandboxes, its limit")));
        }
        let name = match name {
            Some(name) if registry.by_name.contains_key(&name) => return Err(Refused::Taken(name)),
            Some(name) => name,
            None => registry.free_name(),
        };
        let id = Uuid::new_v4();
        let (backend, tasks) = (Arc::clone(&self.backend), self.tasks.clone());
        let sandbox = Arc::new(Sandbox::new(id, name.clone(), settings, backend, tasks));
        registry.by_name.insert(name.clone(), id);
        registry.by_id.insert(id, Arc::clone(&sandbox));
        let dir = self.boxes.join(id.to_string());
        let hostname = name::hostname(&name);
        let spec = SandboxSpec { id: id.to_string(), dir: dir.clone(), hostname, limits, disposable: true };
        let site = Site { dir, spec, permits: Arc::clone(&self.permits), trash: Arc::clone(&self.trash) };
        self.tasks.spawn(Arc::clone(&sandbox).live(site));
        Ok(sandbox)
    }

    /// Every sandbox has a process and a memory limit where the machine can keep them, the latter half of the machine's
    /// memory if nobody asked for one; processors are limited on demand. Limits that were asked for and can't be kept
    /// were refused before.
    fn limits(&self, settings: &Settings) -> Limits {
        let pids = self.isolation().limits.pids.then_some(PIDS_DEFAULT);
        let cpu_millis = settings.vcpus.map(|vcpus| vcpus.saturating_mul(1000));
        Limits { memory_bytes: settings.mem_bytes.or(self.memory_default), pids, cpu_millis }
    }

    /// A sandbox by name or id.
    pub fn get(&self, reference: &str) -> Option<Arc<Sandbox>> {
        let registry = lock(&self.registry);
        registry.by_id.get(&registry.id(reference)?).map(Arc::clone)
    }

    /// All sandboxes, the oldest first.
    pub fn list(&self) -> Vec<Arc<Sandbox>> {
        let mut all: Vec<_> = lock(&self.registry).by_id.values().map(Arc::clone).collect();
        all.sort_by_key(|sandbox| (sandbox.times().0, sandbox.id()));
        all
    }

    /// Takes a sandbox out, by name or id, and asks it to end; its name is free at once. [`Sandbox::gone`] says when
    /// nothing of it runs any more.
    pub fn remove(&self, reference: &str) -> Option<Arc<Sandbox>> {
        let mut registry = lock(&self.registry);
        let id = registry.id(reference)?;
        let sandbox = registry.by_id.remove(&id)?;
        registry.by_name.remove(sandbox.name());
        drop(registry);
        sandbox.stop();
        Some(sandbox)
    }

    /// Ends every sandbox and waits until everything is cleaned up; files only for a bounded time.
    pub async fn shutdown(&self) {
        let sandboxes = {
            let mut registry = lock(&self.registry);
            registry.closed = true;
            registry.by_name.clear();
            std::mem::take(&mut registry.by_id)
        };
        sandboxes.values().for_each(|sandbox| sandbox.stop());
        self.trash.hurry();
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            self.list().iter().for_each(|sandbox| sandbox.sweep());
        }
    }
}

/// Removes what killed servers left, as far as it gets before the end.
async fn tidy(trash: Arc<Trash>, leftovers: Vec<PathBuf>, abandoned: Vec<Abandoned>) {
    trash.clear().await;
    for tree in leftovers {
        trash.discard(&tree).await;
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

impl Registry {
    fn id(&self, reference: &str) -> Option<Uuid> {
        let by_name = self.by_name.get(reference).copied();
        by_name.or_else(|| Uuid::try_parse(reference).ok().filter(|id| self.by_id.contains_key(id)))
    }

    fn free_name(&self) -> String {
        loop {
            let name = name::random();
            if !self.by_name.contains_key(&name) {
                return name;
            }
        }
    }
}
