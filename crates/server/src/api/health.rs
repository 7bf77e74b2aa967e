//! Whether the server lives, and for those with the key, what its sandboxes are isolated by.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::{Value, json};

use super::App;
use super::auth::Known;

pub(super) async fn health(State(app): State<Arc<App>>, Extension(known): Extension<Known>) -> Json<Value> {
    let status = if app.stopping.is_cancelled() { "draining" } else { "ok" };
    Json(match known {
        Known(false) => json!({ "status": status }),
        Known(true) => json!({
            "status": status,
            "version": env!("CARGO_PKG_VERSION"),
            "isolation": app.engine.isolation(),
            "sandboxes": app.engine.list().len(),
        }),
    })
}
