//! What a sandbox is isolated by: found by probing, written on every sandbox, never silently less.

use serde::{Deserialize, Serialize};

/// Who made the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The server has the rights of root on the host.
    Root,
    /// The server is an ordinary user and works inside a user namespace of its own.
    Rootless,
}

/// How user ids of the sandbox map to ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IdMapping {
    /// 0..65535 inside are a range of their own outside; root inside is nobody outside.
    Range,
    /// Only one id exists inside, which is the server's own user outside.
    Single,
}

/// Which cgroup hierarchy keeps the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// Controllers in separate v1 hierarchies, also beside a v2 mount without them.
    V1,
    /// The unified hierarchy.
    V2,
    /// None that the server may use.
    None,
}

/// Which resource limits can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResourceLimits {
    /// Memory.
    pub memory: bool,
    /// Number of processes and threads.
    pub pids: bool,
    /// Processor time.
    pub cpu: bool,
}

impl ResourceLimits {
    /// Whether all of them can be kept.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.memory && self.pids && self.cpu
    }
}

/// The isolation of a sandbox; part of the sandbox object as an extension that official clients ignore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Isolation {
    /// Who made the namespaces.
    pub mode: Mode,
    /// Namespaces that are the sandbox's own.
    pub namespaces: Vec<String>,
    /// How user ids map.
    pub ids: IdMapping,
    /// Whether files of the host's userland belong to root inside; otherwise they show as nobody's and their
    /// directories are not writable inside.
    pub idmapped_base: bool,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// Whether `no_new_privs` is set.
    pub no_new_privs: bool,
    /// Where limits are kept.
    pub cgroup: CgroupVersion,
    /// Which limits can be kept.
    pub limits: ResourceLimits,
    /// What is less than it could be, each with its remedy.
    pub warnings: Vec<String>,
}
