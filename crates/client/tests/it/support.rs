//! Clients and commands with short names.

use std::time::Duration;

use sandwire_client::{Batch, Call, Client, Command, Config, ConfigOptions, Data, StreamOptions, Target};
use sandwire_protocol::{CommandSpec, StreamKind};
use sandwire_testkit::Server;

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) fn client_with(server: &Server, change: impl FnOnce(&mut ConfigOptions)) -> Client {
    let mut options = ConfigOptions {
        endpoint: server.url(),
        headers: vec![("X-Team".to_owned(), "blue".to_owned())],
        timeout: Duration::from_secs(10),
        max_retries: 3,
        max_concurrency: None,
    };
    change(&mut options);
    Client::new(Config::new(options, Some("key")).unwrap()).unwrap()
}

pub(crate) fn client(server: &Server) -> Client {
    client_with(server, |_| {})
}

pub(crate) fn target(server: &Server) -> Target {
    Target { name: "box".to_owned(), dataplane_url: format!("{}/sb", server.url()) }
}

pub(crate) fn options() -> StreamOptions {
    StreamOptions { max_output_bytes: 256 * MIB, close_input: false, input: None, raw: false }
}

pub(crate) async fn run(server: &Server) -> Command {
    let spec = CommandSpec { timeout_seconds: Some(0), ..CommandSpec::new("x") };
    client(server).run(&target(server), spec, options(), &Call::default()).await.unwrap()
}

/// Text of both streams in a batch.
pub(crate) fn text(batch: Batch) -> [String; 2] {
    let mut both = [String::new(), String::new()];
    for chunk in batch {
        both[usize::from(chunk.kind == StreamKind::Stderr)].push_str(&string(chunk.data));
    }
    both
}

pub(crate) fn string(data: Data) -> String {
    match data {
        Data::Latin1(bytes) | Data::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        Data::Utf16(units) => String::from_utf16(&units).unwrap(),
    }
}
