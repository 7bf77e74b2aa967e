//! The words in which paths are described.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What is described so far.
pub(super) struct Document {
    /// By path and method.
    paths: BTreeMap<String, BTreeMap<String, Said>>,
    schemas: SchemaGenerator,
}

/// What is said of one method of one path, as OpenAPI writes it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<[(); 0]>,
    parameters: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Value>,
    /// By status.
    responses: Map<String, Value>,
}

/// One method of one path.
pub(super) struct Operation<'a> {
    said: &'a mut Said,
    schemas: &'a mut SchemaGenerator,
}

impl Document {
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { paths: BTreeMap::new(), schemas: settings.into_generator() }
    }

    /// Begins an operation. Parameters of the path are read off it.
    pub(super) fn operation(&mut self, method: &str, path: &str, summary: &str) -> Operation<'_> {
        let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let text = || json!({ "type": "string", "minLength": 1 });
        let parameters = names
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text() }))
            .collect();
        let said = self.paths.entry(path.to_owned()).or_default().entry(method.to_owned()).or_default();
        *said = Said { summary: summary.to_owned(), parameters, ..Said::default() };
        let mut operation = Operation { said, schemas: &mut self.schemas };
        operation.answer("4XX", "The request was refused", "application/json", Some(problem()));
        operation.answer(
            "5XX",
            "The server failed, or has no such feature",
            "application/json",
            Some(problem()),
        );
        operation
    }

    /// The paths and the schemas.
    pub(super) fn finish(mut self) -> (Value, Value) {
        let mut schemas = self.schemas.take_definitions(true);
        schemas.insert("Error".into(), error());
        (json!(self.paths), Value::Object(schemas))
    }
}

impl Operation<'_> {
    /// Needs no key.
    pub(super) fn open(self) -> Self {
        self.said.security = Some([]);
        self
    }

    /// Parameters of the query, which are the members of a type.
    pub(super) fn asks<T: JsonSchema>(self) -> Self {
        let schema = T::json_schema(self.schemas);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let parameters: Vec<_> =
            members.map(|(name, schema)| (name.as_str(), not_null(schema), is_required(name))).collect();
        self.query(&parameters)
    }

    /// Parameters of the query: name, schema, whether it must be there.
    pub(super) fn query(self, parameters: &[(&str, Value, bool)]) -> Self {
        self.said.parameters.extend(parameters.iter().map(|(name, schema, required)| {
            json!({ "name": name, "in": "query", "required": required, "schema": schema })
        }));
        self
    }

    /// A JSON body, which may be left out unless it is `required`.
    pub(super) fn takes<T: JsonSchema>(self, required: bool) -> Self {
        let schema = self.schemas.subschema_for::<T>();
        let content = json!({ "application/json": { "schema": schema } });
        self.said.request_body = Some(json!({ "required": required, "content": content }));
        self
    }

    /// A body of bytes, whatever the request calls them.
    pub(super) fn takes_bytes(self, kind: &str) -> Self {
        let content = json!({ kind: { "schema": {} }, "application/octet-stream": { "schema": {} } });
        self.said.request_body = Some(json!({ "required": true, "content": content }));
        self
    }

    /// A body of bytes, or a form with a part named `file`.
    pub(super) fn takes_file(self) -> Self {
        let form = json!({
            "type": "object",
            "required": ["file"],
            "properties": { "file": { "type": "string", "contentMediaType": "application/octet-stream" } },
        });
        let content = json!({
            "multipart/form-data": { "schema": form },
            "application/octet-stream": { "schema": {} },
        });
        self.said.request_body = Some(json!({ "required": true, "content": content }));
        self
    }

    /// Answers with JSON of a type.
    pub(super) fn gives_type<T: JsonSchema>(mut self, status: u16) -> Self {
        let schema = self.schemas.subschema_for::<T>().to_value();
        self.answer(&status.to_string(), "Done", "application/json", Some(schema));
        self
    }

    /// Answers 200 with JSON.
    pub(super) fn gives(mut self, schema: Value) -> Self {
        self.answer("200", "Done", "application/json", Some(schema));
        self
    }

    /// Answers without a body.
    pub(super) fn empty(mut self, status: u16) -> Self {
        self.answer(&status.to_string(), "Done", "", None);
        self
    }

    /// Answers 200 with text of a media type.
    pub(super) fn text(mut self, kind: &str) -> Self {
        self.answer("200", "Done", kind, Some(json!({ "type": "string" })));
        self
    }

    /// Answers 200 with server-sent events. OpenAPI 3.1 has no word for a stream: the schema is that of one event.
    pub(super) fn events(mut self) -> Self {
        let text = json!({ "type": "string" });
        let members = json!({ "event": text, "data": text, "id": text });
        let event = json!({ "type": "object", "required": ["event", "data"], "properties": members });
        self.answer("200", "Done", "text/event-stream", Some(event));
        self
    }

    /// Answers with a file or a part of it.
    pub(super) fn file(mut self) -> Self {
        self.answer("200", "The file", "*/*", Some(json!({})));
        self.answer("206", "The range that was asked for", "*/*", Some(json!({})));
        self.answer("304", "The caller has this version", "", None);
        self.refuses(&[412, 416])
    }

    /// Refusals beside those that any path may give.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let known = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
            self.answer(&status.to_string(), known.unwrap_or("Refused"), "application/json", Some(problem()));
        }
        self
    }

    fn answer(&mut self, status: &str, description: &str, kind: &str, schema: Option<Value>) {
        let answer = match schema {
            Some(schema) => json!({ "description": description, "content": { kind: { "schema": schema } } }),
            None => json!({ "description": description }),
        };
        self.said.responses.insert(status.to_owned(), answer);
    }
}

/// What may be left out of a body may be null there; a query has no null.
fn not_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(kind) = schema.get_mut("type")
        && let Some(only) = kind.as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null"))
    {
        *kind = only.clone();
    }
    schema
}

fn problem() -> Value {
    json!({ "$ref": "#/components/schemas/Error" })
}

/// The two forms of errors (section 3.1).
fn error() -> Value {
    let text = json!({ "type": "string" });
    let standard = BTreeMap::from([("error", &text), ("message", &text), ("error_id", &text)]);
    let item = json!({
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": { "loc": { "type": "array", "items": text }, "msg": text, "type": text },
    });
    json!({
        "type": "object",
        "required": ["detail"],
        "properties": { "detail": { "oneOf": [
            { "type": "object", "required": ["error", "message"], "properties": standard },
            { "type": "array", "minItems": 1, "items": item },
        ] } },
    })
}
