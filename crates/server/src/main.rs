//! The `sandwired` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sandwire_server::cli::run(std::env::args_os())
}
