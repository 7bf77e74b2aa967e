//! What a list is asked for.

use sandwire_protocol::limits::{FILTERS_MAX, PAGE_MAX};

use super::order::{By, Order};
use crate::api::ApiError;
use crate::engine::Sandbox;

const STATUSES: [&str; 5] = ["provisioning", "ready", "failed", "stopped", "deleting"];

/// Parameters that make a list of one value out of many.
const REPEATABLE: [&str; 3] = ["status", "label", "tag_value_id"];

#[derive(Debug, Default)]
pub(in crate::api) struct Query {
    pub(super) filter: Filter,
    pub(super) order: Order,
    /// None: everything.
    pub(super) size: Option<usize>,
    pub(super) start: Start,
}

/// Where the page begins.
#[derive(Debug)]
pub(super) enum Start {
    After(String),
    Offset(usize),
}

impl Default for Start {
    fn default() -> Self {
        Self::Offset(0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Filter {
    name_contains: String,
    /// Any of them.
    statuses: Vec<String>,
    /// All of them; a key alone, or with its value.
    labels: Vec<(String, Option<String>)>,
}

impl Query {
    pub(in crate::api) fn parse(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (at, (key, value)) in pairs.iter().enumerate() {
            let earlier = pairs.iter().take(at).filter(|(name, _)| name == key).count();
            if earlier > 0 && !REPEATABLE.contains(&key.as_str()) {
                return Err(ApiError::validation(key, "is given twice"));
            }
            if earlier >= FILTERS_MAX {
                return Err(ApiError::validation(key, format!("is given more than {FILTERS_MAX} times")));
            }
            query.take(key, value)?;
        }
        check_pairs(pairs)?;
        Ok(query)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), ApiError> {
        let filter = &mut self.filter;
        match key {
            "name_contains" => filter.name_contains = value.to_lowercase(),
            "status" if STATUSES.contains(&value) => filter.statuses.push(value.to_owned()),
            "status" => return Err(one_of(key, &STATUSES, value)),
            "label" => filter.labels.push(label(value)?),
            // There is one key, and so one creator.
            "created_by" if value == "me" => {}
            "created_by" => return Err(one_of(key, &["me"], value)),
            "page_size" | "limit" => self.size = Some(size(key, value)?),
            "cursor" => self.start = Start::After(value.to_owned()),
            "offset" => {
                let number = value.parse().map_err(|_| whole(key, value))?;
                // The generated clients repeat what they began with beside the cursor of each further page.
                if let Start::Offset(offset) = &mut self.start {
                    *offset = number;
                }
            }
            "sort_by" => {
                let names =
                    "name, status, created_at, stopped_at, idle_ttl_seconds, delete_after_stop_seconds";
                self.order.by = By::parse(value).ok_or_else(|| one_of(key, &[names], value))?;
            }
            "sort_order" | "sort_direction" => match value {
                "asc" => self.order.descending = false,
                "desc" => self.order.descending = true,
                _ => return Err(one_of(key, &["asc", "desc"], value)),
            },
            "tag_value_id" => return Err(ApiError::unsupported("filtering sandboxes by tag_value_id")),
            _ => return Err(ApiError::validation(key, "is not a known parameter")),
        }
        Ok(())
    }
}

/// Two names of one thing would leave open which one holds.
fn check_pairs(pairs: &[(String, String)]) -> Result<(), ApiError> {
    let given = |name: &str| pairs.iter().any(|(key, _)| key == name);
    for (name, other) in [("limit", "page_size"), ("sort_direction", "sort_order")] {
        if given(name) && given(other) {
            return Err(ApiError::validation(name, format!("can't be given beside {other}")));
        }
    }
    Ok(())
}

fn size(key: &str, value: &str) -> Result<usize, ApiError> {
    let number: usize = value.parse().map_err(|_| whole(key, value))?;
    if !(1..=PAGE_MAX).contains(&number) {
        return Err(ApiError::validation(key, format!("must be 1 to {PAGE_MAX}, not {number}")));
    }
    Ok(number)
}

fn label(text: &str) -> Result<(String, Option<String>), ApiError> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(ApiError::validation("label", "must be key or key=value"));
    }
    Ok((key.to_owned(), value))
}

fn whole(key: &str, value: &str) -> ApiError {
    ApiError::validation(key, format!("must be a whole number, not {value:?}"))
}

fn one_of(key: &str, names: &[&str], value: &str) -> ApiError {
    ApiError::validation(key, format!("must be one of {}, not {value:?}", names.join(", ")))
}

impl Filter {
    pub(super) fn admits(&self, sandbox: &Sandbox) -> bool {
        let settings = sandbox.settings();
        let labelled = |(key, wanted): &(String, Option<String>)| {
            let value = settings.labels.get(key);
            value.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        (self.name_contains.is_empty() || sandbox.name().to_lowercase().contains(&self.name_contains))
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|status| status == sandbox.status().0.as_str()))
            && self.labels.iter().all(labelled)
    }
}
