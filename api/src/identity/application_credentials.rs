//! `/v3/users/{user}/application_credentials`: what programs log in with instead of a password.

use super::common::{
    Body, Filters, at, bad, bad_field, connection, event, fault, forbidden, listed, made, missing, name, own_or_admin,
    parse, record, shown, text,
};
use super::turns::Party;
use super::{password, views};
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, NaiveDateTime, Utc};
use futures::FutureExt as _;
use mizar_db::identity::assignments::On;
use mizar_db::identity::credentials::{self, CredentialRow};
use mizar_db::identity::{RoleRow, roles};
use mizar_db::ledger::Event;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(
            at("/v3/users/{user}/application_credentials").route(web::get().to(list)).route(web::post().to(create)),
        )
        .service(
            at("/v3/users/{user}/application_credentials/{id}")
                .route(web::get().to(show))
                .route(web::delete().to(delete)),
        );
}

/// Body of POST.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApplicationCredential {
    application_credential: NewCredential,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCredential {
    #[schema(example = "ci", min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// Made if it is not given.
    #[schema(min_length = 1, max_length = 4096)]
    secret: Option<String>,
    /// Some of the token's; without them, all of it.
    roles: Option<Vec<RoleReference>>,
    /// UTC where no offset is named.
    #[schema(example = "2030-01-01T00:00:00")]
    expires_at: Option<String>,
    unrestricted: Option<bool>,
    /// Empty: access rules are not supported.
    #[schema(value_type = Option<Vec<Object>>)]
    access_rules: Option<Vec<Value>>,
    /// The token's.
    project_id: Option<String>,
}

/// By id or by name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleReference {
    id: Option<String>,
    #[schema(example = "member")]
    name: Option<String>,
    /// Null: roles belong to no domain.
    domain_id: Option<String>,
}

/// Whether the token may manage application credentials: one that comes from a restricted one may
/// not, lest a leaked secret make others of it.
fn may_manage(caller: &Caller) -> Result<(), Fault> {
    if caller.claims.credential.as_ref().is_some_and(|credential| credential.restricted) {
        return Err(forbidden());
    }
    Ok(())
}

fn moment(text: &str) -> Result<DateTime<Utc>, Fault> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let time = time.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc()));
    let time = time.map_err(|_| bad_field("expires_at", "not of the form 2030-01-01T00:00:00"))?;
    if time <= Utc::now() { Err(bad_field("expires_at", "it is past")) } else { Ok(time) }
}

/// Names of the roles wanted; the token must have each.
async fn wanted_roles(app: &App, caller: &Caller, wanted: Vec<RoleReference>) -> Result<Vec<String>, Fault> {
    let all = roles::list(&mut *connection(app).await?, None).await.map_err(fault)?;
    let has = |role: &&RoleRow| caller.claims.roles.iter().any(|claimed| claimed.name == role.name);
    if wanted.is_empty() {
        return Ok(all.iter().filter(has).map(|role| role.name.clone()).collect());
    }
    let mut names = Vec::new();
    for RoleReference { id, name, domain_id } in wanted {
        if domain_id.is_some() || (id.is_none() && name.is_none()) {
            return Err(bad_field("roles", "each needs an id or a name, and belongs to no domain"));
        }
        let id = id.as_deref().map(|id| Uuid::parse_str(id).map_err(|_| missing("role", id))).transpose()?;
        let meant =
            |role: &&RoleRow| id.is_none_or(|id| id == role.id) && name.as_ref().is_none_or(|name| *name == role.name);
        let role = all.iter().filter(meant).find(has);
        let role = role.ok_or_else(|| bad_field("roles", "a role that the token does not have"))?;
        if !names.contains(&role.name) {
            names.push(role.name.clone());
        }
    }
    Ok(names)
}

