//! A sandbox as everybody but its owner sees it: its record, its status, and what may be asked of it.
//!
//! One task owns it from its making to its end ([`super::lifecycle`]). Everyone else holds an `Arc`, reads the status,
//! which carries the link while the sandbox is ready, and moves it only by the orders below. A move is decided under
//! the status's lock, so that of many who ask at once exactly one gives the order.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sandwire_isolate::wire::Account;
use sandwire_protocol::limits::{FILE_PATH_MAX, READY_WAIT};
use sandwire_protocol::{CommandSpec, ErrorType, SandboxStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::activity::{Activity, InUse};
use super::attachment::{Attachment, View};
use super::backend::CreateFailed;
use super::command::Command;
use super::commands::Commands;
use super::driver;
use super::events::{Happened, Kind};
use super::fault::Fault;
use super::journal::Journal;
use super::launch::{Defaults, launch};
use super::link::Link;
use super::lock::lock;
use super::resources::Resources;
use super::settings::{Settings, Update};
use super::stream::Form;
use crate::store::{self, Row, StoreError, StoredPhase};

/// A sandbox of this server.
pub struct Sandbox {
    id: Uuid,
    created_at: SystemTime,
    record: Mutex<Record>,
    state: watch::Sender<State>,
    orders: mpsc::UnboundedSender<Order>,
    activity: Activity,
    commands: Commands,
    journal: Journal,
    pub(super) resources: Arc<Resources>,
    pub(super) gone: CancellationToken,
}

/// What an update may change.
struct Record {
    name: Arc<str>,
    settings: Arc<Settings>,
    updated_at: SystemTime,
    /// How long its last making took.
    making: Option<Duration>,
}

#[derive(Clone)]
struct State {
    phase: Phase,
    since: SystemTime,
    /// How often it came to a stop: who waits for one may look only after it was started again.
    stops: u64,
}

#[derive(Clone)]
pub(super) enum Phase {
    Provisioning,
    Ready(Arc<Link>),
    Stopping,
    Stopped { at: SystemTime },
    Failed(CreateFailed),
    Deleting,
}

/// What its owner is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Make it run.
    Start,
    /// End what runs, keep the files.
    Stop,
    /// End what runs, keep it for the next server.
    Retire,
    /// Remove it with all its files.
    Delete,
}

impl Sandbox {
    /// A new one, to be made; the receiver is for its owner.
    pub(super) fn new(
        name: Arc<str>,
        settings: Settings,
        resources: Arc<Resources>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let now = SystemTime::now();
        Self::with(Uuid::new_v4(), name, settings, (now, now), Phase::Provisioning, resources)
    }

    /// One of an earlier server. What ran then does so no more.
    pub(super) fn remembered(
        row: &Row,
        name: &str,
        settings: Settings,
        resources: Arc<Resources>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let phase = match row.phase {
            StoredPhase::Failed => {
                let message = row.failure.clone().unwrap_or_default();
                Phase::Failed(CreateFailed { message, unsupported: false })
            }
            _ => Phase::Stopped { at: row.stopped_at.unwrap_or_else(SystemTime::now) },
        };
        Self::with(row.id, name.into(), settings, (row.created_at, row.updated_at), phase, resources)
    }

