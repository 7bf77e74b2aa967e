//! Resource limits: one cgroup per sandbox, below one per server.
//!
//! The machine may have the unified hierarchy (v2), separate ones (v1), or v1 controllers beside a v2 mount that
//! has none of them; and this server may be allowed to use some, all or none. Which is found by trying, and what
//! can't be kept is said, never assumed.

mod commands;
mod detect;
mod v1;
mod v2;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sandwire_protocol::{CgroupVersion, ResourceLimits};

use crate::{Error, Limits};
use commands::Kind;
pub use commands::{CommandGroup, CommandGroups, GroupUsage};
use detect::Hierarchies;

/// The period over which processor time is counted, microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// How the names of this program's cgroups start.
const PREFIX: &str = "sandwire-";

/// What init's own cgroup is called, where it has one.
const INIT_LEAF: &str = "init";

/// Tries and pause while a cgroup is still busy: its last tasks are dead but not yet gone.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

const REMEDY: &str = "run as root, or as a systemd service or scope with Delegate=yes, so that the server may \
     create cgroups below its own";

/// This server's place in the hierarchies.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: CgroupVersion,
    limits: ResourceLimits,
    /// One directory per hierarchy; v2 has one for all.
    controllers: Controllers,
    record: PathBuf,
}

#[derive(Debug)]
enum Controllers {
    V1(v1::Groups),
    V2(v2::Place),
    None,
}

/// The cgroup of one sandbox.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
    entrance: &'static str,
    /// Where init is, in the unified hierarchy: what has children there has no processes.
    leaf: Option<PathBuf>,
    /// Where the commands' own cgroups go.
    commands: Option<(PathBuf, Kind)>,
}

impl Cgroups {
    /// Removes what an earlier server of this state directory left, and takes a place in the hierarchies.
    ///
    /// `record` remembers the place across a crash.
    pub(crate) fn prepare(record: PathBuf) -> Result<Self, Error> {
        Self::clean(&record);
        // Process ids come back; a place left by a crash must not stand in the way of a new one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!("{PREFIX}{}-{now:x}", std::process::id());
        let hierarchies = Hierarchies::of_this_process().map_err(Error::host("read the cgroup mounts"))?;
        let this = Self::in_hierarchies(&hierarchies, record, &name);
        this.own_dirs().iter().for_each(|own| remove_abandoned(own, is_deserted));
        let dirs: Vec<String> = this.own_dirs().iter().map(|dir| dir.display().to_string()).collect();
        fs::write(&this.record, dirs.join("\n")).map_err(Error::path("write", &this.record))?;
        Ok(this)
    }

    /// Removes what a killed server left. Its sandboxes died with their sockets, perhaps only just now.
    pub(crate) fn clean(record: &Path) {
        let recorded = fs::read_to_string(record).unwrap_or_default();
        let ours = |dir: &&Path| {
            dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        };
        for dir in recorded.lines().map(Path::new).filter(ours) {
            kill_all(dir);
            // What is left after that long is not ours any more; a new place has a name of its own.
            let _ = remove_tree(dir);
        }
    }

    fn in_hierarchies(hierarchies: &Hierarchies, record: PathBuf, name: &str) -> Self {
        if let Some(place) = hierarchies.v2.as_deref().and_then(|own| v2::Place::take(own, name)) {
            let limits = place.limits();
            return Self { version: CgroupVersion::V2, limits, controllers: Controllers::V2(place), record };
        }
        let groups = v1::Groups::take_place(hierarchies, name);
        let limits = groups.limits();
        if limits.memory || limits.pids || limits.cpu {
            return Self { version: CgroupVersion::V1, limits, controllers: Controllers::V1(groups), record };
        }
        Self { version: CgroupVersion::None, limits, controllers: Controllers::None, record }
    }

    pub(crate) fn version(&self) -> CgroupVersion {
        self.version
    }

    pub(crate) fn limits(&self) -> ResourceLimits {
        self.limits
    }

