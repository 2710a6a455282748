//! Accounts, by administrators: projects, users, role assignments.

use super::password;
use super::token::{of_project, of_user};
use crate::app::{App, Settings};
use crate::frame::caller::{Access, Caller, Role};
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::frame::handlers::method_not_allowed;
use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use chrono::Utc;
use diesel_async::AsyncPgConnection;
use mizar_db::identity::{self, AccountError, DEFAULT_DOMAIN, DomainRow, Named, ProjectRow, RevocationRow, UserRow};
use mizar_domain::text::Text;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    let resource = |path: &str| web::resource(path).default_service(web::to(method_not_allowed));
    config
        .service(resource("/v3/domains").route(web::get().to(list_domains)))
        .service(resource("/v3/domains/{id}").route(web::get().to(show_domain)))
        .service(resource("/v3/roles").route(web::get().to(list_roles)))
        .service(resource("/v3/roles/{id}").route(web::get().to(show_role)))
        .service(resource("/v3/projects").route(web::get().to(list_projects)).route(web::post().to(create_project)))
        .service(
            resource("/v3/projects/{id}").route(web::get().to(show_project)).route(web::delete().to(delete_project)),
        )
        .service(resource("/v3/users").route(web::get().to(list_users)).route(web::post().to(create_user)))
        .service(
            resource("/v3/users/{id}")
                .route(web::get().to(show_user))
                .route(web::patch().to(update_user))
                .route(web::delete().to(delete_user)),
        )
        .service(
            resource("/v3/projects/{project}/users/{user}/roles/{role}")
                .route(web::put().to(assign_on_project))
                .route(web::delete().to(remove_from_project)),
        )
        .service(
            resource("/v3/system/users/{user}/roles/{role}")
                .route(web::put().to(assign_on_system))
                .route(web::delete().to(remove_from_system)),
        );
}

fn identity_fault(error: impl Into<Fault>) -> Fault {
    error.into().of_identity()
}

impl From<AccountError> for Fault {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NameTaken(_) => Self::identity(StatusCode::CONFLICT, error.to_string()),
            AccountError::NoSuch(_) => Self::identity(StatusCode::NOT_FOUND, error.to_string()),
            AccountError::Database(source) => Self::from(source).of_identity(),
        }
    }
}

fn admin(caller: &Caller) -> Result<(), Fault> {
    if caller.has(Access::Admin) {
        Ok(())
    } else {
        Err(Fault::identity(StatusCode::FORBIDDEN, "You are not authorized to perform the requested action."))
    }
}

fn missing(kind: &str, id: &str) -> Fault {
    Fault::identity(StatusCode::NOT_FOUND, format!("Could not find {kind}: {id}."))
}

fn parse(kind: &str, id: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(id).map_err(|_| missing(kind, id))
}

fn listed(plural: &str, items: Vec<Value>) -> HttpResponse {
    HttpResponse::Ok().json(json!({plural: items, "links": {"next": null, "previous": null}}))
}

fn domain_view(row: &DomainRow, settings: &Settings) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "description": "",
        "enabled": row.enabled,
        "tags": [],
        "options": {},
        "links": {"self": format!("{}/v3/domains/{}", settings.public_url, row.id)},
    })
}

/// A project, as answers hold it.
pub fn project_view(row: &ProjectRow, settings: &Settings) -> Value {
    let id = row.id.simple().to_string();
    json!({
        "id": id,
        "name": row.name,
        "description": row.description,
        "domain_id": row.domain_id,
        "parent_id": row.domain_id,
        "is_domain": false,
        "enabled": row.enabled,
        "tags": [],
        "options": {},
        "links": {"self": format!("{}/v3/projects/{id}", settings.public_url)},
    })
}

