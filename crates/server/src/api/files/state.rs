//! The state of a file as HTTP names it: its entity tag and its date, and whether a request's conditions hold
//! (RFC 9110, sections 8.8 and 13).
//!
//! A tag is the file's inode, size, time of modification and time of change. It is strong because the kernel sets the
//! time of change whenever content or attributes change, no call inside a sandbox can set it, and its clock can't be
//! set there either. That clock advances in ticks of some milliseconds, so a file that changed within the current tick
//! could change again unseen, and has no tag yet. Who asks for a tag, or for a part, waits for the next tick; a file that
//! is written all the time has no tag at all. A body is read after its tag is made; a file that is changed in place meanwhile shows both states in
//! it, as from any server, and the tag of the next answer says so.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{
    ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use rustix::time::{ClockId, clock_getres, clock_gettime};

/// The last second that an HTTP date can name, in the year 9999; a sandbox may date its files later.
const LAST_DATE: u64 = 253_402_300_799;

/// Ticks that are waited for a tag: the kernel's clock may be behind the newest times of files by more than one.
const TICKS: u32 = 3;

/// The state of a file at one instant.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) size: u64,
    /// Whole seconds, as HTTP has them.
    modified: SystemTime,
    tag: Option<String>,
}

/// What a request's conditions say about its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They hold, or there are none.
    Answer,
    /// The client has this state already.
    NotModified,
    /// The client wants another state.
    Failed,
}

impl State {
    /// The state of an open file. With `patience` a file that has just changed is given the time to get a tag.
    pub(super) async fn of(file: &File, patience: bool) -> io::Result<Self> {
        let mut metadata = file.metadata()?;
        for _ in 0..TICKS {
            if patience && fresh(&metadata) {
                tokio::time::sleep(tick()).await;
                metadata = file.metadata()?;
            }
        }
        let tag = (!fresh(&metadata)).then(|| tag(&metadata));
        let modified = u64::try_from(metadata.mtime()).unwrap_or_default().min(LAST_DATE);
        Ok(Self { size: metadata.len(), modified: UNIX_EPOCH + Duration::from_secs(modified), tag })
    }

    /// Of a file that does not say its size: what it has is made as it is read, and no attribute tells of a change.
    pub(super) fn without_tag(self, size: u64) -> Self {
        Self { size, tag: None, ..self }
    }

    /// Whether a request needs a tag.
    pub(super) fn is_asked_for(method: &Method, request: &HeaderMap) -> bool {
        let asks = [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE];
        method == Method::HEAD || asks.iter().any(|name| request.contains_key(name))
    }

    /// The headers that tell it.
    pub(super) fn headers(&self) -> HeaderMap {
        let tag = self.tag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok());
        let date = HeaderValue::try_from(httpdate::fmt_http_date(self.modified)).ok();
        let named = |name: HeaderName, value: Option<HeaderValue>| value.map(|value| (name, value));
        [named(ETAG, tag), named(LAST_MODIFIED, date)].into_iter().flatten().collect()
    }

    /// Whether a request for it is answered with it.
    pub(super) fn judge(&self, request: &HeaderMap) -> Verdict {
        let since = |name| date(request, name).map(|date| self.modified > date);
        if let Some(matches) = self.listed(request, IF_MATCH, false) {
            if !matches {
                return Verdict::Failed;
            }
        } else if since(IF_UNMODIFIED_SINCE) == Some(true) {
            return Verdict::Failed;
        }
        let modified = match self.listed(request, IF_NONE_MATCH, true) {
            Some(matches) => !matches,
            None => since(IF_MODIFIED_SINCE).unwrap_or(true),
        };
        if modified { Verdict::Answer } else { Verdict::NotModified }
    }

    /// Whether a range is meant for this state. A date is never taken as proof, as it has seconds only.
    pub(super) fn in_range(&self, request: &HeaderMap) -> bool {
        request
            .get(IF_RANGE)
            .is_none_or(|wanted| self.tag.as_deref().is_some_and(|tag| wanted.as_bytes() == tag.as_bytes()))
    }

    /// Whether a header lists its tag; `None` without the header.
    fn listed(&self, request: &HeaderMap, header: HeaderName, weakly: bool) -> Option<bool> {
        let mut values = request.get_all(header).iter().peekable();
        values.peek()?;
        Some(values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |listed| {
                let listed = listed.trim();
                let listed = if weakly { listed.strip_prefix("W/").unwrap_or(listed) } else { listed };
                listed == "*" || Some(listed) == self.tag.as_deref()
            },
        ))
    }
}

