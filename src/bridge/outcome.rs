//! Coded errors out of async functions. napi lets an async function fail only with its own status codes; so ours
//! succeed with an [`Outcome`], which turns into a rejection when it is converted on the JavaScript thread.
//!
//! No method of a class is an `async fn`: its future would borrow the Rust half of the JavaScript object, which a
//! worker thread that is terminated frees while the future is still polled. They clone what they need, and
//! [`promise`] runs a future that owns everything.

use napi::bindgen_prelude::{JavaScriptClassExt, JsObjectValue, Object, PromiseRaw, ToNapiValue};
use napi::{Env, JsValue, Result, Status, sys};
use sandwire_client::Error;

use crate::result::NativeResult;

/// A value, or an error with `code`, `retryable`, `details`, and `cause` and `result` where there are any.
#[derive(Debug)]
pub struct Outcome<T>(pub(crate) std::result::Result<T, Error>);

/// What a method that works in the background returns.
pub(crate) type Promised<'env, T> = PromiseRaw<'env, Outcome<T>>;

/// Runs a future in the background.
pub(crate) fn promise<'env, T>(
    env: &'env Env,
    work: impl Future<Output = std::result::Result<T, Error>> + Send + 'static,
) -> Result<Promised<'env, T>>
where
    T: ToNapiValue + Send + 'static,
{
    // Kilobytes, which each wrapper on the way to the runtime would otherwise hold twice and copy.
    let work = Box::pin(work);
    env.spawn_future(async move { Ok(Outcome(work.await)) })
}

impl<T: ToNapiValue> ToNapiValue for Outcome<T> {
    unsafe fn to_napi_value(env: sys::napi_env, outcome: Self) -> Result<sys::napi_value> {
        match outcome.0 {
            // SAFETY: `env` is the one that this conversion was called with, on its thread.
            Ok(value) => unsafe { T::to_napi_value(env, value) },
            Err(error) => Err(coded(&Env::from_raw(env), &error)?),
        }
    }
}

/// The error to throw: a JavaScript `Error` with our properties.
pub(crate) fn coded(env: &Env, error: &Error) -> Result<napi::Error> {
    let mut object = env.create_error(napi::Error::new(Status::GenericFailure, error.to_string()))?;
    let details = serde_json::to_string(error.details()).unwrap_or_else(|_| "{}".to_owned());
    object.set_named_property("code", error.code().as_str())?;
    object.set_named_property("retryable", error.retryable())?;
    object.set_named_property("details", details)?;
    if let Some(cause) = error.cause() {
        object.set_named_property("cause", native_cause(env, &cause)?)?;
    }
    if let Some(result) = &error.details().result {
        object.set_named_property("result", NativeResult::new(result.clone()).into_instance(env)?)?;
    }
    Ok(napi::Error::from(object.to_unknown()))
}

fn native_cause<'env>(env: &'env Env, text: &str) -> Result<Object<'env>> {
    env.create_error(napi::Error::new(Status::GenericFailure, text.to_owned()))
}
