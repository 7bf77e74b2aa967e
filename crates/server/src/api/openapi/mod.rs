//! The description of the API, `/openapi.json`: OpenAPI 3.1, its schemas generated from the types of the wire.
//!
//! `control` and `data` say for each path what it takes and gives, `operation` is the language they say it in. That no
//! path of the router is missing here, and none here is missing there, is tested.

mod control;
mod data;
mod operation;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::health::Health;
use operation::Document;

/// The base under which the control plane is described; the others lead to the same.
const BASE: &str = "/v2/sandboxes";

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Needs no key: it says nothing of this server's sandboxes.
pub(super) async fn openapi(State(_): State<Arc<App>>) -> Response {
    Json(&*DOCUMENT).into_response()
}

fn document() -> Value {
    let mut document = Document::new();
    general(&mut document);
    control::describe(&mut document);
    data::describe(&mut document);
    let (paths, schemas) = document.finish();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sandwired",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sandboxes on plain Linux, behind the LangSmith sandbox protocol. The control plane stands \
                            under /v2/sandboxes, and the same under /api/v2/sandboxes and /api/v1/v2/sandboxes.",
        },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "X-Api-Key" } },
            "schemas": schemas,
        },
    })
}

fn general(document: &mut Document) {
    document
        .operation("get", "/healthz", "Whether the server lives; with the key, how it isolates")
        .open()
        .gives_type::<Health>(200);
    document
        .operation("get", "/metrics", "Counters for Prometheus, where they are switched on")
        .text("application/openmetrics-text");
    document.operation("get", "/openapi.json", "This description").open().gives(json!({ "type": "object" }));
    document
        .operation("get", "/download/{token}", "The file that a download link names")
        .open()
        .file()
        .refuses(&[404, 410]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What the router has: its own account of itself, since it has no other. For paths that take any method the set of
    /// methods is empty.
    fn routed() -> BTreeMap<String, BTreeSet<String>> {
        let router = crate::api::routes(true);
        let told = format!("{router:?}");
        let (mut paths, mut methods) = (BTreeMap::new(), BTreeMap::new());
        let told = told.split("fallback_router: ").next().unwrap();
        for entry in told.split("RouteId(").skip(1) {
            let Some((number, said)) = entry.split_once("): ") else { continue };
            if let Some(path) = said.strip_prefix('"').and_then(|path| path.split('"').next()) {
                paths.insert(number, path.to_owned());
            } else if said.starts_with("MethodRouter(") {
                let all = ["get", "post", "put", "patch", "delete"].into_iter();
                let has = |method: &&str| !said.contains(&format!(" {method}: None"));
                methods.insert(number, all.filter(has).map(str::to_owned).collect::<BTreeSet<_>>());
            }
        }
        assert!(paths.keys().eq(methods.keys()), "{told}");
        let routed: BTreeMap<_, _> = paths.into_values().zip(methods.into_values()).collect();
        assert!(routed.len() > 50, "the router tells of itself in another form: {told}");
        routed
    }

    fn described() -> BTreeMap<String, BTreeSet<String>> {
        let mut described = BTreeMap::new();
        for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
            let methods: BTreeSet<String> = item.as_object().unwrap().keys().cloned().collect();
            match path.strip_prefix(BASE) {
                Some(rest) => {
                    for base in crate::api::BASES {
                        described.insert(format!("{base}{rest}"), methods.clone());
                    }
                }
                None => drop(described.insert(path.clone(), methods)),
            }
        }
        described
    }

    #[test]
    fn the_router_and_the_document_have_the_same_paths_and_methods() {
        // A path's last parameter may hold slashes, which OpenAPI has no word for.
        let routed: BTreeMap<_, _> =
            routed().into_iter().map(|(path, methods)| (path.replace("{*", "{"), methods)).collect();
        let described = described();
        let paths = |map: &BTreeMap<String, BTreeSet<String>>| map.keys().cloned().collect::<BTreeSet<_>>();
        let (routed_paths, described_paths) = (paths(&routed), paths(&described));
        let missing: Vec<_> = routed_paths.difference(&described_paths).collect();
        let invented: Vec<_> = described_paths.difference(&routed_paths).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "not described: {missing:?}; not routed: {invented:?}"
        );
        for (path, methods) in &routed {
            // Those that take any method answer 501, or look at the method themselves.
            if !methods.is_empty() {
                assert_eq!(methods, &described[path], "{path}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, schemas: &Value) {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(schemas.get(name).is_some(), "{reference}");
            }
            match value {
                Value::Array(items) => items.iter().for_each(|item| check(item, schemas)),
                Value::Object(members) => members.values().for_each(|member| check(member, schemas)),
                _ => {}
            }
        }
        check(&DOCUMENT, &DOCUMENT["components"]["schemas"]);
        let sandbox = &DOCUMENT["components"]["schemas"]["Sandbox"]["properties"];
        assert!(sandbox["dataplane_url"].is_object(), "{sandbox}");
    }
}
