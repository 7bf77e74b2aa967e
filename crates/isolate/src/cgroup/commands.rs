//! The cgroups of a sandbox's commands, one each below the sandbox's own, so that a kill finds every process of a
//! command, whatever session it made and whoever its parent is, and so that what it used is known.
//!
//! A command's first process joins by itself, before it executes; all that it starts is in the group from its birth, and
//! nothing inside can leave, for there is no cgroup file system there.
//! In separate hierarchies the one of the memory controller is used, else that of the process numbers. A group whose
//! processes are gone is used again there: making and removing one per command costs more than the command's start, and
//! a removed one lives on in the kernel for as long as a page in the cache is charged to it. In the unified hierarchy
//! counters can't be set back, and a group is removed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Empty groups that are kept for the next commands.
const SPARE_MAX: usize = 4;

/// Rounds of a kill. Every process that was found is stopped first, so only one that was never seen can fork.
const ROUNDS: usize = 64;

/// What a group's files are called, and what they can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unified,
    Memory,
    Pids,
}

/// Makes the cgroups of one sandbox's commands.
#[derive(Debug)]
pub struct CommandGroups {
    parent: PathBuf,
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sandbox ends.
    closed: bool,
    made: u64,
    spare: Vec<PathBuf>,
    /// Of commands that are over, with processes left in the background.
    left: Vec<PathBuf>,
}

/// The cgroup of one command.
#[derive(Debug)]
pub struct CommandGroup {
    dir: PathBuf,
    kind: Kind,
    /// What was charged to the group, and how many of its processes had been killed for memory, before the command.
    before: (u64, u64),
}

/// What a command used, as far as its group tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Processor time, microseconds.
    pub cpu_micros: Option<u64>,
    /// Most memory at a time, bytes, caches and files in memory included.
    pub peak_bytes: Option<u64>,
    /// Whether the kernel killed one of its processes as the sandbox's memory was used up.
    pub oom_killed: Option<bool>,
}

impl CommandGroups {
    pub(super) fn new(parent: PathBuf, kind: Kind) -> Self {
        Self { parent, kind, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty group.
    ///
    /// # Errors
    /// The kernel makes none, or the sandbox ends.
    pub fn take(&self) -> io::Result<CommandGroup> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::Error::from(ErrorKind::NotConnected));
        }
        let dir = match state.take_spare() {
            Some(dir) => dir,
            None => {
                let dir = self.parent.join(format!("c{}", state.made));
                state.made += 1;
                fs::create_dir(&dir)?;
                dir
            }
        };
        drop(state);
        let mut group = CommandGroup { dir, kind: self.kind, before: (0, 0) };
        match group.begin() {
            Ok(()) => Ok(group),
            Err(error) => {
                self.give_back(&group);
                Err(error)
            }
        }
    }

    /// Takes a group back; processes that are left in it live on.
    pub fn give_back(&self, group: &CommandGroup) {
        self.settle(group.dir.clone());
    }

    /// Whether there are groups with processes left in them.
    pub fn has_left(&self) -> bool {
        !self.lock().left.is_empty()
    }

    /// Collects groups whose last process ended. Looks at each that is left, and blocks meanwhile.
    pub fn sweep(&self) {
        let left = std::mem::take(&mut self.lock().left);
        left.into_iter().for_each(|dir| self.settle(dir));
    }

    fn settle(&self, dir: PathBuf) {
        let found = occupancy(&dir);
        let mut state = self.lock();
        match found {
            Occupancy::Gone => {}
            Occupancy::Occupied => state.left.push(dir),
            Occupancy::Empty
                if self.kind == Kind::Memory && state.spare.len() < SPARE_MAX && !state.closed =>
            {
                state.spare.push(dir);
            }
            Occupancy::Empty => match fs::remove_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => state.left.push(dir),
                _ => {}
            },
        }
    }

    /// No more groups: the sandbox's own is about to be removed, with all that is below it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }
}

