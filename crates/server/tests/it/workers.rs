//! Work that takes long, and workers and clients that do not move.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use sandwire_protocol::limits::{ARCHIVE_STALL, ARCHIVE_WORKERS_MAX, SEARCH_BYTES_MAX, SEARCH_LIMIT_MAX};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::worker::{ENTRIES, NAME, STOPPED};
use crate::fake::{KEY, Server, server};

#[tokio::test]
async fn a_page_ends_before_it_is_too_large() {
    let server = server();
    let list = format!("{}/list", server.sandbox().await);
    let (mut offset, mut pages) = (0, 0);
    loop {
        let body = json!({ "path": "/", "offset": offset, "limit": SEARCH_LIMIT_MAX });
        let (status, page) = server.call("POST", &list, body.to_string()).await;
        let entries = page["entries"].as_array().unwrap();
        assert!(status == 200 && entries.len() <= SEARCH_BYTES_MAX / NAME, "{} entries", entries.len());
        assert_eq!(entries[0]["path"], format!("{offset:0NAME$}"));
        assert_eq!(entries[0]["modified_at"], "1969-12-31T23:59:59.000Z");
        pages += 1;
        offset += entries.len();
        match &page["next"] {
            Value::Null => break,
            next => assert_eq!(*next, offset),
        }
    }
    assert!(offset == ENTRIES && pages > 1, "{offset} entries on {pages} pages");
}

async fn pack(server: &Server, sandbox: &str, path: &str) -> Response {
    let request = Request::builder().uri(format!("{sandbox}/archive?path={path}")).header("x-api-key", KEY);
    sandwire_server::app(Arc::clone(&server.app)).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn an_archive_that_never_begins_is_given_up() {
    let server = server();
    let sandbox = server.sandbox().await;
    tokio::time::pause();
    assert_eq!(pack(&server, &sandbox, STOPPED).await.status(), 504);
}

#[tokio::test]
async fn clients_that_take_nothing_keep_nobody_waiting() {
    let server = server();
    let sandbox = server.sandbox().await;
    let mut unread = Vec::new();
    for _ in 0..ARCHIVE_WORKERS_MAX {
        unread.push(pack(&server, &sandbox, "/").await);
    }
    let glob = json!({ "path": "/", "pattern": "*" }).to_string();
    assert_eq!(server.call("POST", &format!("{sandbox}/glob"), glob).await.0, 200);
    tokio::time::pause();
    assert_eq!(pack(&server, &sandbox, "/").await.status(), 503);
    tokio::time::sleep(ARCHIVE_STALL * 2).await;
    tokio::time::resume();
    assert_eq!(pack(&server, &sandbox, "/").await.status(), 200);
    for response in unread {
        assert!(axum::body::to_bytes(response.into_body(), usize::MAX).await.is_err(), "looks whole");
    }
}
