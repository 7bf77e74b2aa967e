//! The connect phase: what is tried again, what is not, and what an abort leaves behind.

use std::sync::{Arc, Mutex};

use sandwire_client::{Call, Phase};
use sandwire_protocol::{CommandSpec, ErrorCode};
use sandwire_testkit::Server;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{client, client_with, not_run, options, run, target};

#[tokio::test]
async fn early_ends_are_tried_again_with_the_same_id() {
    let ids = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = Arc::clone(&ids);
    let server = Server::start(move |peer| {
        let seen = Arc::clone(&seen);
        async move {
            let index = peer.index;
            let mut exec = peer.accept().await.unwrap();
            let opening = if index == 2 { exec.start().await.ok() } else { exec.recv().await };
            seen.lock().unwrap().push(opening.unwrap()["command_id"].clone());
            match index {
                0 => exec.close(1000).await.unwrap(),
                1 => drop(exec),
                _ => {
                    exec.exit(0).await.unwrap();
                    exec.drained().await;
                }
            }
        }
    })
    .await
    .unwrap();
    let command = run(&server).await;
    assert_eq!(command.result().await.unwrap().exit_code, Some(0));
    let ids = ids.lock().unwrap();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id == command.command_id()), "{ids:?}");
}

#[tokio::test]
async fn refusals_for_now_are_tried_again_as_the_server_wishes() {
    let server = Server::start(async |peer| {
        let body = r#"{"detail":{"error":"ServiceUnavailable","message":"starting"}}"#;
        match peer.index {
            0 => peer.answer(503, &[("Retry-After", "0")], body).await.unwrap(),
            1 => peer.answer(429, &[("Retry-After", "0.01")], body).await.unwrap(),
            _ => {
                let mut exec = peer.accept().await.unwrap();
                exec.start().await.unwrap();
                exec.exit(0).await.unwrap();
                exec.drained().await;
            }
        }
    })
    .await
    .unwrap();
    assert!(run(&server).await.result().await.is_ok());
    server.finish().await;
}

#[tokio::test]
async fn definite_refusals_end_it() {
    let plain = r#"{"detail":"no"}"#;
    let missing = r#"{"detail":{"error":"NotFound","message":"no sandbox box"}}"#;
    for (status, body, code) in [
        (404, plain, ErrorCode::Connection),
        (404, missing, ErrorCode::NotFound),
        (401, plain, ErrorCode::Authentication),
        (400, plain, ErrorCode::Connection),
    ] {
        let server = Server::start(move |peer| async move {
            assert_eq!(peer.index, 0, "tried again");
            peer.answer(status, &[], body).await.unwrap();
        })
        .await
        .unwrap();
        let error = not_run(&server).await;
        assert_eq!((error.code(), error.details().status), (code, Some(status)), "{error}");
        assert!(!error.retryable() && !error.to_string().contains("key"), "{error}");
        server.finish().await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_said_to_be_none() {
    let server =
        Server::start(async |peer| peer.raw(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap()).await.unwrap();
    let error = not_run(&server).await;
    assert_eq!(error.code(), ErrorCode::Connection);
    assert!(error.to_string().contains("no WebSocket server"), "{error}");
}

#[tokio::test]
async fn the_first_frame_must_be_started() {
    for frame in
        [json!({"type": "stdout", "data": "x", "offset": 0}), json!({"type": "exit", "exit_code": 0})]
    {
        let server = Server::start(move |peer| {
            let frame = frame.clone();
            async move {
                assert_eq!(peer.index, 0, "tried again");
                let mut exec = peer.accept().await.unwrap();
                exec.recv().await.unwrap();
                exec.send(frame).await.unwrap();
                exec.drained().await;
            }
        })
        .await
        .unwrap();
        let error = not_run(&server).await;
        assert_eq!((error.code(), error.details().phase), (ErrorCode::Operation, Some(Phase::Connect)));
        assert!(error.to_string().contains("Expected 'started'"), "{error}");
        server.finish().await;
    }
}

#[tokio::test]
async fn nobody_there_is_a_connect_error_in_bounded_time() {
    let server = Server::start(async |_| {}).await.unwrap();
    let (client, target) = (client_with(&server, |options| options.max_retries = 0), target(&server));
    server.finish().await;
    let error = client.run(&target, CommandSpec::new("x"), options(), &Call::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectTimeout);
    assert!(error.to_string().contains(&target.dataplane_url.replace("http", "ws")), "{error}");
    assert!(error.cause().unwrap().contains("refused"));
}

#[tokio::test]
async fn an_abort_before_started_kills_what_may_have_begun() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |peer| {
        let notify = Arc::clone(&notify);
        async move {
            let mut exec = peer.accept().await.unwrap();
            assert_eq!(exec.recv().await.unwrap()["type"], "execute");
            notify.notify_one();
            assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
            exec.exit(137).await.unwrap();
            exec.drained().await;
        }
    })
    .await
    .unwrap();
    let call = Call::default();
    let cancel = call.cancel.clone();
    tokio::spawn(async move {
        arrived.notified().await;
        cancel.cancel();
    });
    let error =
        client(&server).run(&target(&server), CommandSpec::new("x"), options(), &call).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Aborted);
    server.finish().await;
}

#[tokio::test]
async fn a_call_that_was_cancelled_before_sends_nothing() {
    let server = Server::start(async |_| panic!("connected")).await.unwrap();
    let call = Call::default();
    call.cancel.cancel();
    let client = client(&server);
    let started = client.run(&target(&server), CommandSpec::new("x"), options(), &call).await;
    assert_eq!(started.unwrap_err().code(), ErrorCode::Aborted);
    assert_eq!(client.get_sandbox("a", &call).await.unwrap_err().code(), ErrorCode::Aborted);
    client.close();
    let refused = client.get_sandbox("a", &Call::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Client);
    server.finish().await;
}

#[tokio::test]
async fn an_abort_between_attempts_gets_hold_of_what_the_lost_one_may_have_begun() {
    let call = Call::default();
    let cancel = call.cancel.clone();
    let first = Arc::new(Mutex::new(None));
    let server = Server::start(move |peer| {
        let (cancel, first) = (cancel.clone(), Arc::clone(&first));
        async move {
            let index = peer.index;
            let mut exec = peer.accept().await.unwrap();
            let opening = exec.recv().await.unwrap();
            if index == 0 {
                *first.lock().unwrap() = Some(opening);
                drop(exec);
                // The client pauses for 0.4 s at least before it tries again.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                return cancel.cancel();
            }
            assert_eq!(first.lock().unwrap().take(), Some(opening));
            assert_eq!(exec.recv().await.unwrap(), json!({"type": "kill"}));
            exec.send(json!({"type": "started", "command_id": "c"})).await.unwrap();
            exec.exit(137).await.unwrap();
            exec.drained().await;
        }
    })
    .await
    .unwrap();
    let error =
        client(&server).run(&target(&server), CommandSpec::new("x"), options(), &call).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Aborted);
    server.finish().await;
}
