//! `sandwired doctor`: what this machine and this configuration give, as a table or as JSON, each with what to do about
//! it. Isolation is tried on the file system that the sandboxes will be on.

mod machine;
mod names;
mod running;
mod storage;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sandwire_isolate::{Check, Verdict, doctor};
use uuid::Uuid;

use crate::cli::{StartError, say};
use crate::config::{Config, Source};
use crate::engine::StateDir;
use crate::engine::garbage::DOCTOR_PREFIX;

pub(crate) fn run(source: &Source, endpoint: Option<&str>, json: bool) -> ExitCode {
    let checks = check(source, endpoint).unwrap_or_else(|error| vec![broken("set-up", error)]);
    if json {
        say(&checks);
    } else {
        let _nobody_reads = table(&mut io::stdout().lock(), &checks);
    }
    let fine = checks.iter().all(|check| !check.required || check.verdict == Verdict::Ok);
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(source: &Source, endpoint: Option<&str>) -> Result<Vec<Check>, StartError> {
    let config = source.config()?;
    let init = config.init()?;
    // Before namespaces change who owns what.
    let mut checks = vec![machine::kernel(), machine::open_files()];
    checks.extend(config.key_file().map(machine::key_file));
    match scratch(&config) {
        Ok(state) => {
            checks.extend(storage::checks(config.state_dir.as_deref(), state.path()));
            checks.extend(doctor(&init, state.path()));
            state.close().map_err(|error| StartError::client(format!("clean-up: {error}"), None))?;
        }
        Err(error) => checks.push(broken("state directory", error)),
    }
    // It may leave a thread behind, and a process with two can't enter namespaces as `doctor` does.
    checks.push(names::below_localhost());
    checks.extend(endpoint.map(|endpoint| running::health(endpoint, config.key().ok().as_ref())));
    Ok(checks)
}

/// A directory to try things in, on the file system of the state directory, which a running server may use meanwhile.
fn scratch(config: &Config) -> Result<StateDir, StartError> {
    let refused = |error: crate::engine::StateDirError| {
        let remedy = "make the directory and give it to the user that runs sandwired";
        StartError::client(error.to_string(), Some(remedy))
    };
    match config.state_dir.as_deref().and_then(existing) {
        Some(near) => StateDir::ephemeral(&near.join(format!("{DOCTOR_PREFIX}{}", Uuid::new_v4().simple()))),
        None => StateDir::temporary(rustix::process::geteuid().as_raw()),
    }
    .map_err(refused)
}

/// The directory itself, or what it will be made in.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn table(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Degraded => "degraded",
            Verdict::Missing => "MISSING",
        };
        writeln!(out, "{:width$}  {verdict:8}  {}", check.name, check.detail)?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "{:width$}  {:8}  remedy: {remedy}", "", "")?;
        }
    }
    out.flush()
}

/// Without this no sandbox can be made.
fn broken(name: &'static str, error: StartError) -> Check {
    let StartError { message: detail, remedy, .. } = error;
    Check { name, verdict: Verdict::Missing, detail, remedy, required: true }
}

/// Something that sandboxes can do without; `remedy` where it is less than it could be.
fn judged(name: &'static str, detail: String, remedy: Option<&str>) -> Check {
    let verdict = if remedy.is_none() { Verdict::Ok } else { Verdict::Degraded };
    Check { name, verdict, detail, remedy: remedy.map(str::to_owned), required: false }
}
