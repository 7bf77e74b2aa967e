//! Output as JavaScript values: strings in the form that V8 copies fastest, batches as one flat array.

use napi::bindgen_prelude::{Buffer, ToNapiValue, TypeName};
use napi::{Env, JsValue, Result, ValueType, sys};
use sandwire_client::{Batch, Data};
use sandwire_protocol::StreamKind;

/// Members of one chunk in the array.
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
            // SAFETY: `env` is the one that this conversion was called with, on its thread.
            Data::Bytes(bytes) => unsafe { Buffer::to_napi_value(env, Buffer::from(bytes)) },
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

/// `[kind, data, offset, kind, ...]`: an array of objects would cost ten times as much.
#[derive(Debug)]
pub struct FlatBatch(pub(crate) Batch);

impl ToNapiValue for FlatBatch {
    unsafe fn to_napi_value(env: sys::napi_env, batch: Self) -> Result<sys::napi_value> {
        let length = u32::try_from(batch.0.len() * MEMBERS).unwrap_or(u32::MAX);
        let scope = Env::from_raw(env);
        let mut array = scope.create_array(length)?;
        let mut index = 0;
        for chunk in batch.0 {
            array.set(index, u32::from(chunk.kind == StreamKind::Stderr))?;
            array.set(index + 1, Text(chunk.data))?;
            array.set(index + 2, position(chunk.offset))?;
            index += 3;
        }
        Ok(array.raw())
    }
}

/// Positions are exact up to 2^53, which is 9 PB of output.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn position(offset: u64) -> f64 {
    offset as f64
}
