//! Programs in sandboxes, reached by their host names. The fake connects to ports of the machine itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, Request};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;

use crate::fake::{CUT_PORT, KEY, Server, server};

/// Who sends the requests that come over no connection; an IPv4 address as a socket for both kinds tells it.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped()), 4000);

const TOKEN: &str = "x-langsmith-sandbox-service-token";

/// A program that tells what it was asked.
async fn program() -> u16 {
    let echo = |headers: HeaderMap, request: Request<Body>| async move {
        let line = format!("{} {}", request.method(), request.uri());
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let answer = json!({"line": line, "headers": headers, "body": String::from_utf8_lossy(&body)});
        let own = [
            ("x-frame-options", "DENY"),
            ("set-cookie", "sandwire_service =stolen"),
            ("x-sandwire-service-error", "Unauthorized"),
            ("x-own", "1"),
        ];
        (own, answer.to_string())
    };
    let socket = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                let _gone = socket.send(Message::Text(format!("echo {text}").into())).await;
            }
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/ws", any(socket)).route(
        "/redirect",
        get(|| async { (axum::http::StatusCode::FOUND, [("location", "/there")]).into_response() }),
    );
    tokio::spawn(axum::serve(listener, router.fallback(echo)).into_future());
    port
}

struct Service {
    server: Server,
    sandbox: String,
    host: String,
    url: Value,
}

impl Service {
    async fn of(port: u16, more: Value) -> Self {
        let server = server();
        let sandbox = server.sandbox().await.trim_start_matches("/sandboxes/").to_owned();
        let mut request = json!({ "port": port });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/v2/sandboxes/boxes/{sandbox}/service-url");
        let (status, url) = server.call("POST", &path, request.to_string()).await;
        assert_eq!(status, 200, "{url}");
        let host = format!("{port}-{sandbox}.localhost:4711");
        assert_eq!(url["service_url"], format!("http://{host}/"));
        Self { server, sandbox, host, url }
    }

    fn token(&self) -> &str {
        self.url["token"].as_str().unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let mut request =
            Request::builder().uri(path).header("host", &self.host).extension(ConnectInfo(PEER));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, headers, body) = self.server.raw(request.body(Body::empty()).unwrap()).await;
        (status.as_u16(), headers, String::from_utf8(body).unwrap())
    }

    /// The path and query of the link for browsers.
    fn link(&self, field: &str) -> String {
        let url = self.url[field].as_str().unwrap();
        url.strip_prefix(&format!("http://{}", self.host)).unwrap().to_owned()
    }
}

fn seen(body: &str) -> (String, Vec<String>) {
    let seen: Value = serde_json::from_str(body).unwrap();
    let headers =
        seen["headers"].as_array().unwrap().iter().map(|header| header.as_str().unwrap().to_owned());
    (seen["line"].as_str().unwrap().to_owned(), headers.collect())
}

