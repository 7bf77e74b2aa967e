//! Sandbox objects and requests of the control plane (sections 2.3 to 2.6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Isolation, RunConfig};

/// Lifecycle state of a sandbox (section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SandboxStatus {
    /// Being made or started.
    Provisioning,
    /// Usable.
    Ready,
    /// Could not be made; `status_message` says why.
    Failed,
    /// Files kept, nothing runs.
    Stopped,
    /// On its way out.
    Deleting,
}

impl SandboxStatus {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Deleting => "deleting",
        }
    }
}

/// Body of `POST /boxes` (section 2.3). Every field may be absent or null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateSandbox {
    /// Hold the request until the sandbox is ready. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_ready: Option<bool>,
    /// The server's limit for that wait, seconds; default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Unique name; made by the server if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Snapshot by id; at most one selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Snapshot by id, `name:tag` or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Older name of `snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_name: Option<String>,
    /// Template by name (legacy clients).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_name: Option<String>,
    /// Seconds without activity until it is stopped; a multiple of 60, 0 = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ttl_seconds: Option<u64>,
    /// Seconds from stop to deletion; a multiple of 60, 0 = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_stop_seconds: Option<u64>,
    /// Number of processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Memory limit, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bytes: Option<u64>,
    /// Disk limit, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_capacity_bytes: Option<u64>,
    /// Network rules (section 8.1), forwarded as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_config: Option<Value>,
    /// Thousandths of a processor; wins over `vcpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    /// Whether files outlive a stop; absent means true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// Defaults of its commands (section 2.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_config: Option<RunConfig>,
    /// Variables of its commands, above those of `run_config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Free text for its users, by which lists can be filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Body of `PATCH /boxes/{name}` (section 2.7). What is absent or null stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateSandbox {
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`CreateSandbox::idle_ttl_seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ttl_seconds: Option<u64>,
    /// See [`CreateSandbox::delete_after_stop_seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_stop_seconds: Option<u64>,
    /// Number of processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Thousandths of a processor; wins over `vcpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    /// Memory limit, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bytes: Option<u64>,
    /// Disk limit, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_capacity_bytes: Option<u64>,
    /// Network rules, which replace the earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_config: Option<Value>,
    /// Is merged: user and directory replace, variables are added. For later commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_config: Option<RunConfig>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A sandbox (section 2.4). Readers tolerate every field's absence but the name's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sandbox {
    /// UUID, stable across renames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Unique name.
    #[serde(default)]
    pub name: String,
    /// Lifecycle state as text, so that states of newer servers pass through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Detail of a failure.
    #[serde(default)]
    pub status_message: Option<String>,
    /// Base of the data plane, without a trailing slash.
    #[serde(default)]
    pub dataplane_url: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Seconds; 0 = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ttl_seconds: Option<u64>,
    /// Seconds; 0 = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_stop_seconds: Option<u64>,
    /// RFC 3339, while stopped.
    #[serde(default)]
    pub stopped_at: Option<String>,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Number of processors, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Memory limit in bytes, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bytes: Option<u64>,
    /// Disk limit in bytes, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_capacity_bytes: Option<u64>,
    /// Thousandths of a processor, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    /// Whether files outlive a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// Defaults of its commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_config: Option<RunConfig>,
    /// Free text for its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Extension of this project's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Fields that this version does not know, passed through.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Answer of `GET /boxes` (section 2.5): current and deprecated list key with the same content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SandboxList {
    /// Read by the generated clients.
    #[serde(default)]
    pub items: Vec<Sandbox>,
    /// Read by the hand-written clients.
    #[serde(default)]
    pub sandboxes: Vec<Sandbox>,
    /// Opaque; null on the last page.
    #[serde(default)]
    pub next_cursor: Option<String>,
    /// Deprecated; 0 on the last page.
    #[serde(default)]
    pub offset: u64,
}

/// Answer of `GET /boxes/{name}/status` (section 2.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResourceStatus {
    /// Lifecycle state; absent means provisioning.
    #[serde(default = "provisioning")]
    pub status: String,
    /// Detail of a failure.
    #[serde(default)]
    pub status_message: Option<String>,
}

fn provisioning() -> String {
    SandboxStatus::Provisioning.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_of_another_server_keeps_unknown_fields() {
        let text = r#"{"name":"a","status":"hibernating","size_class":"m","stopped_at":null}"#;
        let sandbox: Sandbox = serde_json::from_str(text).unwrap();
        assert_eq!(sandbox.status.as_deref(), Some("hibernating"));
        assert_eq!(sandbox.other["size_class"], "m");
        let again: Sandbox = serde_json::from_str(&serde_json::to_string(&sandbox).unwrap()).unwrap();
        assert_eq!(again, sandbox);
    }

    #[test]
    fn a_minimal_create_is_empty() {
        assert_eq!(serde_json::to_string(&CreateSandbox::default()).unwrap(), "{}");
    }

    #[test]
    fn a_missing_status_is_provisioning() {
        let status: ResourceStatus = serde_json::from_str("{}").unwrap();
        assert_eq!(status.status, "provisioning");
    }
}
