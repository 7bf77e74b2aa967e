//! Stopping, starting, idling, expiring, and what a restart of the server makes of it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::time::advance;

use crate::fake::{KEY, Server, server, until};

const BOXES: &str = "/v2/sandboxes/boxes";

async fn make(server: &Server, settings: Value) -> Value {
    let mut body = settings;
    body["wait_for_ready"] = json!(true);
    let (status, made) = server.call("POST", BOXES, body.to_string()).await;
    assert_eq!((status, &made["status"]), (201, &json!("ready")), "{made}");
    made
}

async fn status(server: &Server, reference: &str) -> Value {
    server.call("GET", &format!("{BOXES}/{reference}/status"), "").await.1["status"].clone()
}

fn data(made: &Value, path: &str) -> String {
    format!("/sandboxes/{}{path}", made["id"].as_str().unwrap())
}

async fn write(server: &Server, made: &Value, name: &str) {
    let path = data(made, &format!("/upload?path={name}"));
    let request = Request::builder().method("POST").uri(path).header("x-api-key", KEY);
    assert_eq!(server.raw(request.body(Body::from("kept")).unwrap()).await.0, 200);
}

async fn read(server: &Server, made: &Value, name: &str) -> (u16, Vec<u8>) {
    let path = data(made, &format!("/download?path={name}"));
    let request = Request::builder().uri(path).header("x-api-key", KEY);
    let (status, _, body) = server.raw(request.body(Body::empty()).unwrap()).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_stopped_sandbox_keeps_its_files_and_wakes_on_use() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    write(&server, &made, "a").await;
    assert_eq!(server.call("POST", &format!("{BOXES}/box/stop"), "{}").await.0, 204);
    let (_, stopped) = server.call("GET", &format!("{BOXES}/box"), "").await;
    assert_eq!((&stopped["status"], &stopped["dataplane_url"]), (&json!("stopped"), &made["dataplane_url"]));
    assert!(stopped["stopped_at"].is_string());
    assert_eq!(server.call("POST", &format!("{BOXES}/box/stop"), "").await.0, 400, "it is not ready");
    let reads = tokio::join!(read(&server, &made, "a"), read(&server, &made, "a"), read(&server, &made, "a"));
    for outcome in [reads.0, reads.1, reads.2] {
        assert_eq!(outcome, (200, b"kept".to_vec()));
    }
    let (_, woken) = server.call("GET", &format!("{BOXES}/box"), "").await;
    assert_eq!((&woken["status"], &woken["stopped_at"]), (&json!("ready"), &Value::Null));
}

#[tokio::test]
async fn a_stop_is_one_even_if_somebody_wakes_it_at_once() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    write(&server, &made, "a").await;
    let stop = format!("{BOXES}/box/stop");
    for _ in 0..20 {
        let (stopped, woken) = tokio::join!(server.call("POST", &stop, ""), read(&server, &made, "a"));
        assert!(stopped.0 == 204 && [200, 400].contains(&woken.0), "{} {}", stopped.0, woken.0);
        assert_eq!(read(&server, &made, "a").await.0, 200);
    }
}

#[tokio::test]
async fn start_is_for_what_does_not_run() {
    let server = server();
    make(&server, json!({"name": "box"})).await;
    let start = format!("{BOXES}/box/start");
    let (code, error) = server.call("POST", &start, "{}").await;
    assert_eq!((code, &error["detail"]["error"]), (400, &json!("InvalidRequest")));
    server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    let (code, started) = server.call("POST", &start, "").await;
    assert_eq!((code, &started["status"]), (202, &json!("provisioning")));
    until(async || status(&server, "box").await == "ready").await;
    for path in ["start", "stop"] {
        assert_eq!(server.call("POST", &format!("{BOXES}/nobody/{path}"), "").await.0, 404);
    }
}

#[tokio::test]
async fn what_is_not_persistent_begins_afresh() {
    let server = server();
    let made = make(&server, json!({"name": "box", "persistent": false})).await;
    assert_eq!(made["persistent"], json!(false));
    write(&server, &made, "a").await;
    server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    assert_eq!(read(&server, &made, "a").await.0, 404);
}

