//! One command that is played by servers which fail in the middle, and what a client is to make of it.

use sandwire_client::{Command, CommandOutcome, Error};
use sandwire_protocol::ErrorCode;
use sandwire_testkit::{Peer, Recording, Server};

use crate::support::{Heard, bounded, listen, run, string};

pub(crate) fn recording() -> Recording {
    Recording::new().stdout("one ").stderr("two ").stdout("three ").stdout("four").exit(3)
}

pub(crate) fn whole() -> Heard {
    Heard { bytes: recording().printed(), gaps: Vec::new() }
}

/// A server that plays the recording to its `healthy`th client, and gives the earlier ones to `before`.
pub(crate) async fn server_after<F>(
    healthy: usize,
    before: impl Fn(Recording, Peer) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::start(move |peer| {
        let before = before.clone();
        async move {
            match peer.index >= healthy {
                true => recording().play(peer).await,
                false => before(recording(), peer).await,
            }
        }
    })
    .await
    .unwrap()
}

/// The command is heard whole, and ends as it did.
pub(crate) async fn assert_whole(server: Server) {
    let command = run(&server).await;
    assert_eq!(listen(&command).await.unwrap(), whole());
    let result = command.result().await.unwrap();
    assert_eq!((result.exit_code, result.outcome), (Some(3), CommandOutcome::Exited));
    assert!(result.gaps.is_empty());
    server.finish().await;
}

/// How a command failed, which its loop and its result agree on.
pub(crate) async fn failure_of(command: &Command) -> Error {
    let told = bounded(listen(command)).await.unwrap_err();
    let error = bounded(command.result()).await.unwrap_err();
    assert_eq!(told.to_string(), error.to_string());
    error
}

pub(crate) fn assert_given_up(error: &Error, printed: &str) {
    assert_eq!(error.code(), ErrorCode::Connection, "{error}");
    assert!(error.to_string().contains("giving up"), "{error}");
    let partial = error.details().result.as_deref().expect("no partial result");
    assert_eq!((partial.outcome, partial.exit_code), (CommandOutcome::Lost, None));
    assert_eq!(string(partial.stdout.text()), printed);
}
