//! The list of sandboxes (section 2.5), in both shapes that clients read.
//!
//! Pages are cut by the place of their last sandbox in the order, not by counting, so that sandboxes which come and go
//! meanwhile neither hide others nor show them twice. Without a size there is one page with everything, because the
//! hand-written clients read no other.

mod order;
pub(super) mod query;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Extracted, State};
use axum::http::HeaderMap;
use sandwire_protocol::SandboxList;

use super::{ApiError, App};
use crate::engine::Purpose;
use order::Place;
use query::{Query, Start};

pub(super) async fn list(
    State(app): State<Arc<App>>,
    pairs: Result<Extracted<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<SandboxList>, ApiError> {
    let Extracted(pairs) = pairs.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let query = Query::parse(&pairs)?;
    let admitted = app.engine.list().into_iter().filter(|sandbox| query.filter.admits(sandbox));
    let mut all: Vec<_> = admitted.map(|sandbox| (query.order.place(&sandbox), sandbox)).collect();
    all.sort_by(|(a, _), (b, _)| query.order.compare(a, b));
    let skipped = match &query.start {
        Start::Offset(offset) => *offset,
        Start::After(cursor) => {
            let after = query.order.after(&app.services.secret, cursor)?;
            all.partition_point(|(place, _)| query.order.compare(place, &after).is_le())
        }
    };
    let end = query.size.map_or(all.len(), |size| skipped.saturating_add(size).min(all.len()));
    let page = all.get(skipped..end).unwrap_or_default();
    let last = page.last().filter(|_| end < all.len());
    let items: Vec<_> = page.iter().map(|(_, sandbox)| app.object(sandbox, &headers)).collect();
    Ok(Json(SandboxList {
        sandboxes: items.clone(),
        items,
        next_cursor: last.map(|(place, _): &(Place, _)| {
            app.services.secret.sign(Purpose::Cursor, &query.order.cursor(place))
        }),
        offset: last.map_or(0, |_| end as u64),
    }))
}
