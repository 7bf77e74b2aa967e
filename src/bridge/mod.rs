//! What knows JavaScript values: coded errors, batches of output, strings, bytes and cancellation.
#![expect(unsafe_code, reason = "conversions between Rust and JavaScript values are unsafe traits of napi")]

mod batch;
mod bytes;
mod cancel;
mod outcome;

pub(crate) use batch::{FlatBatch, Text, position};
pub(crate) use bytes::InputBytes;
pub(crate) use cancel::Cancel;
pub(crate) use outcome::{Promised, coded, promise};
