//! `/v3/domains`.

use super::common::{
    Admin, Body, Filters, at, bad_field, connection, domain_object, event, fault, listed, made, missing, name, nothing,
    record, shown, text,
};
use super::views;
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use futures::FutureExt as _;
use mizar_db::identity::domains::{self, DomainChange, DomainFilter};
use mizar_db::identity::{DomainRef, DomainRow};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v3/domains").route(web::get().to(list)).route(web::post().to(create))).service(
        at("/v3/domains/{id}")
            .route(web::get().to(show))
            .route(web::patch().to(update))
            .route(web::delete().to(delete)),
    );
}

/// Body of POST /v3/domains.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDomain {
    domain: NewDomain,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDomain {
    #[schema(example = "partners", min_length = 1, max_length = 64)]
    name: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    enabled: Option<bool>,
    /// 32 hexadecimal digits; made if it is not given.
    explicit_domain_id: Option<String>,
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Body of PATCH /v3/domains/{id}.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateDomain {
    domain: ChangeOfDomain,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfDomain {
    #[schema(example = "partners", min_length = 1, max_length = 64)]
    name: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    enabled: Option<bool>,
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

async fn list(app: web::Data<App>, _: Admin, filters: Filters) -> Result<HttpResponse, Fault> {
    let filter = DomainFilter { name: filters.text("name"), enabled: filters.flag("enabled")? };
    let rows = domains::list(&mut *connection(&app).await?, &filter).await.map_err(fault)?;
    Ok(listed("domains", rows.into_iter().map(|row| views::domain(row, &app.settings))))
}

/// What the database would not take as a text names nothing.
fn known(id: web::Path<String>) -> Result<String, Fault> {
    let id = id.into_inner();
    if id.contains('\0') { Err(missing("domain", &id)) } else { Ok(id) }
}

async fn show(app: web::Data<App>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let id = known(id)?;
    let found = domains::find(&mut *connection(&app).await?, &DomainRef::Id(id.clone())).await.map_err(fault)?;
    let row = found.ok_or_else(|| missing("domain", &id))?;
    Ok(shown("domain", views::domain(row, &app.settings)))
}

async fn create(app: web::Data<App>, Admin(actor): Admin, body: Body<CreateDomain>) -> Result<HttpResponse, Fault> {
    let NewDomain { name: wanted, description, enabled, explicit_domain_id, tags, options } = body.0.domain;
    nothing("tags", tags)?;
    nothing("options", options)?;
    let id = match explicit_domain_id {
        Some(id) => Uuid::parse_str(&id).map_err(|_| bad_field("explicit_domain_id", "32 hexadecimal digits"))?,
        None => Uuid::new_v4(),
    };
    let row = DomainRow {
        id: views::id_text(id),
        name: name::<64>("name", wanted)?,
        description: text::<1024>("description", description.unwrap_or_default())?,
        enabled: enabled.unwrap_or(true),
    };
    let event = event("create", "domain", id, body.1);
    let stored = row.clone();
    record(&app, actor, event, move |conn| {
        let row = stored.clone();
        async move { domains::create(conn, &row).await }.boxed()
    })
    .await?;
    Ok(made("domain", views::domain(row, &app.settings)))
}

async fn update(
    app: web::Data<App>,
    Admin(actor): Admin,
    id: web::Path<String>,
    body: Body<UpdateDomain>,
) -> Result<HttpResponse, Fault> {
    let ChangeOfDomain { name: wanted, description, enabled, tags, options } = body.0.domain;
    nothing("tags", tags)?;
    nothing("options", options)?;
    let wanted = DomainChange {
        name: wanted.map(|wanted| name::<64>("name", wanted)).transpose()?,
        description: description.map(|wanted| text::<1024>("description", wanted)).transpose()?,
        enabled,
    };
    let id = known(id)?;
    let event = event("update", "domain", domain_object(&id), body.1);
    let (row, revoked) = record(&app, actor, event, move |conn| {
        let (id, wanted) = (id.clone(), wanted.clone());
        async move { domains::update(conn, &id, &wanted).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke(revoked);
    Ok(shown("domain", views::domain(row, &app.settings)))
}

async fn delete(app: web::Data<App>, Admin(actor): Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let id = known(id)?;
    let event = event("delete", "domain", domain_object(&id), json!({}));
    let revoked = record(&app, actor, event, move |conn| {
        let id = id.clone();
        async move { domains::delete(conn, &id).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}
