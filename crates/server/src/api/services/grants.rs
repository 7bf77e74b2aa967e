//! URLs of services: made, listed, revoked.
//!
//! A revocation takes the grant off the list; tokens that were issued for it hold until they expire, as in the protocol.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use sandwire_protocol::limits::{EMBED_ORIGINS_MAX, SERVICE_TOKEN_DEFAULT, SERVICE_TOKEN_MAX};
use sandwire_protocol::{ServiceAccess, ServiceGrant, ServiceGrantList, ServiceUrl, ServiceUrlRequest};
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{Grant, instant, now};
use super::host::Target;
use crate::api::clock::rfc3339;
use crate::api::{ApiError, App, Named, body};
use crate::engine::PortGrant;

/// Makes a URL for a port, whether something listens there or not.
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ServiceUrl>, ApiError> {
    let sandbox = app.sandbox(&name)?;
    let request: ServiceUrlRequest = body::json(body).await?;
    let grant = grant(&request, sandbox.id())?;
    let (port, expires) = (grant.port, grant.expires);
    let noted = PortGrant { port, expires, created: now(), embed_origins: grant.embed_origins.clone() };
    app.engine.grant_port(sandbox.id(), noted).await?;
    Ok(Json(app.service_url(&grant, &headers)))
}

/// Grants that have not expired.
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    Named(name): Named,
) -> Result<Json<ServiceGrantList>, ApiError> {
    let sandbox = app.sandbox(&name)?;
    let grants = app.engine.granted_ports(sandbox.id(), now()).await?;
    let items = grants.into_iter().map(|grant| ServiceGrant {
        access: ServiceAccess::Token,
        port: grant.port,
        created_at: rfc3339(instant(grant.created)),
        created_by: None,
        expires_at: Some(rfc3339(instant(grant.expires))),
        embed_origins: Some(grant.embed_origins).filter(|origins| !origins.is_empty()),
    });
    Ok(Json(ServiceGrantList { items: items.collect(), next_cursor: None }))
}

/// What the query of a revocation says; without a port it means all of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Revocation {
    #[schemars(range(min = 1, max = u16::MAX))]
    port: Option<u32>,
}

/// Takes one grant off the list, or all of them.
pub(in crate::api) async fn revoke(
    State(app): State<Arc<App>>,
    Named(name): Named,
    query: Result<Query<Revocation>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let sandbox = app.sandbox(&name)?;
    let Query(query) = query.map_err(|rejection| ApiError::validation("port", rejection.body_text()))?;
    let port = query.port.map(port).transpose()?;
    app.engine.revoke_ports(sandbox.id(), port).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn grant(request: &ServiceUrlRequest, sandbox: uuid::Uuid) -> Result<Grant, ApiError> {
    if let Some(ServiceAccess::Restricted | ServiceAccess::Workspace) = request.access {
        return Err(ApiError::unsupported("service URLs with a login (access restricted or workspace)"));
    }
    let seconds = request.expires_in_seconds.unwrap_or(SERVICE_TOKEN_DEFAULT);
    if !(1..=SERVICE_TOKEN_MAX).contains(&seconds) {
        let message = format!("must be 1 to {SERVICE_TOKEN_MAX} seconds, not {seconds}");
        return Err(ApiError::validation("expires_in_seconds", message));
    }
    let origins = request.embed_origins.as_deref().unwrap_or_default();
    if origins.len() > EMBED_ORIGINS_MAX {
        let message = format!("must be at most {EMBED_ORIGINS_MAX}, not {}", origins.len());
        return Err(ApiError::validation("embed_origins", message));
    }
    let embed_origins = origins.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
    Ok(Grant { sandbox, port: port(request.port)?, expires: now().saturating_add(seconds), embed_origins })
}

fn port(number: u32) -> Result<u16, ApiError> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::validation("port", format!("must be 1 to 65535, not {number}")))
}

/// An origin as browsers write it. It becomes part of a header, so that nothing else may pass.
fn origin(text: &str) -> Result<String, ApiError> {
    let refused = || {
        let message =
            format!("must be origins as https://example.com or http://localhost:3000, not {text:?}");
        ApiError::validation("embed_origins", message)
    };
    let uri: Uri = text.parse().map_err(|_| refused())?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(refused)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_origin = matches!(scheme, "http" | "https")
        && text.len() == scheme.len() + "://".len() + authority.as_str().len()
        && !authority.host().is_empty()
        && authority.as_str().bytes().all(plain);
    is_origin.then(|| text.to_ascii_lowercase()).ok_or_else(refused)
}

impl App {
    fn service_url(&self, grant: &Grant, headers: &HeaderMap) -> ServiceUrl {
        let target = Target { sandbox: grant.sandbox, port: grant.port };
        let port = self.port_of(headers).map_or_else(String::new, |port| format!(":{port}"));
        let base = format!("http://{}{port}/", target.name());
        let access = &self.services.access;
        let link = || format!("{base}_svc/auth?token={}", access.login_token(grant));
        let embedded = !grant.embed_origins.is_empty();
        ServiceUrl {
            browser_url: link(),
            token: access.token(grant),
            expires_at: rfc3339(instant(grant.expires)),
            embed_url: embedded.then(link),
            embed_origins: embedded.then(|| grant.embed_origins.clone()),
            service_url: base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_origins() {
        for good in ["https://example.com", "http://localhost:3000", "http://[::1]:80", "HTTPS://Example.com"]
        {
            assert_eq!(origin(good).unwrap(), good.to_ascii_lowercase());
        }
        for bad in [
            "",
            "*",
            "example.com",
            "https://example.com/",
            "https://example.com/path",
            "https://*.example.com",
            "https://user@example.com",
            "https://a.example;script-src",
            "https://a.example b",
            "ftp://example.com",
            "https://",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