    fn with(
        id: Uuid,
        name: Arc<str>,
        settings: Settings,
        (created_at, updated_at): (SystemTime, SystemTime),
        phase: Phase,
        resources: Arc<Resources>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let record = Record { name, settings: Arc::new(settings), updated_at, making: None };
        let sandbox = Self {
            id,
            created_at,
            record: Mutex::new(record),
            state: watch::Sender::new(State { phase, since: updated_at, stops: 0 }),
            orders,
            activity: Activity::new(),
            commands: Commands::default(),
            journal: resources.journal(id),
            resources,
            gone: CancellationToken::new(),
        };
        (Arc::new(sandbox), receiver)
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its name, for now.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&lock(&self.record).name)
    }

    /// Its settings, for now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.record).settings)
    }

    /// When it was made, and when it last changed.
    pub fn times(&self) -> (SystemTime, SystemTime) {
        (self.created_at, lock(&self.record).updated_at.max(self.state.borrow().since))
    }

    /// Since when it is stopped, if it is.
    pub fn stopped_at(&self) -> Option<SystemTime> {
        match self.state.borrow().phase {
            Phase::Stopped { at } => Some(at),
            _ => None,
        }
    }

    /// How long its last making took, without waits for other sandboxes; known once it is ready.
    pub fn making(&self) -> Option<Duration> {
        lock(&self.record).making
    }

    pub(super) fn made(&self, took: Duration) {
        lock(&self.record).making = Some(took);
    }

    /// Its status, and why where it failed.
    pub fn status(&self) -> (SandboxStatus, Option<String>) {
        match &self.state.borrow().phase {
            Phase::Provisioning => (SandboxStatus::Provisioning, None),
            Phase::Ready(_) | Phase::Stopping => (SandboxStatus::Ready, None),
            Phase::Stopped { .. } => (SandboxStatus::Stopped, None),
            Phase::Failed(failed) => (SandboxStatus::Failed, Some(failed.message.clone())),
            Phase::Deleting => (SandboxStatus::Deleting, None),
        }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Moves on and tells those who watch, unless it is on its way out.
    pub(super) fn set(&self, phase: Phase, kind: Kind) -> bool {
        let set = self.move_if(|old| (!matches!(old, Phase::Deleting)).then_some(phase));
        if set {
            self.tell(kind);
        }
        set
    }

    pub(super) fn tell(&self, kind: Kind) {
        let (status, message) = self.status();
        let (id, name) = (self.id, self.name());
        tracing::info!(sandbox = %id, name = %name, event = kind.as_str(), status = status.as_str(), "sandbox");
        let at = SystemTime::now();
        self.resources.events.publish(Happened { number: 0, at, kind, id, name, status, message });
    }

    /// Moves on if `next` says to what; whoever gets `true` is the one who did.
    fn move_if(&self, next: impl FnOnce(&Phase) -> Option<Phase>) -> bool {
        self.state.send_if_modified(|state| match next(&state.phase) {
            Some(phase) => {
                let stops = state.stops + u64::from(matches!(phase, Phase::Stopped { .. }));
                *state = State { phase, since: SystemTime::now(), stops };
                true
            }
            None => false,
        })
    }

    pub(super) fn order(&self, order: Order) {
        // An owner that has ended has nothing left to do.
        let _ended = self.orders.send(order);
    }

    /// Begins to start it, if it is stopped, or failed where that is allowed.
    pub(super) fn begin_start(&self, failed_too: bool) -> bool {
        let began = self.move_if(|phase| match phase {
            Phase::Stopped { .. } => Some(Phase::Provisioning),
            Phase::Failed(_) if failed_too => Some(Phase::Provisioning),
            _ => None,
        });
        if began {
            self.tell(Kind::Starting);
            self.order(Order::Start);
        }
        began
    }

    /// Begins to stop it, if it is ready and `still` says that it is to be.
    pub(super) fn begin_stop(&self, still: impl FnOnce() -> bool) -> bool {
        let began =
            self.move_if(|phase| (matches!(phase, Phase::Ready(_)) && still()).then_some(Phase::Stopping));
        if began {
            self.order(Order::Stop);
        }
        began
    }

    /// Begins its end.
    pub(super) fn begin_delete(&self) {
        if self.move_if(|phase| (!matches!(phase, Phase::Deleting)).then_some(Phase::Deleting)) {
            self.order(Order::Delete);
        }
    }

    /// Waits until nothing moves: it is ready, stopped, failed or on its way out.
    async fn settled(&self) -> Phase {
        let mut state = self.state.subscribe();
        let settled =
            state.wait_for(|state| !matches!(state.phase, Phase::Provisioning | Phase::Stopping)).await;
        settled.map_or(Phase::Deleting, |state| state.phase.clone())
    }

    /// Waits until it is ready or failed.
    ///
    /// # Errors
    /// It failed.
    pub async fn provisioned(&self) -> Result<(), CreateFailed> {
        match self.settled().await {
            Phase::Failed(failed) => Err(failed),
            Phase::Deleting => Err(CreateFailed { message: "the sandbox ended".into(), unsupported: false }),
            _ => Ok(()),
        }
    }

    /// Stops it, if it is ready, and waits for that; whatever is asked of it afterwards.
    ///
    /// # Errors
    /// It is not ready, failed meanwhile, or was deleted.
    pub(super) async fn stop(&self) -> Result<(), Fault> {
        let mut state = self.state.subscribe();
        let before = state.borrow().stops;
        if !self.begin_stop(|| true) {
            let status = self.status().0.as_str();
            return Err(Fault::invalid(format!(
                "the sandbox is {status}: only one that is ready can be stopped"
            )));
        }
        let over =
            state.wait_for(|state| state.stops > before || !matches!(state.phase, Phase::Stopping)).await;
        if over.is_ok_and(|state| state.stops > before) {
            return Ok(());
        }
        Err(Fault::invalid("the sandbox did not stop: it died or was deleted meanwhile"))
    }

    /// Uses it: one that is stopped is started, by the first who comes, and one that is being made is waited for, for a
    /// bounded time.
    ///
    /// # Errors
    /// `NotReady` if it failed, `NotFound` if it is being deleted, `ServiceUnavailable` if it takes too long.
    pub async fn enter(self: &Arc<Self>) -> Result<InUse, Fault> {
        // Before the status is looked at, so that it is not stopped in between for being idle.
        let in_use = InUse::new(self);
        let ready = async {
            loop {
                match self.settled().await {
                    Phase::Stopped { .. } => {
                        self.begin_start(false);
                    }
                    Phase::Failed(failed) => return Err(failure(&failed)),
                    Phase::Deleting => {
                        return Err(Fault::new(ErrorType::NotFound, "the sandbox is being deleted"));
                    }
                    _ => return Ok(()),
                }
            }
        };
        match tokio::time::timeout(READY_WAIT, ready).await {
            Ok(outcome) => outcome.map(|()| in_use),
            Err(_) => Err(Fault::new(ErrorType::ServiceUnavailable, "the sandbox is still being made")),
        }
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, Fault> {
        let not_ready = |message: &str| Err(Fault::new(ErrorType::NotReady, message));
        match &self.state.borrow().phase {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Provisioning => not_ready("the sandbox is still being made"),
            Phase::Stopping | Phase::Stopped { .. } => not_ready("the sandbox was stopped"),
            Phase::Failed(failed) => Err(failure(failed)),
            Phase::Deleting => not_ready("the sandbox is being deleted"),
        }
    }

    /// Runs a command, or attaches to the one of the same id from its first byte on, in this form.
    ///
    /// # Errors
    /// The request makes no sense, the id has expired or belongs to a lost command, or the sandbox is not ready. That
    /// the process could not be started is learnt from the attachment.
    pub fn execute(self: &Arc<Self>, spec: &CommandSpec, form: Form) -> Result<Attachment, Fault> {
        let link = self.link()?;
        let id = spec.command_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        self.refuse_lost(&id)?;
        let settings = self.settings();
        let defaults = Defaults { run_config: &settings.run_config, env_vars: &settings.env_vars };
        let launch = launch(spec, &defaults, link.number(), self.resources.backend.isolation().ids)?;
        let (command, fresh) = self.commands.get_or_create(id, spec)?;
        let attachment = command.attach(View::all(form)).ok_or_else(too_many)?;
        if fresh {
            if let Err(error) = self.journal.note(command.id()) {
                self.commands.forget(command.id());
                return Err(Fault::new(
                    ErrorType::InternalError,
                    format!("the command can't be noted: {error}"),
                ));
            }
            let sandbox = Arc::clone(self);
            self.resources.tasks.spawn(async move {
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
    /// The id is unknown, expired or lost.
    pub fn reconnect(&self, id: &str, view: View) -> Result<Attachment, Fault> {
        self.command(id)?.attach(view).ok_or_else(too_many)
    }

    /// Its commands, running and remembered, the oldest first.
    pub fn commands(&self) -> Vec<Arc<Command>> {
        self.commands.list()
    }

    /// One of its commands.
    ///
    /// # Errors
    /// The id is unknown, expired or lost.
    pub fn command(&self, id: &str) -> Result<Arc<Command>, Fault> {
        self.refuse_lost(id)?;
        self.commands.get(id)
    }

    /// A command of an earlier server has no result, and must not run again.
    fn refuse_lost(&self, id: &str) -> Result<(), Fault> {
        match self.journal.is_lost(id) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Fault::command(format!(
                "command {id:?} is lost: the server ended while it ran or before its result was fetched"
            ))),
            Err(error) => Err(Fault::new(
                ErrorType::InternalError,
                format!("the journal of commands can't be read: {error}"),
            )),
        }
    }

    /// Who must own a command's pipes, where that is not the server itself.
    fn owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Some(self.resources.backend.outside_ids(uid, gid)).filter(|owner| *owner != us)
    }

    /// Expires old commands. Returns whether the sandbox is to be deleted, as it has been stopped for long enough.
    pub(super) fn sweep(&self) -> bool {
        self.commands.sweep();
        if let Ok(link) = self.link()
            && let Some(groups) = link.groups()
        {
            groups.sweep();
        }
        if self.commands.running() > 0 {
            self.activity.touch();
        }
        let settings = self.settings();
        if let Some(limit) = settings.idle_ttl() {
            let idle = || self.activity.idle_since().is_some_and(|since| Instant::now() >= since + limit);
            if idle() {
                self.begin_stop(idle);
            }
        }
        let over = |(at, limit): (SystemTime, Duration)| at.elapsed().is_ok_and(|elapsed| elapsed >= limit);
        self.stopped_at().zip(settings.delete_after_stop()).is_some_and(over)
    }

    /// Changes the record; the registry has seen to the name.
    pub(super) fn update(&self, update: &Update) {
        let mut record = lock(&self.record);
        record.settings = Arc::new(update.apply(&record.settings));
        if let Some(name) = &update.name {
            record.name = name.as_str().into();
        }
        record.updated_at = SystemTime::now();
    }

    /// Waits until nothing of it runs any more.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Writes it down as it is when its turn comes, so that of several at once the last one writes the truth.
    pub(super) async fn save(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::update(tx, &sandbox.row(None)?)).await
    }

    /// Writes it down as it will be in a moment, unless it is on its way out by then.
    pub(super) async fn save_ahead(self: &Arc<Self>, phase: Phase) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::update(tx, &sandbox.row(Some(&phase))?)).await
    }

    /// Writes it down for the first time.
    pub(super) async fn save_new(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write(move |tx| store::insert(tx, &sandbox.row(None)?)).await
    }

    /// Like [`Sandbox::save`], before there is a task that could wait.
    pub(super) fn save_blocking(self: &Arc<Self>) -> Result<(), StoreError> {
        let sandbox = Arc::clone(self);
        self.resources.store.write_blocking(move |tx| store::update(tx, &sandbox.row(None)?))
    }

    fn row(&self, ahead: Option<&Phase>) -> rusqlite::Result<Row> {
        let now = self.state.borrow().phase.clone();
        let phase = ahead.filter(|_| !matches!(now, Phase::Deleting)).unwrap_or(&now);
        let (phase, failure, stopped_at) = match phase {
            Phase::Provisioning | Phase::Ready(_) | Phase::Stopping => (StoredPhase::Live, None, None),
            Phase::Stopped { at } => (StoredPhase::Stopped, None, Some(*at)),
            Phase::Failed(failed) => (StoredPhase::Failed, Some(failed.message.clone()), None),
            Phase::Deleting => (StoredPhase::Deleting, None, None),
        };
        let (name, settings) = (self.name(), self.settings());
        let settings = serde_json::to_string(&*settings)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let (created_at, updated_at) = self.times();
        let name = (phase != StoredPhase::Deleting).then(|| name.to_string());
        Ok(Row { id: self.id, name, phase, failure, settings, created_at, updated_at, stopped_at })
    }
}

fn failure(failed: &CreateFailed) -> Fault {
    Fault::new(ErrorType::NotReady, format!("the sandbox failed: {}", failed.message))
}

fn too_many() -> Fault {
    Fault::command("too many clients are attached to this command")
}

/// Whether a path of a file call can be one at all.
pub(crate) fn check_path(path: &str) -> Result<(), Fault> {
    if path.is_empty() || path.contains('\0') || path.len() > FILE_PATH_MAX {
        return Err(Fault::invalid(format!("path must have 1 to {FILE_PATH_MAX} bytes and no NUL")));
    }
    Ok(())
}
