//! The OpenAPI document. What resources say comes from their attribute maps, the same that decode
//! bodies and run queries; the rest stands here. `openapi/mizar.json` is this document, checked
//! in; a test fails when the two differ.

mod analysis;
mod cloud;
mod identity;
mod network;
pub mod parts;
mod resource;
mod seeing;

pub use resource::document as document_resource;

use crate::resources;
use parts::Document;
use utoipa::openapi::{Info, License, OpenApi, OpenApiBuilder, OpenApiVersion};

/// The whole document.
pub fn document() -> OpenApi {
    let mut document = Document::default();
    for resource in resources::all() {
        (resource.document)(&mut document);
    }
    network::document(&mut document);
    cloud::document(&mut document);
    seeing::document(&mut document);
    analysis::document(&mut document);
    identity::document(&mut document);
    let (paths, components, tags) = document.finish();
    let license = License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = Info::builder()
        .title("Mizar")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Virtual networks for virtual machines and containers: OpenStack's Neutron v2.0 and Keystone v3, \
             with extensions for operators. Every answer carries X-Openstack-Request-Id.",
        ))
        .license(Some(license))
        .build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(info)
        .paths(paths)
        .components(Some(components))
        .tags(Some(tags))
        .build()
}

/// As checked in: pretty, with a line's end.
pub fn json() -> Result<String, serde_json::Error> {
    document().to_pretty_json().map(|text| text + "\n")
}
