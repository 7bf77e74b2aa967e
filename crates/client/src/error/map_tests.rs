//! The tables of section 3, row by row.

use super::*;
use ErrorCode as C;

fn refusal(status: u16, body: &str) -> Refusal {
    Refusal {
        status,
        body: ErrorBody::parse(body.as_bytes()),
        url: "http://h/x".to_owned(),
        retry_after: None,
        request_id: None,
    }
}

fn typed(status: u16, error_type: &str) -> Refusal {
    refusal(status, &format!(r#"{{"detail":{{"error":"{error_type}","message":"said"}}}}"#))
}

#[test]
fn control_plane() {
    for (status, error_type, code) in [
        (401, "Unauthorized", C::Authentication),
        (403, "", C::Authentication),
        (422, "", C::Validation),
        (429, "", C::QuotaExceeded),
        (500, "", C::Api),
        (502, "ConnectionError", C::Connection),
        (502, "", C::Client),
        (400, "InvalidRequest", C::Client),
        (408, "", C::Client),
        (409, "Conflict", C::Client),
        (503, "", C::Client),
        (302, "", C::Client),
    ] {
        assert_eq!(control(&typed(status, error_type), Some("a")).code(), code, "{status} {error_type}");
    }
}

#[test]
fn a_missing_sandbox_is_named_whatever_the_body_says() {
    for body in ["", "<html>", r#"{"detail":"gone"}"#] {
        let error = control(&refusal(404, body), Some("box"));
        assert_eq!(error.to_string(), "Sandbox 'box' not found");
        assert_eq!((error.code(), error.details().resource_type), (C::NotFound, Some("sandbox")));
    }
    let error = control(&refusal(404, ""), None);
    assert_eq!(error.code(), C::Api);
    assert!(error.to_string().contains("http://h/x"));
}

#[test]
fn create() {
    let value_error = r#"{"detail":[{"loc":["body","vcpus"],"msg":"no","type":"value_error"}]}"#;
    let missing = r#"{"detail":[{"loc":["body","vcpus"],"msg":"no","type":"missing"}]}"#;
    let error = creation(&refusal(422, value_error));
    assert_eq!((error.code(), error.details().field.as_deref()), (C::Validation, Some("vcpus")));
    assert!(error.details().details.is_some());
    assert_eq!(creation(&refusal(422, missing)).code(), C::Creation);
    assert_eq!(creation(&typed(422, "ImagePull")).details().error_type.as_deref(), Some("ImagePull"));
    assert_eq!(creation(&refusal(503, "")).details().error_type.as_deref(), Some("Unschedulable"));
    assert_eq!(creation(&refusal(429, "")).details().quota_type, Some("unknown"));
    assert_eq!(creation(&typed(408, "Timeout")).code(), C::ResourceTimeout);
    assert_eq!(creation(&refusal(401, "")).code(), C::Authentication);
    let taken = creation(&typed(409, "Conflict"));
    assert_eq!((taken.code(), taken.details().resource_type), (C::AlreadyExists, Some("sandbox")));
    assert_eq!(creation(&typed(409, "x")).code(), C::Client);
}

#[test]
fn quotas_are_guessed_in_order() {
    for (message, quota) in [
        ("Sandbox limit reached: cpu", Some("sandbox_count")),
        ("sandbox CPU", Some("cpu")),
        ("Memory exhausted", Some("memory")),
        ("volume count", Some("volume_count")),
        ("storage full", Some("storage")),
        ("no", None),
    ] {
        assert_eq!(quota_type(message), quota, "{message}");
    }
}

#[test]
fn data_plane_in_order() {
    let any = Resource { sandbox: "box", path: None };
    for (status, error_type, code, operation) in [
        (404, "WriteError", C::Operation, Some("write")),
        (500, "ReadError", C::Operation, Some("read")),
        (400, "CommandError", C::Operation, Some("command")),
        (403, "", C::Operation, None),
        (502, "ConnectionError", C::Connection, None),
        (400, "NotReady", C::NotReady, None),
        (503, "ServiceUnavailable", C::NotReady, None),
        (404, "", C::NotFound, None),
        (400, "FileNotFound", C::NotFound, None),
        (401, "Unauthorized", C::Authentication, None),
        (401, "", C::Authentication, None),
        (403, "Unauthorized", C::Authentication, None),
        (429, "", C::Client, None),
        (500, "CommandTimeout", C::Client, None),
    ] {
        let error = data_plane(&typed(status, error_type), any);
        assert_eq!((error.code(), error.details().operation), (code, operation), "{status} {error_type}");
    }
    let error = data_plane(&typed(404, "ReadError"), Resource { path: Some("/a"), ..any });
    assert_eq!(error.to_string(), "File '/a' not found in sandbox 'box'");
    assert_eq!(error.details().resource_type, Some("file"));
    let forbidden = data_plane(&refusal(403, ""), any);
    assert_eq!(forbidden.details().error_type.as_deref(), Some("PermissionDenied"));
}

#[test]
fn upgrades() {
    for (status, code) in [
        (404, C::Connection),
        (500, C::ConnectionRetryable),
        (502, C::ConnectionRetryable),
        (503, C::ConnectionRetryable),
        (504, C::ConnectionRetryable),
        (429, C::ConnectionRetryable),
        (400, C::Connection),
        (401, C::Authentication),
        (403, C::Connection),
        (505, C::Connection),
    ] {
        let error = upgrade(&typed(status, "x"), "box");
        assert_eq!((error.code(), error.details().status), (code, Some(status)), "{status}");
        assert_eq!(error.retryable(), code == C::ConnectionRetryable, "{status}");
        assert_eq!(error.details().phase, Some(Phase::Connect));
        assert!(error.to_string().ends_with("said"), "{error}");
    }
    assert_eq!(upgrade(&typed(403, "Unauthorized"), "box").code(), C::Authentication);
}

#[test]
fn a_missing_sandbox_is_told_from_a_missing_file() {
    let missing = typed(404, "NotFound");
    let read = Resource { sandbox: "box", path: Some("/a") };
    for error in [
        data_plane(&missing, read),
        data_plane(&missing, Resource { path: None, ..read }),
        upgrade(&missing, "box"),
    ] {
        assert_eq!((error.code(), error.details().resource_type), (C::NotFound, Some("sandbox")));
        assert_eq!(error.to_string(), "Sandbox 'box' not found");
        assert!(!error.retryable());
    }
    let file = data_plane(&typed(404, "FileNotFound"), read);
    assert_eq!(file.details().resource_type, Some("file"));
}

#[test]
fn error_frames() {
    let error = error_frame("CommandTimeout", "too long", None, Some(5.0));
    assert_eq!((error.code(), error.details().timeout), (C::CommandTimeout, Some(5.0)));
    let error = error_frame("CommandNotFound", "x", Some("id1"), None);
    assert_eq!(error.to_string(), "Command not found: id1");
    assert_eq!(error.details().operation, Some("reconnect"));
    let error = error_frame("SessionExpired", "gone", None, Some(5.0));
    assert_eq!((error.to_string().as_str(), error.details().operation), ("gone", Some("command")));
    assert_eq!(error.details().timeout, None);
    assert_eq!(error_frame("Odd", "", None, None).code(), C::Operation);
}

#[test]
fn what_a_server_lacks_is_unsupported_wherever_it_says_so() {
    let refused = typed(501, "NotSupported");
    let resource = Resource { sandbox: "s", path: None };
    let errors = [
        control(&refused, Some("s")),
        creation(&refused),
        data_plane(&refused, resource),
        error_frame("NotSupported", "no", None, None),
    ];
    for error in errors {
        assert_eq!(error.code(), C::Unsupported, "{error}");
    }
    assert_eq!(
        control(&refusal(501, ""), None).code(),
        C::Client,
        "a gateway's own word is not the server's"
    );
}

#[test]
fn a_body_without_text_names_the_status() {
    assert_eq!(control(&refusal(503, "<html>"), Some("a")).to_string(), "HTTP 503: Service Unavailable");
}