    pub(crate) fn remedy() -> &'static str {
        REMEDY
    }

    /// Makes the cgroup of a sandbox with its limits; one that can't be kept is refused.
    pub(crate) fn create(&self, id: &str, limits: &Limits) -> Result<Cgroup, Error> {
        self.check(limits)?;
        let entrance = match self.version {
            // A single task moves without the lock that moving a whole process takes.
            CgroupVersion::V1 => "tasks",
            CgroupVersion::V2 | CgroupVersion::None => "cgroup.procs",
        };
        let commands = self.for_commands(id);
        let dirs = self.own_dirs().iter().map(|own| own.join(id)).collect();
        let unified = commands.as_ref().filter(|(_, kind)| *kind == Kind::Unified);
        let leaf = unified.map(|(dir, _)| dir.join(INIT_LEAF));
        let cgroup = Cgroup { dirs, entrance, leaf, commands };
        let made = cgroup.make().and_then(|()| self.apply(id, limits).map_err(Error::host("set limits")));
        match made {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = cgroup.remove();
                Err(error)
            }
        }
    }

    /// Puts other limits on the cgroup of a sandbox.
    pub(crate) fn change(&self, id: &str, limits: &Limits) -> Result<(), Error> {
        self.check(limits)?;
        self.apply(id, limits).map_err(Error::host("change limits"))
    }

    fn check(&self, limits: &Limits) -> Result<(), Error> {
        let asked = [
            ("memory", limits.memory_bytes.is_some(), self.limits.memory),
            ("pids", limits.pids.is_some(), self.limits.pids),
            ("cpu", limits.cpu_millis.is_some(), self.limits.cpu),
        ];
        if let Some((resource, ..)) = asked.into_iter().find(|(_, asked, kept)| *asked && !kept) {
            return Err(Error::LimitUnavailable { resource, remedy: REMEDY.to_owned() });
        }
        Ok(())
    }

    /// Below which of a sandbox's directories its commands have theirs.
    fn for_commands(&self, id: &str) -> Option<(PathBuf, Kind)> {
        match &self.controllers {
            Controllers::V1(groups) => groups.for_commands().map(|(dir, kind)| (dir.join(id), kind)),
            Controllers::V2(place) => Some((place.dir.join(id), Kind::Unified)),
            Controllers::None => None,
        }
    }

    fn apply(&self, id: &str, limits: &Limits) -> io::Result<()> {
        match &self.controllers {
            Controllers::V1(groups) => groups.apply(id, limits),
            Controllers::V2(place) => v2::apply(&place.dir.join(id), limits),
            Controllers::None => Ok(()),
        }
    }

    /// Leaves the hierarchies.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for dir in self.own_dirs() {
            remove_tree(&dir).map_err(Error::path("remove", &dir))?;
        }
        if let Controllers::V2(place) = &self.controllers {
            place.leave();
        }
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::path("remove", &self.record)(error))
            }
            _ => Ok(()),
        }
    }

    fn own_dirs(&self) -> Vec<PathBuf> {
        match &self.controllers {
            Controllers::V1(groups) => groups.dirs(),
            Controllers::V2(place) => vec![place.dir.clone()],
            Controllers::None => Vec::new(),
        }
    }
}

impl Cgroup {
    fn make(&self) -> Result<(), Error> {
        let mut dirs = self.dirs.iter().chain(&self.leaf);
        dirs.try_for_each(|dir| fs::create_dir(dir).map_err(Error::path("create", dir)))
    }

    /// Whether the last of the entrances is that of a leaf below the others'.
    pub(crate) fn has_leaf(&self) -> bool {
        self.leaf.is_some()
    }

    /// The cgroups of commands, once init is in its place; `None` where there can't be any.
    pub(crate) fn commands(&self) -> Option<CommandGroups> {
        let (dir, kind) = self.commands.clone()?;
        match kind {
            Kind::Unified => v2::count_memory_below(&dir),
            Kind::Memory if !v1::is_hierarchical(&dir) => return None,
            Kind::Memory | Kind::Pids => {}
        }
        Some(CommandGroups::new(dir, kind))
    }

    /// The files by which a process moves itself in, by writing "0".
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |dir: &PathBuf| {
            let file = dir.join(self.entrance);
            Ok(File::options().write(true).open(&file).map_err(Error::path("open", &file))?.into())
        };
        self.dirs.iter().chain(&self.leaf).map(open).collect()
    }

    /// Removes it and what is below; its processes must be dead.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for dir in &self.dirs {
            remove_tree(dir).map_err(Error::path("remove", dir))?;
        }
        Ok(())
    }
}

/// Removes the places beside `own` whose servers were killed and have no record any more, as their state directories are
/// gone. One whose server is alive but can't be seen from here, in another namespace of process numbers, is kept while it
/// has sandboxes.
fn remove_abandoned(own: &Path, is_deserted: impl Fn(&Path) -> bool) {
    let Some(parent) = own.parent() else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let (name, dir) = (entry.file_name(), entry.path());
        let dead = name.to_str().and_then(server_of).is_some_and(|server| {
            // What exists and is not ours to signal lives as well.
            test_kill_process(server) == Err(Errno::SRCH)
        });
        if dead && dir != own && is_deserted(&dir) {
            // Who came into it meanwhile keeps it.
            let _ = remove_tree(&dir);
        }
    }
}

/// The server of a place, or of the leaf beside it, by its name.
fn server_of(name: &str) -> Option<Pid> {
    let (server, time) = name.strip_prefix(PREFIX)?.split_once('-')?;
    u128::from_str_radix(time.strip_suffix("-server").unwrap_or(time), 16).ok()?;
    Pid::from_raw(server.parse().ok().filter(|pid| *pid > 0)?)
}

/// Whether no process is in a cgroup or below it, as far as can be seen.
fn is_deserted(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    fs::read(dir.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
        && entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .all(|path| is_deserted(&path))
}

/// Kills what is still in the cgroups below: sandboxes end with their server unless something holds them up.
fn kill_all(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        kill_all(&entry.path());
    }
    let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                remove_tree(&entry.path())?;
            }
            remove_when_idle(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_when_idle(dir: &Path) -> io::Result<()> {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(REMOVE_PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
    fs::remove_dir(dir)
}

/// The quota for a processor limit in thousandths, microseconds per [`CPU_PERIOD`]. The kernel's minimum is 1 ms.
fn cpu_quota(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD / 1000).max(1000)
}

#[cfg(test)]
mod tests;
