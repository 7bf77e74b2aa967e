//! `sandwired doctor`: what this machine can isolate, as a table or as JSON.

use std::io::{self, Write};
use std::process::ExitCode;

use sandwire_isolate::{Check, Verdict, doctor};

use crate::cli::{StartError, say};
use crate::config::Source;
use crate::engine::StateDir;

pub(crate) fn run(source: &Source, json: bool) -> ExitCode {
    let checks = match check(source) {
        Ok(checks) => checks,
        Err(error) => vec![Check {
            name: "set-up",
            verdict: Verdict::Missing,
            detail: error.message,
            remedy: error.remedy,
            required: true,
        }],
    };
    if json {
        say(&checks);
    } else {
        let _nobody_reads = table(&mut io::stdout().lock(), &checks);
    }
    let fine = checks.iter().all(|check| !check.required || check.verdict == Verdict::Ok);
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(source: &Source) -> Result<Vec<Check>, StartError> {
    let init = source.config()?.init()?;
    let state = StateDir::temporary(rustix::process::geteuid().as_raw());
    let state = state.map_err(|error| StartError::client(error.to_string(), None))?;
    let checks = doctor(&init, state.path());
    state.close().map_err(|error| StartError::client(format!("clean-up: {error}"), None))?;
    Ok(checks)
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
