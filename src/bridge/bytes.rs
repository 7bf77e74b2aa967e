//! Bytes that JavaScript hands in.

use bytes::Bytes;
use napi::bindgen_prelude::{Buffer, FromNapiValue, TypeName, ValidateNapiValue};
use napi::{Result, ValueType, sys};

/// A copy of a `Buffer`, made on the JavaScript thread: an async function would otherwise read memory that
/// JavaScript may change meanwhile.
#[derive(Debug)]
pub struct InputBytes(pub(crate) Bytes);

impl TypeName for InputBytes {
    fn type_name() -> &'static str {
        Buffer::type_name()
    }

    fn value_type() -> ValueType {
        Buffer::value_type()
    }
}

impl ValidateNapiValue for InputBytes {
    unsafe fn validate(env: sys::napi_env, value: sys::napi_value) -> Result<sys::napi_value> {
        // SAFETY: same arguments, same contract.
        unsafe { Buffer::validate(env, value) }
    }
}

impl FromNapiValue for InputBytes {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        // SAFETY: same arguments, same contract; the reference to the buffer ends here, on the same thread.
        let buffer = unsafe { Buffer::from_napi_value(env, value) }?;
        Ok(Self(Bytes::copy_from_slice(&buffer)))
    }
}
