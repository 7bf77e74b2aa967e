//! A sandbox: one task owns it from its making to its end.
//!
//! [`Sandbox::live`] is that task: it makes the sandbox, delivers what `init` says, and destroys it when asked to
//! stop. Everyone else holds an `Arc` and reads the status, which carries the link while the sandbox is ready.
//! States: provisioning, then ready or failed; ready becomes failed when `init` dies. A sandbox on its way out is
//! no longer in the registry, whatever its state.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use sandwire_isolate::SandboxSpec;
use sandwire_isolate::wire::Account;
use sandwire_protocol::limits::{FILE_PATH_MAX, READY_WAIT};
use sandwire_protocol::{CommandSpec, ErrorType, RunConfig, SandboxStatus};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::attachment::{Attachment, View};
use super::backend::{Backend, Cell, CreateFailed};
use super::commands::Commands;
use super::driver;
use super::fault::Fault;
use super::launch::{Defaults, launch};
use super::link::Link;
use super::stream::Form;
use super::trash::Trash;

/// What a sandbox is made with, kept for its answers.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Memory limit, bytes.
    pub mem_bytes: Option<u64>,
    /// Number of processors.
    pub vcpus: Option<u32>,
    /// Seconds; accepted and echoed, as nothing here stops by itself.
    pub delete_after_stop_seconds: Option<u64>,
}

/// A sandbox of this server.
pub struct Sandbox {
    id: Uuid,
    name: String,
    settings: Settings,
    created_at: SystemTime,
    state: watch::Sender<State>,
    making: OnceLock<Duration>,
    commands: Commands,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) tasks: TaskTracker,
    stop: CancellationToken,
    gone: CancellationToken,
}

#[derive(Clone)]
struct State {
    phase: Phase,
    since: SystemTime,
}

#[derive(Clone)]
enum Phase {
    Provisioning,
    Ready(Arc<Link>),
    Failed(CreateFailed),
}

/// Where and by whom a sandbox is made.
pub(super) struct Site {
    pub(super) dir: PathBuf,
    pub(super) spec: SandboxSpec,
    pub(super) permits: Arc<Semaphore>,
    pub(super) trash: Arc<Trash>,
}

