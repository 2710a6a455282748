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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check<R: Resource>() {
        let mut names = BTreeSet::new();
        for attribute in R::map().iter() {
            assert!(names.insert(attribute.name), "{} has {} twice", R::PLURAL, attribute.name);
            assert!(!attribute.required || attribute.post.is_some(), "{} requires what nobody may send", R::PLURAL);
        }
        let id = R::map().get("id");
        assert!(id.is_some_and(|id| id.filter.is_some() && id.sort.is_some()), "{} is not paged by id", R::PLURAL);
    }

    #[test]
    fn every_attribute_map_has_each_name_once_and_sorts_by_id() {
        check::<Network>();
        check::<subnets::Subnet>();
        check::<Port>();
        check::<Host>();
    }
}
