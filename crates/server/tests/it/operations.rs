//! What operators rely on: ids of requests, errors that can be found in the log, metrics, and an orderly end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use sandwire_isolate::SandboxSpec;
use sandwire_protocol::{CgroupVersion, IdMapping, Isolation, Mode, ResourceLimits};
use sandwire_server::engine::{Backend, Cell, CreateFailed, Engine, StateDir};
use sandwire_server::{ApiKey, App, Policy, Services, app};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::{KEY, Server, server};

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (status, headers, body) = server.raw(request.body(Body::empty()).unwrap()).await;
    (status, headers, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() {
    let server = server();
    for (path, status) in [("/v2/sandboxes/boxes", 200), ("/nowhere", 404), ("/healthz", 200)] {
        let (answered, headers, _) =
            get(&server, path, &[("x-api-key", KEY), ("x-request-id", "mine-1")]).await;
        assert_eq!((answered.as_u16(), headers["x-request-id"].to_str().unwrap()), (status, "mine-1"));
    }
    let (status, headers, _) = get(&server, "/v2/sandboxes/boxes", &[("x-request-id", "a b")]).await;
    assert_eq!((status.as_u16(), headers["x-request-id"].len()), (401, 32));
}

#[tokio::test]
async fn a_draining_server_refuses_and_says_so() {
    let server = server();
    let sandbox = server.sandbox().await;
    server.app.stopping.cancel();
    for path in ["/v2/sandboxes/boxes", &format!("{sandbox}/download?path=/a")] {
        let (status, headers, body) = get(&server, path, &[("x-api-key", KEY), ("x-request-id", "r")]).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap()), (503, "5"));
        assert_eq!(body["detail"]["error"], "ServiceUnavailable");
        assert_eq!(body["detail"]["error_id"], "r");
    }
    let (status, _, body) = get(&server, "/healthz", &[]).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"status":"draining"}"#));
    assert_eq!(get(&server, "/metrics", &[("x-api-key", KEY)]).await.0.as_u16(), 200);
}

#[tokio::test]
async fn a_missing_feature_is_no_incident_and_not_asked_for_again() {
    let (status, headers, body) = get(&server(), "/v2/sandboxes/pools", &[("x-api-key", KEY)]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status.as_u16(), &body["detail"]["error_id"]), (501, &Value::Null));
    assert_eq!(headers["x-should-retry"], "false");
}

/// Its handlers panic, once it is broken.
struct Fragile {
    isolation: Isolation,
    broken: AtomicBool,
}

impl Backend for Fragile {
    fn isolation(&self) -> &Isolation {
        assert!(!self.broken.load(Ordering::Relaxed), "as a test wants it");
        &self.isolation
    }

    fn create(&self, _: &SandboxSpec) -> Result<Box<dyn Cell>, CreateFailed> {
        Err(CreateFailed { message: "never".into(), unsupported: false })
    }

    fn limit(&self, _id: &str, _limits: &sandwire_isolate::Limits) -> Result<(), String> {
        Ok(())
    }

    fn outside_ids(&self, _: u32, _: u32) -> (u32, u32) {
        (0, 0)
    }
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let isolation = Isolation {
        mode: Mode::Rootless,
        namespaces: Vec::new(),
        ids: IdMapping::Single,
        idmapped_base: false,
        seccomp: false,
        no_new_privs: false,
        cgroup: CgroupVersion::None,
        limits: ResourceLimits { memory: false, pids: false, cpu: false },
        warnings: Vec::new(),
    };
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let backend = Arc::new(Fragile { isolation, broken: AtomicBool::new(false) });
    let engine = Engine::start(Arc::clone(&backend) as Arc<dyn Backend>, &state, Policy::default());
    let services = Services::open(&state).unwrap();
    let server = App::new(engine.unwrap(), ApiKey::given(KEY).unwrap(), services, ([127, 0, 0, 1], 1).into());
    backend.broken.store(true, Ordering::Relaxed);
    let request = Request::get("/healthz").header("x-api-key", KEY).body(Body::empty()).unwrap();
    let answer = app(Arc::clone(&server)).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((parts.status.as_u16(), &body["detail"]["error"]), (500, &json!("InternalError")));
    assert_eq!(body["detail"]["error_id"], parts.headers["x-request-id"].to_str().unwrap());
    assert!(!body.to_string().contains("as a test wants it"));
    assert_eq!(server.requests.len(), 0);
}

