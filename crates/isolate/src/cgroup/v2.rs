//! Limits in the unified hierarchy.
//!
//! A v2 cgroup that has processes can't hand controllers to its children, so the server first moves itself into a
//! leaf. That works where it is alone in its cgroup: as a service or scope of its own with delegation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sandwire_protocol::ResourceLimits;

use super::{CPU_PERIOD, cpu_quota};
use crate::Limits;

const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// This server's place: a directory for its sandboxes and, where it had to move, a leaf for itself.
#[derive(Debug)]
pub(crate) struct Place {
    own: PathBuf,
    /// Where the sandboxes' cgroups go.
    pub(crate) dir: PathBuf,
    leaf: PathBuf,
    controllers: Vec<&'static str>,
}

impl Place {
    /// Makes the directory below this process's cgroup and hands the controllers down. `None` where no
    /// controller is to be had.
    pub(crate) fn take(own: &Path, name: &str) -> Option<Self> {
        let offered = fs::read_to_string(own.join("cgroup.controllers")).ok()?;
        let has = |name: &&str| offered.split_whitespace().any(|word| word == *name);
        let controllers: Vec<&str> = CONTROLLERS.into_iter().filter(has).collect();
        if controllers.is_empty() {
            return None;
        }
        let dir = own.join(name);
        fs::create_dir(&dir).ok()?;
        let place = Self { own: own.to_owned(), dir, leaf: own.join(format!("{name}-server")), controllers };
        if place.hand_down().is_err() {
            place.leave();
            return None;
        }
        Some(place)
    }

    pub(crate) fn limits(&self) -> ResourceLimits {
        let has = |name| self.controllers.contains(&name);
        ResourceLimits { memory: has("memory"), pids: has("pids"), cpu: has("cpu") }
    }

    /// Undoes what [`Place::take`] did, as far as it goes: what is left is empty.
    pub(crate) fn leave(&self) {
        let _ = fs::remove_dir(&self.dir);
        if self.leaf.exists() {
            // Processes may only return where no controllers are handed down.
            let _ = fs::write(self.own.join("cgroup.subtree_control"), self.words('-'));
            let _ = fs::write(self.own.join("cgroup.procs"), std::process::id().to_string());
            let _ = fs::remove_dir(&self.leaf);
        }
    }

    fn hand_down(&self) -> io::Result<()> {
        let all = self.words('+');
        if fs::write(self.own.join("cgroup.subtree_control"), &all).is_err() {
            fs::create_dir(&self.leaf)?;
            fs::write(self.leaf.join("cgroup.procs"), std::process::id().to_string())?;
            fs::write(self.own.join("cgroup.subtree_control"), &all)?;
        }
        fs::write(self.dir.join("cgroup.subtree_control"), &all)
    }

    fn words(&self, sign: char) -> String {
        let words: Vec<String> = self.controllers.iter().map(|name| format!("{sign}{name}")).collect();
        words.join(" ")
    }
}

/// Has the memory of a directory's children counted one by one. Without it they serve as well for killing.
pub(super) fn count_memory_below(dir: &Path) {
    let _no_memory_controller = fs::write(dir.join("cgroup.subtree_control"), "+memory");
}

/// Writes the limits of one sandbox.
pub(crate) fn apply(dir: &Path, limits: &Limits) -> io::Result<()> {
    if let Some(bytes) = limits.memory_bytes {
        fs::write(dir.join("memory.max"), bytes.to_string())?;
        // Without it, what exceeds the limit goes to swap. Absent where the kernel has no swap.
        let swap = dir.join("memory.swap.max");
        if swap.exists() {
            fs::write(swap, "0")?;
        }
    }
    if let Some(count) = limits.pids {
        fs::write(dir.join("pids.max"), count.to_string())?;
    }
    if let Some(millis) = limits.cpu_millis {
        fs::write(dir.join("cpu.max"), format!("{} {CPU_PERIOD}", cpu_quota(millis)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroups;
    use crate::cgroup::detect::Hierarchies;
    use sandwire_protocol::CgroupVersion;

    fn hierarchy(controllers: &str) -> (tempfile::TempDir, Hierarchies) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        let found = Hierarchies { v2: Some(dir.path().to_owned()), ..Hierarchies::default() };
        (dir, found)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn limits_are_written() {
        let (dir, found) = hierarchy("cpuset cpu io memory pids\n");
        let groups = Cgroups::in_hierarchies(&found, dir.path().join("record"), "ours");
        assert_eq!(groups.version(), CgroupVersion::V2);
        assert!(groups.limits().complete());
        assert_eq!(read(&dir.path().join("cgroup.subtree_control")), "+memory +pids +cpu");
        assert_eq!(read(&dir.path().join("ours/cgroup.subtree_control")), "+memory +pids +cpu");

        let limits = Limits { memory_bytes: Some(1 << 20), pids: Some(9), cpu_millis: Some(1500) };
        let cgroup = groups.create("box", &limits).unwrap();
        let own = dir.path().join("ours/box");
        for place in [&own, &own.join("init")] {
            fs::write(place.join("cgroup.procs"), "").unwrap();
        }
        assert_eq!((cgroup.entrances().unwrap().len(), cgroup.has_leaf()), (2, true));
        assert!(cgroup.commands().unwrap().take().is_ok());
        assert_eq!(read(&own.join("cgroup.subtree_control")), "+memory");
        assert_eq!(read(&own.join("memory.max")), "1048576");
        assert_eq!(read(&own.join("pids.max")), "9");
        assert_eq!(read(&own.join("cpu.max")), "150000 100000");
    }

    #[test]
    fn leaving_leaves_nothing() {
        let (dir, found) = hierarchy("memory\n");
        // A plain directory in place of the control file: the first attempt to hand down fails, as it does in a
        // cgroup that has processes.
        fs::create_dir(dir.path().join("cgroup.subtree_control")).unwrap();
        let groups = Cgroups::in_hierarchies(&found, dir.path().join("record"), "ours");
        assert_eq!(groups.version(), CgroupVersion::None);
        assert!(!dir.path().join("ours").exists());
    }

    #[test]
    fn swap_is_closed_where_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("memory.swap.max"), "max").unwrap();
        apply(dir.path(), &Limits { memory_bytes: Some(5), ..Limits::default() }).unwrap();
        assert_eq!(read(&dir.path().join("memory.swap.max")), "0");
    }

    #[test]
    fn what_is_missing_is_refused() {
        let (dir, found) = hierarchy("pids\n");
        let groups = Cgroups::in_hierarchies(&found, dir.path().join("record"), "ours");
        assert_eq!(groups.limits(), ResourceLimits { memory: false, pids: true, cpu: false });
        let error = groups.create("box", &Limits { memory_bytes: Some(1), ..Limits::default() }).unwrap_err();
        assert!(error.is_unsupported());
        assert!(error.to_string().contains("memory"), "{error}");
        assert!(groups.create("box", &Limits { pids: Some(1), ..Limits::default() }).is_ok());
    }

    #[test]
    fn no_controllers_is_no_place() {
        let (dir, found) = hierarchy("hugetlb\n");
        let groups = Cgroups::in_hierarchies(&found, dir.path().join("record"), "ours");
        assert_eq!(groups.version(), CgroupVersion::None);
        assert!(!dir.path().join("ours").exists());
    }
}
