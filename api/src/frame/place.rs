//! What a path names.

use super::fault::Fault;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;
use std::future::{Ready, ready};

/// The parts of a resource's path. Empty where the route has none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Place {
    parent: String,
    id: String,
    tag: String,
}

impl Place {
    /// The object.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The object that it lies below.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// One of its tags.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromRequest for Place {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let parts = web::Path::<Self>::from_request(request, payload).into_inner();
        ready(parts.map(web::Path::into_inner).map_err(|_| Fault::no_such_path()))
    }
}
