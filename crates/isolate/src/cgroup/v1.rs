//! Limits in separate hierarchies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sandwire_protocol::ResourceLimits;

use super::commands::Kind;
use super::detect::Hierarchies;
use super::{CPU_PERIOD, cpu_quota};
use crate::Limits;

/// This server's directory per controller, where it could make one.
#[derive(Debug)]
pub(crate) struct Groups {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Groups {
    /// Makes the directories that this process may make.
    pub(crate) fn take_place(hierarchies: &Hierarchies, name: &str) -> Self {
        let take = |controller: &str, limit_file: &str| {
            let dir = hierarchies.v1.get(controller)?.join(name);
            fs::create_dir(&dir).ok()?;
            // A kernel may have the controller without this kind of limit.
            if dir.join(limit_file).exists() {
                return Some(dir);
            }
            let _ = fs::remove_dir(&dir);
            None
        };
        Self {
            memory: take("memory", "memory.limit_in_bytes"),
            pids: take("pids", "cgroup.procs"),
            cpu: take("cpu", "cpu.cfs_quota_us"),
        }
    }

    pub(crate) fn limits(&self) -> ResourceLimits {
        ResourceLimits { memory: self.memory.is_some(), pids: self.pids.is_some(), cpu: self.cpu.is_some() }
    }

    /// Without repetition: hierarchies may hold several controllers.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            [&self.memory, &self.pids, &self.cpu].into_iter().flatten().cloned().collect();
        dirs.dedup();
        dirs
    }

    /// The hierarchy for the cgroups of commands.
    pub(super) fn for_commands(&self) -> Option<(&Path, Kind)> {
        let memory = self.memory.as_deref().map(|dir| (dir, Kind::Memory));
        memory.or(self.pids.as_deref().map(|dir| (dir, Kind::Pids)))
    }

    /// Writes the limits of one sandbox.
    pub(crate) fn apply(&self, id: &str, limits: &Limits) -> io::Result<()> {
        if let (Some(dir), Some(bytes)) = (&self.memory, limits.memory_bytes) {
            limit_memory(&dir.join(id), &bytes.to_string())?;
        }
        if let (Some(dir), Some(count)) = (&self.pids, limits.pids) {
            fs::write(dir.join(id).join("pids.max"), count.to_string())?;
        }
        if let (Some(dir), Some(millis)) = (&self.cpu, limits.cpu_millis) {
            let dir = dir.join(id);
            fs::write(dir.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())?;
            fs::write(dir.join("cpu.cfs_quota_us"), cpu_quota(millis).to_string())?;
        }
        Ok(())
    }
}

/// Memory, and memory with swap: without the latter, what exceeds the limit goes to swap. Absent where the kernel does
/// not count swap. It must never be the smaller one, so a higher limit begins with it.
fn limit_memory(dir: &Path, bytes: &str) -> io::Result<()> {
    let (memory, with_swap) = (dir.join("memory.limit_in_bytes"), dir.join("memory.memsw.limit_in_bytes"));
    if fs::write(&memory, bytes).is_ok() {
        return write_if_present(&with_swap, bytes);
    }
    write_if_present(&with_swap, bytes)?;
    fs::write(&memory, bytes)
}

/// Whether the memory of a directory's children counts for it too. Kernels since 5.11 know nothing else; in older ones
/// it can be chosen while there are no children, and without it a command would leave its sandbox's limit behind.
pub(super) fn is_hierarchical(dir: &Path) -> bool {
    let file = dir.join("memory.use_hierarchy");
    let is = || fs::read_to_string(&file).map_or(true, |text| text.trim() == "1");
    is() || (fs::write(&file, "1").is_ok() && is())
}

fn write_if_present(file: &Path, value: &str) -> io::Result<()> {
    if file.exists() { fs::write(file, value) } else { Ok(()) }
}
