//! `/v3/auth`: tokens, and what the caller may scope one to.

use super::catalog::{CatalogEntry, catalog};
use super::common::{Body, at, bad, connection, event, fault, forbidden, listed, record};
use super::login;
use super::requests::TokenRequest;
use super::token::{Claims, NamedRef, ProjectRef};
use super::views::{self, All};
use crate::app::{App, Settings};
use crate::frame::caller::{Caller, Role};
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, SecondsFormat};
use futures::FutureExt as _;
use mizar_db::identity::assignments::{self, AssignmentFilter, On};
use mizar_db::identity::domains::{self, DomainFilter};
use mizar_db::identity::projects::{self, ProjectFilter};
use mizar_db::identity::revocations;
use mizar_db::ledger::Event;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(
            at("/v3/auth/tokens")
                .route(web::post().to(issue))
                .route(web::get().to(show))
                .route(web::head().to(check))
                .route(web::delete().to(revoke)),
        )
        .service(at("/v3/auth/projects").route(web::get().to(list_projects)))
        .service(at("/v3/auth/domains").route(web::get().to(list_domains)))
        .service(at("/v3/auth/system").route(web::get().to(list_system)));
}

/// What a token says.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Token {
    #[schema(example = json!(["password"]))]
    pub methods: Vec<String>,
    pub user: TokenUser,
    /// Its own, then that of the first token of the chain.
    pub audit_ids: Vec<String>,
    #[schema(example = "2030-01-01T00:00:00.000000Z")]
    pub issued_at: String,
    #[schema(example = "2030-01-01T01:00:00.000000Z")]
    pub expires_at: String,
    /// Scope: one of project, domain and system, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<NamedRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<All>,
    /// Of a project, whether it is a domain: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_domain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<NamedRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Vec<CatalogEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_credential: Option<super::token::CredentialClaim>,
}

/// Whose token it is.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct TokenUser {
    pub id: String,
    pub name: String,
    pub domain: NamedRef,
    /// Passwords do not expire.
    pub password_expires_at: Option<String>,
}

/// Keystone's token document.
fn document(claims: Claims, settings: &Settings, with_catalog: bool) -> serde_json::Value {
    let at = |seconds: i64| {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
    };
    let scoped = claims.is_scoped();
    let token = Token {
        methods: claims.openstack_methods,
        user: TokenUser {
            id: claims.sub,
            name: claims.user_name,
            domain: claims.user_domain,
            password_expires_at: None,
        },
        audit_ids: claims.openstack_audit_ids,
        issued_at: at(claims.iat),
        expires_at: at(claims.exp),
        is_domain: claims.project.as_ref().map(|_| false),
        project: claims.project,
        domain: claims.domain,
        system: claims.system.then_some(All { all: true }),
        roles: scoped.then_some(claims.roles),
        catalog: (scoped && with_catalog).then(|| catalog(settings)),
        application_credential: claims.credential,
    };
    json!({ "token": token })
}

/// `?nocatalog`: validators ask for it, since they have no use for it.
fn wants_catalog(request: &HttpRequest) -> bool {
    !request.query_string().split('&').any(|pair| pair.split('=').next() == Some("nocatalog"))
}

/// POST: a token for a proof.
async fn issue(app: web::Data<App>, body: Body<TokenRequest>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let claims = login::claims(&app, app.limiter.address(&request), body.0.auth).await?;
    let token = app.tokens()?.sign(&claims).map_err(|error| Fault::internal(error).of_identity())?;
    Ok(HttpResponse::Created()
        .insert_header(("X-Subject-Token", token))
        .insert_header(("Vary", "X-Auth-Token"))
        .json(document(claims, &app.settings, wants_catalog(&request))))
}

/// The token that a request is about, if the caller may ask: its own, or any for administrators
/// and services.
fn subject(app: &App, caller: &Caller, request: &HttpRequest) -> Result<Claims, Fault> {
    let subject = request.headers().get("X-Subject-Token").and_then(|value| value.to_str().ok());
    let subject = subject.ok_or_else(|| bad("X-Subject-Token is required"))?;
    let missing = || Fault::identity(StatusCode::NOT_FOUND, "This is not a recognized token.");
    let claims = app.tokens()?.verify(subject).map_err(|_| missing())?;
    if claims.sub == caller.claims.sub || caller.is(Role::Admin) || caller.is(Role::Service) {
        Ok(claims)
    } else {
        Err(forbidden())
    }
}

/// GET: validates a token.
async fn show(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let claims = subject(&app, &caller, &request)?;
    let mut response = HttpResponse::Ok();
    if let Some(token) = request.headers().get("X-Subject-Token") {
        response.insert_header(("X-Subject-Token", token.clone()));
    }
    Ok(response.json(document(claims, &app.settings, wants_catalog(&request))))
}

/// HEAD: validates a token without saying more.
async fn check(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    subject(&app, &caller, &request)?;
    Ok(HttpResponse::Ok().finish())
}

/// DELETE: takes a token back.
async fn revoke(app: web::Data<App>, context: Context, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let claims = subject(&app, &context.caller, &request)?;
    let user = claims.user_id().unwrap_or_default();
    let event = event("revoke", "token", user, json!({"audit_id": claims.audit_id()}));
    let event = Event { project: claims.project_id(), ..event };
    let revoked = record(&app, context.actor(), event, move |conn| {
        let (audit_id, expires_at) = (claims.audit_id().to_owned(), claims.expires_at());
        async move { revocations::revoke_one(conn, user, &audit_id, expires_at).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}

/// GET: projects that the caller may scope a token to.
async fn list_projects(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Fault> {
    let user = caller.claims.user_id();
    let wanted =
        ProjectFilter { user: Some(user.unwrap_or_default()), enabled: Some(true), ..ProjectFilter::default() };
    let rows = projects::list(&mut *connection(&app).await?, &wanted).await.map_err(fault)?;
    Ok(listed("projects", rows.into_iter().map(|row| views::project(row, &app.settings))))
}

/// GET: domains that the caller may scope a token to.
async fn list_domains(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Fault> {
    let mut conn = connection(&app).await?;
    let filter = AssignmentFilter { user: caller.claims.user_id(), ..AssignmentFilter::default() };
    let assigned = assignments::list(&mut conn, &filter).await.map_err(fault)?;
    let mut rows = domains::list(&mut conn, &DomainFilter { enabled: Some(true), ..DomainFilter::default() })
        .await
        .map_err(fault)?;
    rows.retain(|row| assigned.iter().any(|one| matches!(&one.on, On::Domain(id) if *id == row.id)));
    Ok(listed("domains", rows.into_iter().map(|row| views::domain(row, &app.settings))))
}

/// GET: whether the caller may scope a token to the system.
async fn list_system(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Fault> {
    let user = caller.claims.user_id().unwrap_or_default();
    let roles = assignments::roles_on(&mut *connection(&app).await?, user, &On::System).await.map_err(fault)?;
    let system = (!roles.is_empty()).then_some(All { all: true });
    Ok(listed("system", system))
}