fn user_view(row: &UserRow, settings: &Settings) -> Value {
    let id = row.id.simple().to_string();
    json!({
        "id": id,
        "name": row.name,
        "domain_id": row.domain_id,
        "enabled": row.enabled,
        "default_project_id": row.default_project_id.map(|id| id.simple().to_string()),
        "password_expires_at": null,
        "options": {},
        "links": {"self": format!("{}/v3/users/{id}", settings.public_url)},
    })
}

fn role_view(role: Role, settings: &Settings) -> Value {
    let id = role.id().simple().to_string();
    json!({
        "id": id,
        "name": role.as_str(),
        "domain_id": null,
        "description": null,
        "options": {},
        "links": {"self": format!("{}/v3/roles/{id}", settings.public_url)},
    })
}

/// Filters of lists. Keystone ignores filters that it does not know, and its client sends some.
#[derive(Deserialize)]
struct ByName {
    name: Option<String>,
}

async fn list_domains(app: web::Data<App>, caller: Caller, query: web::Query<ByName>) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let rows = identity::list_domains(&mut conn).await.map_err(identity_fault)?;
    let named = rows.iter().filter(|row| query.name.as_ref().is_none_or(|name| *name == row.name));
    Ok(listed("domains", named.map(|row| domain_view(row, &app.settings)).collect()))
}

async fn show_domain(app: web::Data<App>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let named = identity::DomainRef::Id(id.clone());
    let row =
        if id.contains('\0') { None } else { identity::domain(&mut conn, &named).await.map_err(identity_fault)? };
    let row = row.ok_or_else(|| missing("domain", &id))?;
    Ok(HttpResponse::Ok().json(json!({"domain": domain_view(&row, &app.settings)})))
}

async fn list_roles(app: web::Data<App>, _: Caller, query: web::Query<ByName>) -> HttpResponse {
    let named = Role::ALL.into_iter().filter(|role| query.name.as_ref().is_none_or(|name| name == role.as_str()));
    listed("roles", named.map(|role| role_view(role, &app.settings)).collect())
}

async fn show_role(app: web::Data<App>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let role = Role::by_id(&id).ok_or_else(|| missing("role", &id))?;
    Ok(HttpResponse::Ok().json(json!({"role": role_view(role, &app.settings)})))
}

async fn list_projects(app: web::Data<App>, caller: Caller, query: web::Query<ByName>) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let name = query.name.as_deref().filter(|name| !name.contains('\0'));
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let rows = identity::list_projects(&mut conn, name).await.map_err(identity_fault)?;
    Ok(listed("projects", rows.iter().map(|row| project_view(row, &app.settings)).collect()))
}

async fn show_project(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let project = parse("project", &id)?;
    if caller.project() != Some(project) {
        admin(&caller)?;
    }
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let found = identity::project(&mut conn, &Named::Id(project)).await.map_err(identity_fault)?;
    let (row, _) = found.ok_or_else(|| missing("project", &id))?;
    Ok(HttpResponse::Ok().json(json!({"project": project_view(&row, &app.settings)})))
}

/// Body of POST /v3/projects.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    project: NewProject,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProject {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    domain_id: Option<String>,
    #[serde(default)]
    parent_id: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    is_domain: Option<bool>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    options: Option<serde_json::Map<String, Value>>,
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::identity(StatusCode::BAD_REQUEST, message)
}

/// A name: not empty, at most `MAX` characters.
fn name<const MAX: usize>(field: &str, text: String) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(bad(format!("Invalid input for field '{field}': '' is too short")));
    }
    let checked = Text::<MAX>::new(text).map_err(|error| bad(format!("Invalid input for field '{field}': {error}")))?;
    Ok(checked.into_string())
}

