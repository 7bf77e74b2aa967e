//! Links to files and to programs inside a sandbox (sections 8.6 and 8.7).

use serde::{Deserialize, Serialize};

/// Body of `POST /boxes/{name}/download-url`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DownloadUrlRequest {
    /// Path inside the sandbox; a relative one starts at `/home/user`.
    pub path: String,
    /// Seconds that the link holds, at least 1. Absent: it never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// `Content-Type` of the answer; default `application/octet-stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `attachment` or `inline`; default `attachment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<Disposition>,
    /// Whether a page is shown in an origin of its own that may do nothing. Default true; false is refused for types that
    /// browsers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csp_sandbox: Option<bool>,
    /// What a page may do all the same, as `allow-scripts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csp_sandbox_flags: Option<Vec<String>>,
    /// From where a page may load scripts, styles and fonts; default `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csp_source_bundles: Option<Vec<SourceBundle>>,
}

/// What a browser does with a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Saves it.
    Attachment,
    /// Shows it.
    Inline,
}

/// Well-known sources of a page's scripts, styles and fonts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SourceBundle {
    /// cdnjs.
    Cdnjs,
    /// Google Fonts.
    GoogleFonts,
    /// jsDelivr.
    Jsdelivr,
    /// unpkg.
    Unpkg,
    /// Nowhere.
    None,
    /// Anywhere.
    Any,
}

/// Answer of `POST /boxes/{name}/download-url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DownloadUrl {
    /// The link, which needs no other credential.
    pub download_url: String,
    /// The signed part of it.
    pub token: String,
    /// RFC 3339; null if it never expires.
    pub expires_at: Option<String>,
}

/// Body of `POST /boxes/{name}/service-url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceUrlRequest {
    /// Port on which the program listens, 1 to 65535.
    pub port: u32,
    /// Seconds that the token holds, 1 to 86,400; default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// Who may use the URL; absent means whoever has the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<ServiceAccess>,
    /// Origins that may show the service in a frame, at most five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_origins: Option<Vec<String>>,
}

/// Who may use a service URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceAccess {
    /// Whoever has the token.
    Token,
    /// Whoever has the token; a grant to users who log in ends.
    Off,
    /// Users of the workspace with rights to the sandbox, after a login.
    Restricted,
    /// All users of the workspace, after a login.
    Workspace,
}

/// Answer of `POST /boxes/{name}/service-url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceUrl {
    /// To be opened in a browser; works once.
    pub browser_url: String,
    /// Base for programs, which send the token as a header.
    pub service_url: String,
    /// The token.
    pub token: String,
    /// RFC 3339.
    pub expires_at: String,
    /// To be shown in a frame of the allowed origins; works once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_url: Option<String>,
    /// The allowed origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_origins: Option<Vec<String>>,
}

/// A grant for a port, in the answer of `GET /boxes/{name}/service-urls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceGrant {
    /// `token`, `restricted` or `workspace`.
    pub access: ServiceAccess,
    /// The port.
    pub port: u16,
    /// RFC 3339.
    pub created_at: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// RFC 3339, for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Origins that may show it in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_origins: Option<Vec<String>>,
}

/// Answer of `GET /boxes/{name}/service-urls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceGrantList {
    /// By port.
    pub items: Vec<ServiceGrant>,
    /// Opaque; null on the last page.
    pub next_cursor: Option<String>,
}