#[tokio::test]
async fn a_request_with_the_token_reaches_the_program_and_nothing_of_ours_does() {
    let service = Service::of(program().await, json!({})).await;
    let token = service.token();
    let cookies = format!("theme=dark; sandwire_service={token}");
    let (status, headers, body) = service
        .get(
            "/a%20b?q=1",
            &[
                (TOKEN, token),
                ("cookie", &cookies),
                ("x-api-key", "theirs"),
                ("x-api-key", KEY),
                ("authorization", &format!("Bearer {KEY}")),
                ("x-langsmith-user-id", "somebody"),
                ("x-forwarded-for", "1.2.3.4"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("authorization", "Bearer theirs"),
            ],
        )
        .await;
    assert_eq!((status, &headers["x-own"]), (200, &"1".parse().unwrap()));
    let (line, seen) = seen(&body);
    assert_eq!(line, "GET /a%20b?q=1");
    for expected in [
        format!("host: {}", service.host),
        format!("x-forwarded-host: {}", service.host),
        "x-forwarded-proto: http".into(),
        "x-forwarded-for: 192.0.2.7".into(),
        "cookie: theme=dark".into(),
        "authorization: Bearer theirs".into(),
        "x-api-key: theirs".into(),
    ] {
        assert!(seen.contains(&expected), "{expected} in {seen:?}");
    }
    let hidden = [TOKEN, "x-hop", "x-langsmith-user-id", "x-forwarded-for: 1.2.3.4"];
    assert!(!seen.iter().any(|header| hidden.iter().any(|name| header.starts_with(name))), "{seen:?}");
    assert!(!body.contains(token) && !body.contains(KEY));
    assert!(!headers.contains_key("x-sandwire-service-error"), "only of this server");
    assert_eq!(headers["content-security-policy"], "frame-ancestors 'self'");
    assert!(headers.contains_key("x-frame-options") && !headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn bodies_pass_both_ways() {
    let service = Service::of(program().await, json!({})).await;
    let content = "x".repeat(3 << 20);
    let request = Request::post("/").header("host", &service.host).header(TOKEN, service.token());
    let (status, _, body) = service.server.raw(request.body(Body::from(content.clone())).unwrap()).await;
    assert_eq!(status.as_u16(), 200);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["body"], content);
    let head = Request::head("/").header("host", &service.host).header(TOKEN, service.token());
    let (status, _, body) = service.server.raw(head.body(Body::empty()).unwrap()).await;
    assert_eq!((status.as_u16(), body.len()), (200, 0));
    let (status, headers, _) = service.get("/redirect", &[(TOKEN, service.token())]).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (302, "/there"));
}

#[tokio::test]
async fn without_a_token_of_this_port_there_is_no_service() {
    let port = program().await;
    let service = Service::of(port, json!({})).await;
    let other = Service::of(program().await, json!({})).await;
    for headers in
        [&[][..], &[("x-api-key", KEY)], &[(TOKEN, "nonsense")], &[(TOKEN, other.token())], &[(TOKEN, KEY)]]
    {
        let (status, headers, body) = service.get("/", headers).await;
        assert_eq!((status, headers["x-sandwire-service-error"].to_str().unwrap()), (401, "Unauthorized"));
        assert!(body.contains("service URL"));
    }
}

#[tokio::test]
async fn services_and_the_api_do_not_reach_each_other() {
    let service = Service::of(program().await, json!({})).await;
    for path in ["/healthz", "/v2/sandboxes/boxes", "/openapi.json"] {
        let (status, _, body) = service.get(path, &[(TOKEN, service.token()), ("x-api-key", KEY)]).await;
        assert_eq!((status, seen(&body).0), (200, format!("GET {path}")), "the program answers");
        assert_eq!(service.get(path, &[("x-api-key", KEY)]).await.0, 401);
    }
    for host in ["x.localhost", "4000-x.localhost", "a@127.0.0.1"] {
        let request = Request::get("/healthz").header("host", host).header("x-api-key", KEY);
        let (status, ..) = service.server.raw(request.body(Body::empty()).unwrap()).await;
        assert!([400, 404].contains(&status.as_u16()), "{host}");
    }
    let path = format!("/sandboxes/{}/download?path=/etc/hostname", service.sandbox);
    let request = Request::get(path).header(TOKEN, service.token());
    assert_eq!(service.server.raw(request.body(Body::empty()).unwrap()).await.0.as_u16(), 401);
}

#[tokio::test]
async fn a_browser_gets_a_cookie_for_its_link_once() {
    let service = Service::of(program().await, json!({})).await;
    let link = service.link("browser_url");
    let head = Request::head(&link).header("host", &service.host).body(Body::empty()).unwrap();
    assert_eq!(service.server.raw(head).await.0.as_u16(), 405);
    let (status, headers, _) = service.get(&link, &[]).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "/"));
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax") && cookie.contains("Max-Age="), "{cookie}");
    assert!(!cookie.contains("Domain"), "for this host alone");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(service.get("/", &[("cookie", cookie)]).await.0, 200);
    let (status, _, body) = service.get(&link, &[]).await;
    assert!(status == 401 && body.contains("works once"));
    assert_eq!(
        service.get(&link, &[("cookie", cookie)]).await.0,
        303,
        "the one who has the cookie may go on"
    );
    let foreign = [("cookie", cookie), ("origin", "http://evil.example")];
    assert_eq!(service.get("/", &foreign).await.0, 401);
    for wrong in ["/_svc/auth", "/_svc/auth?token=x"] {
        assert_eq!(service.get(wrong, &[]).await.0, 401);
    }
}

