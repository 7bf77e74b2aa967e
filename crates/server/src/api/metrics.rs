//! `/metrics`, for those with the key.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use sandwire_protocol::ErrorType;

use super::{ApiError, App};
use crate::metrics;

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    let text = metrics::exposition(&app.metrics, &app.engine)
        .map_err(|error| ApiError::new(ErrorType::InternalError, error.to_string()))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}
