//! Sandboxes on the control plane (sections 2.3 to 2.6, 2.8 and 2.13).
//!
//! Bodies cross as JSON text: what a newer server sends reaches the caller unchanged.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use sandwire_protocol::{ErrorCode, ResourceStatus, SandboxStatus};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::config::invalid;
use crate::error::{Refusal, control, creation};
use crate::http::{Payload, Request};
use crate::retry::jitter;
use crate::{Call, Client, Error};

/// What a create may take beyond the server's own wait (section 2.2).
const CREATE_GRACE: Duration = Duration::from_secs(30);

/// Pages of one list: more than any account holds, so that a server that repeats itself is noticed.
const LIST_PAGES_MAX: usize = 1000;

impl Client {
    /// Creates a sandbox from the body of `POST /boxes`; `wait` is the server's limit for the wait in it.
    ///
    /// # Errors
    /// Section 3.3; connection errors.
    pub async fn create_sandbox(&self, body: String, wait: Duration, call: &Call) -> Result<String, Error> {
        let mut request =
            Request::new(Method::POST, self.control_url("/boxes"), wait.saturating_add(CREATE_GRACE));
        request.payload = Payload::Json(body);
        let answer = self.send(&request, call).await?.map_err(|refusal| creation(&refusal))?;
        json_text(answer, &request.url)
    }

    /// A sandbox by name.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND`; section 3.2; connection errors.
    pub async fn get_sandbox(&self, name: &str, call: &Call) -> Result<String, Error> {
        let (url, body) = self.on_box(Method::GET, name, "", call).await?;
        json_text(body, &url)
    }

    /// All sandboxes, page by page, as a JSON array.
    ///
    /// # Errors
    /// Section 3.2; connection errors; `API_ERROR` if the list does not end.
    pub async fn list_sandboxes(&self, call: &Call) -> Result<String, Error> {
        let mut all = Vec::new();
        let mut cursor = None;
        for _ in 0..LIST_PAGES_MAX {
            let mut page = self.page(cursor.as_deref(), call).await?;
            // Both keys hold the same; servers exist that send only the older one.
            let key = if page.get("items").is_some_and(Value::is_array) { "items" } else { "sandboxes" };
            if let Some(list) = page.get_mut(key).and_then(Value::as_array_mut) {
                all.append(list);
            }
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.as_ref().is_none_or(String::is_empty) {
                return Ok(Value::Array(all).to_string());
            }
        }
        let message = format!("the list of sandboxes did not end within {LIST_PAGES_MAX} pages");
        Err(Error::new(ErrorCode::Api, message))
    }

    async fn page(&self, cursor: Option<&str>, call: &Call) -> Result<Value, Error> {
        let mut request = self.request(Method::GET, "/boxes");
        let query = cursor.map(|cursor| [("cursor", cursor)]);
        request.query = query.as_ref().map_or(&[], |query| query.as_slice());
        let body = self.send(&request, call).await?.map_err(|refusal| control(&refusal, None))?;
        parse(&body, &request.url)
    }

    /// Deletes a sandbox.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND`; section 3.2; connection errors.
    pub async fn delete_sandbox(&self, name: &str, call: &Call) -> Result<(), Error> {
        self.on_box(Method::DELETE, name, "", call).await.map(drop)
    }

    /// A sandbox's status, as JSON.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND`; section 3.2; connection errors.
    pub async fn sandbox_status(&self, name: &str, call: &Call) -> Result<String, Error> {
        let (url, body) = self.on_box(Method::GET, name, "/status", call).await?;
        json_text(body, &url)
    }

    /// Asks for the status until the sandbox is ready, then gets it.
    ///
    /// # Errors
    /// `RESOURCE_CREATION_FAILED` if it failed, `RESOURCE_TIMEOUT` if `timeout` passed first.
    pub async fn wait_for_sandbox(
        &self,
        name: &str,
        timeout: Duration,
        interval: Duration,
        call: &Call,
    ) -> Result<String, Error> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let (url, body) = self.on_box(Method::GET, name, "/status", call).await?;
            let status: ResourceStatus = parse(&body, &url)?;
            if status.status == SandboxStatus::Ready.as_str() {
                return self.get_sandbox(name, call).await;
            }
            if status.status == SandboxStatus::Failed.as_str() {
                return Err(failed(name, status.status_message));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(timed_out(name, timeout, status.status));
            }
            let pause = interval.mul_f64(0.9 + 0.2 * jitter());
            self.pause(left.map_or(pause, |left| pause.min(left)), call).await?;
        }
    }

    async fn pause(&self, time: Duration, call: &Call) -> Result<(), Error> {
        self.guard(async { call.cancel.run_until_cancelled(sleep(time)).await.ok_or_else(Error::aborted) })
            .await
    }

    async fn on_box(
        &self,
        method: Method,
        name: &str,
        action: &str,
        call: &Call,
    ) -> Result<(String, Bytes), Error> {
        let request = self.request(method, &format!("/boxes/{}{action}", segment(name)?));
        let refused = |refusal: Refusal| control(&refusal, Some(name));
        let body = self.send(&request, call).await?.map_err(refused)?;
        Ok((request.url, body))
    }

    fn request<'a>(&self, method: Method, path: &str) -> Request<'a> {
        Request::new(method, self.control_url(path), self.http.config.timeout)
    }

    fn control_url(&self, path: &str) -> String {
        format!("{}{path}", self.http.config.endpoint)
    }
}

fn failed(name: &str, message: Option<String>) -> Error {
    let message = message.unwrap_or_else(|| format!("Sandbox '{name}' failed to start"));
    Error::new(ErrorCode::Creation, message).with(|details| details.resource_type = Some("sandbox"))
}

fn timed_out(name: &str, timeout: Duration, last_status: String) -> Error {
    let message = format!("Sandbox '{name}' was not ready within {} s", timeout.as_secs_f64());
    Error::new(ErrorCode::ResourceTimeout, message).with(|details| {
        details.resource_type = Some("sandbox");
        details.last_status = Some(last_status);
    })
}

fn parse<T: DeserializeOwned>(body: &[u8], url: &str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let url = crate::config::redact(url);
        Error::new(ErrorCode::Api, format!("the answer from {url} is not the expected JSON: {error}"))
            .caused_by(error)
    })
}

fn json_text(body: Bytes, url: &str) -> Result<String, Error> {
    parse::<IgnoredAny>(&body, url)?;
    String::from_utf8(body.into()).map_err(|error| {
        let url = crate::config::redact(url);
        Error::new(ErrorCode::Api, format!("the answer from {url} is not UTF-8")).caused_by(error)
    })
}

/// A name as one segment of a path.
fn segment(name: &str) -> Result<String, Error> {
    // URL parsers resolve dot segments even when they are percent-encoded: such a name would address its parent.
    if name.is_empty() || name == "." || name == ".." {
        return Err(invalid("name", &format!("{name:?} can't be a sandbox name")));
    }
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte))
            }
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn names_are_one_segment() {
        assert_eq!(segment("a/b c:é").unwrap(), "a%2Fb%20c%3A%C3%A9");
        assert_eq!(segment("a-b_c.d~1").unwrap(), "a-b_c.d~1");
        for name in ["", ".", ".."] {
            assert_eq!(segment(name).unwrap_err().details().field.as_deref(), Some("name"));
        }
    }
}
