//! Output as JavaScript values: strings in the form that V8 copies fastest, batches as one flat array.

use napi::bindgen_prelude::{BufferSlice, ToNapiValue, TypeName};
use napi::{Env, JsValue, Result, ValueType, sys};
use sandwire_client::{Batch, Chunk, Data, Gap, Item};
use sandwire_protocol::StreamKind;

/// Members of one item in the array.
const MEMBERS: usize = 3;

/// A prepared string, or a `Buffer`.
#[derive(Debug)]
pub struct Text(pub(crate) Data);

impl ToNapiValue for Text {
    unsafe fn to_napi_value(env: sys::napi_env, text: Self) -> Result<sys::napi_value> {
        let scope = Env::from_raw(env);
        match text.0 {
            Data::Latin1(bytes) => Ok(scope.create_string_latin1(bytes)?.raw()),
            Data::Utf16(units) => Ok(scope.create_string_utf16(units)?.raw()),
            // A copy in JavaScript's own memory: some engines forbid any other.
            Data::Bytes(bytes) => {
                let buffer = BufferSlice::copy_from(&scope, bytes)?;
                // SAFETY: `env` is the one that this conversion was called with, on its thread.
                unsafe { BufferSlice::to_napi_value(env, buffer) }
            }
        }
    }
}

impl TypeName for Text {
    fn type_name() -> &'static str {
        "String"
    }

    fn value_type() -> ValueType {
        ValueType::String
    }
}

/// `[tag, data, offset, tag, ...]`: an array of objects would cost ten times as much.
///
/// The tag of a chunk is its stream (0 stdout, 1 stderr) and twice its surplus: how many bytes longer its UTF-8 is than
/// what it stands for. A gap is `[-1 - stream, to, from]`.
#[derive(Debug)]
pub struct FlatBatch(pub(crate) Batch);

impl ToNapiValue for FlatBatch {
    unsafe fn to_napi_value(env: sys::napi_env, batch: Self) -> Result<sys::napi_value> {
        let length = u32::try_from(batch.0.len() * MEMBERS).unwrap_or(u32::MAX);
        let scope = Env::from_raw(env);
        let mut array = scope.create_array(length)?;
        let mut index = 0;
        for item in batch.0 {
            match item {
                Item::Chunk(Chunk { kind, offset, data, surplus }) => {
                    array.set(index, chunk_tag(kind, surplus))?;
                    array.set(index + 1, Text(data))?;
                    array.set(index + 2, position(offset))?;
                }
                Item::Gap(Gap { stream, from, to }) => {
                    array.set(index, -1 - stream_number(stream))?;
                    array.set(index + 1, position(to))?;
                    array.set(index + 2, position(from))?;
                }
            }
            index += 3;
        }
        Ok(array.raw())
    }
}

fn chunk_tag(kind: StreamKind, surplus: usize) -> i32 {
    // A chunk is at most a frame, so its surplus is far below the limit.
    i32::try_from(surplus).unwrap_or(0) * 2 + stream_number(kind)
}

fn stream_number(kind: StreamKind) -> i32 {
    i32::from(kind == StreamKind::Stderr)
}

/// Positions are exact up to 2^53, which is 9 PB of output.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn position(offset: u64) -> f64 {
    offset as f64
}
