//! The resources. A new one is a file here and a line in [`all`].

pub mod networks;
pub mod ports;
pub mod subnets;

use crate::frame::handlers;
use crate::frame::resource::Resource;
use crate::openapi::document_resource;
use crate::openapi::parts::Document;
use actix_web::web::ServiceConfig;
use mizar_db::resources::{host::Host, network::Network, port::Port};

/// What the frame does with a resource, whatever its type.
#[derive(Clone, Copy)]
pub struct Registered {
    /// As in `{"ports": …}`.
    pub plural: &'static str,
    /// As in `{"port": …}`.
    pub singular: &'static str,
    /// Below /v2.0.
    pub path: &'static str,
    /// Routes.
    pub mount: fn(&mut ServiceConfig),
    /// Operations and schemas.
    pub document: fn(&mut Document),
}

impl Registered {
    const fn of<R: Resource>() -> Self {
        Self {
            plural: R::PLURAL,
            singular: R::SINGULAR,
            path: R::PATH,
            mount: handlers::mount::<R>,
            document: document_resource::<R>,
        }
    }
}

/// Every resource.
pub fn all() -> Vec<Registered> {
    vec![
        Registered::of::<Network>(),
        Registered::of::<subnets::Subnet>(),
        Registered::of::<Port>(),
        Registered::of::<Host>(),
    ]
}
