//! Discovery: versions, resources and extensions. What is announced behaves; what does not behave
//! is not announced, because clients adapt to the list.

use crate::app::{App, Settings};
use crate::frame::caller::Caller;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::handlers::method_not_allowed;
use crate::observe::health;
use crate::{cloud, resources};
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, Route, web};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    let mut only = |paths: &[&str], get: Route| {
        let others = web::to(method_not_allowed);
        config.service(web::resource(paths.to_vec()).default_service(others).route(get));
    };
    only(&["/"], web::get().to(versions));
    only(&["/v2.0/", "/v2.0"], web::get().to(list_resources));
    only(&["/v2.0/extensions", "/v2.0/extensions.json"], web::get().to(extensions));
    only(&["/v2.0/extensions/{alias}"], web::get().to(extension));
    only(&["/healthz"], web::get().to(health::healthz));
    only(&["/readyz"], web::get().to(health::readyz));
}

/// GET /: both services live here, and each client looks for its own.
async fn versions(app: web::Data<App>) -> HttpResponse {
    let url = &app.settings.public_url;
    let identity: Vec<Value> =
        app.authority.embedded().map(|_| crate::identity::discovery::version(url)).into_iter().collect();
    HttpResponse::MultipleChoices().json(json!({
        "versions": {"values": identity},
        "network": {"versions": [network_version(url)]},
    }))
}

fn network_version(url: &str) -> Value {
    json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": format!("{url}/v2.0/")}]})
}

/// GET /v2.0/.
async fn list_resources(app: web::Data<App>, _: Caller) -> HttpResponse {
    let url = &app.settings.public_url;
    let resource = |(singular, plural, path): (&str, &str, &str)| {
        json!({
            "name": singular,
            "collection": plural,
            "links": [{"rel": "self", "href": format!("{url}/v2.0/{path}")}],
        })
    };
    let framed = resources::all().into_iter().filter(|resource| !resource.nested);
    let framed = framed.map(|resource| (resource.singular, resource.plural, resource.path));
    let all: Vec<Value> = framed.chain(cloud::COLLECTIONS.iter().copied()).map(resource).collect();
    HttpResponse::Ok().json(json!({ "resources": all }))
}

/// What the frame does for all resources. Resources name their own.
const EXTENSIONS: &[Extension] = &[
    Extension::new("empty-string-filtering", "Empty String Filtering", "A filter may ask for an empty value."),
    Extension::new("filter-validation", "Filter Validation", "Unknown filters are refused."),
    Extension::new("pagination", "Pagination support", "Lists come in pages."),
    Extension::new("project-id", "project_id field enabled", "project_id is the same as tenant_id."),
    Extension::new("revision-if-match", "If-Match constraints based on revision_number", "Stale updates are refused."),
    Extension::new("sorting", "Sorting support", "Lists may be sorted."),
    Extension::new("standard-attr-description", "standard-attr-description", "Objects have descriptions."),
    Extension::new("standard-attr-revisions", "Resource revision numbers", "Objects have revision numbers."),
    Extension::new("standard-attr-tag", "Tag support for resources with standard attribute", "Objects have tags."),
    Extension::new("standard-attr-timestamp", "Resource timestamps", "Objects have created_at and updated_at."),
];

/// What is announced, by alias.
fn announced(settings: &Settings) -> BTreeMap<&'static str, Extension> {
    let resources = resources::all();
    let own = resources.iter().flat_map(|resource| resource.extensions);
    let announced =
        EXTENSIONS.iter().chain(cloud::EXTENSIONS).chain(own).filter(|extension| extension.is_announced(settings));
    announced.map(|extension| (extension.alias, *extension)).collect()
}

fn shown(extension: &Extension) -> Value {
    json!({
        "alias": extension.alias,
        "name": extension.name,
        "description": extension.description,
        "updated": "2026-11-22T00:00:00-00:00",
        "links": [],
    })
}

/// GET /v2.0/extensions.
async fn extensions(app: web::Data<App>, _: Caller) -> HttpResponse {
    let all: Vec<Value> = announced(&app.settings).values().map(shown).collect();
    HttpResponse::Ok().json(json!({"extensions": all}))
}

/// GET /v2.0/extensions/{alias}.
async fn extension(app: web::Data<App>, _: Caller, alias: web::Path<String>) -> Result<HttpResponse, Fault> {
    let alias = alias.strip_suffix(".json").unwrap_or(&alias);
    match announced(&app.settings).get(alias) {
        Some(found) => Ok(HttpResponse::Ok().json(json!({"extension": shown(found)}))),
        None => Err(Fault::not_found("ExtensionNotFound", format!("Extension with alias {alias} does not exist"))),
    }
}
