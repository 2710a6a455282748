//! Discovery: versions, resources and extensions. What is announced behaves; what does not behave
//! is not announced, because clients adapt to the list.

use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use crate::observe::health;
use crate::resources;
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .route("/", web::get().to(versions))
        .route("/v2.0", web::get().to(list_resources))
        .route("/v2.0/", web::get().to(list_resources))
        .route("/v2.0/extensions", web::get().to(extensions))
        .route("/v2.0/extensions.json", web::get().to(extensions))
        .route("/v2.0/extensions/{alias}", web::get().to(extension))
        .route("/healthz", web::get().to(health::healthz))
        .route("/readyz", web::get().to(health::readyz));
}

/// GET /: both services live here, and each client looks for its own.
async fn versions(app: web::Data<App>) -> HttpResponse {
    let url = &app.settings.public_url;
    HttpResponse::MultipleChoices().json(json!({
        "versions": {"values": [crate::identity::discovery::version(url)]},
        "network": {"versions": [network_version(url)]},
    }))
}

fn network_version(url: &str) -> Value {
    json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": format!("{url}/v2.0/")}]})
}

/// GET /v2.0/.
async fn list_resources(app: web::Data<App>, _: Caller) -> HttpResponse {
    let url = &app.settings.public_url;
    let resource = |registered: &resources::Registered| {
        json!({
            "name": registered.singular,
            "collection": registered.plural,
            "links": [{"rel": "self", "href": format!("{url}/v2.0/{}", registered.path)}],
        })
    };
    HttpResponse::Ok().json(json!({"resources": resources::all().iter().map(resource).collect::<Vec<_>>()}))
}

/// Alias, name and description of what behaves.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("allowed-address-pairs", "Allowed Address Pairs", "Source addresses that a port may use beside its own."),
    ("binding", "Port Binding", "Ports are bound to hosts."),
    ("empty-string-filtering", "Empty String Filtering", "A filter may ask for an empty value."),
    ("filter-validation", "Filter Validation", "Unknown filters are refused."),
    ("ip-substring-filtering", "IP address substring filtering", "fixed_ips=ip_address_substr=… finds ports."),
    ("mizar", "Mizar", "Hosts and their transit roles."),
    ("net-mtu", "Network MTU", "Networks have an MTU."),
    ("net-mtu-writable", "Network MTU (writable)", "The MTU of a network may be chosen."),
    ("pagination", "Pagination support", "Lists come in pages."),
    ("port-security", "Port Security", "Anti-spoofing may be switched off."),
    ("project-id", "project_id field enabled", "project_id is the same as tenant_id."),
    ("provider", "Provider Network", "Operators see VNIs."),
    ("revision-if-match", "If-Match constraints based on revision_number", "Stale updates are refused."),
    ("sorting", "Sorting support", "Lists may be sorted."),
    ("standard-attr-description", "standard-attr-description", "Objects have descriptions."),
    ("standard-attr-revisions", "Resource revision numbers", "Objects have revision numbers."),
    ("standard-attr-tag", "Tag support for resources with standard attribute", "Objects have tags."),
    ("standard-attr-timestamp", "Resource timestamps", "Objects have created_at and updated_at."),
    ("tag-ports-during-bulk-creation", "Tag Ports During Bulk Creation", "Tags may be given when creating ports."),
];

fn shown((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({
        "alias": alias,
        "name": name,
        "description": description,
        "updated": "2026-11-22T00:00:00-00:00",
        "links": [],
    })
}

/// GET /v2.0/extensions.
async fn extensions(_: Caller) -> HttpResponse {
    HttpResponse::Ok().json(json!({"extensions": EXTENSIONS.iter().map(shown).collect::<Vec<_>>()}))
}

/// GET /v2.0/extensions/{alias}.
async fn extension(_: Caller, alias: web::Path<String>) -> Result<HttpResponse, Fault> {
    let alias = alias.strip_suffix(".json").unwrap_or(&alias);
    match EXTENSIONS.iter().find(|(known, ..)| *known == alias) {
        Some(found) => Ok(HttpResponse::Ok().json(json!({"extension": shown(found)}))),
        None => Err(Fault::not_found("ExtensionNotFound", format!("Extension with alias {alias} does not exist"))),
    }
}
