//! `/v3/projects`.

use super::common::{
    Admin, Body, Filters, admin, at, bad_field, connection, event, fault, listed, made, missing, name, nothing, parse,
    record, shown, text,
};
use super::views;
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use futures::FutureExt as _;
use mizar_db::identity::projects::{self, ProjectChange, ProjectFilter};
use mizar_db::identity::{DEFAULT_DOMAIN, Named, ProjectRow};
use mizar_db::ledger::Event;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v3/projects").route(web::get().to(list)).route(web::post().to(create))).service(
        at("/v3/projects/{id}")
            .route(web::get().to(show))
            .route(web::patch().to(update))
            .route(web::delete().to(delete)),
    );
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
    #[schema(example = "red", min_length = 1, max_length = 64)]
    name: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
    domain_id: Option<String>,
    /// The domain: projects are not nested.
    parent_id: Option<String>,
    enabled: Option<bool>,
    /// False: domains are made at `/v3/domains`.
    is_domain: Option<bool>,
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// Body of PATCH /v3/projects/{id}.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    project: ChangeOfProject,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfProject {
    #[schema(example = "red", min_length = 1, max_length = 64)]
    name: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    enabled: Option<bool>,
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
}

/// What a list may be asked for.
pub fn filter(filters: &Filters) -> Result<ProjectFilter, Fault> {
    Ok(ProjectFilter {
        name: filters.text("name"),
        domain: filters.text("domain_id"),
        enabled: filters.flag("enabled")?,
        user: None,
        tags: filters.words("tags"),
        tags_any: filters.words("tags-any"),
        not_tags: filters.words("not-tags"),
        not_tags_any: filters.words("not-tags-any"),
    })
}

async fn list(app: web::Data<App>, _: Admin, filters: Filters) -> Result<HttpResponse, Fault> {
    // Projects are not nested and no project is a domain: these filters decide by themselves.
    let none = filters.flag("is_domain")? == Some(true);
    let mut wanted = filter(&filters)?;
    match (filters.get("parent_id"), &wanted.domain) {
        (Some(parent), Some(domain)) if parent != domain => {
            return Ok(listed("projects", Vec::<views::Project>::new()));
        }
        (Some(parent), _) => wanted.domain = Some(parent.to_owned()),
        (None, _) => {}
    }
    let rows =
        if none { Vec::new() } else { projects::list(&mut *connection(&app).await?, &wanted).await.map_err(fault)? };
    Ok(listed("projects", rows.into_iter().map(|row| views::project(row, &app.settings))))
}

async fn show(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let project = Uuid::parse_str(&id).ok();
    if project.is_none() || caller.project() != project {
        admin(&caller)?;
    }
    let project = parse("project", &id)?;
    let found = projects::find(&mut *connection(&app).await?, &Named::Id(project)).await.map_err(fault)?;
    let (row, _) = found.ok_or_else(|| missing("project", &id))?;
    Ok(shown("project", views::project(row, &app.settings)))
}

/// Keystone's rules: no commas or slashes, each once, at most 80.
fn tags(tags: Vec<String>) -> Result<Vec<String>, Fault> {
    if tags.len() > 80 {
        return Err(bad_field("tags", "a project has at most 80"));
    }
    if tags.iter().any(|tag| tag.contains([',', '/']) || tag.is_empty()) {
        return Err(bad_field("tags", "a tag is not empty and has no comma and no slash"));
    }
    let unique = tags.into_iter().collect::<BTreeSet<_>>();
    unique.into_iter().map(|tag| text::<255>("tags", tag)).collect()
}

async fn create(app: web::Data<App>, Admin(actor): Admin, body: Body<CreateProject>) -> Result<HttpResponse, Fault> {
    let NewProject { name: wanted, description, domain_id, parent_id, enabled, is_domain, tags: wanted_tags, options } =
        body.0.project;
    let domain_id = domain_id.unwrap_or_else(|| DEFAULT_DOMAIN.into());
    nothing("is_domain", is_domain)?;
    nothing("options", options)?;
    if parent_id.is_some_and(|parent| parent != domain_id) {
        return Err(bad_field("parent_id", "projects are not nested here: it must be the domain"));
    }
    let row = ProjectRow {
        id: Uuid::new_v4(),
        domain_id: name::<64>("domain_id", domain_id)?,
        name: name::<64>("name", wanted)?,
        description: text::<1024>("description", description.unwrap_or_default())?,
        enabled: enabled.unwrap_or(true),
        tags: tags(wanted_tags.unwrap_or_default())?,
    };
    let event = Event { project: Some(row.id), ..event("create", "project", row.id, body.1) };
    let stored = row.clone();
    record(&app, actor, event, move |conn| {
        let row = stored.clone();
        async move { projects::create(conn, &row).await }.boxed()
    })
    .await?;
    Ok(made("project", views::project(row, &app.settings)))
}

async fn update(
    app: web::Data<App>,
    Admin(actor): Admin,
    id: web::Path<String>,
    body: Body<UpdateProject>,
) -> Result<HttpResponse, Fault> {
    let id = parse("project", &id)?;
    let ChangeOfProject { name: wanted, description, enabled, tags: wanted_tags, options } = body.0.project;
    nothing("options", options)?;
    let wanted = ProjectChange {
        name: wanted.map(|wanted| name::<64>("name", wanted)).transpose()?,
        description: description.map(|wanted| text::<1024>("description", wanted)).transpose()?,
        enabled,
        tags: wanted_tags.map(tags).transpose()?,
    };
    let event = Event { project: Some(id), ..event("update", "project", id, body.1) };
    let (row, revoked) = record(&app, actor, event, move |conn| {
        let wanted = wanted.clone();
        async move { projects::update(conn, id, &wanted).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke(revoked);
    Ok(shown("project", views::project(row, &app.settings)))
}

async fn delete(app: web::Data<App>, Admin(actor): Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let id = parse("project", &id)?;
    let event = Event { project: Some(id), ..event("delete", "project", id, json!({})) };
    let revoked = record(&app, actor, event, move |conn| projects::delete(conn, id).boxed()).await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}
