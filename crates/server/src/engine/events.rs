//! What happens to sandboxes, for those who want to watch instead of asking.
//!
//! Every transition gets the next number. The last [`EVENTS_KEPT`] are kept, so that a watcher that lost its
//! connection goes on where it was; one that was away for longer is told that it missed some. A server counts from the
//! microsecond of its start, so that numbers of an earlier one are below all of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use sandwire_protocol::SandboxStatus;
use sandwire_protocol::limits::EVENTS_KEPT;
use tokio::sync::watch;
use uuid::Uuid;

use super::lock::lock;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is being made.
    Created,
    /// It is being started again.
    Starting,
    /// It is usable.
    Ready,
    /// It can't be made, or died.
    Failed,
    /// It was stopped, by request or because it was idle.
    Stopped,
    /// Its name or settings changed.
    Updated,
    /// It is gone.
    Deleted,
}

impl Kind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// One transition of one sandbox.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Grows by one.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: Kind,
    /// Whose.
    pub id: Uuid,
    /// Its name then.
    pub name: Arc<str>,
    /// Its status from then on.
    pub status: SandboxStatus,
    /// Why, where it failed.
    pub message: Option<String>,
}

/// The events of a server.
pub(super) struct Events {
    log: Arc<Mutex<Log>>,
    last: watch::Sender<u64>,
}

struct Log {
    /// Before the first of this server.
    origin: u64,
    last: u64,
    kept: VecDeque<Arc<Happened>>,
}

impl Events {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = u64::try_from(since.as_micros()).unwrap_or_default();
        let log = Log { origin, last: origin, kept: VecDeque::new() };
        Self { log: Arc::new(Mutex::new(log)), last: watch::Sender::new(origin) }
    }

    /// Tells everybody. The number of `happened` is filled in.
    pub(super) fn publish(&self, mut happened: Happened) {
        let mut log = lock(&self.log);
        log.last += 1;
        happened.number = log.last;
        if log.kept.len() == EVENTS_KEPT {
            log.kept.pop_front();
        }
        log.kept.push_back(Arc::new(happened));
        self.last.send_replace(log.last);
    }

    /// Everything after the event `after`, 0 for all that there are; `None` is everything from now on.
    pub(super) fn watch(&self, after: Option<u64>) -> Watcher {
        let last = self.last.subscribe();
        let log = lock(&self.log);
        let seen = match after {
            None => log.last,
            Some(0) => log.origin,
            Some(after) => after,
        };
        drop(log);
        Watcher { log: Arc::clone(&self.log), last, seen }
    }
}

/// Somebody's place in the events.
pub struct Watcher {
    log: Arc<Mutex<Log>>,
    last: watch::Receiver<u64>,
    seen: u64,
}

/// What a watcher is told.
#[derive(Debug)]
pub enum Told {
    /// The next event.
    Event(Arc<Happened>),
    /// This many are gone, 0 if nobody knows how many: the watcher must look for itself.
    Missed(u64),
}

impl Watcher {
    /// Waits for the next event; `None` when the server ends. Cancel safe.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            self.last.mark_unchanged();
            if let Some(told) = self.try_next() {
                return Some(told);
            }
            self.last.changed().await.ok()?;
        }
    }

    fn try_next(&mut self) -> Option<Told> {
        let log = lock(&self.log);
        if self.seen > log.last || self.seen < log.origin {
            // A number of another server.
            self.seen = log.origin;
            return Some(Told::Missed(0));
        }
        let first = log.kept.front()?.number;
        if self.seen + 1 < first {
            let missed = first - 1 - self.seen;
            self.seen = first - 1;
            return Some(Told::Missed(missed));
        }
        let place = usize::try_from(self.seen + 1 - first).ok()?;
        let next = log.kept.get(place).map(Arc::clone)?;
        self.seen = next.number;
        Some(Told::Event(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happen(events: &Events, times: usize) {
        for _ in 0..times {
            events.publish(Happened {
                number: 0,
                at: SystemTime::now(),
                kind: Kind::Ready,
                id: Uuid::nil(),
                name: "a".into(),
                status: SandboxStatus::Ready,
                message: None,
            });
        }
    }

    /// The event's place among those of the server, or how many were missed.
    async fn next(watcher: &mut Watcher) -> Result<u64, u64> {
        let origin = lock(&watcher.log).origin;
        match watcher.next().await.unwrap() {
            Told::Event(happened) => Ok(happened.number - origin),
            Told::Missed(count) => Err(count),
        }
    }

    #[tokio::test]
    async fn a_watcher_sees_each_event_once() {
        let events = Events::new();
        happen(&events, 2);
        let mut now = events.watch(None);
        let mut all = events.watch(Some(0));
        let (third, ()) = tokio::join!(next(&mut now), async { happen(&events, 1) });
        assert_eq!(third, Ok(3));
        for number in 1..=3 {
            assert_eq!(next(&mut all).await, Ok(number));
        }
        drop(events);
        assert!(now.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_gone_is_told() {
        let events = Events::new();
        let mut slow = events.watch(None);
        happen(&events, EVENTS_KEPT + 5);
        assert_eq!(next(&mut slow).await, Err(5));
        assert_eq!(next(&mut slow).await, Ok(6));
    }

    #[tokio::test]
    async fn numbers_of_another_server_are_known() {
        let events = Events::new();
        happen(&events, 2);
        for stranger in [1, 7, u64::MAX] {
            let mut watcher = events.watch(Some(stranger));
            assert_eq!(next(&mut watcher).await, Err(0));
            assert_eq!(next(&mut watcher).await, Ok(1), "everything that is there");
        }
    }
}
