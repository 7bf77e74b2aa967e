//! A client: the connection pool, and the end of everything that it started.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, http_url};
use crate::http::Http;
use crate::{Call, Error};

/// A sandbox's data plane.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name, for messages.
    pub name: String,
    /// Base URL, without a trailing slash.
    pub dataplane_url: String,
}

impl Target {
    pub(crate) fn url(&self, path: &str) -> Result<String, Error> {
        http_url(&self.dataplane_url, "dataplane_url")?;
        Ok(format!("{}{path}", self.dataplane_url.trim_end_matches('/')))
    }
}

/// Speaks to one server. Clones share the connection pool and the end.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: Arc<Http>,
    closed: CancellationToken,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self { http: Arc::new(Http::new(config)?), closed: CancellationToken::new() })
    }

    /// Ends what is under way and refuses what comes. Idempotent.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Cancelled when the client is closed.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Runs `work` until it ends or the client is closed; cancelling by `call` is the work's own business.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.closed.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::closed()))
    }

    /// Sends and checks whether the client is open.
    pub(crate) async fn send(
        &self,
        request: &crate::http::Request<'_>,
        call: &Call,
    ) -> Result<crate::http::Answer, Error> {
        self.guard(self.http.send(request, call)).await
    }
}
