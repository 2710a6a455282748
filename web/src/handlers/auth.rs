//! Signing in and out, and choosing a project.

use crate::api::{CallError, Grant, Query};
use crate::fault::Fault;
use crate::form::Sent;
use crate::link;
use crate::page::{self, answer};
use crate::server::Site;
use crate::session::{Secret, Session};
use crate::signed::{Posted, Somebody, peer, read, site};
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use askama::Template;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

/// Before there is a session, this cookie holds what the form must bring; with TLS, it is one that no
/// other server of the domain can set.
fn before(site: &Site) -> &'static str {
    if site.is_secure() { "__Host-mizar-login" } else { "mizar-login" }
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    csrf: String,
    next: String,
    user: String,
    domain: String,
    error: Option<String>,
    why: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "projects.html")]
struct Projects {
    user: String,
    csrf: String,
    next: String,
    projects: Vec<crate::api::Named>,
}

fn cookie<'c>(site: &Site, name: &'c str, value: String) -> Cookie<'c> {
    Cookie::build(name, value).path("/").http_only(true).same_site(SameSite::Lax).secure(site.is_secure()).finish()
}

/// The form for signing in.
pub async fn form(site: Data<Site>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let why = match query.get("ended") {
        None => None,
        Some("form") => Some("Your session has ended, so what you sent was not done. Sign in and send it again."),
        Some(_) => {
            Some("Your session has ended: it was too long ago that you signed in, or the dashboard was restarted.")
        }
    };
    let login = Login {
        csrf: String::new(),
        next: link::own(query.get("next")).to_owned(),
        user: String::new(),
        domain: "Default".into(),
        error: None,
        why,
    };
    show(&site, &request, StatusCode::OK, login)
}

/// What this browser's forms for signing in must bring.
fn secret(site: &Site, request: &HttpRequest) -> Option<Secret> {
    request.cookie(before(site)).and_then(|cookie| Secret::parse(cookie.value()))
}

fn show(site: &Site, request: &HttpRequest, status: StatusCode, login: Login) -> Result<HttpResponse, Fault> {
    // One for all tabs: each may be the one that is signed in by.
    let secret = secret(site, request).unwrap_or_else(Secret::draw);
    let mut response = answer(status, &Login { csrf: secret.masked(), ..login })?;
    // A cookie that cannot be added would have a wrong name; this one is a constant.
    let added = response.add_cookie(&cookie(site, before(site), secret.text()));
    debug_assert!(added.is_ok());
    Ok(response)
}

/// What the form for signing in sent, from a page that this server has shown to this browser.
#[derive(Debug)]
pub struct Entry(Sent);

impl FromRequest for Entry {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let secret = secret(site(request), request);
        let body = read(request, payload);
        async move {
            let secret = secret.ok_or(Fault::Forged)?;
            let mut sent = body.await?;
            let masked = sent.take("csrf")?.unwrap_or_default();
            if !secret.is_masked_as(&masked) {
                return Err(Fault::Forged);
            }
            Ok(Self(sent))
        }
        .boxed_local()
    }
}

/// Signs in.
pub async fn sign_in(site: Data<Site>, request: HttpRequest, Entry(mut sent): Entry) -> Result<HttpResponse, Fault> {
    let (user, password) = (sent.need("user")?, sent.need("password")?);
    let (domain, next) = (sent.need("domain")?, sent.need("next")?);
    sent.end()?;
    let next = link::own(Some(&next)).to_owned();
    let refused = |status: StatusCode, error: &str| {
        let (user, domain, error) = (user.clone(), domain.clone(), Some(error.to_owned()));
        show(&site, &request, status, Login { csrf: String::new(), next: next.clone(), user, domain, error, why: None })
    };
    let grant = match site.api.sign_in(&domain, &user, &password, peer(&request)).await {
        Ok(grant) => grant,
        Err(CallError::Refused(said)) if said.status == 401 => {
            return refused(StatusCode::UNAUTHORIZED, "Name, password or domain is wrong.");
        }
        Err(CallError::Refused(said)) if said.status == 429 => {
            return refused(StatusCode::TOO_MANY_REQUESTS, "Too many attempts: wait a minute and try again.");
        }
        Err(CallError::Refused(said)) => return refused(StatusCode::BAD_REQUEST, &said.message),
        Err(error) => return Err(error.into()),
    };
    let calls = site.api.with(&grant.token, peer(&request));
    let grant = match grant.project {
        Some(_) => grant,
        None => match calls.projects().await?.as_slice() {
            [only] => calls.for_project(&only.id).await?,
            _ => grant,
        },
    };
    open(&site, &request, grant, &next)
}

/// A new session in place of the one that there was.
fn open(site: &Site, request: &HttpRequest, grant: Grant, next: &str) -> Result<HttpResponse, Fault> {
    if let Some(old) = request.cookie(site.cookie()) {
        site.sessions.close(old.value());
    }
    let to = match grant.project {
        Some(_) => next.to_owned(),
        None => Query::new().with("next", next).after("/projects"),
    };
    let name = site.sessions.open(Session::new(grant));
    let mut response = page::go(&to);
    let mut before = cookie(site, before(site), String::new());
    before.make_removal();
    for cookie in [cookie(site, site.cookie(), name.text()), before] {
        let added = response.add_cookie(&cookie);
        debug_assert!(added.is_ok());
    }
    Ok(response)
}

/// Makes the token of a session that is left worthless.
async fn revoke(signed: &Somebody) {
    if let Err(error) = signed.calls.sign_out().await {
        tracing::warn!(%error, "a token could not be revoked; it ends by itself");
    }
}

/// Signs out: the token is worthless afterwards.
pub async fn sign_out(site: Data<Site>, posted: Posted<Somebody>) -> Result<HttpResponse, Fault> {
    let Posted { signed, sent } = posted;
    sent.end()?;
    site.sessions.close(&signed.name);
    revoke(&signed).await;
    let mut response = page::go("/login");
    let mut gone = cookie(&site, site.cookie(), String::new());
    gone.make_removal();
    let added = response.add_cookie(&gone);
    debug_assert!(added.is_ok());
    Ok(response)
}

/// The projects to choose from.
pub async fn projects(somebody: Somebody, request: HttpRequest) -> Result<HttpResponse, Fault> {
    // Asked for anew: a role in another one may have come since.
    let projects = somebody.calls.projects().await?;
    let session = somebody.session;
    let next = link::own(Query::parse(request.query_string()).get("next")).to_owned();
    let (user, csrf) = (session.grant.user.name.clone(), session.csrf.masked());
    page::ok(&Projects { user, csrf, next, projects })
}

/// Chooses a project.
pub async fn choose(site: Data<Site>, request: HttpRequest, posted: Posted<Somebody>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let (project, next) = (sent.need("project")?, sent.take("next")?);
    sent.end()?;
    if !signed.calls.projects().await?.iter().any(|own| own.id == project) {
        return Err(Fault::NotFound);
    }
    let grant = signed.calls.for_project(&project).await?;
    revoke(&signed).await;
    let next = link::own(next.as_deref());
    open(&site, &request, grant, next)
}
