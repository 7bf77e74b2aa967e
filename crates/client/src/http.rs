//! One HTTP exchange with its attempts: headers, limits, cancellation, and the error if there is no answer.
//!
//! What an answer means is the caller's business ([`crate::error`]); here an exchange ends with the body of a
//! success, or with a [`Refusal`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, multipart, redirect};
use sandwire_protocol::limits::POOL_IDLE;
use sandwire_protocol::{ErrorBody, ErrorCode};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::error::{Refusal, root_cause};
use crate::retry::{self, Failure, Policy};
use crate::{Error, tls};

/// Names this client in server logs.
pub(crate) const USER_AGENT: &str = concat!("sandwire/", env!("CARGO_PKG_VERSION"));

/// What one call adds to the client's configuration.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Headers that win over the client's.
    pub headers: HeaderMap,
    /// Limit of each exchange instead of the default.
    pub timeout: Option<Duration>,
    /// Ends the call.
    pub cancel: CancellationToken,
}

/// What is sent.
#[derive(Debug)]
pub(crate) enum Payload {
    None,
    Json(String),
    /// The `file` part of an upload.
    File(Bytes),
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) payload: Payload,
    /// Default limit of one exchange.
    pub(crate) timeout: Duration,
    pub(crate) idempotent: bool,
}

impl Request<'_> {
    pub(crate) fn new(method: Method, url: String, timeout: Duration) -> Self {
        let idempotent = method.is_idempotent();
        Self { method, url, query: &[], payload: Payload::None, timeout, idempotent }
    }
}

/// The connection pool and what every request carries.
#[derive(Debug)]
pub(crate) struct Http {
    pool: reqwest::Client,
    pub(crate) config: Config,
    gate: Option<Arc<Semaphore>>,
}

/// Either side of an exchange that took place.
pub(crate) type Answer = Result<Bytes, Refusal>;

impl Http {
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let tls = tls::config()?;
        let mut pool = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            // A redirect would carry the key to a host that nobody configured.
            .redirect(redirect::Policy::none())
            .pool_idle_timeout(POOL_IDLE)
            .tls_backend_preconfigured(tls.as_ref().clone());
        if config.is_local() {
            // A proxy of the environment can't reach this machine's loopback.
            pool = pool.no_proxy();
        }
        let pool = pool.build().map_err(|error| {
            Error::new(ErrorCode::Client, "the HTTP client could not be set up").caused_by(error)
        })?;
        let gate = config.max_concurrency.map(|limit| Arc::new(Semaphore::new(limit.max(1))));
        Ok(Self { pool, config, gate })
    }

    /// The headers of a call, the client's below its own.
    pub(crate) fn headers(&self, call: &Call) -> HeaderMap {
        let mut headers = self.config.headers.clone();
        config::merge(&mut headers, call.headers.clone());
        headers
    }

    /// Runs the exchange and, as far as the policy goes, tries again.
    ///
    /// Cancel safe: dropped or cancelled, it sends nothing more.
    pub(crate) async fn send(&self, request: &Request<'_>, call: &Call) -> Result<Answer, Error> {
        let exchange = async {
            let _slot = match &self.gate {
                // The semaphore is never closed.
                Some(gate) => gate.acquire().await.ok(),
                None => None,
            };
            self.attempts(request, call).await
        };
        call.cancel.run_until_cancelled(exchange).await.unwrap_or_else(|| Err(Error::aborted()))
    }

    async fn attempts(&self, request: &Request<'_>, call: &Call) -> Result<Answer, Error> {
        let policy = Policy { max_retries: self.config.max_retries, idempotent: request.idempotent };
        let headers = self.headers(call);
        let limit = call.timeout.unwrap_or(request.timeout);
        let mut attempt = 0;
        loop {
            let outcome = self.attempt(request, &headers, limit).await;
            let failure = match &outcome {
                Ok(Ok(_)) => return outcome.map_err(|error| broken(error, request, limit, attempt)),
                Ok(Err(refusal)) => {
                    Failure::Status { status: refusal.status, retry_after: refusal.retry_after }
                }
                Err(error) if error.is_connect() => Failure::Connect,
                Err(_) => Failure::Broken,
            };
            match policy.pause(attempt, failure, retry::jitter()) {
                Some(pause) => sleep(pause).await,
                None => return outcome.map_err(|error| broken(error, request, limit, attempt)),
            }
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        headers: &HeaderMap,
        limit: Duration,
    ) -> Result<Answer, reqwest::Error> {
        let builder = self
            .pool
            .request(request.method.clone(), &request.url)
            .query(request.query)
            .headers(headers.clone())
            .timeout(limit);
        let response = with_payload(builder, &request.payload).send().await?;
        if response.status().is_success() {
            return Ok(Ok(response.bytes().await?));
        }
        refusal(response).await.map(Err)
    }
}

fn with_payload(builder: RequestBuilder, payload: &Payload) -> RequestBuilder {
    match payload {
        Payload::None => builder,
        Payload::Json(text) => {
            builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(text.clone())
        }
        Payload::File(data) => {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let part =
                multipart::Part::stream_with_length(data.clone(), length).file_name("file").headers(headers);
            builder.multipart(multipart::Form::new().part("file", part))
        }
    }
}

async fn refusal(response: Response) -> Result<Refusal, reqwest::Error> {
    let text =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let retry_after = text(RETRY_AFTER.as_str()).as_deref().and_then(retry::retry_after);
    let request_id = text("x-request-id");
    let url = config::redact(response.url().as_str());
    let body = ErrorBody::parse(&response.bytes().await?);
    Ok(Refusal { status, body, url, retry_after, request_id })
}

/// No answer came.
fn broken(error: reqwest::Error, request: &Request<'_>, limit: Duration, attempt: u32) -> Error {
    let url = config::redact(&request.url);
    let tries = if attempt > 0 { format!(" in {} attempts", attempt + 1) } else { String::new() };
    let cause = root_cause(&error);
    let (code, message) = match (error.is_connect(), error.is_timeout()) {
        (true, true) => (ErrorCode::ConnectTimeout, format!("no connection to {url}{tries}: {cause}")),
        (true, false) => (ErrorCode::Connection, format!("no connection to {url}{tries}: {cause}")),
        (false, true) => {
            (ErrorCode::Connection, format!("no answer from {url} within {} s", limit.as_secs_f64()))
        }
        (false, false) if error.is_builder() => {
            (ErrorCode::Client, format!("the request to {url} can't be sent: {cause}"))
        }
        (false, false) => (ErrorCode::Connection, format!("the exchange with {url} broke off: {cause}")),
    };
    Error::new(code, message).caused_by(error.without_url())
}