#[tokio::test]
async fn frames_are_for_the_origins_that_were_named() {
    let service = Service::of(program().await, json!({"embed_origins": ["https://App.example"]})).await;
    assert_eq!(service.url["embed_origins"], json!(["https://app.example"]));
    let (status, headers, _) = service.get(&service.link("embed_url"), &[]).await;
    assert_eq!(status, 303);
    assert!(headers["set-cookie"].to_str().unwrap().ends_with("SameSite=None; Secure; Partitioned"));
    let (_, headers, _) = service.get("/", &[(TOKEN, service.token())]).await;
    assert_eq!(headers["content-security-policy"], "frame-ancestors 'self' https://app.example");
    assert!(!headers.contains_key("x-frame-options"));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_said_so() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let service = Service::of(free, json!({})).await;
    let (status, _, body) = service.get("/", &[(TOKEN, service.token())]).await;
    assert!(status == 502 && body.contains(&format!("Nothing listens on port {free}")), "{body}");
    service.server.call("DELETE", &format!("/v2/sandboxes/boxes/{}", service.sandbox), "").await;
    let (status, _, body) = service.get("/", &[(TOKEN, service.token())]).await;
    assert!(status == 404 && body.contains("not found"), "{body}");
}

#[tokio::test]
async fn a_connection_that_finds_no_room_is_said_so() {
    let service = Service::of(CUT_PORT, json!({})).await;
    let (status, _, body) = service.get("/", &[(TOKEN, service.token())]).await;
    assert!(status == 503 && body.contains("LimitNOFILE"), "{body}");
}

#[tokio::test]
async fn what_does_not_speak_http_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service::of(listener.local_addr().unwrap().port(), json!({})).await;
    let rude = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail ready\r\n").await.unwrap();
    };
    let headers = [(TOKEN, service.token())];
    let (answer, ()) = tokio::join!(service.get("/", &headers), rude);
    assert!(answer.0 == 502 && answer.2.contains("does not answer in HTTP"), "{}", answer.2);
}

#[tokio::test]
async fn web_sockets_pass() {
    let service = Service::of(program().await, json!({})).await;
    let stream = TcpStream::connect(service.server.listen().await).await.unwrap();
    let request = tungstenite::http::Request::get(format!("ws://{}/ws", service.host))
        .header("host", &service.host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header(TOKEN, service.token());
    let (mut socket, _) = tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await.unwrap();
    for text in ["one", "two"] {
        socket.send(tungstenite::Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), tungstenite::Message::text(format!("echo {text}")));
    }
    service.server.app.stopping.cancel();
    socket.send(tungstenite::Message::text("draining")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), tungstenite::Message::text("echo draining"));
    service.server.app.ending.cancel();
    while let Some(Ok(_)) = socket.next().await {}
}

/// A caller that has the first chunk of an answer, and the program that has more to say.
async fn streaming() -> (Service, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service::of(listener.local_addr().unwrap().port(), json!({})).await;
    let address: SocketAddr = service.server.listen().await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{TOKEN}: {}\r\n\r\n", service.host, service.token());
    caller.write_all(request.as_bytes()).await.unwrap();
    let (mut program, _) = listener.accept().await.unwrap();
    read_until(&mut program, "\r\n\r\n").await;
    program.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
    read_until(&mut caller, "first").await;
    (service, caller, program)
}

