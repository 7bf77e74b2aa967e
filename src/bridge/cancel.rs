//! The native end of an `AbortSignal`. `lib/` listens to the signal, because napi's own support misses signals that
//! were aborted before and overwrites the caller's `onabort`.

use napi_derive::napi;
use tokio_util::sync::CancellationToken;

/// Cancels the calls that it is given to.
#[napi]
#[derive(Debug, Default)]
pub struct Cancel {
    token: CancellationToken,
}

#[napi]
impl Cancel {
    /// Not cancelled.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels. Idempotent.
    #[napi]
    pub fn cancel(&self) {
        self.token.cancel();
    }

    pub(crate) fn token(cancel: Option<&Self>) -> CancellationToken {
        cancel.map(|cancel| cancel.token.clone()).unwrap_or_default()
    }
}
