//! Links to one file of a sandbox (section 8.6), which need no key: who has the link may read the file.
//!
//! All that matters is signed into the link: the sandbox, the path and the headers of the answer. Nothing of it is kept,
//! so that links survive restarts and end with their time, or with the sandbox.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use sandwire_protocol::limits::{DOWNLOAD_LINK_MAX, FILTERS_MAX, LINK_HEADER_MAX};
use sandwire_protocol::{Disposition, DownloadUrl, DownloadUrlRequest, ErrorType, SourceBundle};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::rfc3339;
use super::services::{instant, now};
use super::{ApiError, App, Named, body, files};
use crate::engine::{Purpose, check_path};

/// What a page may be allowed beside its sandbox (the HTML standard's names). Nothing by which it could reach the page
/// that shows it, or pass for one of this server.
const SANDBOX_FLAGS: [&str; 8] = [
    "allow-downloads",
    "allow-forms",
    "allow-modals",
    "allow-orientation-lock",
    "allow-pointer-lock",
    "allow-popups",
    "allow-presentation",
    "allow-scripts",
];

/// What a link says. Short names, as it travels in URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    #[serde(rename = "s")]
    sandbox: Uuid,
    #[serde(rename = "p")]
    path: String,
    /// When it ends, seconds since the epoch.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(rename = "i", default, skip_serializing_if = "is_false")]
    inline: bool,
    /// The policy of the page.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Makes a link, whether the file is there yet or not.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DownloadUrl>, ApiError> {
    let sandbox = app.sandbox(&name)?;
    let link = Link::checked(body::json(body).await?, sandbox.id())?;
    let token = app.services.secret.sign(Purpose::Download, &link);
    let download_url = format!("{}/download/{token}", app.origin(&headers));
    let expires_at = link.expires.map(|seconds| rfc3339(instant(seconds)));
    Ok(Json(DownloadUrl { download_url, token, expires_at }))
}

/// `GET` and `HEAD` of a link.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    token: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("no such link, or its sandbox is gone");
    let Path(token) = token.map_err(|_| missing())?;
    let link: Link = app.services.secret.verify(Purpose::Download, &token).ok_or_else(missing)?;
    if link.expires.is_some_and(|expires| expires <= now()) {
        return Err(ApiError::new(ErrorType::SessionExpired, "the link has expired; ask for a new one"));
    }
    let id = link.sandbox.to_string();
    // The error of the sandbox itself would tell its id.
    app.sandbox(&id).map_err(|_| missing())?;
    let sandbox = app.usable(&id).await?;
    let mut response = files::serve(sandbox, link.path.clone(), &method, &headers).await?;
    // Errors keep the headers of errors.
    if !response.status().is_client_error() {
        link.mark(response.headers_mut());
    }
    Ok(response)
}

impl Link {
    fn checked(request: DownloadUrlRequest, sandbox: Uuid) -> Result<Self, ApiError> {
        check_path(&request.path).map_err(|fault| ApiError::validation("path", fault.message))?;
        let seconds = request.expires_in_seconds;
        if seconds.is_some_and(|seconds| !(1..=DOWNLOAD_LINK_MAX).contains(&seconds)) {
            let message = format!("must be 1 to {DOWNLOAD_LINK_MAX} seconds, or absent for ever");
            return Err(ApiError::validation("expires_in_seconds", message));
        }
        if request.content_type.as_deref().is_some_and(|text| !is_media_type(text)) {
            let message = "must be a media type as text/html; charset=utf-8";
            return Err(ApiError::validation("content_type", message));
        }
        Ok(Self {
            policy: policy(&request)?,
            sandbox,
            path: request.path,
            expires: seconds.map(|seconds| now().saturating_add(seconds)),
            content_type: request.content_type,
            inline: request.content_disposition == Some(Disposition::Inline),
        })
    }

