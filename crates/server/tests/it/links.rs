//! Links to files, which need no key.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::fake::{Server, server};

struct Linked {
    server: Server,
    sandbox: String,
}

impl Linked {
    /// A sandbox with a file.
    async fn file(content: &'static str) -> Self {
        let server = server();
        let sandbox = server.sandbox().await;
        let (status, _) =
            server.call("POST", &format!("{sandbox}/upload?path=/dir/page.html"), content).await;
        assert_eq!(status, 200);
        Self { server, sandbox: sandbox.trim_start_matches("/sandboxes/").to_owned() }
    }

    async fn ask(&self, body: Value) -> (u16, Value) {
        let path = format!("/v2/sandboxes/boxes/{}/download-url", self.sandbox);
        self.server.call("POST", &path, body.to_string()).await
    }

    /// The path of a link.
    async fn link(&self, more: Value) -> String {
        let mut body = json!({"path": "/dir/page.html"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.ask(body).await;
        assert_eq!(status, 200, "{answer}");
        let url = answer["download_url"].as_str().unwrap();
        assert_eq!(url, format!("http://127.0.0.1:4711/download/{}", answer["token"].as_str().unwrap()));
        url.strip_prefix("http://127.0.0.1:4711").unwrap().to_owned()
    }

    async fn open(&self, method: &str, link: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(link);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, headers, body) = self.server.raw(request.body(Body::empty()).unwrap()).await;
        (status.as_u16(), headers, body)
    }
}

#[tokio::test]
async fn a_link_gives_the_file_to_whoever_has_it() {
    let linked = Linked::file("<p>hello").await;
    let link = linked.link(json!({})).await;
    let (status, headers, body) = linked.open("GET", &link, &[]).await;
    assert_eq!((status, &body[..]), (200, &b"<p>hello"[..]));
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["content-disposition"], "attachment; filename=\"page.html\"");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox; default-src 'none'"));
    let (status, headers, body) = linked.open("HEAD", &link, &[]).await;
    assert_eq!((status, headers["content-length"].to_str().unwrap(), body.len()), (200, "8", 0));
}

#[tokio::test]
async fn ranges_and_conditions_work_as_on_the_data_plane() {
    let linked = Linked::file("0123456789").await;
    let link = linked.link(json!({"content_type": "text/plain", "content_disposition": "inline"})).await;
    let (status, headers, body) = linked.open("GET", &link, &[("range", "bytes=2-4")]).await;
    assert_eq!((status, &body[..]), (206, &b"234"[..]));
    assert_eq!(
        (&headers["content-range"], &headers["content-type"]),
        (&"bytes 2-4/10".parse().unwrap(), &"text/plain".parse().unwrap(),)
    );
    let (_, headers, _) = linked.open("GET", &link, &[]).await;
    let tag = headers["etag"].to_str().unwrap();
    assert_eq!(linked.open("GET", &link, &[("if-none-match", tag)]).await.0, 304);
    let (status, headers, _) = linked.open("GET", &link, &[("range", "bytes=99-")]).await;
    assert_eq!((status, &headers["content-type"]), (416, &"application/json".parse().unwrap()));
}

#[tokio::test]
async fn what_the_link_says_can_not_be_changed() {
    let linked = Linked::file("x").await;
    let link = linked.link(json!({})).await;
    let token = link.strip_prefix("/download/").unwrap();
    let (payload, seal) = token.split_once('.').unwrap();
    let other = linked.link(json!({"content_type": "text/html"})).await;
    let (other, _) = other.strip_prefix("/download/").unwrap().split_once('.').unwrap();
    for forged in [
        format!("{other}.{seal}"),
        payload.to_owned(),
        format!("{payload}."),
        "x".into(),
        format!("{token}a"),
    ] {
        let (status, _, body) = linked.open("GET", &format!("/download/{forged}"), &[]).await;
        assert_eq!(status, 404, "{forged}");
        assert!(String::from_utf8_lossy(&body).contains("NotFound"));
    }
    let (status, ..) = linked.open("POST", &link, &[]).await;
    assert_eq!(status, 405);
    let boxes = linked.open("GET", "/v2/sandboxes/boxes", &[]).await;
    assert_eq!(boxes.0, 401, "a link opens nothing else");
}

#[tokio::test]
async fn a_link_ends_with_its_time_and_with_its_sandbox() {
    let linked = Linked::file("x").await;
    let (_, answer) = linked.ask(json!({"path": "/dir/page.html"})).await;
    assert_eq!(answer["expires_at"], Value::Null);
    let (_, answer) = linked.ask(json!({"path": "/dir/page.html", "expires_in_seconds": 1})).await;
    assert!(answer["expires_at"].as_str().unwrap().ends_with('Z'));
    let link = format!("/download/{}", answer["token"].as_str().unwrap());
    crate::fake::until(async || linked.open("GET", &link, &[]).await.0 == 410).await;
    let link = linked.link(json!({})).await;
    assert_eq!(linked.ask(json!({"path": "/none"})).await.0, 200, "the file may come later");
    linked.server.call("DELETE", &format!("/v2/sandboxes/boxes/{}", linked.sandbox), "").await;
    let (status, _, body) = linked.open("GET", &link, &[]).await;
    assert_eq!(status, 404);
    assert!(!String::from_utf8_lossy(&body).contains(&linked.sandbox));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_field() {
    let linked = Linked::file("x").await;
    for (body, field) in [
        (json!({"path": ""}), "path"),
        (json!({"path": "a\0"}), "path"),
        (json!({"path": 1}), "path"),
        (json!({"path": "a", "expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"path": "a", "content_type": "text/html\r\nx: y"}), "content_type"),
        (json!({"path": "a", "content_disposition": "show"}), "content_disposition"),
        (json!({"path": "a", "csp_sandbox_flags": ["allow-same-origin"]}), "csp_sandbox_flags"),
        (json!({"path": "a", "csp_source_bundles": ["evil"]}), "csp_source_bundles[0]"),
    ] {
        let (status, error) = linked.ask(body).await;
        assert_eq!((status, &error["detail"][0]["loc"]), (422, &json!(["body", field])), "{error}");
    }
}
