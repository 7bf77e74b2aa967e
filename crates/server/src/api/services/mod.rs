//! Services (section 8.7): programs that listen inside a sandbox, each under a host name of its own.
//!
//! `host` tells their requests from the API's, `access` says who may send them, `proxy` passes them on, `grants` makes
//! and lists their URLs, `refusal` is what a person reads instead of a service.

mod access;
mod grants;
pub(super) mod host;
mod proxy;
mod refusal;

use std::io;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sandwire_protocol::limits::PORT_CONNECTIONS_MAX;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{App, Turns};
use crate::engine::{Secret, StateDir};
use access::{Access, LoginRefused};
use host::Target;
use refusal::Refusal;

pub(super) use access::{instant, now};
pub(super) use grants::{Revocation, create, list, revoke};
pub(super) use host::{Host, is_local};

/// Where a browser exchanges a link for a cookie.
const LOGIN_PATH: &str = "/_svc/auth";

/// What services need beside sandboxes.
pub struct Services {
    pub(super) secret: Secret,
    access: Access,
    /// Open connections.
    open: Turns,
}

impl Services {
    /// With the secret of the state directory.
    ///
    /// # Errors
    /// It can't be read or written.
    pub fn open(state: &StateDir) -> io::Result<Self> {
        let secret = Secret::of(state.path())?;
        Ok(Self { access: Access::new(secret.clone()), secret, open: Turns::new(PORT_CONNECTIONS_MAX) })
    }

    /// One more connection to a sandbox, unless it has too many.
    fn connection(&self, sandbox: Uuid) -> Result<OwnedSemaphorePermit, Refusal> {
        self.open.of(sandbox).try_acquire_owned().map_err(|_| Refusal::too_many())
    }
}

/// Sends each request where its host says.
pub(super) async fn by_host(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match Host::of(&request) {
        Ok(Host::Api) => next.run(request).await,
        Ok(Host::Service(target)) => {
            serve(&app, target, request).await.unwrap_or_else(IntoResponse::into_response)
        }
        Err(refused) => refused.into_response(),
    }
}

async fn serve(app: &Arc<App>, target: Target, request: Request) -> Result<Response, Refusal> {
    if request.uri().path() == LOGIN_PATH {
        return login(app, target, &request);
    }
    let access = &app.services.access;
    let grant = access.granted(target, request.headers()).ok_or_else(Refusal::unauthorized)?;
    let connection = app.services.connection(target.sandbox)?;
    let sandbox = app.usable(&target.sandbox.to_string()).await?;
    let stream = sandbox.connect(target.port).await?;
    proxy::forward(app, &grant, stream, request, (sandbox, connection)).await
}

#[derive(Deserialize)]
struct Link {
    token: String,
}

/// Exchanges a one-time link for the cookie. Only by GET, so that what looks at links does not spend them.
fn login(app: &App, target: Target, request: &Request) -> Result<Response, Refusal> {
    if request.method() != Method::GET {
        let message = "This link is to be opened in a browser.";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "InvalidRequest", message));
    }
    let access = &app.services.access;
    let link = Query::<Link>::try_from_uri(request.uri()).map_err(|_| LoginRefused::Invalid)?;
    let to_root = [(LOCATION, "/"), (CACHE_CONTROL, "no-store"), (REFERRER_POLICY, "no-referrer")];
    match access.login(target, &link.token) {
        Ok(grant) => {
            let cookie = [(SET_COOKIE, grant.cookie(&access.token(&grant)))];
            Ok((StatusCode::SEE_OTHER, to_root, cookie).into_response())
        }
        // Whoever goes back to the link, or loads it again, has the cookie already.
        Err(LoginRefused::Spent) if access.granted(target, request.headers()).is_some() => {
            Ok((StatusCode::SEE_OTHER, to_root).into_response())
        }
        Err(refused) => Err(refused.into()),
    }
}
