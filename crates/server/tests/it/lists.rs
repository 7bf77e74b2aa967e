//! Lists: filters, orders, pages.

use serde_json::{Value, json};

use crate::fake::{Server, server};

const BOXES: &str = "/v2/sandboxes/boxes";

async fn make(server: &Server, body: Value) {
    let mut body = body;
    body["wait_for_ready"] = json!(true);
    let (status, made) = server.call("POST", BOXES, body.to_string()).await;
    assert_eq!(status, 201, "{made}");
}

/// A, B, C, of which A is stopped.
async fn three() -> Server {
    let server = server();
    make(&server, json!({"name": "alpha", "labels": {"team": "x", "env": "a=b"}, "idle_ttl_seconds": 180}))
        .await;
    make(&server, json!({"name": "Beta", "labels": {"team": "y"}, "idle_ttl_seconds": 60})).await;
    make(&server, json!({"name": "gamma", "delete_after_stop_seconds": 60, "idle_ttl_seconds": 120})).await;
    assert!((200..300).contains(&server.call("POST", &format!("{BOXES}/alpha/stop"), "").await.0));
    server
}

async fn names(server: &Server, query: &str) -> Vec<String> {
    let (status, page) = server.call("GET", &format!("{BOXES}?{query}"), "").await;
    assert_eq!(status, 200, "{query}: {page}");
    assert_eq!(page["items"], page["sandboxes"]);
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_narrow() {
    let server = three().await;
    for (query, expected) in [
        ("", &["alpha", "Beta", "gamma"][..]),
        ("name_contains=A", &["alpha", "Beta", "gamma"]),
        ("name_contains=ET", &["Beta"]),
        ("status=ready", &["Beta", "gamma"]),
        ("status=stopped", &["alpha"]),
        ("status=stopped&status=ready", &["alpha", "Beta", "gamma"]),
        ("status=failed", &[]),
        ("created_by=me", &["alpha", "Beta", "gamma"]),
        ("label=team", &["alpha", "Beta"]),
        ("label=team%3Dx", &["alpha"]),
        ("label=team=x&label=env=a%3Db", &["alpha"]),
        ("label=team=x&label=env=b", &[]),
        ("label=none", &[]),
    ] {
        assert_eq!(names(&server, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn every_order_goes_both_ways() {
    let server = three().await;
    for (by, expected) in [
        ("name", ["Beta", "alpha", "gamma"]),
        ("created_at", ["alpha", "Beta", "gamma"]),
        ("idle_ttl_seconds", ["Beta", "gamma", "alpha"]),
    ] {
        assert_eq!(names(&server, &format!("sort_by={by}")).await, expected, "{by}");
        let reversed: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(names(&server, &format!("sort_by={by}&sort_order=desc")).await, reversed, "{by}");
        assert_eq!(names(&server, &format!("sort_by={by}&sort_direction=desc")).await, reversed, "{by}");
    }
    assert_eq!(names(&server, "sort_by=status").await[2], "alpha", "stopped comes after ready");
    assert_eq!(names(&server, "sort_by=stopped_at").await[2], "alpha", "what has no time comes first");
    assert_eq!(names(&server, "sort_by=delete_after_stop_seconds").await[0], "gamma");
}

#[tokio::test]
async fn pages_are_stable_while_sandboxes_come_and_go() {
    let server = server();
    for name in ["b", "d", "f", "h"] {
        make(&server, json!({ "name": name })).await;
    }
    let page = async |query: &str| {
        let (status, page) =
            server.call("GET", &format!("{BOXES}?sort_by=name&page_size=2{query}"), "").await;
        assert_eq!(status, 200, "{page}");
        let names: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        (names, page["next_cursor"].clone(), page["offset"].clone())
    };
    let (names, cursor, offset) = page("").await;
    assert_eq!((names, &offset), (vec![json!("b"), json!("d")], &json!(2)));
    // The cursor's own sandbox goes, one comes before it, one after.
    server.call("DELETE", &format!("{BOXES}/d"), "").await;
    make(&server, json!({"name": "a"})).await;
    make(&server, json!({"name": "e"})).await;
    let (names, next, _) = page(&format!("&cursor={}", cursor.as_str().unwrap())).await;
    assert_eq!(names, [json!("e"), json!("f")]);
    let (names, end, offset) = page(&format!("&cursor={}", next.as_str().unwrap())).await;
    assert_eq!((names, end, offset), (vec![json!("h")], Value::Null, json!(0)));
    let (names, ..) = page("&offset=3").await;
    assert_eq!(names, [json!("f"), json!("h")]);
    assert_eq!(page("&offset=99").await.0, [Value::Null; 0]);
    for other in ["sort_by=created_at", "sort_by=name&sort_order=desc", ""] {
        let query = format!("{BOXES}?{other}&cursor={}", cursor.as_str().unwrap());
        let (status, error) = server.call("GET", &query, "").await;
        assert_eq!((status, &error["detail"][0]["loc"][1]), (422, &json!("cursor")), "{other}");
    }
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_named() {
    let server = server();
    for (query, field) in [
        ("page_size=0", "page_size"),
        ("page_size=501", "page_size"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=1&page_size=1", "limit"),
        ("offset=-1", "offset"),
        ("offset=1&cursor=x", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("status=asleep", "status"),
        ("created_by=you", "created_by"),
        ("label=", "label"),
        ("label==x", "label"),
        ("sort_by=size", "sort_by"),
        ("sort_order=up", "sort_order"),
        ("sort_by=name&sort_by=status", "sort_by"),
        ("color=red", "color"),
    ] {
        let (status, error) = server.call("GET", &format!("{BOXES}?{query}"), "").await;
        assert_eq!((status, &error["detail"][0]["loc"][1]), (422, &json!(field)), "{query}: {error}");
    }
    let (status, error) = server.call("GET", &format!("{BOXES}?tag_value_id=1"), "").await;
    assert_eq!((status, &error["detail"]["error"]), (501, &json!("NotSupported")));
}
