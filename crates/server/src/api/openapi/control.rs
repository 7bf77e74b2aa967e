//! The control plane (section 2).

use sandwire_protocol::limits::PAGE_MAX;
use sandwire_protocol::{
    CreateSandbox, DownloadUrl, DownloadUrlRequest, ResourceStatus, Sandbox, SandboxList, SandboxStatus,
    ServiceGrantList, ServiceUrl, ServiceUrlRequest, UpdateSandbox,
};
use serde_json::{Value, json};

use super::BASE;
use super::operation::{Document, Operation};
use crate::api::events::From;
use crate::api::services::Revocation;

pub(super) fn describe(document: &mut Document) {
    boxes(document);
    one_box(document);
    links(document);
    at(document, "get", "/events", "Transitions of sandboxes, as server-sent events").asks::<From>().events();
    missing(document);
}

fn at<'a>(document: &'a mut Document, method: &str, path: &str, summary: &str) -> Operation<'a> {
    document.operation(method, &format!("{BASE}{path}"), summary)
}

fn boxes(document: &mut Document) {
    at(document, "post", "/boxes", "Make a sandbox")
        .takes::<CreateSandbox>(false)
        .gives_type::<Sandbox>(201)
        .gives_type::<Sandbox>(200)
        .refuses(&[408, 409, 422, 503]);
    let size = || json!({ "type": "integer", "minimum": 1, "maximum": PAGE_MAX });
    let words = |words: &[&str]| json!({ "type": "string", "enum": words });
    let statuses = [
        SandboxStatus::Provisioning,
        SandboxStatus::Ready,
        SandboxStatus::Failed,
        SandboxStatus::Stopped,
        SandboxStatus::Deleting,
    ];
    let list = |item: Value| json!({ "type": "array", "items": item });
    let order =
        ["name", "status", "created_at", "stopped_at", "idle_ttl_seconds", "delete_after_stop_seconds"];
    at(document, "get", "/boxes", "List sandboxes")
        .query(&[
            ("page_size", size(), false),
            ("limit", size(), false),
            ("cursor", json!({ "type": "string" }), false),
            ("offset", json!({ "type": "integer", "minimum": 0 }), false),
            ("name_contains", json!({ "type": "string" }), false),
            ("status", list(words(&statuses.map(SandboxStatus::as_str))), false),
            ("created_by", words(&["me"]), false),
            ("label", list(json!({ "type": "string", "pattern": "^[^=]+(=.*)?$" })), false),
            ("sort_by", words(&order), false),
            ("sort_order", words(&["asc", "desc"]), false),
            ("sort_direction", words(&["asc", "desc"]), false),
        ])
        .gives_type::<SandboxList>(200)
        .refuses(&[422]);
}

fn one_box(document: &mut Document) {
    let path = "/boxes/{name}";
    at(document, "get", path, "A sandbox, by name or id").gives_type::<Sandbox>(200).refuses(&[404]);
    at(document, "patch", path, "Change a sandbox")
        .takes::<UpdateSandbox>(false)
        .gives_type::<Sandbox>(200)
        .refuses(&[404, 409, 422]);
    at(document, "delete", path, "Delete a sandbox").empty(204).refuses(&[404]);
    at(document, "get", "/boxes/{name}/status", "The status of a sandbox")
        .gives_type::<ResourceStatus>(200)
        .refuses(&[404]);
    at(document, "post", "/boxes/{name}/start", "Start a stopped or failed sandbox")
        .gives_type::<Sandbox>(202)
        .refuses(&[404, 409]);
    at(document, "post", "/boxes/{name}/stop", "Stop a sandbox; its files stay")
        .empty(204)
        .refuses(&[404, 409]);
}

fn links(document: &mut Document) {
    at(document, "post", "/boxes/{name}/download-url", "A link to a file")
        .takes::<DownloadUrlRequest>(true)
        .gives_type::<DownloadUrl>(200)
        .refuses(&[404, 422]);
    at(document, "post", "/boxes/{name}/service-url", "A URL for a port")
        .takes::<ServiceUrlRequest>(true)
        .gives_type::<ServiceUrl>(200)
        .refuses(&[404, 422, 501]);
    let path = "/boxes/{name}/service-urls";
    at(document, "get", path, "Ports that have URLs").gives_type::<ServiceGrantList>(200).refuses(&[404]);
    at(document, "delete", path, "Revoke URLs of one port, or all; issued tokens hold until they expire")
        .asks::<Revocation>()
        .empty(204)
        .refuses(&[404, 422]);
}

/// What the protocol has and this server has not.
fn missing(document: &mut Document) {
    for (path, methods) in [
        ("/boxes/{name}/snapshot", &["post"][..]),
        ("/snapshots", &["post", "get"]),
        ("/snapshots/{reference}", &["get", "delete"]),
        ("/snapshots-by-name/{name}", &["get"]),
        ("/registries", &["post", "get"]),
        ("/registries/{name}", &["get", "patch", "delete"]),
        ("/volumes", &["post", "get"]),
        ("/volumes/{name}", &["get", "patch", "delete"]),
        ("/templates", &["post", "get"]),
        ("/templates/{name}", &["get", "patch", "delete"]),
        ("/pools", &["post", "get"]),
        ("/pools/{name}", &["get", "patch", "delete"]),
        ("/usage/costs", &["get"]),
    ] {
        for method in methods {
            at(document, method, path, "Not supported by this server").refuses(&[501]);
        }
    }
}
