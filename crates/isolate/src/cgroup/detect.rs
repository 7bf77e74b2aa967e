//! Where this process stands in which hierarchy, from `mountinfo` and `/proc/self/cgroup`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directories of the cgroups that this process is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// The unified one.
    pub(crate) v2: Option<PathBuf>,
    /// By controller.
    pub(crate) v1: BTreeMap<String, PathBuf>,
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Hierarchies {
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own))
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(parse_mount).collect();
        let mut found = Self::default();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                found.v2 = mounts.iter().find(|mount| mount.kind == "cgroup2").and_then(|m| m.locate(path));
                continue;
            }
            for controller in controllers.split(',') {
                let mounted = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.has(controller));
                if let Some(dir) = mounted.and_then(|mount| mount.locate(path)) {
                    found.v1.insert(controller.to_owned(), dir);
                }
            }
        }
        found
    }
}

impl Mount {
    /// The directory of a cgroup path; a mount may show only a part of its hierarchy.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        Some(self.point.join(below))
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }
}

/// Fields: id, parent, device, root, mount point, options, optional fields, `-`, type, source, super options.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    Some(Mount {
        root: before.next()?.into(),
        point: before.next()?.into(),
        kind: after.next()?.to_owned(),
        options: after.nth(1)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
        30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_has_both() {
        let found = Hierarchies::parse(HYBRID_MOUNTS, "4:memory:/a/b\n1:cpu:/\n0::/\n7:pids:/x\n");
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.v1["memory"], Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(found.v1["cpu"], Path::new("/sys/fs/cgroup/cpu"));
        assert!(!found.v1.contains_key("pids"), "not mounted");
    }

    #[test]
    fn joint_controllers_share_a_directory() {
        let mounts = "31 30 0:27 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let found = Hierarchies::parse(mounts, "1:cpu,cpuacct:/x\n");
        assert_eq!(found.v1["cpu"], found.v1["cpuacct"]);
    }

    #[test]
    fn a_container_sees_only_its_part() {
        let mounts = "31 30 0:27 /docker/7 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = Hierarchies::parse(mounts, "1:memory:/docker/7/x\n");
        assert_eq!(found.v1["memory"], Path::new("/sys/fs/cgroup/memory/x"));
        assert!(Hierarchies::parse(mounts, "1:memory:/elsewhere\n").v1.is_empty());
    }

    #[test]
    fn unified_only() {
        let mounts = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(mounts, "0::/user.slice/me.scope\n");
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/user.slice/me.scope")));
    }
}
