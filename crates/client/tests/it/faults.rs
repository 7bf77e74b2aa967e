//! Servers that fail while a command runs whose connection is not to be made again: the end is told, with what there is,
//! and is never a success.

use sandwire_client::{Call, CommandOutcome, CommandResult, Error, Phase, Want};
use sandwire_protocol::{CommandSpec, ErrorCode};
use sandwire_testkit::{Exec, Server};
use serde_json::json;

use crate::support::{client, options, run_once, string, target, text};

/// Runs a command whose server says "partial" and then misbehaves.
async fn failing<F>(then: impl Fn(Exec) -> F + Send + Sync + Clone + 'static) -> Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = Server::start(move |peer| {
        let then = then.clone();
        async move {
            let mut exec = peer.accept().await.unwrap();
            exec.start().await.unwrap();
            exec.output("stdout", "partial", 0).await.unwrap();
            then(exec).await;
        }
    })
    .await
    .unwrap();
    let command = run_once(&server).await;
    let error = command.result().await.unwrap_err();
    assert_eq!(
        text(command.next_batch(Want::All).await.unwrap().unwrap())[0],
        "partial",
        "a loop still gets it"
    );
    assert_eq!(command.next_batch(Want::All).await.unwrap_err().to_string(), error.to_string());
    assert!(command.next_batch(Want::All).await.unwrap().is_none());
    server.finish().await;
    error
}

fn partial(error: &Error) -> &CommandResult {
    error.details().result.as_deref().expect("no partial result")
}

fn assert_lost(error: &Error, code: ErrorCode) {
    assert_eq!(error.code(), code, "{error}");
    let partial = partial(error);
    assert_eq!((partial.outcome, partial.exit_code), (CommandOutcome::Lost, None));
    assert_eq!(string(partial.stdout.text()), "partial");
    assert_eq!(error.details().phase, Some(Phase::Stream));
}

#[tokio::test]
async fn a_close_without_exit_is_a_loss() {
    for (close, code) in [
        (1000, ErrorCode::Connection),
        (1001, ErrorCode::ServerReload),
        (1008, ErrorCode::Connection),
        (1011, ErrorCode::Connection),
        (4321, ErrorCode::Connection),
    ] {
        let error = failing(move |exec| async move { exec.close(close).await.unwrap() }).await;
        assert_lost(&error, code);
    }
}

#[tokio::test]
async fn a_dropped_connection_is_a_loss() {
    assert_lost(&failing(|exec| async { drop(exec) }).await, ErrorCode::Connection);
    let error = failing(|exec| async { exec.cut_inside_a_frame().await.unwrap() }).await;
    assert_lost(&error, ErrorCode::Connection);
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_a_loss_and_not_read() {
    let error = failing(|mut exec| async move {
        exec.announce(1 << 40).await.unwrap();
        exec.drained().await;
    })
    .await;
    assert_lost(&error, ErrorCode::Connection);
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn a_frame_that_is_not_json_is_a_loss() {
    let error = failing(|mut exec| async move {
        exec.text("{\"type\":").await.unwrap();
        exec.drained().await;
    })
    .await;
    assert_lost(&error, ErrorCode::Connection);
}

#[tokio::test]
async fn error_frames_become_coded_errors() {
    for (error_type, code, outcome) in [
        ("CommandTimeout", ErrorCode::CommandTimeout, CommandOutcome::TimedOut),
        ("CommandError", ErrorCode::Operation, CommandOutcome::Lost),
        ("SomethingNew", ErrorCode::Operation, CommandOutcome::Lost),
    ] {
        let error = failing(move |mut exec| async move {
            exec.send(json!({"type": "error", "error_type": error_type, "error": "said"})).await.unwrap();
            exec.drained().await;
        })
        .await;
        assert_eq!((error.code(), error.to_string().as_str()), (code, "said"));
        assert_eq!(error.details().error_type.as_deref(), Some(error_type));
        assert_eq!(partial(&error).outcome, outcome);
    }
}

#[tokio::test]
async fn a_timeout_carries_the_limit() {
    let server = Server::start(async |peer| {
        let mut exec = peer.accept().await.unwrap();
        exec.start().await.unwrap();
        exec.send(json!({"type": "error", "error_type": "CommandTimeout"})).await.unwrap();
        exec.drained().await;
    })
    .await
    .unwrap();
    let spec = CommandSpec { timeout_seconds: Some(7), ..CommandSpec::new("x") };
    let error =
        client(&server).run_to_end(&target(&server), spec, options(), &Call::default()).await.unwrap_err();
    assert_eq!((error.code(), error.details().timeout), (ErrorCode::CommandTimeout, Some(7.0)));
    server.finish().await;
}