    /// Sets the headers that the link is pinned to.
    fn mark(&self, headers: &mut HeaderMap) {
        let disposition = if self.inline { "inline" } else { "attachment" };
        let disposition = format!("{disposition}; {}", file_name(&self.path));
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        set(X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(REFERRER_POLICY, "no-referrer");
        set(CACHE_CONTROL, "private, no-cache");
        set(CONTENT_DISPOSITION, &disposition);
        set(CONTENT_SECURITY_POLICY, self.policy.as_deref().unwrap_or(LOCKED));
        if let Some(kind) = self.content_type.as_deref() {
            set(CONTENT_TYPE, kind);
        }
    }
}

/// The policy of links that ask for none: an origin of its own, and nothing allowed.
const LOCKED: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:";

/// The policy that a request asks for; `None` for the strictest.
fn policy(request: &DownloadUrlRequest) -> Result<Option<String>, ApiError> {
    let flags = request.csp_sandbox_flags.as_deref().unwrap_or_default();
    let bundles = request.csp_source_bundles.as_deref().unwrap_or_default();
    if flags.len() > FILTERS_MAX || bundles.len() > FILTERS_MAX {
        let message = format!("csp_sandbox_flags and csp_source_bundles have at most {FILTERS_MAX} entries");
        return Err(ApiError::validation("csp_sandbox_flags", message));
    }
    if let Some(flag) = flags.iter().find(|flag| !SANDBOX_FLAGS.contains(&flag.as_str())) {
        let message = format!("{flag:?} is not one of {}", SANDBOX_FLAGS.join(", "));
        return Err(ApiError::validation("csp_sandbox_flags", message));
    }
    let sandboxed = request.csp_sandbox.unwrap_or(true);
    if !sandboxed && !flags.is_empty() {
        return Err(ApiError::validation("csp_sandbox_flags", "mean nothing with csp_sandbox: false"));
    }
    if !sandboxed
        && request.content_disposition == Some(Disposition::Inline)
        && runs(request.content_type.as_deref())
    {
        // It would be a page of the API's own origin.
        return Err(ApiError::unsupported(
            "csp_sandbox: false for pages, which would share an origin with this server",
        ));
    }
    if flags.is_empty() && bundles.is_empty() {
        return Ok(None);
    }
    let sources = bundles.iter().flat_map(|bundle| hosts(*bundle)).copied().collect::<Vec<_>>().join(" ");
    let scripts = if flags.iter().any(|flag| flag == "allow-scripts") { " 'unsafe-inline'" } else { "" };
    let space = if sources.is_empty() { "" } else { " " };
    let sandbox: String = flags.iter().map(|flag| format!(" {flag}")).collect();
    let with = |directive: &str, inline: &str| format!("{directive}{inline}{space}{sources}");
    Ok(Some(format!(
        "sandbox{sandbox}; default-src 'none'; {}; {}; {}; {}; media-src data: blob:",
        with("script-src", if scripts.is_empty() && sources.is_empty() { " 'none'" } else { scripts }),
        with("style-src", " 'unsafe-inline'"),
        with("img-src", " data: blob:"),
        with("font-src", " data:"),
    )))
}

/// From where a bundle's files come.
fn hosts(bundle: SourceBundle) -> &'static [&'static str] {
    match bundle {
        SourceBundle::Cdnjs => &["https://cdnjs.cloudflare.com"],
        SourceBundle::GoogleFonts => &["https://fonts.googleapis.com", "https://fonts.gstatic.com"],
        SourceBundle::Jsdelivr => &["https://cdn.jsdelivr.net"],
        SourceBundle::Unpkg => &["https://unpkg.com"],
        SourceBundle::None => &[],
        SourceBundle::Any => &["https:"],
    }
}

/// Whether browsers may run what has this type, when they show it.
fn runs(content_type: Option<&str>) -> bool {
    let Some(kind) =
        content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    else {
        return false;
    };
    let inert = ["image/", "audio/", "video/", "font/"].iter().any(|prefix| kind.starts_with(prefix));
    let plain = ["text/plain", "text/csv", "text/markdown", "application/json", "application/octet-stream"];
    !(inert && kind != "image/svg+xml" || plain.contains(&kind.as_str()))
}