async fn read_until(stream: &mut TcpStream, text: &str) {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(text) {
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_answer_streams_before_it_is_complete() {
    let (_service, caller, mut program) = streaming().await;
    drop(caller);
    // The caller left, so the program's connection ends.
    let mut rest = Vec::new();
    let _reset = program.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_body_passes_however_it_is_framed() {
    let service = Service::of(program().await, json!({})).await;
    let address = service.server.listen().await;
    for framed in [
        "content-length: 5\r\n\r\nabcde",
        "connection: content-length\r\ncontent-length: 5\r\n\r\nabcde",
        "transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    ] {
        for method in ["GET", "POST"] {
            let mut caller = TcpStream::connect(address).await.unwrap();
            let (host, token) = (&service.host, service.token());
            let request = format!("{method} / HTTP/1.1\r\nHost: {host}\r\n{TOKEN}: {token}\r\n{framed}");
            caller.write_all(request.as_bytes()).await.unwrap();
            let seen = read_until(&mut caller, r#""body":"abcde""#);
            let seen = tokio::time::timeout(std::time::Duration::from_secs(20), seen).await;
            assert!(seen.is_ok(), "{method} {framed}");
        }
    }
}

#[tokio::test]
async fn an_answer_goes_on_while_the_server_drains_and_no_longer() {
    let (service, mut caller, mut program) = streaming().await;
    let app = &service.server.app;
    app.stopping.cancel();
    program.write_all(b"6\r\nsecond\r\n").await.unwrap();
    read_until(&mut caller, "second").await;
    assert_eq!(service.get("/healthz", &[(TOKEN, service.token())]).await.0, 503, "nothing new begins");
    app.ending.cancel();
    for mut stream in [caller, program] {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "the answer is not complete");
    }
}

#[tokio::test]
async fn services_are_one_route_of_their_own() {
    let service = Service::of(program().await, json!({})).await;
    for path in ["/metrics", "/v2/sandboxes/boxes", "/own"] {
        assert_eq!(service.get(path, &[(TOKEN, service.token())]).await.0, 200);
    }
    let request = Request::get("/metrics").header("x-api-key", KEY).body(Body::empty()).unwrap();
    let (_, _, text) = service.server.raw(request).await;
    let text = String::from_utf8(text).unwrap();
    let counted = "sandwired_http_requests_total{route=\"service\",method=\"GET\",status=\"200\"} 3";
    assert!(
        text.contains(counted) && !text.contains("route=\"/v2/sandboxes/boxes\",method=\"GET\""),
        "{text}"
    );
}

#[tokio::test]
async fn grants_are_listed_and_revoked() {
    let service =
        Service::of(80, json!({"expires_in_seconds": 60, "embed_origins": ["http://a.example"]})).await;
    let path = format!("/v2/sandboxes/boxes/{}/service-url", service.sandbox);
    for body in [json!({"port": 443, "access": "off"}), json!({"port": 80})] {
        assert_eq!(service.server.call("POST", &path, body.to_string()).await.0, 200);
    }
    let ports = async || -> Vec<u64> {
        let (status, page) = service.server.call("GET", &format!("{path}s"), "").await;
        assert_eq!((status, &page["next_cursor"]), (200, &Value::Null));
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["access"] == "token" && item["expires_at"].is_string()));
        items.iter().map(|item| item["port"].as_u64().unwrap()).collect()
    };
    assert_eq!(ports().await, [80, 443]);
    assert_eq!(service.server.call("DELETE", &format!("{path}s?port=80"), "").await.0, 204);
    assert_eq!(ports().await, [443]);
    assert_eq!(service.server.call("DELETE", &format!("{path}s"), "").await.0, 204);
    assert_eq!(ports().await, [0; 0]);
    let (status, ..) = service.get("/", &[(TOKEN, service.token())]).await;
    assert_ne!(status, 401, "issued tokens hold");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_field() {
    let server = server();
    let sandbox = server.sandbox().await;
    let path = format!("/v2/sandboxes/boxes/{}/service-url", sandbox.trim_start_matches("/sandboxes/"));
    for (body, field) in [
        (json!({"port": 0}), "port"),
        (json!({"port": 65536}), "port"),
        (json!({"port": -1}), "port"),
        (json!({"port": 80, "expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"port": 80, "expires_in_seconds": 86_401}), "expires_in_seconds"),
        (json!({"port": 80, "embed_origins": ["*"]}), "embed_origins"),
        (json!({"port": 80, "embed_origins": vec!["http://a"; 6]}), "embed_origins"),
        (json!({"port": 80, "access": "everybody"}), "access"),
    ] {
        let (status, error) = server.call("POST", &path, body.to_string()).await;
        assert_eq!((status, &error["detail"][0]["loc"]), (422, &json!(["body", field])), "{error}");
    }
    for access in ["restricted", "workspace"] {
        let body = json!({"port": 80, "access": access}).to_string();
        let (status, error) = server.call("POST", &path, body).await;
        assert_eq!((status, &error["detail"]["error"]), (501, &json!("NotSupported")));
    }
    let (status, _) = server.call("POST", "/v2/sandboxes/boxes/none/service-url", r#"{"port":1}"#).await;
    assert_eq!(status, 404);
}
