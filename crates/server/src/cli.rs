//! The command line: parses it, runs the command, and reports on stdout what a parent process is to read.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sandwire_protocol::ErrorCode;
use serde::Serialize;
use serde_json::json;

use crate::config::{self, Source};
use crate::{doctor, gc, serve};

/// Sandboxes on plain Linux, for clients of the LangSmith sandbox protocol.
#[derive(Debug, Parser)]
#[command(name = "sandwired", version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Serve sandboxes until a signal comes.
    Serve {
        #[command(flatten)]
        source: Source,
    },
    /// Check what this machine can isolate, and how to get what is missing.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// A running server to ask for its health, such as http://127.0.0.1:8080.
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Remove what no sandbox needs from a state directory that no server uses; a running server does it by itself.
    Gc {
        /// Only say what there is.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Print the configuration that `serve` would run by, as a file; it has no secrets.
    Config {
        /// Print the defaults instead, commented out and explained: a file to begin with.
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        source: Source,
    },
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StartError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
}

impl StartError {
    pub(crate) fn client(message: impl Into<String>, remedy: Option<&str>) -> Self {
        Self { code: ErrorCode::Client, message: message.into(), remedy: remedy.map(str::to_owned) }
    }
}

impl From<sandwire_isolate::Error> for StartError {
    fn from(error: sandwire_isolate::Error) -> Self {
        let code = if error.is_unsupported() { ErrorCode::Isolation } else { ErrorCode::Client };
        Self { code, remedy: error.remedy().map(str::to_owned), message: error.to_string() }
    }
}

/// Runs the program. Must come first in `main`: isolation needs a process that has one thread.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(Cli { command: Cmd::Serve { source } }) => source.config().and_then(serve::run),
        Ok(Cli { command: Cmd::Doctor { json, endpoint, source } }) => {
            return doctor::run(&source, endpoint.as_deref(), json);
        }
        Ok(Cli { command: Cmd::Gc { dry_run, source } }) => {
            source.config().and_then(|config| gc::run(&config, dry_run))
        }
        Ok(Cli { command: Cmd::Config { default: true, .. } }) => {
            print(&config::template());
            Ok(())
        }
        Ok(Cli { command: Cmd::Config { source, .. } }) => {
            config::effective(&source).map(|settings| print(&settings))
        }
        Err(error) if !error.use_stderr() => {
            let _closed_stdout = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(StartError::client(error.to_string().trim_end(), None)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({
                "event": "error",
                "code": error.code.as_str(),
                "message": error.message,
                "remedy": error.remedy,
            }));
            ExitCode::FAILURE
        }
    }
}

/// Text on stdout. Nobody may read it to the end.
fn print(text: &str) {
    let _closed_stdout = io::stdout().lock().write_all(text.as_bytes());
}

/// One line on stdout. A parent that closed it does not want to know.
pub(crate) fn say(line: &impl Serialize) {
    let mut stdout = io::stdout().lock();
    if serde_json::to_writer(&mut stdout, line).is_ok() {
        let _nobody_reads = writeln!(stdout).and_then(|()| stdout.flush());
    }
}
