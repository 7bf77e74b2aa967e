//! Orders of a list, and places in them.

use std::cmp::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::ApiError;
use crate::engine::{Purpose, Sandbox, Secret};

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    Name,
    Status,
    #[default]
    CreatedAt,
    StoppedAt,
    IdleTtlSeconds,
    DeleteAfterStopSeconds,
}

/// An order; equal values are in that of their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    #[serde(rename = "b")]
    pub(super) by: By,
    #[serde(rename = "d")]
    pub(super) descending: bool,
}

/// Where a sandbox stands. What has no value stands before what has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    #[serde(rename = "n")]
    number: Option<u64>,
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(rename = "i")]
    id: Uuid,
}

/// What a cursor says: after which place of which order the next page begins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cursor {
    #[serde(rename = "o")]
    order: Order,
    #[serde(rename = "a")]
    after: Place,
}

impl By {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "name" => Self::Name,
            "status" => Self::Status,
            "created_at" => Self::CreatedAt,
            "stopped_at" => Self::StoppedAt,
            "idle_ttl_seconds" => Self::IdleTtlSeconds,
            "delete_after_stop_seconds" => Self::DeleteAfterStopSeconds,
            _ => return None,
        })
    }
}

impl Order {
    pub(super) fn place(self, sandbox: &Sandbox) -> Place {
        let (mut number, mut text) = (None, String::new());
        match self.by {
            By::Name => text = sandbox.name().to_string(),
            By::Status => text = sandbox.status().0.as_str().to_owned(),
            By::CreatedAt => number = Some(millis(sandbox.times().0)),
            By::StoppedAt => number = sandbox.stopped_at().map(millis),
            By::IdleTtlSeconds => number = Some(sandbox.settings().idle_ttl_seconds),
            By::DeleteAfterStopSeconds => number = Some(sandbox.settings().delete_after_stop_seconds),
        }
        Place { number, text, id: sandbox.id() }
    }

    pub(super) fn compare(self, a: &Place, b: &Place) -> Ordering {
        if self.descending { b.cmp(a) } else { a.cmp(b) }
    }

    pub(super) fn cursor(self, after: &Place) -> Cursor {
        Cursor { order: self, after: after.clone() }
    }

    /// The place that a cursor names, if it is one of this order.
    pub(super) fn after(self, secret: &Secret, cursor: &str) -> Result<Place, ApiError> {
        let refused = |message| ApiError::validation("cursor", message);
        let cursor: Option<Cursor> = secret.verify(Purpose::Cursor, cursor);
        let Cursor { order, after } =
            cursor.ok_or_else(|| refused("must be the next_cursor of an earlier answer"))?;
        match order == self {
            true => Ok(after),
            false => Err(refused("belongs to another sort_by or sort_order")),
        }
    }
}

/// As exact as the database keeps it, so that an order survives a restart.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
