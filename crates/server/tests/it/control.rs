//! The control plane, the key, and the shape of refusals.

use axum::body::Body;
use axum::http::Request;
use sandwire_protocol::limits::CONTROL_BODY_MAX;
use serde_json::json;

use crate::fake::{BROKEN, KEY, server, server_with, until};

const BOXES: &str = "/v2/sandboxes/boxes";

#[tokio::test]
async fn nothing_but_bare_health_goes_without_the_key() {
    let server = server();
    for path in [BOXES, "/api/v2/sandboxes/boxes/x", "/sandboxes/x/download?path=a", "/nowhere"] {
        for key in [None, Some("wrong")] {
            let mut request = Request::builder().uri(path);
            if let Some(key) = key {
                request = request.header("X-Api-Key", key);
            }
            let (status, _, body) = server.raw(request.body(Body::empty()).unwrap()).await;
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status.as_u16(), &body["detail"]["error"]), (401, &json!("Unauthorized")), "{path}");
        }
    }
    let bare = Request::builder().uri("/healthz").body(Body::empty()).unwrap();
    let (status, _, body) = server.raw(bare).await;
    assert_eq!((status.as_u16(), &body[..]), (200, &br#"{"status":"ok"}"#[..]));
    let (_, health) = server.call("GET", "/healthz", "").await;
    assert_eq!(health["isolation"]["warnings"], json!(["this is a fake"]));
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let server = server();
    let request =
        Request::builder().uri(BOXES).header("x-api-key", KEY).header("origin", "https://evil.example");
    let (status, ..) = server.raw(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status.as_u16(), 403);
}

#[tokio::test]
async fn a_sandbox_lives_and_dies_under_every_base() {
    let server = server();
    for base in ["/v2/sandboxes", "/api/v2/sandboxes", "/api/v1/v2/sandboxes"] {
        let create = json!({"name": "box", "wait_for_ready": true, "timeout": 20}).to_string();
        let (status, made) = server.call("POST", &format!("{base}/boxes"), create.clone()).await;
        assert_eq!((status, &made["status"], &made["name"]), (201, &json!("ready"), &json!("box")));
        let id = made["id"].as_str().unwrap();
        assert_eq!(made["dataplane_url"], format!("http://127.0.0.1:4711/sandboxes/{id}"));
        let (status, again) = server.call("POST", &format!("{base}/boxes"), create).await;
        assert_eq!((status, &again["id"]), (200, &made["id"]), "a repeat of the same request");
        let other = json!({"name": "box", "idle_ttl_seconds": 0}).to_string();
        assert_eq!(server.call("POST", &format!("{base}/boxes"), other).await.0, 409);
        for reference in ["box", "b%6Fx", id] {
            let (status, got) = server.call("GET", &format!("{base}/boxes/{reference}"), "").await;
            assert_eq!((status, &got["id"]), (200, &made["id"]));
        }
        let (_, status) = server.call("GET", &format!("{base}/boxes/box/status"), "").await;
        assert_eq!(status, json!({"status": "ready", "status_message": null}));
        assert_eq!(server.call("DELETE", &format!("{base}/boxes/{id}"), "").await.0, 204);
        for method in ["GET", "DELETE"] {
            let (status, error) = server.call(method, &format!("{base}/boxes/box"), "").await;
            assert_eq!((status, &error["detail"]["error"]), (404, &json!("NotFound")));
        }
    }
}

#[tokio::test]
async fn the_data_plane_is_where_the_client_came_from() {
    let server = server();
    let request = Request::builder().method("POST").uri(BOXES).header("x-api-key", KEY);
    let request = request.header("host", "sandboxes.example:8080").body(Body::empty()).unwrap();
    let (_, _, body) = server.raw(request).await;
    let made: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(made["dataplane_url"].as_str().unwrap().starts_with("http://sandboxes.example:8080/sandboxes/"));
}

#[tokio::test]
async fn who_waits_is_told_what_the_making_took() {
    let server = server();
    for (body, told) in [(r#"{"wait_for_ready":true}"#, true), ("", false)] {
        let request = Request::builder().method("POST").uri(BOXES).header("x-api-key", KEY);
        let (_, headers, _) = server.raw(request.body(body.into()).unwrap()).await;
        let timing = headers.get("server-timing").map(|timing| timing.to_str().unwrap());
        assert_eq!(timing.is_some(), told);
        let millis = timing.map_or(1.0, |text| text.strip_prefix("create;dur=").unwrap().parse().unwrap());
        assert!(millis > 0.0);
    }
}

#[tokio::test]
async fn without_waiting_it_becomes_ready_by_itself() {
    let server = server();
    let (status, made) = server.call("POST", BOXES, "").await;
    assert_eq!(status, 201);
    assert!(["provisioning", "ready"].contains(&made["status"].as_str().unwrap()));
    let name = made["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("sandbox-"));
    until(async || server.call("GET", &format!("{BOXES}/{name}/status"), "").await.1["status"] == "ready")
        .await;
}

#[tokio::test]
async fn a_sandbox_that_cant_be_made_says_why() {
    let server = server();
    let create = json!({"name": BROKEN, "wait_for_ready": true}).to_string();
    let (status, error) = server.call("POST", BOXES, create).await;
    assert_eq!((status, &error["detail"]["message"]), (422, &json!("no such luck")));
    let (status, _) = server.call("POST", BOXES, json!({"name": BROKEN}).to_string()).await;
    assert_eq!(status, 201, "the name is free again");
    let path = format!("{BOXES}/{BROKEN}/status");
    until(async || server.call("GET", &path, "").await.1["status"] == "failed").await;
    assert_eq!(server.call("GET", &path, "").await.1["status_message"], "no such luck");
    let (_, made) = server.call("GET", &format!("{BOXES}/{BROKEN}"), "").await;
    let execute = format!("/sandboxes/{}/execute", made["id"].as_str().unwrap());
    let (status, error) = server.call("POST", &execute, r#"{"command":"true"}"#).await;
    assert_eq!((status, &error["detail"]["error"]), (400, &json!("NotReady")));
    assert_eq!(server.call("DELETE", &format!("{BOXES}/{BROKEN}"), "").await.0, 204);
}

#[tokio::test]
async fn both_list_shapes_have_the_same_content() {
    let server = server();
    for name in ["one", "two", "three"] {
        server.call("POST", BOXES, json!({"name": name, "wait_for_ready": true}).to_string()).await;
    }
    let (_, list) = server.call("GET", BOXES, "").await;
    assert_eq!(list["items"], list["sandboxes"]);
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["next_cursor"], &list["offset"]),
        (3, &json!(null), &json!(0))
    );
}

#[tokio::test]
async fn bad_values_are_named() {
    let server = server();
    for (field, body) in [
        ("name", json!({"name": "a/b"})),
        ("name", json!({"name": 7})),
        ("idle_ttl_seconds", json!({"idle_ttl_seconds": 61})),
        ("delete_after_stop_seconds", json!({"delete_after_stop_seconds": 1})),
        ("delete_after_stop_seconds", json!({"delete_after_stop_seconds": -60})),
        ("vcpus", json!({"vcpus": 0})),
        ("mem_bytes", json!({"mem_bytes": 1})),
        ("timeout", json!({"timeout": 0})),
        ("colour", json!({"colour": "red"})),
    ] {
        let (status, error) = server.call("POST", BOXES, body.to_string()).await;
        let item = &error["detail"][0];
        assert_eq!(
            (status, &item["loc"], &item["type"]),
            (422, &json!(["body", field]), &json!("value_error"))
        );
    }
    for body in ["[]", "{", "7"] {
        assert_eq!(server.call("POST", BOXES, body).await.0, 422);
    }
}

#[tokio::test]
async fn what_cant_be_kept_is_refused_by_name() {
    let server = server();
    for field in [
        "snapshot",
        "snapshot_id",
        "snapshot_name",
        "template_name",
        "proxy_config",
        "fs_capacity_bytes",
        "mount_config",
        "access_delegation",
        "restore_memory",
    ] {
        let value = if field == "fs_capacity_bytes" { json!(1) } else { json!("x") };
        let (status, error) = server.call("POST", BOXES, json!({field: value}).to_string()).await;
        assert_eq!((status, &error["detail"]["error"]), (501, &json!("NotSupported")), "{field}");
        assert!(error["detail"]["message"].as_str().unwrap().contains(field));
    }
    let nulls =
        json!({"snapshot": null, "proxy_config": null, "labels": null, "persistent": true, "volumes": []})
            .to_string();
    assert_eq!(server.call("POST", BOXES, nulls).await.0, 201);
    let limited = json!({"mem_bytes": 1u64 << 30, "vcpus": 2, "wait_for_ready": true}).to_string();
    let (status, made) = server.call("POST", BOXES, limited.clone()).await;
    assert_eq!((status, &made["vcpus"], &made["mem_bytes"]), (201, &json!(2), &json!(1u64 << 30)));
    let (status, error) = server_with(false).call("POST", BOXES, limited).await;
    assert_eq!((status, &error["detail"]["error"]), (422, &json!("SandboxConfig")));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_told_its_limit() {
    let server = server();
    let name = server.sandbox().await.replace("/sandboxes/", "");
    let padded = |size: usize| format!("{{}}{}", " ".repeat(size - 2));
    for (method, path) in [
        ("POST", BOXES.to_owned()),
        ("PATCH", format!("{BOXES}/{name}")),
        ("POST", format!("{BOXES}/{name}/service-url")),
        ("POST", format!("{BOXES}/{name}/download-url")),
        ("POST", format!("/sandboxes/{name}/glob")),
    ] {
        let (status, _) = server.call(method, &path, padded(CONTROL_BODY_MAX)).await;
        assert_ne!(status, 413, "{method} {path}");
        let (status, error) = server.call(method, &path, padded(CONTROL_BODY_MAX + 1)).await;
        assert_eq!((status, &error["detail"]["error"]), (413, &json!("InvalidRequest")), "{method} {path}");
        let message = error["detail"]["message"].as_str().unwrap();
        assert!(message.contains(&CONTROL_BODY_MAX.to_string()), "{message}");
    }
}

#[tokio::test]
async fn known_and_unknown_paths_differ() {
    let server = server();
    for (method, path) in [
        ("POST", "/boxes/a/snapshot"),
        ("GET", "/snapshots"),
        ("GET", "/snapshots/system%2Fdefault:latest"),
        ("POST", "/registries"),
        ("GET", "/pools/p"),
        ("GET", "/usage/costs"),
    ] {
        let (status, error) = server.call(method, &format!("/v2/sandboxes{path}"), "").await;
        assert_eq!((status, &error["detail"]["error"]), (501, &json!("NotSupported")), "{path}");
    }
    let (status, error) = server.call("GET", "/v2/sandboxes/nonsense", "").await;
    assert_eq!((status, &error["detail"]["error"]), (404, &json!("NotFound")));
    let (status, error) = server.call("PUT", BOXES, "").await;
    assert_eq!((status, &error["detail"]["error"]), (405, &json!("InvalidRequest")));
}

#[tokio::test]
async fn the_end_keeps_the_files_of_what_is_not_deleted() {
    let server = server();
    for _ in 0..5 {
        server.sandbox().await;
    }
    let (_, list) = server.call("GET", BOXES, "").await;
    let id = list["items"][0]["id"].as_str().unwrap();
    assert_eq!(server.call("DELETE", &format!("{BOXES}/{id}"), "").await.0, 204);
    server.app.engine.shutdown().await;
    for (dir, left) in [("boxes", 4), ("trash", 0)] {
        assert_eq!(std::fs::read_dir(server.state_dir().join(dir)).unwrap().count(), left, "{dir}");
    }
    assert_eq!(server.call("POST", BOXES, "").await.0, 503);
}