fn tag(metadata: &Metadata) -> String {
    let (inode, size) = (metadata.ino(), metadata.len());
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    format!("\"{inode:x}-{size:x}-{:x}.{:x}-{:x}.{:x}\"", modified.0, modified.1, changed.0, changed.1)
}

/// Whether the kernel's clock still shows the instant of its last change.
fn fresh(metadata: &Metadata) -> bool {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (metadata.ctime(), metadata.ctime_nsec()) >= (now.tv_sec, now.tv_nsec)
}

fn tick() -> Duration {
    let tick = clock_getres(ClockId::RealtimeCoarse);
    Duration::new(tick.tv_sec.unsigned_abs(), u32::try_from(tick.tv_nsec).unwrap_or_default())
}

fn date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const DATE: &str = "Thu, 01 Jan 1970 00:16:40 GMT";
    const LATER: &str = "Thu, 01 Jan 1970 00:16:41 GMT";
    const EARLIER: &str = "Thu, 01 Jan 1970 00:16:39 GMT";

    fn state() -> State {
        State { size: 5, modified: UNIX_EPOCH + Duration::from_secs(1000), tag: Some("\"a\"".into()) }
    }

    fn judge(headers: &[(HeaderName, &'static str)]) -> Verdict {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        state().judge(&headers.collect())
    }

    #[test]
    fn conditions() {
        use Verdict::*;
        for (verdict, headers) in [
            (Answer, &[][..]),
            (NotModified, &[(IF_NONE_MATCH, "\"a\"")]),
            (NotModified, &[(IF_NONE_MATCH, "\"b\", W/\"a\"")]),
            (NotModified, &[(IF_NONE_MATCH, "*")]),
            (Answer, &[(IF_NONE_MATCH, "\"b\"")]),
            (Answer, &[(IF_NONE_MATCH, "a")]),
            // A tag says more than a date.
            (Answer, &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATER)]),
            (NotModified, &[(IF_MODIFIED_SINCE, DATE)]),
            (Answer, &[(IF_MODIFIED_SINCE, EARLIER)]),
            (Answer, &[(IF_MODIFIED_SINCE, "yesterday")]),
            (Answer, &[(IF_MATCH, "\"a\"")]),
            (Failed, &[(IF_MATCH, "W/\"a\"")]),
            (Failed, &[(IF_MATCH, "\"b\"")]),
            (Answer, &[(IF_UNMODIFIED_SINCE, DATE)]),
            (Failed, &[(IF_UNMODIFIED_SINCE, EARLIER)]),
            (NotModified, &[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "\"a\"")]),
        ] {
            assert_eq!(judge(headers), verdict, "{headers:?}");
        }
    }

    #[test]
    fn ranges_go_with_the_same_tag_only() {
        let holds =
            |value| state().in_range(&[(IF_RANGE, HeaderValue::from_static(value))].into_iter().collect());
        assert!(state().in_range(&HeaderMap::new()) && holds("\"a\""));
        assert!(!holds("\"b\"") && !holds("W/\"a\"") && !holds(DATE));
        let unsized_file = state().without_tag(9);
        assert!(
            !unsized_file.in_range(&[(IF_RANGE, HeaderValue::from_static("\"a\""))].into_iter().collect())
        );
    }

    #[tokio::test]
    async fn no_two_contents_have_the_same_tag() {
        let mut file = tempfile::tempfile().unwrap();
        let mut seen = std::collections::HashSet::new();
        for round in 0..30u8 {
            // The same size each time.
            io::Seek::rewind(&mut file).unwrap();
            file.write_all(&[round]).unwrap();
            let state = State::of(&file, true).await.unwrap();
            assert!(seen.insert(state.tag.unwrap()));
        }
        let again = State::of(&file, true).await.unwrap();
        assert!(seen.contains(&again.tag.unwrap()), "it stays while nothing changes");
    }
}
