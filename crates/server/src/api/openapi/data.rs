//! The data plane (section 5) and its extensions.

use sandwire_protocol::limits::{COMMANDS_MAX, SEARCH_LIMIT_MAX};
use sandwire_protocol::{ExecuteRequest, ExecuteResponse};
use serde_json::{Value, json};

use super::operation::{Document, Operation};

pub(super) fn describe(document: &mut Document) {
    commands(document);
    content(document);
    directories(document);
    search(document);
    at(document, "get", "/tunnel", "Not supported by this server").refuses(&[501]);
}

fn at<'a>(document: &'a mut Document, method: &str, path: &str, summary: &str) -> Operation<'a> {
    document.operation(method, &format!("/sandboxes/{{id}}{path}"), summary)
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn octal() -> Value {
    json!({ "type": "string", "pattern": "^[0-7]{1,4}$" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn count(most: usize) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": most })
}

fn offset() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// An object that has at least these members.
fn with(required: &[&str]) -> Value {
    json!({ "type": "object", "required": required })
}

fn page(list: &str, item: &Value) -> Value {
    json!({ "type": "object", "required": [list], "properties": { list: { "type": "array", "items": item } } })
}

fn commands(document: &mut Document) {
    at(document, "post", "/execute", "Run a command and wait for its end")
        .takes::<ExecuteRequest>(true)
        .gives_type::<ExecuteResponse>(200)
        .refuses(&[400, 404, 408]);
    at(document, "get", "/execute/ws", "Run or rejoin commands over a WebSocket")
        .empty(101)
        .refuses(&[400, 404, 426]);
    at(document, "post", "/execute/stream/start", "Run a command, told by server-sent events")
        .takes_fields(&[("command", text(), true)])
        .text("text/event-stream")
        .refuses(&[400, 404]);
    at(document, "post", "/execute/stream/resume", "Rejoin a command, told by server-sent events")
        .takes_fields(&[
            ("command_id", text(), true),
            ("stdout_offset", offset(), false),
            ("stderr_offset", offset(), false),
        ])
        .text("text/event-stream")
        .refuses(&[400, 404]);
    let command = with(&["command_id", "command", "status", "started_at"]);
    at(document, "get", "/commands", "Commands that run, and that are remembered")
        .query(&[("limit", count(COMMANDS_MAX), false), ("cursor", offset(), false)])
        .gives(page("items", &command))
        .refuses(&[404]);
    let path = "/commands/{command}";
    at(document, "get", path, "A command").gives(command).refuses(&[404, 410]);
    at(document, "delete", path, "Kill a command and its processes").empty(204).refuses(&[404, 410]);
}

fn content(document: &mut Document) {
    let path = || ("path", text(), true);
    at(document, "post", "/upload", "Write a file whole or not at all")
        .query(&[path(), ("mode", octal(), false)])
        .takes_file()
        .empty(200)
        .refuses(&[400, 403, 404, 507]);
    at(document, "get", "/download", "Read a file").query(&[path()]).file().refuses(&[400, 403, 404]);
    let archive = "/archive";
    at(document, "get", archive, "A directory as a tar archive").query(&[path()]).text("application/x-tar");
    for method in ["put", "post"] {
        at(document, method, archive, "Unpack a tar archive into a directory")
            .query(&[path()])
            .takes_bytes("application/x-tar")
            .empty(204)
            .refuses(&[400, 403, 404, 507]);
    }
}

fn directories(document: &mut Document) {
    let refusals = [400, 403, 404, 409];
    let path = || ("path", text(), true);
    let attributes = || with(&["path", "type", "size_bytes", "mode", "uid", "gid", "modified_at"]);
    let looked = json!({ "type": "object", "required": ["path"] });
    at(document, "post", "/stat", "What paths lead to")
        .takes_fields(&[("paths", json!({ "type": "array", "items": text() }), true)])
        .gives(page("entries", &looked))
        .refuses(&refusals);
    at(document, "post", "/list", "What is in a directory")
        .takes_fields(&[path(), ("offset", offset(), false), ("limit", count(SEARCH_LIMIT_MAX), false)])
        .gives(page("entries", &attributes()))
        .refuses(&refusals);
    at(document, "post", "/mkdir", "Make a directory")
        .query(&[path(), ("mode", octal(), false), ("parents", flag(), false)])
        .empty(204)
        .refuses(&refusals);
    at(document, "post", "/move", "Move a file or directory")
        .takes_fields(&[("from", text(), true), ("to", text(), true), ("overwrite", flag(), false)])
        .empty(204)
        .refuses(&refusals);
    at(document, "delete", "/files", "Remove a file or directory")
        .query(&[path(), ("recursive", flag(), false)])
        .empty(204)
        .refuses(&refusals);
}

fn search(document: &mut Document) {
    let fields =
        || vec![("pattern", text(), true), ("path", text(), true), ("limit", count(SEARCH_LIMIT_MAX), false)];
    at(document, "post", "/glob", "Files whose paths match")
        .takes_fields(&fields())
        .gives(page("matches", &with(&["path", "is_dir", "size_bytes", "modified_at"])))
        .refuses(&[400, 403, 404]);
    let mut grep = fields();
    grep.push(("glob", text(), false));
    at(document, "post", "/grep", "Lines that match")
        .takes_fields(&grep)
        .gives(page("matches", &with(&["path", "line", "text"])))
        .refuses(&[400, 403, 404]);
}
