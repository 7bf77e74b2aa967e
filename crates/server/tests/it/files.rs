//! Files through the API.

use axum::body::Body;
use axum::http::Request;
use sandwire_protocol::limits::FILE_CHUNK;
use serde_json::json;

use crate::fake::{KEY, PIPE, server};

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("x-api-key", KEY)
}

fn form(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"file\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    body
}

#[tokio::test]
async fn what_is_written_is_read() {
    let server = server();
    let sandbox = server.sandbox().await;
    let large: Vec<u8> = (0..FILE_CHUNK * 3 + 7).map(|n| (n % 251) as u8).collect();
    for (name, content) in [("empty", &[][..]), ("small", b"a\0b"), ("large", &large)] {
        for multipart in [true, false] {
            let path = format!("{sandbox}/upload?path=%2Fdir%2F{name}");
            let (kind, body) = match multipart {
                true => ("multipart/form-data; boundary=XX", form("file", content)),
                false => ("application/octet-stream", content.to_vec()),
            };
            let write = request("POST", &path).header("content-type", kind).body(Body::from(body)).unwrap();
            assert_eq!(server.raw(write).await.0.as_u16(), 200);
            let path = format!("{sandbox}/download?path=/dir/{name}");
            let (status, headers, body) =
                server.raw(request("GET", &path).body(Body::empty()).unwrap()).await;
            assert_eq!((status.as_u16(), body == content), (200, true), "{name}");
            assert_eq!(headers["content-type"], "application/octet-stream");
            assert!(headers["last-modified"].to_str().unwrap().ends_with("GMT"));
            let (status, headers, body) =
                server.raw(request("HEAD", &path).body(Body::empty()).unwrap()).await;
            assert_eq!((status.as_u16(), body.len()), (200, 0));
            assert_eq!(headers["content-length"], content.len().to_string());
        }
    }
}

#[tokio::test]
async fn failures_have_the_types_of_the_wire() {
    let server = server();
    let sandbox = server.sandbox().await;
    let get = async |path: &str| server.call("GET", &format!("{sandbox}/download{path}"), "").await;
    let (status, error) = get("?path=/none").await;
    assert_eq!((status, &error["detail"]["error"]), (404, &json!("FileNotFound")));
    for path in ["", "?path=", "?path=a%00b"] {
        let (status, error) = get(path).await;
        assert_eq!((status, &error["detail"]["error"]), (400, &json!("InvalidRequest")), "{path:?}");
    }
    let (status, error) = server.call("GET", "/sandboxes/none/download?path=a", "").await;
    assert_eq!((status, &error["detail"]["error"]), (404, &json!("NotFound")));
}

#[tokio::test]
async fn a_broken_upload_changes_nothing() {
    let server = server();
    let sandbox = server.sandbox().await;
    let path = format!("{sandbox}/upload?path=/kept");
    assert_eq!(server.call("POST", &path, "first").await.0, 200);
    let whole = form("file", b"second");
    for body in [form("other", b"second"), whole[..whole.len() - 12].to_vec()] {
        let write = request("POST", &path).header("content-type", "multipart/form-data; boundary=XX");
        let (status, ..) = server.raw(write.body(Body::from(body)).unwrap()).await;
        assert_eq!(status.as_u16(), 400);
    }
    let (_, _, kept) = server
        .raw(request("GET", &format!("{sandbox}/download?path=/kept")).body(Body::empty()).unwrap())
        .await;
    assert_eq!(kept, b"first");
}

#[tokio::test]
async fn files_that_do_not_say_their_size_are_read_to_their_end() {
    let server = server();
    let sandbox = server.sandbox().await;
    let link =
        json!({"command": "ln -s /proc/version version; touch -d 12000-01-01 far", "shell": "/bin/sh"});
    let (status, linked) = server.call("POST", &format!("{sandbox}/execute"), link.to_string()).await;
    assert_eq!((status, &linked["exit_code"]), (200, &json!(0)), "{linked}");
    let version = std::fs::read("/proc/version").unwrap();
    for (method, content) in [("GET", &version[..]), ("HEAD", &[])] {
        let path = format!("{sandbox}/download?path=/version");
        let (status, headers, body) = server.raw(request(method, &path).body(Body::empty()).unwrap()).await;
        assert_eq!((status.as_u16(), &body[..]), (200, content));
        assert_eq!(headers["content-length"], version.len().to_string());
    }
    let (status, ..) = server.call("GET", &format!("{sandbox}/download?path=/far"), "").await;
    assert_eq!(status, 200, "a date that HTTP has no word for");
}

#[tokio::test]
async fn only_regular_files_are_taken_from_init() {
    let server = server();
    let sandbox = server.sandbox().await;
    for (method, call, kind) in [("GET", "download", "ReadError"), ("POST", "upload", "WriteError")] {
        let (status, error) = server.call(method, &format!("{sandbox}/{call}?path={PIPE}"), "body").await;
        assert_eq!((status, &error["detail"]["error"]), (500, &json!(kind)));
    }
}
