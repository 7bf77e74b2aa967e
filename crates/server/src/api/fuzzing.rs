//! The parsers of requests that the fuzz targets drive. The targets stand outside of this crate and know none of its types.

use std::ops::Range;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;

use super::files::range::{Part, parse};
use super::list::query::Query;
use super::services::host::Host;

/// The bytes that a `Range` header asks for of a file of `size` bytes, if it asks for some that there are.
pub fn part_of_file(header: &str, size: u64) -> Option<Range<u64>> {
    match parse(header, size) {
        Part::Bytes(range) => Some(range),
        Part::Whole | Part::Beyond => None,
    }
}

/// Whether the query of a list is understood.
pub fn list_is_asked_for(pairs: &[(String, String)]) -> bool {
    Query::parse(pairs).is_ok()
}

/// The service that a `Host` header names, and its port in the sandbox.
pub fn service_of_host(header: &str) -> Option<(String, u16)> {
    let request = Request::builder().header(HOST, header).body(Body::empty()).ok()?;
    match Host::of(&request).ok()? {
        Host::Service(target) => Some((target.name(), target.port)),
        Host::Api => None,
    }
}