async fn create_project(app: web::Data<App>, caller: Caller, JsonBody(body): JsonBody) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let CreateProject { project } = serde_json::from_value(body).map_err(|error| bad(error.to_string()))?;
    let NewProject { name: project_name, description, domain_id, parent_id, enabled, is_domain, tags, options } =
        project;
    let domain_id = domain_id.unwrap_or_else(|| DEFAULT_DOMAIN.into());
    if is_domain == Some(true) || parent_id.is_some_and(|parent| parent != domain_id) {
        return Err(bad("projects are not nested here: 'is_domain' must be false and 'parent_id' the domain's"));
    }
    if tags.is_some_and(|tags| !tags.is_empty()) || options.is_some_and(|options| !options.is_empty()) {
        return Err(bad("'tags' and 'options' of projects are not supported"));
    }
    let row = ProjectRow {
        id: Uuid::new_v4(),
        domain_id: name::<64>("domain_id", domain_id)?,
        name: name::<64>("name", project_name)?,
        description: Text::<1024>::new(description.unwrap_or_default())
            .map_err(|error| bad(format!("Invalid input for field 'description': {error}")))?
            .into_string(),
        enabled: enabled.unwrap_or(true),
    };
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    identity::create_project(&mut conn, &row).await?;
    Ok(HttpResponse::Created().json(json!({"project": project_view(&row, &app.settings)})))
}

async fn list_users(app: web::Data<App>, caller: Caller, query: web::Query<ByName>) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let name = query.name.as_deref().filter(|name| !name.contains('\0'));
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let rows = identity::list_users(&mut conn, name).await.map_err(identity_fault)?;
    Ok(listed("users", rows.iter().map(|row| user_view(row, &app.settings)).collect()))
}

async fn show_user(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let user = parse("user", &id)?;
    if caller.claims.user_id() != Some(user) {
        admin(&caller)?;
    }
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let found = identity::user(&mut conn, &Named::Id(user)).await.map_err(identity_fault)?;
    let (row, _) = found.ok_or_else(|| missing("user", &id))?;
    Ok(HttpResponse::Ok().json(json!({"user": user_view(&row, &app.settings)})))
}

/// Body of POST /v3/users.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    user: NewUser,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    password: String,
    #[serde(default)]
    domain_id: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    default_project_id: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    options: Option<serde_json::Map<String, Value>>,
}

async fn create_user(app: web::Data<App>, caller: Caller, JsonBody(body): JsonBody) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let CreateUser { user } = serde_json::from_value(body).map_err(|error| bad(error.to_string()))?;
    let NewUser { name: user_name, password, domain_id, enabled, default_project_id, email, description, options } =
        user;
    let ignored = [("email", &email), ("description", &description)];
    if let Some((field, _)) = ignored.iter().find(|(_, value)| value.as_ref().is_some_and(|text| !text.is_empty())) {
        return Err(bad(format!("'{field}' of users is not supported")));
    }
    if options.is_some_and(|options| !options.is_empty()) {
        return Err(bad("'options' of users are not supported"));
    }
    let default_project_id = match default_project_id {
        Some(id) => Some(Uuid::parse_str(&id).map_err(|_| bad("Invalid input for field 'default_project_id': no id"))?),
        None => None,
    };
    let row = UserRow {
        default_project_id,
        id: Uuid::new_v4(),
        domain_id: name::<64>("domain_id", domain_id.unwrap_or_else(|| DEFAULT_DOMAIN.into()))?,
        name: name::<255>("name", user_name)?,
        password_hash: hashed(password).await?,
        enabled: enabled.unwrap_or(true),
    };
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    identity::create_user(&mut conn, &row).await?;
    Ok(HttpResponse::Created().json(json!({"user": user_view(&row, &app.settings)})))
}

/// Body of PATCH /v3/users/{id}.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    user: UserChange,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChange {
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
}

