//! The data plane (section 5) and its extensions.

use sandwire_protocol::{CommandSpec, ExecuteRequest, ExecuteResponse};

use super::operation::{Document, Operation};
use crate::api::commands::{Command, CommandList, Page};
use crate::api::exec_events::Resume;
use crate::api::files::{
    Found, GlobMatch, GlobRequest, GrepMatch, GrepRequest, ListRequest, Listed, MakeDirectory, Move, Remove,
    StatRequest, Stats, Target, UploadOptions,
};

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

fn commands(document: &mut Document) {
    at(document, "post", "/execute", "Run a command and wait for its end")
        .takes::<ExecuteRequest>(true)
        .gives_type::<ExecuteResponse>(200)
        .refuses(&[400, 404, 408]);
    at(document, "get", "/execute/ws", "Run or rejoin commands over a WebSocket")
        .empty(101)
        .refuses(&[400, 404, 426]);
    at(document, "post", "/execute/stream/start", "Run a command, told by server-sent events")
        .takes::<CommandSpec>(true)
        .events()
        .refuses(&[400, 404]);
    at(document, "post", "/execute/stream/resume", "Rejoin a command, told by server-sent events")
        .takes::<Resume>(true)
        .events()
        .refuses(&[400, 404]);
    at(document, "get", "/commands", "Commands that run, and that are remembered")
        .asks::<Page>()
        .gives_type::<CommandList>(200)
        .refuses(&[404]);
    let path = "/commands/{command}";
    at(document, "get", path, "A command").gives_type::<Command>(200).refuses(&[404, 410]);
    at(document, "delete", path, "Kill a command and its processes").empty(204).refuses(&[404, 410]);
}

fn content(document: &mut Document) {
    at(document, "post", "/upload", "Write a file whole or not at all")
        .asks::<UploadOptions>()
        .takes_file()
        .empty(200)
        .refuses(&[400, 403, 404, 507]);
    at(document, "get", "/download", "Read a file").asks::<Target>().file().refuses(&[400, 403, 404]);
    let archive = "/archive";
    at(document, "get", archive, "A directory as a tar archive").asks::<Target>().text("application/x-tar");
    for method in ["put", "post"] {
        at(document, method, archive, "Unpack a tar archive into a directory")
            .asks::<Target>()
            .takes_bytes("application/x-tar")
            .empty(204)
            .refuses(&[400, 403, 404, 507]);
    }
}

fn directories(document: &mut Document) {
    let refusals = [400, 403, 404, 409];
    at(document, "post", "/stat", "What paths lead to")
        .takes::<StatRequest>(true)
        .gives_type::<Stats>(200)
        .refuses(&refusals);
    at(document, "post", "/list", "What is in a directory")
        .takes::<ListRequest>(true)
        .gives_type::<Listed>(200)
        .refuses(&refusals);
    at(document, "post", "/mkdir", "Make a directory").asks::<MakeDirectory>().empty(204).refuses(&refusals);
    at(document, "post", "/move", "Move a file or directory")
        .takes::<Move>(true)
        .empty(204)
        .refuses(&refusals);
    at(document, "delete", "/files", "Remove a file or directory")
        .asks::<Remove>()
        .empty(204)
        .refuses(&refusals);
}

fn search(document: &mut Document) {
    at(document, "post", "/glob", "Files whose paths match")
        .takes::<GlobRequest>(true)
        .gives_type::<Found<GlobMatch>>(200)
        .refuses(&[400, 403, 404]);
    at(document, "post", "/grep", "Lines that match")
        .takes::<GrepRequest>(true)
        .gives_type::<Found<GrepMatch>>(200)
        .refuses(&[400, 403, 404]);
}
