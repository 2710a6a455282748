//! `/v3/users`.

use super::common::{
    Admin, Body, Filters, at, bad_field, bearer_of_proof, connection, event, fault, listed, made, missing, name,
    nothing, own_or_admin, parse, record, refused, shown, text,
};
use super::requests::UserReference;
use super::turns::Party;
use super::{password, projects, views};
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures::FutureExt as _;
use mizar_db::identity::projects as project_rows;
use mizar_db::identity::users::{self, UserChange, UserFilter};
use mizar_db::identity::{DEFAULT_DOMAIN, Named, UserRow};
use mizar_domain::patch::Patch;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(at("/v3/users").route(web::get().to(list)).route(web::post().to(create)))
        .service(
            at("/v3/users/{id}")
                .route(web::get().to(show))
                .route(web::patch().to(update))
                .route(web::delete().to(delete)),
        )
        .service(at("/v3/users/{id}/password").route(web::post().to(change_password)))
        .service(at("/v3/users/{id}/projects").route(web::get().to(list_projects)));
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
    #[schema(example = "ann", min_length = 1, max_length = 255)]
    name: String,
    /// Without one the user cannot log in by password.
    #[schema(example = "secret", min_length = 1, max_length = 4096)]
    password: Option<String>,
    domain_id: Option<String>,
    enabled: Option<bool>,
    default_project_id: Option<String>,
    #[schema(max_length = 255)]
    email: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Body of PATCH /v3/users/{id}.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    user: ChangeOfUser,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfUser {
    #[schema(example = "ann", min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 4096)]
    password: Option<String>,
    enabled: Option<bool>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "patch")]
    #[schema(value_type = Option<String>)]
    default_project_id: Patch<String>,
    #[schema(max_length = 255)]
    email: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Where it is mentioned at all: null clears.
fn patch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map_or(Patch::Clear, Patch::Set))
}

/// Body of POST /v3/users/{id}/password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    user: Passwords,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Passwords {
    original_password: String,
    #[schema(min_length = 1, max_length = 4096)]
    password: String,
}

/// Checks and hashes a new password.
async fn hashed(app: &App, party: Party, password: String) -> Result<String, Fault> {
    if password.is_empty() || password.len() > password::PASSWORD_MAX {
        return Err(bad_field("password", format_args!("1 to {} bytes", password::PASSWORD_MAX)));
    }
    Ok(app.passwords.hash(party, password).await?)
}

fn project_id(id: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(id).map_err(|_| bad_field("default_project_id", "it is no id"))
}

async fn list(app: web::Data<App>, _: Admin, filters: Filters) -> Result<HttpResponse, Fault> {
    let filter =
        UserFilter { name: filters.text("name"), domain: filters.text("domain_id"), enabled: filters.flag("enabled")? };
    let rows = users::list(&mut *connection(&app).await?, &filter).await.map_err(fault)?;
    Ok(listed("users", rows.into_iter().map(|row| views::user(row, &app.settings))))
}

async fn show(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let user = own_or_admin(&caller, &id)?;
    let found = users::find(&mut *connection(&app).await?, &Named::Id(user)).await.map_err(fault)?;
    let (row, _) = found.ok_or_else(|| missing("user", &id))?;
    Ok(shown("user", views::user(row, &app.settings)))
}

/// What the user may scope a token to.
async fn list_projects(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    filters: Filters,
) -> Result<HttpResponse, Fault> {
    let user = own_or_admin(&caller, &id)?;
    let mut conn = connection(&app).await?;
    let found = users::find(&mut conn, &Named::Id(user)).await.map_err(fault)?;
    found.ok_or_else(|| missing("user", &id))?;
    let filter = project_rows::ProjectFilter { user: Some(user), ..projects::filter(&filters)? };
    let rows = project_rows::list(&mut conn, &filter).await.map_err(fault)?;
    Ok(listed("projects", rows.into_iter().map(|row| views::project(row, &app.settings))))
}

