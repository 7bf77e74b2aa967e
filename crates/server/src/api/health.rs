//! Whether the server lives, and for those with the key, what its sandboxes are isolated by.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use sandwire_protocol::Isolation;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::auth::Known;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: HealthStatus,
    /// What only those with the key learn.
    #[serde(flatten)]
    details: Option<Details>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum HealthStatus {
    Ok,
    Draining,
}

#[derive(Serialize, JsonSchema)]
struct Details {
    version: &'static str,
    isolation: Isolation,
    /// How many there are.
    sandboxes: usize,
}

pub(super) async fn health(State(app): State<Arc<App>>, Extension(known): Extension<Known>) -> Json<Health> {
    let status = if app.stopping.is_cancelled() { HealthStatus::Draining } else { HealthStatus::Ok };
    let Known(known) = known;
    let details = known.then(|| Details {
        version: env!("CARGO_PKG_VERSION"),
        isolation: app.engine.isolation().clone(),
        sandboxes: app.engine.list().len(),
    });
    Json(Health { status, details })
}