impl State {
    /// A spare group that is still empty.
    fn take_spare(&mut self) -> Option<PathBuf> {
        while let Some(dir) = self.spare.pop() {
            match occupancy(&dir) {
                Occupancy::Empty => return Some(dir),
                Occupancy::Occupied => self.left.push(dir),
                Occupancy::Gone => {}
            }
        }
        None
    }
}

/// What is in a group.
enum Occupancy {
    Empty,
    /// Somebody, or it is not known: a server without a free descriptor can't look.
    Occupied,
    Gone,
}

fn occupancy(dir: &Path) -> Occupancy {
    match fs::read(dir.join("cgroup.procs")) {
        Ok(processes) if processes.is_empty() => Occupancy::Empty,
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NODEV)) => {
            Occupancy::Gone
        }
        _ => Occupancy::Occupied,
    }
}

impl CommandGroup {
    /// Forgets what was before.
    fn begin(&mut self) -> io::Result<()> {
        if self.kind == Kind::Memory {
            fs::write(self.dir.join("memory.max_usage_in_bytes"), "0")?;
            self.before = (self.number("memory.usage_in_bytes").unwrap_or(0), self.oom_kills().unwrap_or(0));
        }
        Ok(())
    }

    /// The file by which a task joins, by writing "0".
    ///
    /// # Errors
    /// It can't be opened.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = match self.kind {
            Kind::Unified => "cgroup.procs",
            // A single task moves without the lock that moving a whole process takes.
            Kind::Memory | Kind::Pids => "tasks",
        };
        Ok(File::options().write(true).open(self.dir.join(file))?.into())
    }

    /// Kills everything in it. Returns once all of it was sent the signal; takes milliseconds at most, and blocks.
    ///
    /// # Errors
    /// The kernel does not say what is in it.
    pub fn kill(&self) -> io::Result<()> {
        if self.kind == Kind::Unified {
            match fs::write(self.dir.join("cgroup.kill"), "1") {
                // Kernels before 5.14 don't have it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => return result,
            }
        }
        let mut stopped = Vec::new();
        for _ in 0..ROUNDS {
            let fresh: Vec<Pid> =
                self.processes()?.into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            self.signal(&fresh, Signal::STOP)?;
            stopped.extend(fresh);
        }
        // What comes to life between two rounds is found by the next one.
        for _ in 0..ROUNDS {
            let alive = self.processes()?;
            if alive.is_empty() {
                break;
            }
            self.signal(&alive, Signal::KILL)?;
        }
        Ok(())
    }

    /// Signals processes that are still in the group once they are held: one that is can't be another with the number
    /// of one that was, and a signal to one that is held and dead reaches nobody.
    fn signal(&self, pids: &[Pid], signal: Signal) -> io::Result<()> {
        let held: Vec<_> =
            pids.iter().filter_map(|pid| Some((*pid, pidfd_open(*pid, PidfdFlags::empty()).ok()?))).collect();
        let members = self.processes()?;
        for (_, process) in held.iter().filter(|(pid, _)| members.contains(pid)) {
            let _died_meanwhile = pidfd_send_signal(process.as_fd(), signal);
        }
        Ok(())
    }

    fn processes(&self) -> io::Result<Vec<Pid>> {
        let list = fs::read_to_string(self.dir.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
    }

    /// What the command used so far.
    #[must_use]
    pub fn usage(&self) -> GroupUsage {
        let (charged, killed) = self.before;
        let peak = match self.kind {
            Kind::Unified => self.number("memory.peak"),
            Kind::Memory => self.number("memory.max_usage_in_bytes"),
            Kind::Pids => None,
        };
        GroupUsage {
            cpu_micros: (self.kind == Kind::Unified).then(|| self.field("cpu.stat", "usage_usec")).flatten(),
            peak_bytes: peak.map(|bytes| bytes.saturating_sub(charged)),
            oom_killed: self.oom_kills().map(|now| now > killed),
        }
    }

    fn oom_kills(&self) -> Option<u64> {
        match self.kind {
            Kind::Unified => self.field("memory.events", "oom_kill"),
            Kind::Memory => self.field("memory.oom_control", "oom_kill"),
            Kind::Pids => None,
        }
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// A value of a file of lines with a name and a number each.
    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(kind: Kind) -> (tempfile::TempDir, CommandGroups) {
        let dir = tempfile::tempdir().unwrap();
        let groups = CommandGroups::new(dir.path().to_owned(), kind);
        (dir, groups)
    }

    fn set(group: &CommandGroup, file: &str, text: &str) {
        fs::write(group.dir.join(file), text).unwrap();
    }

    #[test]
    fn an_empty_group_is_used_again_and_one_with_processes_is_not() {
        let (_dir, groups) = groups(Kind::Memory);
        let first = groups.take().unwrap();
        let (place, busy) = (first.dir.clone(), groups.take().unwrap());
        set(&first, "cgroup.procs", "");
        set(&busy, "cgroup.procs", "7\n");
        let still_there = busy.dir.clone();
        groups.give_back(&busy);
        groups.give_back(&first);
        let again = groups.take().unwrap();
        assert_eq!(again.dir, place);
        assert_ne!(groups.take().unwrap().dir, still_there, "somebody is in it");
        fs::write(still_there.join("cgroup.procs"), "").unwrap();
        groups.sweep();
        assert_eq!(groups.take().unwrap().dir, still_there);
        groups.close();
        assert!(groups.take().is_err());
    }

    #[test]
    fn a_group_that_nobody_can_look_into_is_not_used_again() {
        let (_dir, groups) = groups(Kind::Memory);
        let group = groups.take().unwrap();
        // Reading it fails, as it does when the server has no descriptor free.
        let processes = group.dir.join("cgroup.procs");
        fs::create_dir(&processes).unwrap();
        groups.give_back(&group);
        assert!(groups.has_left());
        assert_ne!(groups.take().unwrap().dir, group.dir);
        fs::remove_dir(&processes).unwrap();
        set(&group, "cgroup.procs", "");
        groups.sweep();
        assert!(!groups.has_left());
        assert_eq!(groups.take().unwrap().dir, group.dir);
    }

    #[test]
    fn a_spare_group_is_looked_into_again() {
        let (_dir, groups) = groups(Kind::Memory);
        let group = groups.take().unwrap();
        set(&group, "cgroup.procs", "");
        groups.give_back(&group);
        set(&group, "cgroup.procs", "7\n");
        assert_ne!(groups.take().unwrap().dir, group.dir);
        assert!(groups.has_left());
    }

    #[test]
    fn a_group_that_is_gone_is_forgotten() {
        let (_dir, groups) = groups(Kind::Memory);
        let group = groups.take().unwrap();
        fs::remove_dir_all(&group.dir).unwrap();
        groups.give_back(&group);
        assert!(!groups.has_left());
        assert_ne!(groups.take().unwrap().dir, group.dir);
    }

    #[test]
    fn usage_is_the_commands_own() {
        let (_dir, groups) = groups(Kind::Memory);
        let mut group = groups.take().unwrap();
        group.before = (100, 2);
        set(&group, "memory.max_usage_in_bytes", "5100\n");
        set(&group, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        let calm = GroupUsage { cpu_micros: None, peak_bytes: Some(5000), oom_killed: Some(false) };
        assert_eq!(group.usage(), calm);
        set(&group, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        assert_eq!(group.usage().oom_killed, Some(true));
    }

    #[test]
    fn the_unified_hierarchy_has_names_of_its_own() {
        let (_dir, groups) = groups(Kind::Unified);
        let group = groups.take().unwrap();
        assert_eq!(group.usage(), GroupUsage::default(), "a controller that is not there tells nothing");
        set(&group, "cpu.stat", "usage_usec 1234\nuser_usec 1000\n");
        set(&group, "memory.peak", "4096\n");
        set(&group, "memory.events", "low 0\noom 1\noom_kill 1\noom_group_kill 0\n");
        let usage = GroupUsage { cpu_micros: Some(1234), peak_bytes: Some(4096), oom_killed: Some(true) };
        assert_eq!(group.usage(), usage);
    }
}
