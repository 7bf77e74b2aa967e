//! The control plane: requests as they leave, answers as they are understood.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use sandwire_client::Call;
use sandwire_protocol::ErrorCode;
use sandwire_testkit::Server;

use crate::support::{client, client_with};

#[tokio::test]
async fn create_get_list_delete() {
    let server = Server::start(async |mut peer| {
        assert_eq!(peer.headers["x-api-key"], "key");
        assert_eq!(peer.headers["x-team"], "blue");
        let body = String::from_utf8(peer.body().await.unwrap()).unwrap();
        let request = format!("{} {} {body}", peer.method, peer.target);
        let answer = match request.as_str() {
            r#"POST /boxes {"name":"a"}"# => r#"{"name":"a","new_field":[1]}"#,
            "GET /boxes/a%20b " => r#"{"name":"a b"}"#,
            "GET /boxes " => r#"{"sandboxes":[{"name":"a"}],"offset":0}"#,
            "GET /boxes/a/status " => r#"{"status":"ready"}"#,
            "DELETE /boxes/a " => "",
            other => panic!("{other}"),
        };
        peer.answer(200, &[], answer).await.unwrap();
    })
    .await
    .unwrap();
    let (client, call) = (client(&server), Call::default());
    let created = client.create_sandbox(r#"{"name":"a"}"#.to_owned(), Duration::ZERO, &call).await.unwrap();
    assert_eq!(created, r#"{"name":"a","new_field":[1]}"#);
    assert_eq!(client.get_sandbox("a b", &call).await.unwrap(), r#"{"name":"a b"}"#);
    assert_eq!(client.list_sandboxes(&call).await.unwrap(), r#"[{"name":"a"}]"#);
    assert_eq!(client.sandbox_status("a", &call).await.unwrap(), r#"{"status":"ready"}"#);
    client.delete_sandbox("a", &call).await.unwrap();
    server.finish().await;
}

#[tokio::test]
async fn a_list_is_followed_to_its_end_and_not_for_ever() {
    let server = Server::start(async |peer| {
        let answer = match (peer.headers["x-team"].as_str(), peer.target.as_str()) {
            ("round", _) => r#"{"items":[],"next_cursor":"again"}"#,
            (_, "/boxes") => r#"{"items":[{"name":"a"}],"sandboxes":[{"name":"a"}],"next_cursor":"2&x"}"#,
            (_, "/boxes?cursor=2%26x") => r#"{"items":[{"name":"b"}],"next_cursor":"3"}"#,
            (_, "/boxes?cursor=3") => r#"{"items":[{"name":"c"}],"next_cursor":null}"#,
            (_, other) => panic!("{other}"),
        };
        peer.answer(200, &[], answer).await.unwrap();
    })
    .await
    .unwrap();
    let client = client(&server);
    let all = client.list_sandboxes(&Call::default()).await.unwrap();
    assert_eq!(all, r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#);
    let headers = sandwire_client::header_map(&[("x-team".to_owned(), "round".to_owned())]).unwrap();
    let call = Call { headers, ..Call::default() };
    assert_eq!(client.list_sandboxes(&call).await.unwrap_err().code(), ErrorCode::Api);
    server.finish().await;
}

#[tokio::test]
async fn patience_ends_in_the_answer_to_believe() {
    let server = Server::start(async |peer| match (peer.method.as_str(), peer.index) {
        ("GET", 0 | 1) => peer.answer(429, &[("retry-after", "0")], "").await.unwrap(),
        ("GET", _) => peer.answer(200, &[], r#"{"name":"a"}"#).await.unwrap(),
        ("POST", 3) => peer.answer(503, &[("x-request-id", "r1")], r#"{"detail":"full"}"#).await.unwrap(),
        other => panic!("{other:?}: a create must not be sent twice"),
    })
    .await
    .unwrap();
    let (client, call) = (client(&server), Call::default());
    assert!(client.get_sandbox("a", &call).await.is_ok());
    let error = client.create_sandbox("{}".to_owned(), Duration::ZERO, &call).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (ErrorCode::Creation, "full"));
    assert_eq!(error.details().request_id.as_deref(), Some("r1"));
    server.finish().await;
}

#[tokio::test]
async fn a_wait_asks_until_ready_or_failed_or_late() {
    let server = Server::start(async |peer| {
        let answer = match (peer.target.as_str(), peer.index) {
            ("/boxes/a/status", 0) => r#"{"status":"provisioning"}"#,
            ("/boxes/a/status", _) => r#"{"status":"ready"}"#,
            ("/boxes/a", _) => r#"{"name":"a","status":"ready"}"#,
            ("/boxes/bad/status", _) => r#"{"status":"failed","status_message":"no room"}"#,
            _ => r#"{"status":"stopped"}"#,
        };
        peer.answer(200, &[], answer).await.unwrap();
    })
    .await
    .unwrap();
    let (client, call) = (client(&server), Call::default());
    let (minute, tick) = (Duration::from_secs(60), Duration::from_millis(1));
    let ready = client.wait_for_sandbox("a", minute, tick, &call).await.unwrap();
    assert_eq!(ready, r#"{"name":"a","status":"ready"}"#);
    let failed = client.wait_for_sandbox("bad", minute, tick, &call).await.unwrap_err();
    assert_eq!((failed.code(), failed.to_string().as_str()), (ErrorCode::Creation, "no room"));
    let late = client.wait_for_sandbox("off", Duration::ZERO, tick, &call).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::ResourceTimeout);
    assert_eq!(late.details().last_status.as_deref(), Some("stopped"));
    server.finish().await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::start(async |peer| {
        assert_eq!(peer.target, "/boxes/a", "the key went elsewhere");
        peer.answer(307, &[("location", "/elsewhere")], "").await.unwrap();
    })
    .await
    .unwrap();
    let error = client(&server).get_sandbox("a", &Call::default()).await.unwrap_err();
    assert_eq!((error.code(), error.details().status), (ErrorCode::Client, Some(307)));
    server.finish().await;
}

#[tokio::test]
async fn silence_and_nonsense_are_typed_errors() {
    let server = Server::start(async |peer| match peer.target.as_str() {
        "/boxes/nonsense" => peer.answer(200, &[], "<html>").await.unwrap(),
        "/boxes/cut" => drop(peer),
        _ => std::future::pending().await,
    })
    .await
    .unwrap();
    let client = client_with(&server, |options| options.max_retries = 0);
    let brief = Call { timeout: Some(Duration::from_millis(200)), ..Call::default() };
    for (name, call, code) in [
        ("nonsense", &Call::default(), ErrorCode::Api),
        ("cut", &Call::default(), ErrorCode::Connection),
        ("silent", &brief, ErrorCode::Connection),
    ] {
        let error = client.get_sandbox(name, call).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(&server.url()), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_names_url_and_attempts() {
    let server = Server::start(async |_| {}).await.unwrap();
    let client = client_with(&server, |options| options.max_retries = 1);
    let url = server.url();
    server.finish().await;
    let error = client.get_sandbox("a", &Call::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Connection);
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("in 2 attempts") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_pause_between_attempts_can_be_cancelled() {
    let server = Server::start(async |_| {}).await.unwrap();
    let client = client_with(&server, |options| options.max_retries = 30);
    server.finish().await;
    let call = Call::default();
    let cancel = call.cancel.clone();
    let waiting = tokio::spawn(async move { client.get_sandbox("a", &call).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    cancel.cancel();
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), ErrorCode::Aborted);
}

#[tokio::test]
async fn no_more_exchanges_at_once_than_allowed() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (Arc::clone(&running), Arc::clone(&most));
    let server = Server::start(move |peer| {
        let (running, most) = seen.clone();
        async move {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, SeqCst);
            peer.answer(200, &[], "{}").await.unwrap();
        }
    })
    .await
    .unwrap();
    let client = client_with(&server, |options| options.max_concurrency = Some(2));
    let call = Call::default();
    let calls = (0..8).map(|_| client.get_sandbox("a", &call));
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
    assert!(most.load(SeqCst) <= 2, "{most:?}");
    server.finish().await;
}
