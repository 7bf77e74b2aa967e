//! The watch over a running command: its limits, what attachments ask for, and when and how it is over.
//!
//! A command is over when its main process died and its pipes are drained: at EOF, or quiet for [`DRAIN_QUIET`] with
//! nothing held back. All of this holds for a terminal as well, whose output is stdout; stderr ends at once. A kill,
//! from whatever cause, takes the whole tree, daemons included.

use std::future::Future;
use std::pin::Pin;

use sandwire_protocol::limits::{DRAIN_MAX, DRAIN_QUIET, KILL_GRACE, ORPHAN_DRAIN};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::kill;
use crate::engine::channel::Channel;
use crate::engine::command::{Command, End, Idle, timed_out};
use crate::engine::fault::Fault;
use crate::engine::group::Group;
use crate::engine::link::{Exited, Link};
use crate::engine::requests::Request;

/// The limits of a running command.
pub(super) struct Watch<'a> {
    command: &'a Command,
    link: &'a Link,
    group: &'a Group,
    number: u64,
    /// Its terminal, if it has one.
    window: Option<Channel>,
    deadline: Option<Instant>,
    /// How and when its main process died.
    exit: Option<(Exited, Instant)>,
    /// Since when its output has been drained freely.
    draining: Instant,
    killed: Option<Instant>,
    /// Requests to kill it that were passed on.
    kills: u64,
    timed_out: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        command: &'a Command,
        link: &'a Link,
        group: &'a Group,
        number: u64,
        started_at: Instant,
        window: Option<Channel>,
    ) -> Self {
        let deadline = command.timeout().map(|timeout| started_at + timeout);
        Self {
            command,
            link,
            group,
            number,
            window,
            deadline,
            exit: None,
            draining: started_at,
            killed: None,
            kills: 0,
            timed_out: false,
        }
    }

    /// Waits for the end; also says whether the pipes are at EOF.
    pub(super) async fn until_over(
        mut self,
        mut exited: oneshot::Receiver<Exited>,
        mut pumps: Pin<&mut impl Future<Output = ()>>,
        mut feed: Pin<&mut impl Future<Output = ()>>,
    ) -> (End, bool) {
        let (mut drained, mut fed) = (false, false);
        loop {
            let now = Instant::now();
            if let Some(end) = self.verdict(now, drained) {
                return (end, drained);
            }
            self.kill_if_due(now).await;
            self.pass_on().await;
            let wake = self.next_wake(now);
            tokio::select! {
                exit = &mut exited, if self.exit.is_none() => match exit {
                    Ok(exit) => {
                        // What the main process left is killed once more, if there is a reason to.
                        self.killed = None;
                        self.command.used(self.group.usage(exit.used));
                        self.draining = Instant::now();
                        self.exit = Some((exit, self.draining));
                    }
                    Err(_) => {
                        // Everything inside dies with init; what it said before is still in the pipes.
                        let drained = drained || timeout(ORPHAN_DRAIN, &mut pumps).await.is_ok();
                        return (End::Failed(Fault::gone()), drained);
                    }
                },
                () = &mut pumps, if !drained => drained = true,
                () = &mut feed, if !fed => fed = true,
                () = self.command.poke().notified() => {}
                () = sleep(wake), if wake.is_some() => {}
            }
        }
    }

    /// Once for every reason, and once for every request.
    async fn kill_if_due(&mut self, now: Instant) {
        let kills = self.command.kills();
        if kills > self.kills || (self.killed.is_none() && self.must_die(now)) {
            self.kills = kills;
            self.killed.get_or_insert(now);
            kill(self.group, self.link, self.number).await;
        }
    }

    /// What attachments ask for, in their order.
    async fn pass_on(&self) {
        for request in self.command.take_requests() {
            match (request, &self.window) {
                (Request::Signal(signal), _) => {
                    let _taken = timeout(KILL_GRACE, self.link.signal(self.number, signal.number())).await;
                }
                (Request::Resize(size), Some(window)) => window.resize(size),
                (Request::Resize(_), None) => {}
            }
        }
    }

    /// Whether the process tree is to be killed now, and why.
    fn must_die(&mut self, now: Instant) -> bool {
        if self.exit.is_some() {
            return self.timed_out || self.command.kill_wanted();
        }
        self.timed_out = self.deadline.is_some_and(|deadline| now >= deadline);
        let idle = matches!(self.command.idle(), Idle::Until(until) if now >= until);
        self.timed_out || idle || self.command.kill_wanted()
    }

    fn verdict(&mut self, now: Instant, drained: bool) -> Option<End> {
        let Some((Exited { code, signal, .. }, died)) = self.exit else {
            let stuck = self.killed.is_some_and(|killed| now >= killed + KILL_GRACE);
            return stuck.then(|| {
                self.link.give_up("a killed command does not end");
                End::Failed(Fault::command(
                    "the command was killed and does not end; so the sandbox is ended",
                ))
            });
        };
        if self.command.quiet_since().is_none() {
            self.draining = now;
        }
        let over = drained || self.quiet_at(died, now) <= now || now >= self.draining + DRAIN_MAX;
        match self.command.timeout() {
            _ if !over => None,
            Some(limit) if self.timed_out => Some(timed_out(limit)),
            _ => Some(End::Exited { code, signal }),
        }
    }

    /// When the pipes will have been quiet for long enough, as things stand.
    fn quiet_at(&self, died: Instant, now: Instant) -> Instant {
        self.command.quiet_since().map_or(now, |since| since.max(died)) + DRAIN_QUIET
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        if let Some((_, died)) = self.exit {
            return Some(self.quiet_at(died, now).min(self.draining + DRAIN_MAX));
        }
        if let Some(killed) = self.killed {
            return Some(killed + KILL_GRACE);
        }
        let idle = match self.command.idle() {
            Idle::Never => None,
            Idle::Until(until) => Some(until),
        };
        self.deadline.into_iter().chain(idle).min()
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
