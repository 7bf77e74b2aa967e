//! A sandbox as everybody but its owner sees it: its record, its status, and what may be asked of it.
//!
//! One task owns it from its making to its end ([`super::lifecycle`]). Everyone else holds an `Arc`, reads the status,
//! moves it only by orders ([`moves`]) and runs commands in it while it is ready ([`execute`]).

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sandwire_protocol::SandboxStatus;
use tokio::sync::{SetOnce, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::moves::State;
pub(super) use self::moves::{Order, Phase};
use super::activity::Activity;
use super::backend::CreateFailed;
use super::commands::Commands;
use super::group;
use super::journal::Journal;
use super::lock::lock;
use super::resources::Resources;
use super::settings::{Settings, Update};
use crate::store::{Row, StoredPhase};

mod execute;
mod moves;
mod row;

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
    /// One change of its settings at a time, and none while it becomes ready.
    pub(super) updating: tokio::sync::Mutex<()>,
    /// Whether it was written down for the first time.
    pub(super) saved: SetOnce<bool>,
    /// Whether it was written down that it goes: its files must not go before.
    pub(super) deletion_saved: SetOnce<bool>,
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
        let remembered =
            Self::with(row.id, name.into(), settings, (row.created_at, row.updated_at), phase, resources);
        let _first_time = remembered.0.saved.set(true);
        remembered
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
            state: watch::Sender::new(State::new(phase, updated_at)),
            orders,
            activity: Activity::new(),
            commands: Commands::default(),
            journal: resources.journal(id),
            resources,
            updating: tokio::sync::Mutex::default(),
            saved: SetOnce::new(),
            deletion_saved: SetOnce::new(),
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
        let updated_at = lock(&self.record).updated_at;
        (self.created_at, updated_at.max(self.state.borrow().since))
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
        self.state.borrow().phase.status()
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Expires old commands, and begins to stop the sandbox if it is idle.
    pub(super) fn sweep(&self) {
        self.commands.sweep();
        if let Ok(link) = self.link() {
            group::sweep(&link);
        }
        if self.commands.running() > 0 {
            self.activity.touch();
        }
        if let Some(limit) = self.settings().idle_ttl() {
            // Elapsed rather than a sum, which any limit could overflow.
            let idle = || self.activity.idle_since().is_some_and(|since| since.elapsed() >= limit);
            if idle() {
                self.begin_stop(idle);
            }
        }
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
}