#[tokio::test]
async fn a_command_that_runs_ends_with_its_sandbox() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    let execute = data(&made, "/execute");
    let (answer, ()) = tokio::join!(server.call("POST", &execute, r#"{"command":"sleep 100"}"#), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    });
    assert_eq!((answer.0, &answer.1["detail"]["error"]), (400, &json!("CommandError")));
    assert_eq!(status(&server, "box").await, "stopped");
}

#[tokio::test]
async fn who_is_idle_is_stopped_and_use_puts_it_off() {
    let server = server();
    let made = make(&server, json!({"name": "idle", "idle_ttl_seconds": 60})).await;
    make(&server, json!({"name": "never", "idle_ttl_seconds": 0})).await;
    tokio::time::pause();
    for _ in 0..5 {
        advance(Duration::from_secs(30)).await;
        read(&server, &made, "a").await;
        // A look is no use.
        assert_eq!(status(&server, "idle").await, "ready");
    }
    while status(&server, "idle").await != "stopped" {
        advance(Duration::from_secs(5)).await;
    }
    // A start is use as well: the next sweep leaves it alone.
    assert_eq!(server.call("POST", &format!("{BOXES}/idle/start"), "").await.0, 202);
    until(async || status(&server, "idle").await == "ready").await;
    advance(Duration::from_secs(30)).await;
    assert_eq!(status(&server, "idle").await, "ready");
    assert_eq!(status(&server, "never").await, "ready");
}

#[tokio::test]
async fn no_time_to_live_stops_the_sweep() {
    let server = server();
    let (code, error) = server.call("POST", BOXES, r#"{"idle_ttl_seconds":18446744073709551600}"#).await;
    assert_eq!((code, &error["detail"][0]["loc"][1]), (422, &json!("idle_ttl_seconds")));
    let most = json!(10 * 365 * 24 * 3600);
    make(&server, json!({"name": "long", "idle_ttl_seconds": most, "delete_after_stop_seconds": most})).await;
    make(&server, json!({"name": "short", "idle_ttl_seconds": 60})).await;
    tokio::time::pause();
    while status(&server, "short").await != "stopped" {
        advance(Duration::from_secs(5)).await;
    }
    assert_eq!(status(&server, "long").await, "ready");
}

#[tokio::test]
async fn what_does_not_persist_is_gone_before_anybody_can_look() {
    let server = server();
    let made = make(&server, json!({"name": "box", "persistent": false})).await;
    write(&server, &made, "old").await;
    // As a server that was killed leaves it.
    let id = made["id"].as_str().unwrap();
    let dir = server.state_dir().join("boxes").join(id);
    let server = server.restart().await;
    std::fs::create_dir_all(dir.join("root")).unwrap();
    std::fs::write(dir.join("root/old"), "old").unwrap();
    let server = server.restart().await;
    assert_eq!(read(&server, &made, "old").await.0, 404);
    write(&server, &made, "new").await;
    until(async || std::fs::read_dir(server.state_dir().join("trash")).unwrap().next().is_none()).await;
    assert_eq!(read(&server, &made, "new").await.0, 200);
}

#[tokio::test]
async fn one_that_was_written_down_and_never_made_is_usable() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    let (dir, id) = (server.state_dir().join("boxes"), made["id"].as_str().unwrap().to_owned());
    let database = rusqlite::Connection::open(server.state_dir().join("sandwired.db")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    let server = server.restart().await;
    // As a server leaves it that is killed between the row and the directory.
    std::fs::remove_dir_all(dir.join(&id)).unwrap();
    database.execute("UPDATE sandboxes SET phase = 'live', stopped_at = NULL", []).unwrap();
    drop(database);
    let server = server.restart().await.restart().await;
    assert_eq!(status(&server, "box").await, "stopped");
    write(&server, &made, "a").await;
}

#[tokio::test]
async fn files_that_are_missing_are_told() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    let dir = server.state_dir().join("boxes").join(made["id"].as_str().unwrap());
    std::fs::remove_dir_all(dir).unwrap();
    let server = server.restart().await;
    let (_, told) = server.call("GET", &format!("{BOXES}/box"), "").await;
    assert_eq!(told["status"], "failed");
    assert!(told["status_message"].as_str().unwrap().contains("files"), "{told}");
}

#[tokio::test]
async fn names_are_not_taken_from_others() {
    let server = server();
    for round in 0..40 {
        make(&server, json!({"name": "box"})).await;
        let patch = json!({"name": "box", "idle_ttl_seconds": 60 * round}).to_string();
        let (box_path, again) = (format!("{BOXES}/box"), json!({"name": "box"}).to_string());
        let (_, deleted, made) = tokio::join!(
            server.call("PATCH", &box_path, patch),
            server.call("DELETE", &box_path, ""),
            server.call("POST", BOXES, again),
        );
        assert_eq!(deleted.0, 204);
        assert!([200, 201, 409].contains(&made.0), "{} {}", made.0, made.1);
        let there = server.call("GET", &box_path, "").await;
        if made.0 == 201 {
            assert_eq!((there.0, &there.1["id"]), (200, &made.1["id"]));
        }
        server.call("DELETE", &box_path, "").await;
    }
    let server = server.restart().await;
    assert_eq!(server.call("GET", BOXES, "").await.1["items"], json!([]));
}

#[tokio::test]
async fn without_a_row_that_says_so_nothing_is_deleted() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    write(&server, &made, "a").await;
    let database = rusqlite::Connection::open(server.state_dir().join("sandwired.db")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON sandboxes BEGIN SELECT raise(ABORT, 'no'); END";
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database.execute_batch(broken).unwrap();
    assert_eq!(server.call("DELETE", &format!("{BOXES}/box"), "").await.0, 500);
    database.execute_batch("DROP TRIGGER broken").unwrap();
    drop(database);
    let server = server.restart().await;
    assert_eq!(read(&server, &made, "a").await, (200, b"kept".to_vec()));
}

#[tokio::test]
async fn a_running_command_is_use() {
    let server = server();
    let made = make(&server, json!({"name": "busy", "idle_ttl_seconds": 60})).await;
    let sandbox = server.app.engine.get("busy").unwrap();
    let spec = sandwire_protocol::CommandSpec {
        timeout_seconds: Some(0),
        idle_timeout_seconds: Some(-1),
        ..sandwire_protocol::CommandSpec::new("cat")
    };
    let mut attachment = sandbox.execute(&spec, sandwire_server::engine::Form::Raw).unwrap();
    attachment.started().await.unwrap();
    tokio::time::pause();
    for _ in 0..20 {
        advance(Duration::from_secs(30)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&server, "busy").await, "ready");
    attachment.command().close_stdin();
    while status(&server, "busy").await != "stopped" {
        advance(Duration::from_secs(1)).await;
    }
    assert!(made["id"].is_string());
}

#[tokio::test]
async fn a_restart_keeps_everything_but_what_runs() {
    let server = server();
    let kept = make(&server, json!({"name": "kept", "labels": {"a": "b"}, "idle_ttl_seconds": 120})).await;
    let fresh = make(&server, json!({"name": "fresh", "persistent": false})).await;
    make(&server, json!({"name": "deleted"})).await;
    for made in [&kept, &fresh] {
        write(&server, made, "a").await;
    }
    let (code, renamed) = server.call("PATCH", &format!("{BOXES}/kept"), r#"{"name":"new"}"#).await;
    assert_eq!((code, &renamed["name"]), (200, &json!("new")));
    assert_eq!(server.call("DELETE", &format!("{BOXES}/deleted"), "").await.0, 204);

    let server = server.restart().await;
    let (_, list) = server.call("GET", BOXES, "").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    let (_, back) = server.call("GET", &format!("{BOXES}/new"), "").await;
    assert_eq!((&back["status"], &back["id"]), (&json!("stopped"), &kept["id"]));
    for field in ["labels", "idle_ttl_seconds", "created_at", "delete_after_stop_seconds"] {
        assert_eq!(back[field], kept[field], "{field}");
    }
    assert_eq!(read(&server, &kept, "a").await, (200, b"kept".to_vec()));
    assert_eq!(read(&server, &fresh, "a").await.0, 404);
}

#[tokio::test]
async fn a_command_of_an_earlier_server_is_lost_and_never_run_again() {
    let server = server();
    let made = make(&server, json!({"name": "box"})).await;
    let spec = sandwire_protocol::CommandSpec {
        command_id: Some("once".into()),
        ..sandwire_protocol::CommandSpec::new("echo once")
    };
    let sandbox = server.app.engine.get("box").unwrap();
    let mut attachment = sandbox.execute(&spec, sandwire_server::engine::Form::Raw).unwrap();
    attachment.started().await.unwrap();
    drop((attachment, sandbox));

    let server = server.restart().await;
    assert_eq!(read(&server, &made, "a").await.0, 404, "and it is awake");
    let sandbox = server.app.engine.get("box").unwrap();
    let again = sandbox.execute(&spec, sandwire_server::engine::Form::Raw).err().unwrap();
    assert_eq!(again.kind, sandwire_protocol::ErrorType::CommandError);
    assert!(again.message.contains("lost"), "{again}");
    let view = sandwire_server::engine::View::all(sandwire_server::engine::Form::Raw);
    assert!(sandbox.reconnect("once", view).err().unwrap().message.contains("lost"));
    let other = sandbox.reconnect("never seen", view).err().unwrap();
    assert_eq!(other.kind, sandwire_protocol::ErrorType::CommandNotFound);
}

#[tokio::test]
async fn what_has_been_stopped_for_too_long_goes() {
    let server = server();
    make(&server, json!({"name": "box", "delete_after_stop_seconds": 60})).await;
    make(&server, json!({"name": "stays", "delete_after_stop_seconds": 0})).await;
    let server = server.restart().await;
    let database = rusqlite::Connection::open(server.state_dir().join("sandwired.db")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    // The clock of the wall can't be advanced: instead, they were stopped a minute earlier.
    database.execute("UPDATE sandboxes SET stopped_at = stopped_at - 60000", []).unwrap();
    drop(database);
    let server = server.restart().await;
    until(async || server.call("GET", &format!("{BOXES}/box"), "").await.0 == 404).await;
    assert_eq!(status(&server, "stays").await, "stopped");
}

#[tokio::test]
async fn a_name_is_free_once_its_sandbox_is_deleted() {
    let server = server();
    for _ in 0..3 {
        let made = make(&server, json!({"name": "box"})).await;
        write(&server, &made, "a").await;
        assert_eq!(server.call("DELETE", &format!("{BOXES}/box"), "").await.0, 204);
    }
    let server = server.restart().await;
    assert_eq!(server.call("GET", BOXES, "").await.1["items"], json!([]));
}

#[tokio::test]
async fn events_tell_every_transition() {
    let server = server();
    let address = server.listen().await;
    let mut watcher = server.app.engine.watch(Some(0));
    make(&server, json!({"name": "box"})).await;
    server.call("POST", &format!("{BOXES}/box/stop"), "").await;
    server.call("POST", &format!("{BOXES}/box/start"), "").await;
    until(async || status(&server, "box").await == "ready").await;
    server.call("PATCH", &format!("{BOXES}/box"), r#"{"name":"new"}"#).await;
    server.call("DELETE", &format!("{BOXES}/new"), "").await;
    let (mut seen, mut fourth) = (Vec::new(), None);
    while seen.last() != Some(&("deleted", "new".to_owned())) {
        let sandwire_server::engine::Told::Event(happened) = watcher.next().await.unwrap() else { panic!() };
        if seen.len() == 3 {
            fourth = Some(happened.number);
        }
        seen.push((happened.kind.as_str(), happened.name.to_string()));
    }
    let kinds: Vec<_> = seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["created", "ready", "stopped", "starting", "ready", "updated", "deleted"]);

    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let fourth = fourth.unwrap();
    let request =
        format!("GET /v2/sandboxes/events?after={fourth} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains("event: deleted") {
        let mut chunk = [0; 4096];
        let size = tokio::io::AsyncReadExt::read(&mut socket, &mut chunk).await.unwrap();
        assert!(size > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..size]));
    }
    assert!(
        text.contains("content-type: text/event-stream") && !text.contains(&format!("\nid: {fourth}\n")),
        "{text}"
    );
    let first = text.split(&format!("\nid: {}\n", fourth + 1)).nth(1).unwrap();
    assert!(first.contains("event: ready") && first.contains(r#""name":"box""#), "{text}");
}