impl Sandbox {
    pub(super) fn new(
        id: Uuid,
        name: String,
        settings: Settings,
        backend: Arc<dyn Backend>,
        tasks: TaskTracker,
    ) -> Self {
        let created_at = SystemTime::now();
        Self {
            id,
            name,
            settings,
            created_at,
            state: watch::Sender::new(State { phase: Phase::Provisioning, since: created_at }),
            making: OnceLock::new(),
            commands: Commands::default(),
            backend,
            tasks,
            stop: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When it was made, and when its status last changed.
    pub fn times(&self) -> (SystemTime, SystemTime) {
        (self.created_at, self.state.borrow().since)
    }

    /// How long its making took, without waits for other sandboxes; known once it is ready.
    pub fn making(&self) -> Option<Duration> {
        self.making.get().copied()
    }

    /// Its status, and why where it failed.
    pub fn status(&self) -> (SandboxStatus, Option<String>) {
        match &self.state.borrow().phase {
            Phase::Provisioning => (SandboxStatus::Provisioning, None),
            Phase::Ready(_) => (SandboxStatus::Ready, None),
            Phase::Failed(failed) => (SandboxStatus::Failed, Some(failed.message.clone())),
        }
    }

    fn set(&self, phase: Phase) {
        self.state.send_replace(State { phase, since: SystemTime::now() });
    }

    /// Waits until it is ready or failed.
    ///
    /// # Errors
    /// It failed.
    pub async fn provisioned(&self) -> Result<(), CreateFailed> {
        let mut state = self.state.subscribe();
        loop {
            match &state.borrow_and_update().phase {
                Phase::Provisioning => {}
                Phase::Ready(_) => return Ok(()),
                Phase::Failed(failed) => return Err(failed.clone()),
            }
            if state.changed().await.is_err() {
                return Err(CreateFailed { message: "the sandbox ended".into(), unsupported: false });
            }
        }
    }

    /// Waits for a sandbox that is still being made, for a bounded time.
    ///
    /// # Errors
    /// `NotReady` if it failed, `ServiceUnavailable` if it takes too long.
    pub async fn ready(&self) -> Result<(), Fault> {
        match tokio::time::timeout(READY_WAIT, self.provisioned()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => {
                Err(Fault::new(ErrorType::NotReady, format!("the sandbox failed: {}", failed.message)))
            }
            Err(_) => Err(Fault::new(ErrorType::ServiceUnavailable, "the sandbox is still being made")),
        }
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, Fault> {
        match &self.state.borrow().phase {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Provisioning => Err(Fault::new(ErrorType::NotReady, "the sandbox is still being made")),
            Phase::Failed(failed) => {
                Err(Fault::new(ErrorType::NotReady, format!("the sandbox failed: {}", failed.message)))
            }
        }
    }

    /// Runs a command, or attaches to the one of the same id from its first byte on, in this form.
    ///
    /// # Errors
    /// The request makes no sense, the id has expired, or the sandbox is not ready. That the process could not be
    /// started is learnt from the attachment.
    pub fn execute(self: &Arc<Self>, spec: &CommandSpec, form: Form) -> Result<Attachment, Fault> {
        let link = self.link()?;
        let id = spec.command_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        let (run_config, env_vars) = (RunConfig::default(), BTreeMap::new());
        let defaults = Defaults { run_config: &run_config, env_vars: &env_vars };
        let launch = launch(spec, &defaults, link.number(), self.backend.isolation().ids)?;
        let (command, fresh) = self.commands.get_or_create(id, spec)?;
        let attachment = command.attach(View::all(form)).ok_or_else(too_many)?;
        if fresh {
            let sandbox = Arc::clone(self);
            self.tasks.spawn(async move {
                let owner = |account: &Account| sandbox.owner(account.uid, account.gid);
                if !driver::drive(&command, &link, launch, owner).await {
                    sandbox.commands.forget(command.id());
                }
            });
        }
        Ok(attachment)
    }

    /// Attaches to a command.
    ///
    /// # Errors
    /// The id is unknown or expired.
    pub fn reconnect(&self, id: &str, view: View) -> Result<Attachment, Fault> {
        self.commands.get(id)?.attach(view).ok_or_else(too_many)
    }

    /// Who must own a command's pipes, where that is not the server itself.
    fn owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Some(self.backend.outside_ids(uid, gid)).filter(|owner| *owner != us)
    }

    /// Expires old commands.
    pub(super) fn sweep(&self) {
        self.commands.sweep();
    }

    /// Asks it to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until nothing of it runs any more.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Its whole life.
    pub(super) async fn live(self: Arc<Self>, site: Site) {
        let Site { dir, spec, permits, trash } = site;
        match self.make(spec, &permits).await {
            Ok((cell, link)) => {
                let reason = tokio::select! {
                    () = self.stop.cancelled() => None,
                    reason = link.run() => Some(reason),
                };
                if let Some(reason) = reason {
                    tracing::error!(sandbox = %self.id, %reason, "sandbox died");
                    self.set(Phase::Failed(CreateFailed { message: reason, unsupported: false }));
                }
                link.close();
                destroy(self.id, cell).await;
            }
            Err(failed) => {
                tracing::error!(sandbox = %self.id, error = %failed, "sandbox can't be made");
                self.set(Phase::Failed(failed));
            }
        }
        self.stop.cancelled().await;
        self.gone.cancel();
        trash.discard(&dir).await;
    }

    async fn make(
        &self,
        spec: SandboxSpec,
        permits: &Semaphore,
    ) -> Result<(Box<dyn Cell>, Arc<Link>), CreateFailed> {
        let failed = |message: String| CreateFailed { message, unsupported: false };
        let _permit = permits.acquire().await.map_err(|error| failed(error.to_string()))?;
        let backend = Arc::clone(&self.backend);
        let made = tokio::task::spawn_blocking(move || {
            make_dir(&spec.dir).map_err(|e| failed(format!("{}: {e}", spec.dir.display())))?;
            let began = Instant::now();
            backend.create(&spec).map(|cell| (cell, began.elapsed()))
        });
        let (cell, took) = made.await.unwrap_or_else(|error| Err(failed(error.to_string())))?;
        match Link::new(cell.control()) {
            Ok(link) => {
                let link = Arc::new(link);
                self.making.get_or_init(|| took);
                self.set(Phase::Ready(Arc::clone(&link)));
                Ok((cell, link))
            }
            Err(error) => {
                destroy(self.id, cell).await;
                Err(failed(format!("init can't be watched: {error}")))
            }
        }
    }
}

fn too_many() -> Fault {
    Fault::command("too many clients are attached to this command")
}

fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(dir)
}

async fn destroy(id: Uuid, cell: Box<dyn Cell>) {
    let destroyed = tokio::task::spawn_blocking(move || cell.destroy()).await;
    if let Err(error) = destroyed.unwrap_or_else(|error| Err(error.to_string())) {
        tracing::error!(sandbox = %id, %error, "sandbox not destroyed completely");
    }
}

/// Whether a path of a file call can be one at all.
pub(super) fn check_path(path: &str) -> Result<(), Fault> {
    if path.is_empty() || path.contains('\0') || path.len() > FILE_PATH_MAX {
        return Err(Fault::invalid(format!("path must have 1 to {FILE_PATH_MAX} bytes and no NUL")));
    }
    Ok(())
}
