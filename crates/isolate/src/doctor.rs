//! What this machine can do, capability by capability, found by doing it.

use std::path::Path;

use sandwire_protocol::{CgroupVersion, IdMapping, Isolation};

use crate::{Error, Host, HostConfig, enter, sys};

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There.
    Ok,
    /// Less than it could be; sandboxes work, and say so.
    Degraded,
    /// Not there.
    Missing,
}

/// One capability.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// How to get what is missing.
    pub remedy: Option<String>,
    /// Whether no sandbox can be made without it.
    pub required: bool,
}

const NAMESPACES: &[(&str, libc::c_int)] = &[
    ("user namespace", 0),
    ("mount namespace", libc::CLONE_NEWNS),
    ("pid namespace", libc::CLONE_NEWPID),
    ("network namespace", libc::CLONE_NEWNET),
    ("ipc namespace", libc::CLONE_NEWIPC),
    ("uts namespace", libc::CLONE_NEWUTS),
    ("cgroup namespace", libc::CLONE_NEWCGROUP),
];

/// Tries everything that a sandbox needs. Enters namespaces, so it must come first in `main` like
/// [`crate::enter`]; `state_dir` is an empty directory that the caller removes.
#[must_use]
pub fn doctor(init_path: &Path, state_dir: &Path) -> Vec<Check> {
    let mode = match enter() {
        Ok(mode) => mode,
        Err(error) => return vec![missing("server namespaces", &error)],
    };
    let mut checks = vec![ok("server namespaces", format!("{mode:?}").to_lowercase())];
    checks.extend(NAMESPACES.iter().map(|(name, flag)| match sys::probe_namespace(*flag) {
        Ok(()) => ok(name, "made one".to_owned()),
        Err(source) => {
            missing(name, &Error::unsupported(name, "allow it by sysctl user.max_*_namespaces")(source))
        }
    }));
    let config = HostConfig { state_dir: state_dir.to_owned(), init_path: init_path.to_owned() };
    match Host::prepare(&config, mode) {
        Ok(host) => {
            checks.push(ok(
                "sandbox",
                "made one: overlay, proc, devices, loopback, seccomp, capabilities".to_owned(),
            ));
            checks.extend(of_isolation(host.isolation()));
            if let Err(error) = host.shutdown() {
                checks.push(missing("clean-up", &error));
            }
        }
        Err(error) => checks.push(missing("sandbox", &error)),
    }
    checks
}

fn of_isolation(isolation: &Isolation) -> Vec<Check> {
    let warned = |word: &str| isolation.warnings.iter().find(|warning| warning.contains(word)).cloned();
    let check = |name, good: bool, detail: &str, warning: Option<String>| Check {
        name,
        verdict: if good { Verdict::Ok } else { Verdict::Degraded },
        detail: detail.to_owned(),
        remedy: if good { None } else { warning },
        required: false,
    };
    let limits = isolation.limits;
    let version = match isolation.cgroup {
        CgroupVersion::V1 => "cgroup v1",
        CgroupVersion::V2 => "cgroup v2",
        CgroupVersion::None => "no cgroup to use",
    };
    let range = isolation.ids == IdMapping::Range;
    vec![
        check("id range", range, if range { "65536 ids" } else { "one id" }, warned("single user id")),
        check(
            "writable userland",
            isolation.idmapped_base,
            if isolation.idmapped_base { "idmapped mounts" } else { "no idmapped mounts" },
            warned("userland"),
        ),
        check("memory limit", limits.memory, version, warned("no limits on")),
        check("process limit", limits.pids, version, warned("no limits on")),
        check("processor limit", limits.cpu, version, warned("no limits on")),
    ]
}

fn ok(name: &'static str, detail: String) -> Check {
    Check { name, verdict: Verdict::Ok, detail, remedy: None, required: true }
}

fn missing(name: &'static str, error: &Error) -> Check {
    let remedy = error.remedy().map(str::to_owned);
    Check { name, verdict: Verdict::Missing, detail: error.to_string(), remedy, required: true }
}