async fn create(
    app: web::Data<App>,
    context: Context,
    user: web::Path<String>,
    body: Body<CreateApplicationCredential>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    // Nobody else may make one, administrators neither: it would be a way to act as the user.
    let caller = &context.caller;
    let user = parse("user", &user)?;
    if caller.claims.user_id() != Some(user) {
        return Err(forbidden());
    }
    may_manage(caller)?;
    let NewCredential {
        name: wanted,
        description,
        secret,
        roles: wanted_names,
        expires_at,
        unrestricted,
        access_rules,
        project_id,
    } = body.0.application_credential;
    let project = caller.project().ok_or_else(|| bad("an application credential needs a token of a project"))?;
    if access_rules.is_some_and(|rules| !rules.is_empty()) {
        return Err(bad_field("access_rules", "access rules are not supported here"));
    }
    if project_id.is_some_and(|id| Uuid::parse_str(&id).ok() != Some(project)) {
        return Err(bad_field("project_id", "it must be the token's"));
    }
    if secret.as_ref().is_some_and(|chosen| chosen.is_empty() || chosen.len() > password::PASSWORD_MAX) {
        return Err(bad_field("secret", format_args!("1 to {} bytes", password::PASSWORD_MAX)));
    }
    let mut row = CredentialRow {
        id: Uuid::new_v4(),
        user_id: user,
        project_id: project,
        name: name::<255>("name", wanted)?,
        description: text::<1024>("description", description.unwrap_or_default())?,
        secret_hash: String::new(),
        unrestricted: unrestricted.unwrap_or(false),
        expires_at: expires_at.as_deref().map(moment).transpose()?,
    };
    let names = wanted_roles(&app, caller, wanted_names.unwrap_or_default()).await?;
    let (secret, hash) = match secret {
        None => password::generate(),
        Some(chosen) => {
            let party = Party::naming(app.limiter.address(&request), &caller.claims.sub);
            let hash = app.passwords.hash(party, chosen.clone()).await?;
            (chosen, hash)
        }
    };
    row.secret_hash = hash;
    let stored = row.clone();
    let on = On::Project(project);
    let event = event("create", "application_credential", row.id, body.1);
    let event = Event { project: Some(project), ..event };
    let roles = record(&app, context.actor(), event, move |conn| {
        let (row, names, on) = (stored.clone(), names.clone(), on.clone());
        async move { credentials::create(conn, &row, &names, &on).await }.boxed()
    })
    .await?;
    let mut view = views::application_credential(row, roles, &app.settings);
    view.secret = Some(secret);
    Ok(made("application_credential", view))
}

async fn list(
    app: web::Data<App>,
    caller: Caller,
    user: web::Path<String>,
    filters: Filters,
) -> Result<HttpResponse, Fault> {
    let user = own_or_admin(&caller, &user)?;
    let mut conn = connection(&app).await?;
    let rows = credentials::list(&mut conn, user, filters.get("name")).await.map_err(fault)?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut roles: HashMap<Uuid, Vec<RoleRow>> = HashMap::new();
    for (id, role) in credentials::roles_of(&mut conn, &ids).await.map_err(fault)? {
        roles.entry(id).or_default().push(role);
    }
    let view = |row: CredentialRow| {
        let roles = roles.remove(&row.id).unwrap_or_default();
        views::application_credential(row, roles, &app.settings)
    };
    Ok(listed("application_credentials", rows.into_iter().map(view).collect::<Vec<_>>()))
}

async fn show(app: web::Data<App>, caller: Caller, path: web::Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let (user, id) = path.into_inner();
    let user = own_or_admin(&caller, &user)?;
    let none = || missing("Application Credential", &id);
    let named = credentials::CredentialRef::Id(Uuid::parse_str(&id).map_err(|_| none())?);
    let mut conn = connection(&app).await?;
    let row = credentials::find(&mut conn, &named).await.map_err(fault)?;
    let row = row.filter(|row| row.user_id == user).ok_or_else(none)?;
    let roles = credentials::roles_of(&mut conn, &[row.id]).await.map_err(fault)?;
    let roles = roles.into_iter().map(|(_, role)| role).collect();
    Ok(shown("application_credential", views::application_credential(row, roles, &app.settings)))
}

async fn delete(
    app: web::Data<App>,
    context: Context,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Fault> {
    let (user, id) = path.into_inner();
    let user = own_or_admin(&context.caller, &user)?;
    may_manage(&context.caller)?;
    let id = parse("Application Credential", &id)?;
    let event = event("delete", "application_credential", id, json!({"user": views::id_text(user)}));
    let revoked = record(&app, context.actor(), event, move |conn| credentials::delete(conn, user, id).boxed()).await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}
