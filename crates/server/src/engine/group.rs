//! The cgroup of a running command, if it can have one: how all of its processes are killed, and what it used.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sandwire_isolate::wire::Used;
use sandwire_isolate::{CommandGroup, CommandGroups};
use sandwire_protocol::extension::Usage;

use super::link::Link;

/// Given back when it is dropped; what is left in it lives on.
pub(super) struct Group(Option<(Arc<CommandGroups>, Arc<CommandGroup>)>);

impl Group {
    /// One for a command, and its entrance. A command runs without where none can be made: a kill then finds less, as it
    /// does on machines that have none. Takes some ten microseconds, so it is not worth another thread.
    pub(super) fn take(link: &Link) -> (Self, Option<OwnedFd>) {
        let Some(groups) = link.groups() else { return (Self(None), None) };
        let taken = groups.take().and_then(|group| {
            // Given back by its drop, if it has no entrance.
            let group = Self(Some((Arc::clone(groups), Arc::new(group))));
            Ok((group.entrance()?, group))
        });
        match taken {
            Ok((entrance, group)) => (group, entrance),
            Err(error) => {
                tracing::warn!(%error, "a command has no cgroup of its own");
                (Self(None), None)
            }
        }
    }

    fn entrance(&self) -> io::Result<Option<OwnedFd>> {
        self.0.as_ref().map(|(_, group)| group.entrance()).transpose()
    }

    /// Kills everything in it; whether that can be said to have happened.
    pub(super) async fn kill(&self) -> bool {
        let Some((_, group)) = &self.0 else { return false };
        let group = Arc::clone(group);
        let killed = tokio::task::spawn_blocking(move || group.kill()).await;
        killed.is_ok_and(|killed| killed.is_ok())
    }

    /// What the command used until now, with what its main process's end told.
    pub(super) fn usage(&self, used: Used) -> Usage {
        let group = self.0.as_ref().map(|(_, group)| group.usage()).unwrap_or_default();
        Usage {
            cpu_ms: Some(group.cpu_micros.unwrap_or(used.cpu_micros) / 1000),
            // A group that was used before may begin with much in the cache, which makes room while it grows.
            peak_memory_bytes: Some(group.peak_bytes.unwrap_or(0).max(used.peak_bytes)),
            oom_killed: group.oom_killed,
        }
    }
}

/// Collects the groups of ended commands that nobody is in any more, on a thread that may block.
pub(super) fn sweep(link: &Link) {
    if let Some(groups) = link.groups().filter(|groups| groups.has_left()) {
        let groups = Arc::clone(groups);
        tokio::task::spawn_blocking(move || groups.sweep());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some((groups, group)) = self.0.take() {
            groups.give_back(&group);
        }
    }
}
