//! Who asks: read from the cookie, and, for what changes something, checked by the form's own secret.

use crate::api::{Calls, Named};
use crate::fault::Fault;
use crate::form::Sent;
use crate::server::Site;
use crate::session::Session;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpRequest};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

/// Somebody who is signed in, whether for a project or not yet.
#[derive(Clone, Debug)]
pub struct Somebody {
    /// The session.
    pub session: Arc<Session>,
    /// Its name, which the cookie holds.
    pub name: String,
    /// The API with the user's token.
    pub calls: Calls,
}

/// Somebody who is signed in for a project.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The session.
    pub session: Arc<Session>,
    /// The API with the user's token.
    pub calls: Calls,
    /// Which project.
    pub project: Named,
}

/// A form that a page of this session sent.
#[derive(Debug)]
pub struct Posted<S> {
    /// Who.
    pub signed: S,
    /// What.
    pub sent: Sent,
}

/// The address of the browser, or of what stands before this program.
pub fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|address| address.ip())
}

pub(crate) fn site(request: &HttpRequest) -> &Data<Site> {
    request.app_data::<Data<Site>>().expect("the server is made with its site")
}

fn somebody(request: &HttpRequest) -> Result<Somebody, Fault> {
    let site = site(request);
    let cookie = request.cookie(site.cookie()).ok_or(Fault::SignIn)?;
    let session = site.sessions.find(cookie.value()).ok_or(Fault::SignIn)?;
    let calls = site.api.with(&session.grant.token, peer(request));
    Ok(Somebody { session, calls, name: cookie.value().to_owned() })
}

impl TryFrom<Somebody> for Signed {
    type Error = Fault;

    fn try_from(Somebody { session, calls, .. }: Somebody) -> Result<Self, Fault> {
        let project = session.grant.project.clone().ok_or(Fault::ChooseProject)?;
        Ok(Self { session, calls, project })
    }
}

impl FromRequest for Somebody {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(somebody(request))
    }
}

impl FromRequest for Signed {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(somebody(request).and_then(Self::try_from))
    }
}

impl<S: TryFrom<Somebody, Error: Into<Fault>> + 'static> FromRequest for Posted<S> {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let who = somebody(request);
        let body = read(request, payload);
        async move {
            let who = who?;
            let mut sent = body.await?;
            let secret = sent.take("csrf")?;
            if !secret.is_some_and(|secret| who.session.csrf.is_masked_as(&secret)) {
                return Err(Fault::Forged);
            }
            Ok(Self { signed: S::try_from(who).map_err(Into::into)?, sent })
        }
        .boxed_local()
    }
}

/// Reads a form.
pub fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<Sent, Fault>> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    let body = Bytes::from_request(request, payload);
    async move {
        if !is_form {
            return Err(Fault::Bad("this is not a form".into()));
        }
        Sent::parse(&body.await.map_err(|error| Fault::Bad(error.to_string()))?)
    }
    .boxed_local()
}
