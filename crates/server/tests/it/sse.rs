//! Commands over server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use sandwire_protocol::limits::SSE_UNACKNOWLEDGED_MAX;
use sandwire_server::app;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::{KEY, Server, server, until};

/// One response: its status and its events, or the body of a refusal as one without a name.
async fn post(server: &Server, path: &str, body: &Value) -> (StatusCode, Vec<(String, Value)>) {
    let request = Request::post(path).header("x-api-key", KEY).body(Body::from(body.to_string())).unwrap();
    let (status, headers, body) = server.raw(request).await;
    let text = String::from_utf8(body).unwrap();
    if status != StatusCode::OK {
        return (status, vec![(String::new(), serde_json::from_str(&text).unwrap())]);
    }
    assert_eq!(headers["content-type"], "text/event-stream");
    (status, text.split_terminator("\n\n").filter(|block| !block.starts_with(':')).map(parse).collect())
}

fn parse(block: &str) -> (String, Value) {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    (field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap())
}

fn bytes(data: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(data["data"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_command_is_told_from_start_to_end_and_again() {
    let server = server();
    let sandbox = server.sandbox().await;
    let (start, resume) =
        (format!("{sandbox}/execute/stream/start"), format!("{sandbox}/execute/stream/resume"));
    // `cat` ends at once: its stdin is closed.
    let spec = json!({"command": "cat; printf 'a\\377b'; printf e >&2; exit 3", "command_id": "c",
        "shell": "/bin/bash", "timeout_seconds": 60, "idle_timeout_seconds": 300, "ttl_seconds": 600});
    let (_, events) = post(&server, &start, &spec).await;
    let (name, data) = &events[0];
    assert_eq!((name.as_str(), &data["command_id"]), ("started", &json!("c")));
    assert!(data["pid"].as_i64().unwrap() > 0);
    let stdout: Vec<u8> = events.iter().filter(|(n, _)| n == "stdout").flat_map(|(_, d)| bytes(d)).collect();
    assert_eq!(stdout, b"a\xffb");
    let ends: Vec<_> =
        events.iter().filter(|(n, _)| n == "stream_end").map(|(_, data)| data.clone()).collect();
    assert_eq!(ends, [json!({"stream": "stdout", "offset": 3}), json!({"stream": "stderr", "offset": 1})]);
    assert_eq!(events.last().unwrap(), &("exit".to_owned(), json!({"exit_code": 3})));

    assert_eq!(post(&server, &start, &spec).await.1[0], events[0], "the same command");
    let (_, rest) =
        post(&server, &resume, &json!({"command_id": "c", "stdout_offset": 1, "stderr_offset": 1})).await;
    assert_eq!(rest[0], events[0]);
    assert_eq!(
        (rest[1].0.as_str(), bytes(&rest[1].1), &rest[1].1["offset"]),
        ("stdout", b"\xffb".to_vec(), &json!(1))
    );
    assert!(rest.iter().all(|(name, _)| name != "stderr"));
}

#[tokio::test]
async fn much_output_waits_for_its_acknowledgement() {
    let server = server();
    let sandbox = server.sandbox().await;
    let total = 6 * SSE_UNACKNOWLEDGED_MAX + 5;
    let start = json!({"command": format!("head -c {total} /dev/zero"), "command_id": "c"});
    let (_, mut events) = post(&server, &format!("{sandbox}/execute/stream/start"), &start).await;
    let (mut at, mut responses) = (0, 1);
    loop {
        assert_eq!(events[0].0, "started");
        for (_, data) in events.iter().filter(|(name, _)| name == "stdout") {
            assert_eq!(data["offset"], at);
            at += bytes(data).len();
        }
        let (name, last) = events.last().unwrap();
        if name == "exit" {
            break;
        }
        assert_eq!((name.as_str(), &last["stdout_offset"]), ("ack_required", &json!(at)));
        let mut resume = last.clone();
        resume["command_id"] = json!("c");
        events = post(&server, &format!("{sandbox}/execute/stream/resume"), &resume).await.1;
        responses += 1;
    }
    assert_eq!(at, total);
    // One read more than was allowed may be in each.
    assert!(responses >= 6, "{responses}");
}

#[tokio::test]
async fn refusals_have_a_status_and_failures_are_events() {
    let server = server();
    let sandbox = server.sandbox().await;
    let (start, resume) =
        (format!("{sandbox}/execute/stream/start"), format!("{sandbox}/execute/stream/resume"));
    let (status, body) = post(&server, &resume, &json!({"command_id": "none"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body[0].1["detail"]["error"], "CommandNotFound", "{body:?}");
    let (status, body) = post(&server, &start, &json!({"command": 7})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body[0].1["detail"][0]["loc"], json!(["body", "command"]));
    for nonsense in
        [json!({"command": "x", "pty": true}), json!({"command": "x", "kill_on_disconnect": true})]
    {
        assert_eq!(post(&server, &start, &nonsense).await.0, StatusCode::BAD_REQUEST, "{nonsense}");
    }
    let (_, events) = post(&server, &start, &json!({"command": "x", "shell": "/bin/none"})).await;
    assert_eq!(
        (events.len(), events[0].0.as_str(), &events[0].1["error_type"]),
        (1, "error", &json!("CommandError"))
    );

    let slow = json!({"command": "sleep 1000", "command_id": "slow", "timeout_seconds": 1});
    for path in [&start, &resume] {
        let (_, events) = post(&server, path, &slow).await;
        let (name, data) = events.last().unwrap();
        assert_eq!(
            (name.as_str(), &data["error_type"]),
            ("error", &json!("CommandTimeout")),
            "told each time"
        );
    }
    post(&server, &start, &json!({"command": "true", "command_id": "short", "ttl_seconds": 0})).await;
    let (_, events) = post(&server, &resume, &json!({"command_id": "short"})).await;
    assert_eq!(events[0].1["error_type"], "SessionExpired");
}

#[tokio::test]
async fn a_command_is_told_while_the_server_drains_and_its_end_says_so() {
    let server = server();
    let sandbox = server.sandbox().await;
    let go = server.state_dir().join("go");
    let command =
        format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two; sleep 1000", go.display());
    let request = Request::post(format!("{sandbox}/execute/stream/start"))
        .header("x-api-key", KEY)
        .body(Body::from(json!({"command": command, "command_id": "c"}).to_string()));
    let answer = app(Arc::clone(&server.app)).oneshot(request.unwrap()).await.unwrap();
    let mut body = answer.into_body().into_data_stream();
    let mut text = String::new();
    let mut read_until = async |wanted: &str| {
        while !text.contains(wanted) {
            text.push_str(std::str::from_utf8(&body.next().await.expect(wanted).unwrap()).unwrap());
        }
    };
    read_until(&BASE64_STANDARD.encode("one\n")).await;
    server.app.stopping.cancel();
    std::fs::write(go, "").unwrap();
    read_until(&BASE64_STANDARD.encode("two\n")).await;
    server.app.ending.cancel();
    read_until("ServerShuttingDown").await;
    assert!(body.next().await.is_none(), "that was the last");
    let (name, data) = parse(text.trim_end().rsplit("\n\n").next().unwrap());
    assert_eq!((name.as_str(), &data["error_type"]), ("error", &json!("ServerShuttingDown")));
}

#[tokio::test]
async fn commands_are_listed_and_killed() {
    let server = server();
    let sandbox = server.sandbox().await;
    let list = format!("{sandbox}/commands");
    assert_eq!(server.call("GET", &list, "").await.1, json!({"items": [], "next_cursor": null}));
    let start = format!("{sandbox}/execute/stream/start");
    let done = json!({"command": format!("exit 4 # {}", "ä".repeat(2000)), "command_id": "done"});
    post(&server, &start, &done).await;
    let running = json!({"command": "echo up; sleep 1000", "command_id": "running"});
    let one = format!("{list}/running");
    let (told, ()) = tokio::join!(post(&server, &start, &running), async {
        until(async || server.call("GET", &one, "").await.1["stdout_bytes"] == 3).await;
        let (_, all) = server.call("GET", &list, "").await;
        assert_eq!(all["items"].as_array().unwrap().len(), 2);
        let (first, second) = (&all["items"][0], &all["items"][1]);
        assert_eq!((&first["status"], &first["exit_code"]), (&json!("exited"), &json!(4)));
        assert!(first["command"].as_str().unwrap().len() <= 1024 && first["ended_at"].is_string());
        assert_eq!(first["usage"], json!({"cpu_ms": 5, "peak_memory_bytes": 4096}));
        assert_eq!((&second["status"], &second["ended_at"]), (&json!("running"), &Value::Null));
        assert!(second["pid"].as_i64().unwrap() > 0 && second["pty"] == false);
        let (_, page) = server.call("GET", &format!("{list}?limit=1"), "").await;
        assert_eq!((&page["items"][0]["command_id"], &page["next_cursor"]), (&json!("done"), &json!("1")));
        let (_, page) = server.call("GET", &format!("{list}?limit=1&cursor=1"), "").await;
        assert_eq!(
            (&page["items"][0]["command_id"], &page["next_cursor"]),
            (&json!("running"), &Value::Null)
        );
        assert_eq!(server.call("DELETE", &one, "").await.0, 204);
    });
    assert_eq!(told.1.last().unwrap().1, json!({"exit_code": 137}));
    let (_, killed) = server.call("GET", &one, "").await;
    assert_eq!((&killed["status"], &killed["signal"]), (&json!("exited"), &json!(9)));
    assert_eq!(server.call("DELETE", &one, "").await.0, 204, "a no-op after the end");
    assert_eq!(server.call("GET", &format!("{list}/none"), "").await.0, 404);
    assert_eq!(server.call("GET", &format!("{list}?limit=0"), "").await.0, 422);
}
