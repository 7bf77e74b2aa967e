//! The list of sandboxes (section 2.5), in both shapes that clients read.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use sandwire_protocol::SandboxList;
use sandwire_protocol::limits::PAGE_DEFAULT;

use super::{ApiError, App};
use crate::engine::Sandbox;

#[derive(Debug, Default)]
struct Filter {
    name_contains: Option<String>,
    status: Option<String>,
    size: Option<usize>,
    offset: usize,
    descending: bool,
    by_name: bool,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<SandboxList>, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let filter = Filter::parse(&query)?;
    let mut all = app.engine.list();
    all.retain(|sandbox| filter.admits(sandbox));
    if filter.by_name {
        all.sort_by_key(|sandbox| sandbox.name());
    }
    if filter.descending {
        all.reverse();
    }
    let size = filter.size.unwrap_or(PAGE_DEFAULT);
    let next = filter.offset.saturating_add(size);
    let more = next < all.len();
    let page = all.iter().skip(filter.offset).take(size);
    let items: Vec<_> = page.map(|sandbox| app.object(sandbox, &headers)).collect();
    Ok(Json(SandboxList {
        sandboxes: items.clone(),
        items,
        next_cursor: more.then(|| next.to_string()),
        offset: if more { next as u64 } else { 0 },
    }))
}

impl Filter {
    fn parse(query: &[(String, String)]) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        for (key, value) in query {
            let number = || value.parse().map_err(|_| ApiError::validation(key, "must be a whole number"));
            match key.as_str() {
                "name_contains" => filter.name_contains = Some(value.to_lowercase()),
                "status" => filter.status = Some(value.clone()),
                "page_size" | "limit" => filter.size = Some(number()?),
                "cursor" | "offset" => filter.offset = number()?,
                "sort_by" if value == "name" => filter.by_name = true,
                "sort_by" if value == "created_at" => {}
                "sort_order" | "sort_direction" if value == "asc" => {}
                "sort_order" | "sort_direction" if value == "desc" => filter.descending = true,
                "sort_by" => return Err(ApiError::unsupported(&format!("sorting sandboxes by {value:?}"))),
                "sort_order" | "sort_direction" => {
                    return Err(ApiError::validation(key, "must be asc or desc"));
                }
                "created_by" | "label" | "tag_value_id" => {
                    return Err(ApiError::unsupported(&format!("filtering sandboxes by {key}")));
                }
                _ => return Err(ApiError::validation(key, "is not a known parameter")),
            }
        }
        match filter.size {
            Some(0) => Err(ApiError::validation("page_size", "must be positive")),
            _ => Ok(filter),
        }
    }

    fn admits(&self, sandbox: &Sandbox) -> bool {
        let name = self.name_contains.as_ref();
        let status = self.status.as_ref();
        name.is_none_or(|part| sandbox.name().to_lowercase().contains(part))
            && status.is_none_or(|status| sandbox.status().0.as_str() == status)
    }
}
