//! The service catalog: what tokens carry, and `/v3/services`, `/v3/endpoints`, `/v3/regions`,
//! which nobody changes: both services live here.

use super::common::{Admin, Filters, at, listed, missing, shown};
use crate::app::{App, Settings};
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(at("/v3/auth/catalog").route(web::get().to(show_catalog)))
        .service(at("/v3/services").route(web::get().to(list_services)))
        .service(at("/v3/services/{id}").route(web::get().to(show_service)))
        .service(at("/v3/endpoints").route(web::get().to(list_endpoints)))
        .service(at("/v3/endpoints/{id}").route(web::get().to(show_endpoint)))
        .service(at("/v3/regions").route(web::get().to(list_regions)))
        .service(at("/v3/regions/{id}").route(web::get().to(show_region)));
}

/// A service with its endpoints, as tokens carry it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct CatalogEntry {
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "network")]
    pub kind: String,
    #[schema(example = "mizar")]
    pub name: String,
    pub endpoints: Vec<CatalogEndpoint>,
}

/// An endpoint, as tokens carry it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct CatalogEndpoint {
    pub id: String,
    #[schema(example = "public")]
    pub interface: String,
    #[schema(example = "RegionOne")]
    pub region: String,
    pub region_id: String,
    pub url: String,
}

/// A service.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Service {
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "network")]
    pub kind: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub links: super::views::Links,
}

/// Where a service is.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Endpoint {
    pub id: String,
    pub service_id: String,
    pub interface: String,
    pub region: String,
    pub region_id: String,
    pub url: String,
    pub enabled: bool,
    pub links: super::views::Links,
}

/// A region: there is one.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Region {
    #[schema(example = "RegionOne")]
    pub id: String,
    pub description: String,
    pub parent_region_id: Option<String>,
    pub links: super::views::Links,
}

/// Ids of services and endpoints never change, so they are made of names.
fn id(name: &str) -> String {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Uuid::from_bytes(bytes).simple().to_string()
}

/// Where clients find what. The network service is named without version: clients append it.
pub fn catalog(settings: &Settings) -> Vec<CatalogEntry> {
    let service = |kind: &str, name: &str, url: String| {
        let endpoint = |interface: &str| CatalogEndpoint {
            id: id(&format!("{interface} {kind}")),
            interface: interface.to_owned(),
            region: settings.region.clone(),
            region_id: settings.region.clone(),
            url: url.clone(),
        };
        let endpoints = ["public", "internal", "admin"].into_iter().map(endpoint).collect();
        CatalogEntry { id: id(kind), kind: kind.to_owned(), name: name.to_owned(), endpoints }
    };
    vec![
        service("identity", "mizar identity", format!("{}/v3", settings.public_url)),
        service("network", "mizar", settings.public_url.clone()),
    ]
}

fn link(settings: &Settings, plural: &str, id: &str) -> super::views::Links {
    super::views::Links { own: format!("{}/v3/{plural}/{id}", settings.public_url) }
}

fn services(settings: &Settings) -> Vec<Service> {
    let view = |entry: CatalogEntry| Service {
        links: link(settings, "services", &entry.id),
        id: entry.id,
        kind: entry.kind,
        name: entry.name,
        description: String::new(),
        enabled: true,
    };
    catalog(settings).into_iter().map(view).collect()
}

fn endpoints(settings: &Settings) -> Vec<Endpoint> {
    let of_service = |entry: CatalogEntry| {
        let service_id = entry.id;
        entry.endpoints.into_iter().map(move |CatalogEndpoint { id, interface, region, region_id, url }| Endpoint {
            links: link(settings, "endpoints", &id),
            id,
            service_id: service_id.clone(),
            interface,
            region,
            region_id,
            url,
            enabled: true,
        })
    };
    catalog(settings).into_iter().flat_map(of_service).collect()
}

fn region(settings: &Settings) -> Region {
    Region {
        links: link(settings, "regions", &settings.region),
        id: settings.region.clone(),
        description: String::new(),
        parent_region_id: None,
    }
}

/// Whether a filter is absent or says this.
fn is(filters: &Filters, name: &str, value: &str) -> bool {
    filters.get(name).is_none_or(|wanted| wanted == value)
}

/// Where what is, for everybody.
async fn show_catalog(app: web::Data<App>, _: Caller) -> HttpResponse {
    listed("catalog", catalog(&app.settings))
}

async fn list_services(app: web::Data<App>, _: Admin, filters: Filters) -> HttpResponse {
    let named = services(&app.settings).into_iter();
    listed("services", named.filter(|row| is(&filters, "name", &row.name) && is(&filters, "type", &row.kind)))
}

async fn show_service(app: web::Data<App>, _: Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let found = services(&app.settings).into_iter().find(|row| row.id == *id);
    Ok(shown("service", found.ok_or_else(|| missing("service", &id))?))
}

async fn list_endpoints(app: web::Data<App>, _: Admin, filters: Filters) -> HttpResponse {
    let wanted = |row: &Endpoint| {
        is(&filters, "service_id", &row.service_id)
            && is(&filters, "interface", &row.interface)
            && is(&filters, "region_id", &row.region_id)
    };
    listed("endpoints", endpoints(&app.settings).into_iter().filter(wanted))
}

async fn show_endpoint(app: web::Data<App>, _: Admin, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    let found = endpoints(&app.settings).into_iter().find(|row| row.id == *id);
    Ok(shown("endpoint", found.ok_or_else(|| missing("endpoint", &id))?))
}

async fn list_regions(app: web::Data<App>, _: Caller) -> HttpResponse {
    listed("regions", [region(&app.settings)])
}

async fn show_region(app: web::Data<App>, _: Caller, id: web::Path<String>) -> Result<HttpResponse, Fault> {
    if *id != app.settings.region {
        return Err(missing("region", &id));
    }
    Ok(shown("region", region(&app.settings)))
}
