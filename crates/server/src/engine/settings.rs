//! What a sandbox is made with and what an update may change. Kept in the database as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use sandwire_isolate::Limits;
use sandwire_protocol::RunConfig;
use sandwire_protocol::limits::{DELETE_AFTER_STOP_DEFAULT, IDLE_TTL_DEFAULT};
use serde::{Deserialize, Serialize};

/// Settings of a sandbox. Absent members of a stored one are the defaults of the version that reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Memory limit, bytes.
    pub mem_bytes: Option<u64>,
    /// Number of processors.
    pub vcpus: Option<u32>,
    /// Thousandths of a processor; wins over `vcpus`.
    pub cpu_millicores: Option<u32>,
    /// Seconds without activity until it is stopped; 0 = never.
    pub idle_ttl_seconds: u64,
    /// Seconds from its stop to its deletion; 0 = never.
    pub delete_after_stop_seconds: u64,
    /// Whether its files outlive a stop.
    pub persistent: bool,
    /// Defaults of its commands.
    pub run_config: RunConfig,
    /// Variables of its commands, above those of `run_config`.
    pub env_vars: BTreeMap<String, String>,
    /// For its users.
    pub labels: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mem_bytes: None,
            vcpus: None,
            cpu_millicores: None,
            idle_ttl_seconds: IDLE_TTL_DEFAULT,
            delete_after_stop_seconds: DELETE_AFTER_STOP_DEFAULT,
            persistent: true,
            run_config: RunConfig::default(),
            env_vars: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// How long it may be idle, `None` for ever.
    pub(super) fn idle_ttl(&self) -> Option<Duration> {
        seconds(self.idle_ttl_seconds)
    }

    /// How long it may be stopped, `None` for ever.
    pub(super) fn delete_after_stop(&self) -> Option<Duration> {
        seconds(self.delete_after_stop_seconds)
    }

    /// Thousandths of a processor that it may use.
    fn cpu_millis(&self) -> Option<u32> {
        self.cpu_millicores.or(self.vcpus.map(|vcpus| vcpus.saturating_mul(1000)))
    }

    /// What isolation is to keep, with the engine's defaults for what nobody asked for.
    pub(super) fn limits(&self, memory_default: Option<u64>, pids: Option<u64>) -> Limits {
        Limits { memory_bytes: self.mem_bytes.or(memory_default), pids, cpu_millis: self.cpu_millis() }
    }
}

fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A change of settings; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The new name.
    pub name: Option<String>,
    /// Seconds.
    pub idle_ttl_seconds: Option<u64>,
    /// Seconds.
    pub delete_after_stop_seconds: Option<u64>,
    /// Bytes.
    pub mem_bytes: Option<u64>,
    /// Processors.
    pub vcpus: Option<u32>,
    /// Thousandths of a processor.
    pub cpu_millicores: Option<u32>,
    /// Is merged: user and directory replace, variables are added.
    pub run_config: Option<RunConfig>,
}

impl Update {
    /// Whether limits change, which also concerns what runs.
    pub(super) fn limits(&self) -> bool {
        self.mem_bytes.is_some() || self.vcpus.is_some() || self.cpu_millicores.is_some()
    }

    /// The settings after the change.
    pub(super) fn apply(&self, old: &Settings) -> Settings {
        let mut new = old.clone();
        if let Some(seconds) = self.idle_ttl_seconds {
            new.idle_ttl_seconds = seconds;
        }
        if let Some(seconds) = self.delete_after_stop_seconds {
            new.delete_after_stop_seconds = seconds;
        }
        new.mem_bytes = self.mem_bytes.or(new.mem_bytes);
        if self.vcpus.is_some() {
            // Or an earlier number of millicores would go on hiding it.
            (new.vcpus, new.cpu_millicores) = (self.vcpus, None);
        }
        new.cpu_millicores = self.cpu_millicores.or(new.cpu_millicores);
        if let Some(config) = &self.run_config {
            merge(&mut new.run_config, config);
        }
        new
    }
}

fn merge(old: &mut RunConfig, new: &RunConfig) {
    let RunConfig { user, work_dir, env_vars } = new;
    if user.is_some() {
        old.user.clone_from(user);
    }
    if work_dir.is_some() {
        old.work_dir.clone_from(work_dir);
    }
    if let Some(vars) = env_vars {
        old.env_vars.get_or_insert_default().extend(vars.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_version_stored_gets_the_defaults() {
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        let text = serde_json::to_string(&Settings::default()).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), Settings::default());
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let old = Settings { mem_bytes: Some(5), cpu_millicores: Some(500), ..Settings::default() };
        assert_eq!(Update::default().apply(&old), old);
        let vars = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let first = RunConfig {
            user: Some("1".into()),
            env_vars: vars(&[("A", "1"), ("B", "1")]),
            ..RunConfig::default()
        };
        let second =
            RunConfig { work_dir: Some("/x".into()), env_vars: vars(&[("B", "2")]), ..RunConfig::default() };
        let new =
            Update { run_config: Some(first), idle_ttl_seconds: Some(0), ..Update::default() }.apply(&old);
        let new = Update { run_config: Some(second), vcpus: Some(2), ..Update::default() }.apply(&new);
        assert_eq!(new.run_config.user.as_deref(), Some("1"));
        assert_eq!(new.run_config.work_dir.as_deref(), Some("/x"));
        assert_eq!(new.run_config.env_vars, vars(&[("A", "1"), ("B", "2")]));
        assert_eq!((new.idle_ttl(), new.mem_bytes), (None, Some(5)));
        assert_eq!(new.limits(Some(9), None).cpu_millis, Some(2000));
        assert_eq!(new.limits(Some(9), None).memory_bytes, Some(5));
    }
}
