//! The server of `npm run bench`: it speaks the exec protocol and prints what a command's text says, faster than any
//! client takes it. No sandbox, no process: only the clients and the network between are measured.
//!
//! ```text
//! bench-server                             serves, and prints its port
//! bench-server drain "emit 64 1000000"     how fast it is itself: JSON of one stream that is read and not looked at
//! bench-server rounds PORT COUNT           the floor of a run: microseconds of rounds over a blocking socket
//! ```
//!
//! A command is `emit BYTES COUNT [ascii | mixed]`: COUNT chunks of BYTES bytes. The sandbox `plain` speaks the
//! protocol as everybody knows it, `extended` also the extension.

#![forbid(unsafe_code)]

mod emit;
mod frame;
mod probe;
mod serve;

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.as_slice() {
        [] => runtime.block_on(async {
            let listener = serve::listen().await?;
            say(&listener.local_addr()?.port().to_string())?;
            serve::serve(listener).await
        }),
        ["drain", command] => {
            let listener = runtime.block_on(serve::listen())?;
            let port = listener.local_addr()?.port();
            runtime.spawn(serve::serve(listener));
            say(&probe::drain(port, command)?.to_string())
        }
        ["rounds", port, count] => {
            let (port, count) = (port.parse().map_err(invalid)?, count.parse().map_err(invalid)?);
            say(&probe::rounds(port, count)?.to_string())
        }
        _ => Err(invalid("bench-server [drain COMMAND | rounds PORT COUNT]")),
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