/// A media type that is no trick: visible ASCII of a bounded length, a slash, no second header.
fn is_media_type(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.len() <= LINK_HEADER_MAX
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && kind.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// The name under which a browser saves the file (RFC 6266): plain, and with all of its characters.
fn file_name(path: &str) -> String {
    let name =
        path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file");
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    if plain == name {
        return format!("filename=\"{plain}\"");
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Secret;
    use proptest::prelude::*;
    use sandwire_protocol::limits::FILE_PATH_MAX;

    fn request(fields: serde_json::Value) -> DownloadUrlRequest {
        let mut all = serde_json::json!({"path": "/a"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn pages_have_an_origin_of_their_own() {
        let policy = |fields| policy(&request(fields)).unwrap().unwrap_or(LOCKED.to_owned());
        assert!(policy(serde_json::json!({})).starts_with("sandbox; default-src 'none'"));
        let open = policy(serde_json::json!({
            "csp_sandbox_flags": ["allow-scripts"], "csp_source_bundles": ["jsdelivr", "none"],
        }));
        assert!(open.starts_with("sandbox allow-scripts; "), "{open}");
        assert!(open.contains("script-src 'unsafe-inline' https://cdn.jsdelivr.net;"), "{open}");
        for flag in ["allow-same-origin", "allow-top-navigation", "allow-scripts; script-src *", ""] {
            let refused = request(serde_json::json!({"csp_sandbox_flags": [flag]}));
            assert!(super::policy(&refused).is_err(), "{flag}");
        }
    }

    #[test]
    fn without_a_sandbox_nothing_runs() {
        let inline = |kind: &str| {
            let fields = serde_json::json!({
                "csp_sandbox": false, "content_disposition": "inline", "content_type": kind,
            });
            policy(&request(fields)).is_ok()
        };
        for kind in ["image/png", "text/plain; charset=utf-8", "video/mp4"] {
            assert!(inline(kind), "{kind}");
        }
        for kind in [
            "text/html",
            "Text/HTML ; charset=x",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "a/b",
        ] {
            assert!(!inline(kind), "{kind}");
        }
    }

    #[test]
    fn media_types_are_media_types() {
        for good in ["text/html", "text/html; charset=utf-8", "application/vnd.a+json", "image/svg+xml"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "text", "text/", "/html", "text/html\r\nx: y", "text/ht\u{e9}", "te xt/html"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
        assert!(!is_media_type(&format!("text/{}", "a".repeat(LINK_HEADER_MAX))));
    }

    #[test]
    fn the_longest_link_works() {
        let asked = request(serde_json::json!({
            "path": "\u{1}".repeat(FILE_PATH_MAX),
            "expires_in_seconds": DOWNLOAD_LINK_MAX,
            "content_type": format!("text/{}", "a".repeat(LINK_HEADER_MAX - "text/".len())),
            "csp_sandbox_flags": vec!["allow-orientation-lock"; FILTERS_MAX],
        }));
        let (secret, link) = (Secret::random(), Link::checked(asked, Uuid::max()).unwrap());
        let token = secret.sign(Purpose::Download, &link);
        assert_eq!(secret.verify(Purpose::Download, &token), Some(link));
    }

    #[test]
    fn names_are_the_last_part_of_the_path() {
        assert_eq!(file_name("/a/report 1.pdf"), "filename=\"report 1.pdf\"");
        assert_eq!(file_name("a\"b"), "filename=\"a_b\"; filename*=UTF-8''a%22b");
        assert_eq!(file_name("/ü/é"), "filename=\"_\"; filename*=UTF-8''%C3%A9");
        assert_eq!(file_name("/"), "filename=\"file\"");
    }

    proptest! {
        #[test]
        fn any_name_is_a_header(path in ".{1,80}") {
            prop_assert!(HeaderValue::try_from(file_name(&path)).is_ok());
        }
    }
}
