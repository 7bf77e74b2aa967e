//! How a sandbox moves from phase to phase: who may begin that, and how to wait for it.
//!
//! The phase carries the link while the sandbox is ready. A move is decided under its lock, so that of many who ask at
//! once exactly one gives the order to the owner.

use std::sync::Arc;
use std::time::SystemTime;

use sandwire_protocol::limits::READY_WAIT;
use sandwire_protocol::{ErrorType, SandboxStatus};

use super::Sandbox;
use crate::engine::activity::InUse;
use crate::engine::backend::CreateFailed;
use crate::engine::events::{Happened, Kind};
use crate::engine::fault::Fault;
use crate::engine::link::Link;

#[derive(Clone)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) since: SystemTime,
    /// How often it came to a stop: who waits for one may look only after it was started again.
    stops: u64,
}

impl State {
    pub(super) fn new(phase: Phase, since: SystemTime) -> Self {
        Self { phase, since, stops: 0 }
    }
}

#[derive(Clone)]
pub(in crate::engine) enum Phase {
    Provisioning,
    Ready(Arc<Link>),
    Stopping,
    Stopped { at: SystemTime },
    Failed(CreateFailed),
    Deleting,
}

/// What its owner is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Order {
    /// Make it run.
    Start,
    /// End what runs, keep the files.
    Stop,
    /// End what runs, keep it for the next server.
    Retire,
    /// Remove it with all its files.
    Delete,
}

impl Phase {
    /// What it is called on the wire, and why where it failed.
    pub(super) fn status(&self) -> (SandboxStatus, Option<String>) {
        match self {
            Self::Provisioning => (SandboxStatus::Provisioning, None),
            Self::Ready(_) | Self::Stopping => (SandboxStatus::Ready, None),
            Self::Stopped { .. } => (SandboxStatus::Stopped, None),
            Self::Failed(failed) => (SandboxStatus::Failed, Some(failed.message.clone())),
            Self::Deleting => (SandboxStatus::Deleting, None),
        }
    }
}

/// What comes with a move, under the same lock: told and ordered in the order of the moves themselves.
struct Move {
    to: Phase,
    tell: Option<Kind>,
    order: Option<Order>,
}

impl Sandbox {
    /// Moves on and tells those who watch, unless it is on its way out.
    pub(in crate::engine) fn set(&self, phase: Phase, kind: Kind) -> bool {
        self.move_if(|old| {
            let to = (!matches!(old, Phase::Deleting)).then_some(phase)?;
            Some(Move { to, tell: Some(kind), order: None })
        })
    }

    /// Tells those who watch of something that is no move.
    pub(in crate::engine) fn tell(&self, kind: Kind) {
        self.publish(kind, self.name(), self.status());
    }

    fn publish(&self, kind: Kind, name: Arc<str>, (status, message): (SandboxStatus, Option<String>)) {
        let id = self.id;
        tracing::info!(sandbox = %id, name = %name, event = kind.as_str(), status = status.as_str(), "sandbox");
        let at = SystemTime::now();
        self.resources.events.publish(Happened { number: 0, at, kind, id, name, status, message });
    }

    /// Moves on if `next` says to what; whoever gets `true` is the one who did.
    fn move_if(&self, next: impl FnOnce(&Phase) -> Option<Move>) -> bool {
        // Before: the record's lock is never taken within the status's.
        let name = self.name();
        self.state.send_if_modified(|state| {
            let Some(Move { to, tell, order }) = next(&state.phase) else { return false };
            let stops = state.stops + u64::from(matches!(to, Phase::Stopped { .. }));
            *state = State { phase: to, since: SystemTime::now(), stops };
            if let Some(kind) = tell {
                self.publish(kind, name, state.phase.status());
            }
            if let Some(order) = order {
                self.order(order);
            }
            true
        })
    }

    pub(in crate::engine) fn order(&self, order: Order) {
        // An owner that has ended has nothing left to do.
        let _ended = self.orders.send(order);
    }

    /// Begins to start it, if it is stopped, or failed where that is allowed. That is use: it is not idle again at once.
    pub(in crate::engine) fn begin_start(&self, failed_too: bool) -> bool {
        self.activity.touch();
        self.move_if(|phase| match phase {
            Phase::Failed(_) if !failed_too => None,
            Phase::Stopped { .. } | Phase::Failed(_) => {
                Some(Move { to: Phase::Provisioning, tell: Some(Kind::Starting), order: Some(Order::Start) })
            }
            _ => None,
        })
    }

    /// Begins to stop it, if it is ready and `still` says that it is to be.
    pub(in crate::engine) fn begin_stop(&self, still: impl FnOnce() -> bool) -> bool {
        self.move_if(|phase| {
            (matches!(phase, Phase::Ready(_)) && still()).then_some(Move {
                to: Phase::Stopping,
                tell: None,
                order: Some(Order::Stop),
            })
        })
    }

    /// Begins its end, if `still` says so of where it is. Whoever gets `true` sees to it that it is written down, and says
    /// so by `deletion_saved`.
    pub(in crate::engine) fn begin_delete(&self, still: impl FnOnce(&Phase) -> bool) -> bool {
        self.move_if(|phase| {
            (!matches!(phase, Phase::Deleting) && still(phase)).then_some(Move {
                to: Phase::Deleting,
                tell: None,
                order: Some(Order::Delete),
            })
        })
    }

    /// Begins its end if it has been stopped for as long as its settings say.
    pub(in crate::engine) fn begin_expiry(&self) -> bool {
        let Some(limit) = self.settings().delete_after_stop() else { return false };
        let over = |at: SystemTime| at.elapsed().is_ok_and(|elapsed| elapsed >= limit);
        self.stopped_at().is_some_and(over)
            && self.begin_delete(|phase| matches!(phase, Phase::Stopped { at } if over(*at)))
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
    pub(in crate::engine) async fn stop(&self) -> Result<(), Fault> {
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

    pub(in crate::engine) fn link(&self) -> Result<Arc<Link>, Fault> {
        let not_ready = |message: &str| Err(Fault::new(ErrorType::NotReady, message));
        match &self.state.borrow().phase {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Provisioning => not_ready("the sandbox is still being made"),
            Phase::Stopping | Phase::Stopped { .. } => not_ready("the sandbox was stopped"),
            Phase::Failed(failed) => Err(failure(failed)),
            Phase::Deleting => not_ready("the sandbox is being deleted"),
        }
    }
}

fn failure(failed: &CreateFailed) -> Fault {
    Fault::new(ErrorType::NotReady, format!("the sandbox failed: {}", failed.message))
}
