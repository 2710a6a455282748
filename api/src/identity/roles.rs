//! `/v3/roles`.

use super::common::{
    Admin, Body, Filters, at, connection, event, fault, listed, made, missing, name, nothing, parse, record, shown,
    text,
};
use super::views;
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use futures::FutureExt as _;
use mizar_db::identity::RoleRow;
use mizar_db::identity::roles;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v3/roles").route(web::get().to(list)).route(web::post().to(create))).service(
        at("/v3/roles/{id}").route(web::get().to(show)).route(web::patch().to(update)).route(web::delete().to(delete)),
    );
}

/// Body of POST /v3/roles.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRole {
    role: NewRole,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    #[schema(example = "auditor", min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    /// Null: roles belong to no domain.
    domain_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Body of PATCH /v3/roles/{id}.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRole {
    role: ChangeOfRole,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfRole {
    #[schema(example = "auditor", min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

async fn list(app: web::Data<App>, _: Caller, filters: Filters) -> Result<HttpResponse, Fault> {
    let mut rows = roles::list(&mut *connection(&app).await?, filters.get("name")).await.map_err(fault)?;
    // Clients ask for those of a domain: there are none.
    rows.retain(|_| filters.get("domain_id").is_none());
    Ok(listed("roles", rows.into_iter().map(|row| views::role(row, &app.settings))))
}

/// The role that a path names, by id.
pub async fn find(app: &App, id: &str) -> Result<RoleRow, Fault> {
    let found = roles::find(&mut *connection(app).await?, parse("role", id)?).await.map_err(fault)?;
    found.ok_or_else(|| missing("role", id))
}

async fn show(app: web::Data<App>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    Ok(shown("role", views::role(find(&app, &id).await?, &app.settings)))
}

async fn create(app: web::Data<App>, Admin(actor): Admin, body: Body<CreateRole>) -> Result<HttpResponse, Fault> {
    let NewRole { name: wanted, description, domain_id, options } = body.0.role;
    nothing("domain_id", domain_id)?;
    nothing("options", options)?;
    let row = RoleRow {
        id: Uuid::new_v4(),
        name: name::<255>("name", wanted)?,
        description: text::<1024>("description", description.unwrap_or_default())?,
        builtin: false,
    };
    let event = event("create", "role", row.id, body.1);
    let stored = row.clone();
    record(&app, actor, event, move |conn| {
        let row = stored.clone();
        async move { roles::create(conn, &row).await }.boxed()
    })
    .await?;
    Ok(made("role", views::role(row, &app.settings)))
}

async fn update(
    app: web::Data<App>,
    Admin(actor): Admin,
    id: web::Path<String>,
    body: Body<UpdateRole>,
) -> Result<HttpResponse, Fault> {
    let id = parse("role", &id)?;
    let ChangeOfRole { name: wanted, description, options } = body.0.role;
    nothing("options", options)?;
    let wanted = wanted.map(|wanted| name::<255>("name", wanted)).transpose()?;
    let description = description.map(|wanted| text::<1024>("description", wanted)).transpose()?;
    let event = event("update", "role", id, body.1);
    let (row, revoked) = record(&app, actor, event, move |conn| {
        let (wanted, description) = (wanted.clone(), description.clone());
        roles::update(conn, id, wanted, description).boxed()
    })
    .await?;
    app.tokens()?.revoke(revoked);
    Ok(shown("role", views::role(row, &app.settings)))
}

async fn delete(app: web::Data<App>, Admin(actor): Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let id = parse("role", &id)?;
    let event = event("delete", "role", id, json!({}));
    let revoked = record(&app, actor, event, move |conn| roles::delete(conn, id).boxed()).await?;
    app.tokens()?.revoke(revoked);
    Ok(HttpResponse::NoContent().finish())
}
