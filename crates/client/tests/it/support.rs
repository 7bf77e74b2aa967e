//! Clients and commands with short names.

use std::time::Duration;

use futures_util::future::join_all;
use sandwire_client::{
    Backoff, Batch, Call, Chunk, Client, Command, Config, ConfigOptions, Data, Error, Gap, Item,
    StreamOptions, Target, Want,
};
use sandwire_protocol::{CommandSpec, StreamKind};
use sandwire_testkit::Server;

pub(crate) const MIB: usize = 1024 * 1024;

/// Pauses between connections that a test need not wait for.
const BRIEF: Backoff = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(4) };

/// What happens within a time that no slow machine exceeds.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("not in bounded time")
}

/// Runs the same for each of `cases`, all at once.
pub(crate) async fn each<C, F: Future<Output = ()>>(
    cases: impl IntoIterator<Item = C>,
    run: impl Fn(C) -> F,
) {
    bounded(join_all(cases.into_iter().map(run))).await;
}

pub(crate) fn client_with(server: &Server, change: impl FnOnce(&mut ConfigOptions)) -> Client {
    let mut options = ConfigOptions {
        endpoint: server.url(),
        headers: vec![("X-Team".to_owned(), "blue".to_owned())],
        timeout: Duration::from_secs(10),
        max_retries: 3,
        max_concurrency: None,
    };
    change(&mut options);
    let config = Config::new(options, Some("key")).unwrap().with_backoff(BRIEF);
    Client::new(config).unwrap()
}

pub(crate) fn client(server: &Server) -> Client {
    client_with(server, |_| {})
}

pub(crate) fn target(server: &Server) -> Target {
    Target { name: "box".to_owned(), dataplane_url: format!("{}/sb", server.url()) }
}

pub(crate) fn options() -> StreamOptions {
    StreamOptions {
        max_output_bytes: 256 * MIB,
        close_input: false,
        input: None,
        raw: false,
        reconnect: true,
    }
}

pub(crate) async fn run(server: &Server) -> Command {
    let spec = CommandSpec { timeout_seconds: Some(0), ..CommandSpec::new("x") };
    client(server).run(&target(server), spec, options(), &Call::default()).await.unwrap()
}

/// Why a command does not start.
pub(crate) async fn not_run(server: &Server) -> Error {
    client(server).run(&target(server), CommandSpec::new("x"), options(), &Call::default()).await.unwrap_err()
}

/// Starts a command whose connection is not made again.
pub(crate) async fn run_once(server: &Server) -> Command {
    let options = StreamOptions { reconnect: false, ..options() };
    client(server).run(&target(server), CommandSpec::new("x"), options, &Call::default()).await.unwrap()
}

/// The chunks of a batch.
pub(crate) fn chunks(batch: Batch) -> Vec<Chunk> {
    let chunk = |item| match item {
        Item::Chunk(chunk) => Some(chunk),
        Item::Gap(_) => None,
    };
    batch.into_iter().filter_map(chunk).collect()
}

/// Text of both streams in a batch.
pub(crate) fn text(batch: Batch) -> [String; 2] {
    let mut both = [String::new(), String::new()];
    for chunk in chunks(batch) {
        both[usize::from(chunk.kind == StreamKind::Stderr)].push_str(&string(chunk.data));
    }
    both
}

/// All that a consumer got.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// Of stdout and stderr, UTF-8 where it was text.
    pub(crate) bytes: [Vec<u8>; 2],
    pub(crate) gaps: Vec<Gap>,
}

/// Takes everything, and checks that positions leave no byte out without a gap, and repeat none.
pub(crate) async fn listen(command: &Command) -> Result<Heard, Error> {
    let (mut heard, mut next) = (Heard::default(), [0; 2]);
    while let Some(batch) = command.next_batch(Want::All).await? {
        for item in batch {
            match item {
                Item::Chunk(chunk) => {
                    let (stream, surplus) = (usize::from(chunk.kind == StreamKind::Stderr), chunk.surplus);
                    assert_eq!(chunk.offset, next[stream], "{:?}", chunk.kind);
                    let bytes = raw(chunk.data);
                    next[stream] += (bytes.len() - surplus) as u64;
                    heard.bytes[stream].extend(bytes);
                }
                Item::Gap(gap) => {
                    let stream = usize::from(gap.stream == StreamKind::Stderr);
                    assert_eq!(gap.from, next[stream], "{gap:?}");
                    next[stream] = gap.to;
                    heard.gaps.push(gap);
                }
            }
        }
    }
    Ok(heard)
}

fn raw(data: Data) -> Vec<u8> {
    match data {
        Data::Latin1(bytes) | Data::Bytes(bytes) => bytes.to_vec(),
        Data::Utf16(units) => String::from_utf16(&units).unwrap().into_bytes(),
    }
}

pub(crate) fn string(data: Data) -> String {
    String::from_utf8(raw(data)).unwrap()
}
