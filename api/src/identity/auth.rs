//! `/v3/auth`: tokens, projects of the caller, catalog.

use super::catalog::catalog;
use super::password;
use super::token::{Claims, NamedRef, ProjectRef, Tokens};
use crate::app::{App, Settings};
use crate::frame::caller::{Caller, Role};
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::frame::handlers::method_not_allowed;
use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SecondsFormat, Utc};
use diesel_async::AsyncPgConnection;
use mizar_db::identity::{self, DomainRef, DomainRow, Named, RevocationRow, UserRow};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/v3/auth/tokens")
                .default_service(web::to(method_not_allowed))
                .route(web::post().to(issue))
                .route(web::get().to(show))
                .route(web::head().to(check))
                .route(web::delete().to(revoke)),
        )
        .service(
            web::resource("/v3/auth/projects")
                .default_service(web::to(method_not_allowed))
                .route(web::get().to(list_projects)),
        )
        .service(
            web::resource("/v3/auth/catalog")
                .default_service(web::to(method_not_allowed))
                .route(web::get().to(show_catalog)),
        );
}

/// Body of POST /v3/auth/tokens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    auth: Auth,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Auth {
    identity: Identity,
    #[serde(default)]
    scope: Option<Scope>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Identity {
    methods: Vec<String>,
    #[serde(default)]
    password: Option<PasswordMethod>,
    #[serde(default)]
    token: Option<TokenMethod>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordMethod {
    user: UserCredentials,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserCredentials {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainRequest>,
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenMethod {
    id: String,
}

/// Keystone takes a name or an id; clients send either, sometimes both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DomainRequest {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProjectRequest {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainRequest>,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Scope {
    Word(String),
    Object(ScopeObject),
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScopeObject {
    #[serde(default)]
    project: Option<ProjectRequest>,
    #[serde(default)]
    system: Option<SystemRequest>,
    #[serde(default)]
    domain: Option<DomainRequest>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SystemRequest {
    all: bool,
}

fn malformed(message: impl Into<String>) -> Fault {
    Fault::identity(StatusCode::BAD_REQUEST, message)
}

fn refused() -> Fault {
    Fault::unauthorized("The request you have made requires authentication.")
}

fn domain_ref(domain: Option<DomainRequest>) -> Result<DomainRef, Fault> {
    match domain {
        Some(DomainRequest { id: Some(id), .. }) => Ok(DomainRef::Id(id)),
        Some(DomainRequest { name: Some(name), .. }) => Ok(DomainRef::Name(name)),
        _ => Err(malformed("a name needs a domain, by id or by name")),
    }
}

fn named(id: Option<String>, name: Option<String>, domain: Option<DomainRequest>) -> Result<Option<Named>, Fault> {
    match (id, name) {
        // An id that is none names nobody.
        (Some(id), _) => Ok(Uuid::parse_str(&id).ok().map(Named::Id)),
        (None, Some(name)) => Ok(Some(Named::Name { name, domain: domain_ref(domain)? })),
        (None, None) => Err(malformed("id or name is required")),
    }
}

/// Who proved what.
struct Proven {
    user: UserRow,
    domain: DomainRow,
    methods: Vec<String>,
    /// Audit id of the first token of the chain, and when it ends: a token from a token does not
    /// live longer.
    parent: Option<(String, i64)>,
    /// Where the request names no scope: that of the token shown, or the user's default project.
    scope: Option<Uuid>,
}

async fn prove(app: &App, conn: &mut AsyncPgConnection, identity: Identity) -> Result<Proven, Fault> {
    let Identity { methods, password, token } = identity;
    match (methods.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), password, token) {
        (["password"], Some(PasswordMethod { user }), _) => {
            let UserCredentials { id, name, domain, password } = user;
            if password.len() > password::PASSWORD_MAX || [&id, &name].into_iter().flatten().any(|s| s.contains('\0')) {
                return Err(refused());
            }
            let found = match named(id, name, domain)? {
                Some(named) => identity::user(conn, &named).await?,
                None => None,
            };
            let stored = found.as_ref().map(|(user, _)| user.password_hash.clone());
            let fits = password::verify(password, stored).await?;
            match found {
                Some((user, domain)) if fits && user.enabled && domain.enabled => {
                    let scope = default_scope(conn, &user).await?;
                    Ok(Proven { user, domain, methods: vec!["password".into()], parent: None, scope })
                }
                _ => Err(refused()),
            }
        }
        (["token"], _, Some(TokenMethod { id })) => {
            let claims = app.tokens.verify(&id).map_err(|_| refused())?;
            let user = claims.user_id().ok_or_else(refused)?;
            let (user, domain) = identity::user(conn, &Named::Id(user)).await?.ok_or_else(refused)?;
            if !user.enabled || !domain.enabled {
                return Err(refused());
            }
            let first = claims.openstack_audit_ids.last().cloned().unwrap_or_default();
            let mut methods = claims.openstack_methods.clone();
            if !methods.iter().any(|method| method == "token") {
                methods.push("token".into());
            }
            let scope = claims.project_id();
            Ok(Proven { user, domain, methods, parent: Some((first, claims.exp)), scope })
        }
        ([], ..) => Err(malformed("identity.methods is empty")),
        _ => Err(refused()),
    }
}

/// The default project counts only where the user has a role.
async fn default_scope(conn: &mut AsyncPgConnection, user: &UserRow) -> Result<Option<Uuid>, Fault> {
    let Some(project) = user.default_project_id else { return Ok(None) };
    let roles = identity::roles(conn, user.id, Some(project)).await?;
    Ok((!roles.is_empty()).then_some(project))
}

/// What the token will be for.
enum Target {
    Unscoped,
    Project(Named),
    System,
    Nothing,
}

fn target(scope: Option<Scope>, kept: Option<Uuid>) -> Result<Target, Fault> {
    let object = match scope {
        None => return Ok(kept.map_or(Target::Unscoped, |id| Target::Project(Named::Id(id)))),
        Some(Scope::Word(word)) if word == "unscoped" => return Ok(Target::Unscoped),
        Some(Scope::Word(word)) => return Err(malformed(format!("scope '{word}' is not known"))),
        Some(Scope::Object(object)) => object,
    };
    match object {
        ScopeObject { project: Some(ProjectRequest { id, name, domain }), system: None, domain: None } => {
            Ok(named(id, name, domain)?.map_or(Target::Nothing, Target::Project))
        }
        ScopeObject { project: None, system: Some(SystemRequest { all: true }), domain: None } => Ok(Target::System),
        // No role is ever assigned on a domain, so nobody may have such a token.
        ScopeObject { project: None, system: None, domain: Some(_) } => Ok(Target::Nothing),
        _ => Err(malformed("scope must be one of project, system, domain")),
    }
}

/// POST: a token for a password or for another token.
async fn issue(app: web::Data<App>, JsonBody(body): JsonBody) -> Result<HttpResponse, Fault> {
    let request: TokenRequest = serde_json::from_value(body).map_err(|error| malformed(format!("auth: {error}")))?;
    let mut conn = app.pool.get().await.map_err(|error| Fault::from(error).of_identity())?;
    let claims = claims(&app, &mut conn, request.auth).await.map_err(Fault::of_identity)?;
    drop(conn);
    let token = app.tokens.sign(&claims).map_err(|error| Fault::internal(error).of_identity())?;
    let body = shown(&claims, &app.settings);
    Ok(HttpResponse::Created()
        .insert_header(("X-Subject-Token", token))
        .insert_header(("Vary", "X-Auth-Token"))
        .json(body))
}

async fn claims(app: &App, conn: &mut AsyncPgConnection, auth: Auth) -> Result<Claims, Fault> {
    let Proven { user, domain, methods, parent, scope } = prove(app, conn, auth.identity).await?;
    let (project, system, roles) = match target(auth.scope, scope)? {
        Target::Nothing => return Err(refused()),
        Target::Unscoped => (None, false, Vec::new()),
        Target::System => (None, true, identity::roles(conn, user.id, None).await?),
        Target::Project(named) => {
            let (project, domain) = identity::project(conn, &named).await?.ok_or_else(refused)?;
            if !project.enabled || !domain.enabled {
                return Err(refused());
            }
            let roles = identity::roles(conn, user.id, Some(project.id)).await?;
            let domain = NamedRef { id: domain.id, name: domain.name };
            (Some(ProjectRef { id: project.id.simple().to_string(), name: project.name, domain }), false, roles)
        }
    };
    if (project.is_some() || system) && roles.is_empty() {
        return Err(refused());
    }
    let issued_ms = Utc::now().timestamp_millis();
    let now = issued_ms / 1000;
    let ttl = i64::try_from(app.settings.token_ttl.as_secs()).unwrap_or(i64::MAX);
    let mut openstack_audit_ids = vec![Tokens::audit_id()];
    let mut exp = now.saturating_add(ttl);
    if let Some((first, ends)) = parent {
        openstack_audit_ids.push(first);
        exp = exp.min(ends);
    }
    Ok(Claims {
        sub: user.id.simple().to_string(),
        iat: now,
        exp,
        openstack_methods: methods,
        openstack_audit_ids,
        openstack_project_id: project.as_ref().map(|project| project.id.clone()),
        user_name: user.name,
        user_domain: NamedRef { id: domain.id, name: domain.name },
        project,
        system,
        roles,
        issued_ms,
    })
}

/// Keystone's token document.
fn shown(claims: &Claims, settings: &Settings) -> Value {
    let at = |seconds: i64| {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
    };
    let mut token = json!({
        "methods": claims.openstack_methods,
        "user": {
            "id": claims.sub,
            "name": claims.user_name,
            "domain": claims.user_domain,
            "password_expires_at": null,
        },
        "audit_ids": claims.openstack_audit_ids,
        "issued_at": at(claims.iat),
        "expires_at": at(claims.exp),
    });
    let roles: Vec<Value> = claims
        .roles
        .iter()
        .filter_map(|name| Role::named(name))
        .map(|role| json!({"id": role.id().simple().to_string(), "name": role.as_str()}))
        .collect();
    if let Some(project) = &claims.project {
        token["project"] = json!(project);
        token["is_domain"] = json!(false);
    }
    if claims.system {
        token["system"] = json!({"all": true});
    }
    if claims.project.is_some() || claims.system {
        token["roles"] = json!(roles);
        token["catalog"] = catalog(settings);
    }
    json!({"token": token})
}

/// The token that a request is about, if the caller may ask: its own, or any for administrators
/// and services.
fn subject(app: &App, caller: &Caller, request: &HttpRequest) -> Result<Claims, Fault> {
    let subject = request.headers().get("X-Subject-Token").and_then(|value| value.to_str().ok());
    let subject = subject.ok_or_else(|| malformed("X-Subject-Token is required"))?;
    let missing = || Fault::identity(StatusCode::NOT_FOUND, "This is not a recognized token.");
    let claims = app.tokens.verify(subject).map_err(|_| missing())?;
    if claims.sub == caller.claims.sub || caller.is(Role::Admin) || caller.is(Role::Service) {
        Ok(claims)
    } else {
        Err(Fault::identity(StatusCode::FORBIDDEN, "You are not authorized to perform the requested action."))
    }
}

/// GET: validates a token.
async fn show(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let claims = subject(&app, &caller, &request)?;
    let token = request.headers().get("X-Subject-Token").cloned();
    let mut response = HttpResponse::Ok();
    if let Some(token) = token {
        response.insert_header(("X-Subject-Token", token));
    }
    Ok(response.json(shown(&claims, &app.settings)))
}

/// HEAD: validates a token without saying more.
async fn check(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    subject(&app, &caller, &request)?;
    Ok(HttpResponse::Ok().finish())
}

/// DELETE: takes a token back.
async fn revoke(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let claims = subject(&app, &caller, &request)?;
    let mut conn = app.pool.get().await.map_err(|error| Fault::from(error).of_identity())?;
    let row =
        RevocationRow { audit_id: claims.audit_id().to_owned(), issued_before: None, expires_at: claims.expires_at() };
    identity::revoke(&mut conn, &row).await.map_err(|error| Fault::from(error).of_identity())?;
    app.tokens.revoke(row);
    Ok(HttpResponse::NoContent().finish())
}

/// GET: what the caller may scope a token to.
async fn list_projects(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Fault> {
    let user = caller.claims.user_id().ok_or_else(refused)?;
    let mut conn = app.pool.get().await.map_err(|error| Fault::from(error).of_identity())?;
    let projects = identity::projects_of(&mut conn, user).await.map_err(|error| Fault::from(error).of_identity())?;
    let projects: Vec<Value> =
        projects.iter().map(|project| super::accounts::project_view(project, &app.settings)).collect();
    Ok(HttpResponse::Ok().json(json!({"projects": projects, "links": {"next": null, "previous": null}})))
}

/// GET: where what is.
async fn show_catalog(app: web::Data<App>, _: Caller) -> HttpResponse {
    HttpResponse::Ok().json(json!({"catalog": catalog(&app.settings), "links": {"next": null, "previous": null}}))
}