async fn update_user(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let user = parse("user", &id)?;
    let UpdateUser { user: UserChange { password, enabled } } =
        serde_json::from_value(body).map_err(|error| bad(error.to_string()))?;
    let hash = match password {
        Some(password) => Some(hashed(password).await?),
        None => None,
    };
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    let found = identity::update_user(&mut conn, user, hash.as_deref(), enabled).await.map_err(identity_fault)?;
    if found {
        revoke_all(&app, &mut conn, of_user(user)).await?;
    }
    let found = identity::user(&mut conn, &Named::Id(user)).await.map_err(identity_fault)?;
    let (row, _) = found.ok_or_else(|| missing("user", &id))?;
    Ok(HttpResponse::Ok().json(json!({"user": user_view(&row, &app.settings)})))
}

/// Checks and hashes a new password.
async fn hashed(password: String) -> Result<String, Fault> {
    if password.is_empty() || password.len() > password::PASSWORD_MAX {
        return Err(bad(format!("Invalid input for field 'password': 1 to {} bytes", password::PASSWORD_MAX)));
    }
    Ok(password::hash(password).await?)
}

/// The tokens that an account has now carry what is not true any more.
async fn revoke_all(app: &App, conn: &mut AsyncPgConnection, of: String) -> Result<(), Fault> {
    let now = Utc::now();
    let row = RevocationRow { audit_id: of, issued_before: Some(now), expires_at: now + app.settings.token_ttl };
    identity::revoke(conn, &row).await.map_err(identity_fault)?;
    app.tokens.revoke(row);
    Ok(())
}

async fn delete_user(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let user = parse("user", &id)?;
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    if !identity::delete_user(&mut conn, user).await.map_err(identity_fault)? {
        return Err(missing("user", &id));
    }
    revoke_all(&app, &mut conn, of_user(user)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn delete_project(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    admin(&caller)?;
    let project = parse("project", &id)?;
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    if !identity::delete_project(&mut conn, project).await.map_err(identity_fault)? {
        return Err(missing("project", &id));
    }
    revoke_all(&app, &mut conn, of_project(project)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn assign(
    app: &App,
    caller: &Caller,
    project: Option<&str>,
    user: &str,
    role: &str,
) -> Result<HttpResponse, Fault> {
    admin(caller)?;
    let project = project.map(|id| parse("project", id)).transpose()?;
    let user = parse("user", user)?;
    let role = Role::by_id(role).ok_or_else(|| missing("role", role))?;
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    identity::assign_role(&mut conn, user, project, role.as_str()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unassign(
    app: &App,
    caller: &Caller,
    project: Option<&str>,
    user: &str,
    role: &str,
) -> Result<HttpResponse, Fault> {
    admin(caller)?;
    let project = project.map(|id| parse("project", id)).transpose()?;
    let user_id = parse("user", user)?;
    let named = Role::by_id(role).ok_or_else(|| missing("role", role))?;
    let mut conn = app.pool.get().await.map_err(identity_fault)?;
    if !identity::remove_role(&mut conn, user_id, project, named.as_str()).await.map_err(identity_fault)? {
        return Err(missing("role assignment", role));
    }
    revoke_all(app, &mut conn, of_user(user_id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

type OnProject = web::Path<(String, String, String)>;
type OnSystem = web::Path<(String, String)>;

async fn assign_on_project(app: web::Data<App>, caller: Caller, path: OnProject) -> Result<HttpResponse, Fault> {
    let (project, user, role) = path.into_inner();
    assign(&app, &caller, Some(&project), &user, &role).await
}

async fn remove_from_project(app: web::Data<App>, caller: Caller, path: OnProject) -> Result<HttpResponse, Fault> {
    let (project, user, role) = path.into_inner();
    unassign(&app, &caller, Some(&project), &user, &role).await
}

async fn assign_on_system(app: web::Data<App>, caller: Caller, path: OnSystem) -> Result<HttpResponse, Fault> {
    let (user, role) = path.into_inner();
    assign(&app, &caller, None, &user, &role).await
}

async fn remove_from_system(app: web::Data<App>, caller: Caller, path: OnSystem) -> Result<HttpResponse, Fault> {
    let (user, role) = path.into_inner();
    unassign(&app, &caller, None, &user, &role).await
}
