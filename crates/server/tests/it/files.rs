//! Files through the API.

use axum::body::Body;
use axum::http::Request;
use sandwire_protocol::limits::FILE_CHUNK;
use serde_json::json;

use crate::fake::{CUT, KEY, PIPE, server, until};

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

#[tokio::test]
async fn a_descriptor_that_finds_no_room_is_said_so() {
    let server = server();
    let sandbox = server.sandbox().await;
    for (method, call) in [("GET", "download"), ("POST", "upload")] {
        let (status, error) = server.call(method, &format!("{sandbox}/{call}?path={CUT}"), "body").await;
        assert_eq!((status, &error["detail"]["error"]), (503, &json!("ServiceUnavailable")));
        assert!(error.to_string().contains("LimitNOFILE"), "{error}");
    }
    // Neither the sandbox ends nor does anything of the upload stay.
    assert_eq!(server.call("POST", &format!("{sandbox}/upload?path=/f"), "body").await.0, 200);
    let temporary = format!("{sandbox}/download?path={CUT}.temporary");
    until(async || server.call("GET", &temporary, "").await.0 == 404).await;
}

#[tokio::test]
async fn parts_and_conditions() {
    let server = server();
    let sandbox = server.sandbox().await;
    let content: Vec<u8> = (0..FILE_CHUNK * 3).map(|n| (n % 251) as u8).collect();
    assert_eq!(server.call("POST", &format!("{sandbox}/upload?path=/f"), content.clone()).await.0, 200);
    let path = format!("{sandbox}/download?path=/f");
    let get = async |method: &str, headers: &[(&str, &str)]| {
        let mut request = request(method, &path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, headers, body) = server.raw(request.body(Body::empty()).unwrap()).await;
        (status.as_u16(), headers, body)
    };
    let total = content.len();
    let (_, whole, _) = get("HEAD", &[]).await;
    let tag = whole["etag"].to_str().unwrap().to_owned();
    assert_eq!((whole["accept-ranges"].as_bytes(), whole.get("content-encoding")), (&b"bytes"[..], None));
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=5-299999", 5..300_000),
        ("bytes=700000-9999999999", 700_000..total),
        ("bytes=-7", total - 7..total),
        ("bytes=1-", 1..total),
    ] {
        for extra in [&[][..], &[("if-range", &*tag)]] {
            let (status, headers, body) = get("GET", &[&[("range", range)], extra].concat()).await;
            assert_eq!((status, headers["etag"] == tag.as_str()), (206, true), "{range}");
            assert!(body == content[part.clone()], "{range}");
            let told = format!("bytes {}-{}/{total}", part.start, part.end - 1);
            assert_eq!(headers["content-range"].to_str().unwrap(), told);
            assert_eq!(headers["content-length"].to_str().unwrap(), part.len().to_string());
        }
    }
    let (status, headers, _) = get("GET", &[("range", "bytes=9999999-")]).await;
    assert_eq!((status, headers["content-range"].to_str().unwrap()), (416, &*format!("bytes */{total}")));
    for ignored in [("range", "bytes=0-1,3-4"), ("range", "bytes=9-2")] {
        let (status, _, body) = get("GET", &[ignored]).await;
        assert_eq!((status, body.len()), (200, total));
    }
    let (status, _, body) = get("GET", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!((status, body.len()), (200, total));
    let (status, headers, body) = get("HEAD", &[("range", "bytes=0-1")]).await;
    assert_eq!((status, body.len(), headers["etag"] == tag.as_str()), (200, 0, true));
    assert_eq!(headers["content-length"].to_str().unwrap(), total.to_string());
    for method in ["GET", "HEAD"] {
        let (status, headers, body) = get(method, &[("if-none-match", &tag)]).await;
        assert_eq!((status, body.len(), headers["etag"] == tag.as_str()), (304, 0, true));
    }
    assert_eq!(get("GET", &[("if-match", "\"other\"")]).await.0, 412);
    assert_eq!(server.call("POST", &format!("{sandbox}/upload?path=/f"), content).await.0, 200);
    assert_eq!(get("GET", &[("if-none-match", &tag)]).await.0, 200, "another file, though the same content");
}

#[tokio::test]
async fn a_mode_is_octal_digits() {
    let server = server();
    let sandbox = server.sandbox().await;
    for (mode, expected) in
        [("755", 200), ("0644", 200), ("", 400), ("888", 400), ("07777x", 400), ("-1", 400)]
    {
        let (status, answer) =
            server.call("POST", &format!("{sandbox}/upload?path=/f&mode={mode}"), "x").await;
        assert_eq!(status, expected, "{mode:?}: {answer}");
    }
}
