//! PATCH in all its forms.

use serde_json::{Value, json};

use crate::fake::{Server, server, server_with};

const BOXES: &str = "/v2/sandboxes/boxes";

async fn patch(server: &Server, name: &str, body: Value) -> (u16, Value) {
    server.call("PATCH", &format!("{BOXES}/{name}"), body.to_string()).await
}

async fn make(server: &Server, body: Value) -> Value {
    let (status, made) = server.call("POST", BOXES, body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made
}

#[tokio::test]
async fn nothing_to_change_is_fine() {
    let server = server();
    let made = make(&server, json!({"name": "box", "wait_for_ready": true})).await;
    for body in ["", "{}", r#"{"name":null,"vcpus":null,"tag_value_ids":[]}"#] {
        let (status, same) = server.call("PATCH", &format!("{BOXES}/box"), body).await;
        assert_eq!((status, &same), (200, &made), "{body}");
    }
    assert_eq!(patch(&server, "nobody", json!({})).await.0, 404);
}

#[tokio::test]
async fn names_move() {
    let server = server();
    let made = make(&server, json!({"name": "a"})).await;
    make(&server, json!({"name": "b"})).await;
    let (status, error) = patch(&server, "a", json!({"name": "b"})).await;
    assert_eq!((status, &error["detail"]["error"]), (409, &json!("Conflict")));
    assert_eq!(patch(&server, "a", json!({"name": "a"})).await.0, 200, "its own");
    let (status, renamed) = patch(&server, "a", json!({"name": "c"})).await;
    assert_eq!((status, &renamed["name"], &renamed["id"]), (200, &json!("c"), &made["id"]));
    assert_eq!(server.call("GET", &format!("{BOXES}/a"), "").await.0, 404);
    make(&server, json!({"name": "a"})).await;
    let (_, by_id) = server.call("GET", &format!("{BOXES}/{}", made["id"].as_str().unwrap()), "").await;
    assert_eq!(by_id["name"], "c");
}

#[tokio::test]
async fn settings_change() {
    let server = server();
    make(&server, json!({"name": "box", "run_config": {"user": "1", "env_vars": {"A": "1"}}})).await;
    let change = json!({
        "idle_ttl_seconds": 0,
        "delete_after_stop_seconds": 120,
        "mem_bytes": 1u64 << 30,
        "cpu_millicores": 500,
        "run_config": {"work_dir": "/srv", "env_vars": {"B": "2"}},
    });
    let (status, changed) = patch(&server, "box", change.clone()).await;
    assert_eq!(status, 200);
    for field in ["idle_ttl_seconds", "delete_after_stop_seconds", "mem_bytes", "cpu_millicores"] {
        assert_eq!(changed[field], change[field], "{field}");
    }
    let merged = json!({"user": "1", "work_dir": "/srv", "env_vars": {"A": "1", "B": "2"}});
    assert_eq!(changed["run_config"], merged);
    let server = server.restart().await;
    let (_, back) = server.call("GET", &format!("{BOXES}/box"), "").await;
    assert_eq!((&back["run_config"], &back["mem_bytes"]), (&merged, &change["mem_bytes"]));
}

#[tokio::test]
async fn what_makes_no_sense_changes_nothing() {
    let server = server();
    make(&server, json!({"name": "box"})).await;
    for (field, body) in [
        ("name", json!({"name": "a/b"})),
        ("name", json!({"name": ""})),
        ("idle_ttl_seconds", json!({"idle_ttl_seconds": 61, "name": "new"})),
        ("vcpus", json!({"vcpus": 0})),
        ("mem_bytes", json!({"mem_bytes": 1})),
        ("run_config", json!({"run_config": {"work_dir": "a"}})),
        ("run_config", json!({"run_config": {"env_vars": {"A=": "x"}}})),
        ("persistent", json!({"persistent": true})),
        ("colour", json!({"colour": 1})),
    ] {
        let (status, error) = patch(&server, "box", body).await;
        assert_eq!((status, &error["detail"][0]["loc"]), (422, &json!(["body", field])), "{error}");
    }
    for field in ["proxy_config", "fs_capacity_bytes", "tag_value_ids"] {
        let value = if field == "fs_capacity_bytes" { json!(1) } else { json!({"a": 1}) };
        let (status, error) = patch(&server, "box", json!({field: value})).await;
        assert_eq!((status, &error["detail"]["error"]), (501, &json!("NotSupported")));
    }
    let unlimited = server_with(false);
    make(&unlimited, json!({"name": "box"})).await;
    let (status, error) = patch(&unlimited, "box", json!({"vcpus": 1})).await;
    assert_eq!((status, &error["detail"]["error"]), (422, &json!("SandboxConfig")));
    assert_eq!(server.call("GET", &format!("{BOXES}/box"), "").await.0, 200);
}
