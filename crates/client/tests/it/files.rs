//! Whole files on the data plane.

use sandwire_client::Call;
use sandwire_protocol::ErrorCode;
use sandwire_testkit::Server;

use crate::support::{client, target};

#[tokio::test]
async fn a_file_is_sent_as_one_part_and_read_as_it_is() {
    let server = Server::start(async |mut peer| {
        if peer.method == "GET" {
            assert_eq!(peer.target, "/sb/download?path=%2Ftmp%2Fa+b");
            return peer.answer(200, &[], "content\0").await.unwrap();
        }
        assert_eq!(peer.target, "/sb/upload?path=%2Ftmp%2Fa+b");
        assert!(peer.headers["content-type"].starts_with("multipart/form-data; boundary="));
        let body = String::from_utf8(peer.body().await.unwrap()).unwrap();
        assert!(body.contains(r#"name="file"; filename="file""#), "{body}");
        assert!(body.to_lowercase().contains("content-type: application/octet-stream"), "{body}");
        assert!(body.contains("\r\n\r\ncontent\0\r\n--"), "{body}");
        peer.answer(200, &[], "").await.unwrap();
    })
    .await
    .unwrap();
    let (client, target, call) = (client(&server), target(&server), Call::default());
    client.write_file(&target, "/tmp/a b", "content\0".into(), &call).await.unwrap();
    assert_eq!(client.read_file(&target, "/tmp/a b", &call).await.unwrap(), "content\0");
    server.finish().await;
}

#[tokio::test]
async fn failures_name_the_file_and_the_operation() {
    let server = Server::start(async |peer| {
        if peer.method == "GET" {
            return peer.answer(404, &[], "").await.unwrap();
        }
        let body = r#"{"detail":{"error":"WriteError","message":"Is a directory"}}"#;
        peer.answer(400, &[], body).await.unwrap();
    })
    .await
    .unwrap();
    let (client, target, call) = (client(&server), target(&server), Call::default());
    let missing = client.read_file(&target, "/no", &call).await.unwrap_err();
    assert_eq!(missing.to_string(), "File '/no' not found in sandbox 'box'");
    assert_eq!((missing.code(), missing.details().resource_type), (ErrorCode::NotFound, Some("file")));
    let refused = client.write_file(&target, "/tmp", "x".into(), &call).await.unwrap_err();
    assert_eq!((refused.code(), refused.details().operation), (ErrorCode::Operation, Some("write")));
    server.finish().await;
}