async fn create(
    app: web::Data<App>,
    Admin(actor): Admin,
    body: Body<CreateUser>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let NewUser { name: wanted, password, domain_id, enabled, default_project_id, email, description, options } =
        body.0.user;
    nothing("options", options)?;
    let mut row = UserRow {
        id: Uuid::new_v4(),
        domain_id: name::<64>("domain_id", domain_id.unwrap_or_else(|| DEFAULT_DOMAIN.into()))?,
        name: name::<255>("name", wanted)?,
        password_hash: None,
        enabled: enabled.unwrap_or(true),
        default_project_id: default_project_id.as_deref().map(project_id).transpose()?,
        email: text::<255>("email", email.unwrap_or_default())?,
        description: text::<1024>("description", description.unwrap_or_default())?,
    };
    if let Some(password) = password {
        let party = Party::naming(app.limiter.address(&request), &actor.user_id);
        row.password_hash = Some(hashed(&app, party, password).await?);
    }
    let event = event("create", "user", row.id, body.1);
    let stored = row.clone();
    record(&app, actor, event, move |conn| {
        let row = stored.clone();
        async move { users::create(conn, &row).await }.boxed()
    })
    .await?;
    Ok(made("user", views::user(row, &app.settings)))
}

async fn update(
    app: web::Data<App>,
    Admin(actor): Admin,
    id: web::Path<String>,
    body: Body<UpdateUser>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let id = parse("user", &id)?;
    let ChangeOfUser { name: wanted, password, enabled, default_project_id, email, description, options } = body.0.user;
    nothing("options", options)?;
    let mut wanted = UserChange {
        name: wanted.map(|wanted| name::<255>("name", wanted)).transpose()?,
        password_hash: None,
        enabled,
        default_project_id: match default_project_id {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(id) => Patch::Set(project_id(&id)?),
        },
        email: email.map(|wanted| text::<255>("email", wanted)).transpose()?,
        description: description.map(|wanted| text::<1024>("description", wanted)).transpose()?,
    };
    if let Some(password) = password {
        let party = Party::naming(app.limiter.address(&request), &actor.user_id);
        wanted.password_hash = Some(hashed(&app, party, password).await?);
    }
    let event = event("update", "user", id, body.1);
    let (row, revoked) = record(&app, actor, event, move |conn| {
        let wanted = wanted.clone();
        async move { users::update(conn, id, &wanted).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke(revoked);
    Ok(shown("user", views::user(row, &app.settings)))
}

async fn delete(app: web::Data<App>, Admin(actor): Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let id = parse("user", &id)?;
    let event = event("delete", "user", id, json!({}));
    let revoked = record(&app, actor, event, move |conn| users::delete(conn, id).boxed()).await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}

/// Who knows the password may change it; no token is needed, as in Keystone.
async fn change_password(
    app: web::Data<App>,
    id: web::Path<String>,
    body: Body<ChangePassword>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let Passwords { original_password, password } = body.0.user;
    let found = match Uuid::parse_str(&id) {
        Ok(id) => users::find(&mut *connection(&app).await?, &Named::Id(id)).await.map_err(fault)?,
        Err(_) => None,
    };
    // No connection is held while passwords are hashed.
    let enabled = found.filter(|(user, domain)| user.enabled && domain.enabled);
    let stored = enabled.as_ref().and_then(|(user, _)| user.password_hash.clone());
    let proven = stored.clone();
    let party = Party::naming(app.limiter.address(&request), &UserReference::of_id(id.as_str()));
    let too_long = original_password.len() > password::PASSWORD_MAX;
    if too_long || !app.passwords.verify(party, original_password, stored).await? {
        return Err(refused());
    }
    let (Some((user, _)), Some(proven)) = (enabled, proven) else { return Err(refused()) };
    let new = hashed(&app, party, password).await?;
    let actor = bearer_of_proof(&app, &request, user.id, user.name);
    let event = event("update", "user", user.id, body.1);
    // One that was changed meanwhile is a refusal, and nothing happened that the log could say.
    let revoked = record(&app, actor, event, move |conn| {
        let (proven, new) = (proven.clone(), new.clone());
        async move { users::change_password(conn, user.id, &proven, new).await }.boxed()
    })
    .await?;
    let revoked = revoked.ok_or_else(refused)?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}