#[tokio::test]
async fn an_answer_is_under_way_until_it_is_read() {
    let server = server();
    let sandbox = server.sandbox().await;
    let form =
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--b--\r\n";
    let request = Request::post(format!("{sandbox}/upload?path=/f"))
        .header("x-api-key", KEY)
        .header("content-type", "multipart/form-data; boundary=b");
    assert_eq!(server.raw(request.body(Body::from(form)).unwrap()).await.0.as_u16(), 200);
    let request = Request::get(format!("{sandbox}/download?path=/f")).header("x-api-key", KEY);
    let router = app(Arc::clone(&server.app));
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(server.app.requests.len(), 1);
    drop(answer);
    assert_eq!(server.app.requests.len(), 0);
}

#[tokio::test]
async fn metrics_need_the_key_in_either_form() {
    let server = server();
    let bearer = format!("Bearer {KEY}");
    assert_eq!(get(&server, "/metrics", &[]).await.0.as_u16(), 401);
    assert_eq!(get(&server, "/metrics", &[("authorization", "Bearer wrong")]).await.0.as_u16(), 401);
    let (status, headers, _) = get(&server, "/metrics", &[("authorization", &bearer)]).await;
    assert_eq!(status.as_u16(), 200);
    assert!(
        headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text; version=1.0.0")
    );
    // Elsewhere it is no key.
    assert_eq!(get(&server, "/v2/sandboxes/boxes", &[("authorization", &bearer)]).await.0.as_u16(), 401);
}

#[tokio::test]
async fn metrics_are_what_happened() {
    let server = server();
    let sandbox = server.sandbox().await;
    let (status, answer) = server
        .call("POST", &format!("{sandbox}/execute"), r#"{"command":"printf hello","shell":"/bin/sh"}"#)
        .await;
    assert_eq!((status, &answer["stdout"]), (200, &json!("hello")), "{answer}");
    assert_eq!(get(&server, "/made/up", &[("x-api-key", KEY)]).await.0.as_u16(), 404);
    let (_, _, text) = get(&server, "/metrics", &[("x-api-key", KEY)]).await;
    let metrics = parse(&text);
    let value =
        |series: &str| metrics.get(series).copied().unwrap_or_else(|| panic!("no {series} in\n{text}"));
    assert_eq!(value("sandwired_sandboxes{state=\"ready\"}"), 1.0);
    assert_eq!(value("sandwired_sandboxes{state=\"stopped\"}"), 0.0);
    assert_eq!(value("sandwired_sandbox_create_seconds_count"), 1.0);
    let execute = "route=\"/sandboxes/{id}/execute\",method=\"POST\"";
    assert_eq!(value(&format!("sandwired_http_requests_total{{{execute},status=\"200\"}}")), 1.0);
    assert_eq!(value(&format!("sandwired_http_request_duration_seconds_count{{{execute}}}")), 1.0);
    assert_eq!(value("sandwired_http_requests_total{route=\"none\",method=\"GET\",status=\"404\"}"), 1.0);
    let sent = "sandwired_http_body_bytes_total{route=\"/sandboxes/{id}/execute\",direction=\"in\"}";
    assert_eq!(value(sent), 44.0);
    // Of the process, in which other tests run commands too.
    assert!(value("sandwired_commands_total{outcome=\"exited\"}") >= 1.0);
    assert!(value("sandwired_command_output_bytes_total{stream=\"stdout\"}") >= 5.0);
    for known in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(value(known) > 0.0, "{known}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value(&format!("sandwired_build_info{{version=\"{version}\"}}")), 1.0);
    let id = sandbox.rsplit('/').next().unwrap();
    assert!(!text.contains(id), "nothing may be labelled by sandbox");
}

/// Reads the OpenMetrics text format and checks its rules; series and values.
fn parse(text: &str) -> HashMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut families, mut series) = (HashSet::new(), HashMap::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && families.insert(name.to_owned()), "{line}");
            name.clone_into(&mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "a family stands together");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            of.clone_into(&mut kind);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let base = name.split('{').next().unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            assert!(suffixes.contains(&base.strip_prefix(&family).unwrap()), "{line}");
            check_labels(name.strip_prefix(base).unwrap());
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    assert!(families.iter().all(|name| name.starts_with("sandwired_") || name.starts_with("process_")));
    series
}

fn check_labels(labels: &str) {
    let Some(labels) = labels.strip_prefix('{').map(|rest| rest.strip_suffix('}').unwrap()) else {
        return assert!(labels.is_empty(), "{labels}");
    };
    // No value here contains a comma or a quotation mark.
    for label in labels.split(',') {
        let (name, value) = label.split_once('=').unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{label}");
    }
}
