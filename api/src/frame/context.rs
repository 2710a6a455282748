//! A request: who makes it, from where, to which cloud.

use super::caller::{Caller, authenticate};
use super::fault::Fault;
use crate::app::{App, Settings};
use crate::observe::request::RequestId;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures::future::LocalBoxFuture;
use mizar_db::ledger::Actor;
use mizar_db::listing::Visibility;
use std::sync::Arc;

/// What handlers and rules may know about a request. As an extractor it demands a token.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub caller: Caller,
    /// Whose objects the caller sees.
    pub view: Visibility,
    /// Of the cloud.
    pub settings: Arc<Settings>,
    /// Id of the request, as its answer names it.
    pub request_id: String,
    /// What follows the question mark: some lists say more than which objects.
    pub query: String,
    /// Address that it came from, also through a trusted proxy.
    pub remote: String,
}

impl FromRequest for Context {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::of(&request).await })
    }
}

impl Context {
    async fn of(request: &HttpRequest) -> Result<Self, Fault> {
        let caller = authenticate(request).await?;
        let app = request.app_data::<web::Data<App>>();
        let app = app.ok_or_else(|| Fault::internal("the application has no state"))?;
        let request_id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
        Ok(Self {
            view: caller.view(),
            caller,
            settings: Arc::clone(&app.settings),
            request_id: request_id.unwrap_or_default(),
            query: request.query_string().to_owned(),
            remote: app.limiter.address(request).map(|address| address.to_string()).unwrap_or_default(),
        })
    }

    /// As the audit log names it.
    pub fn actor(&self) -> Actor {
        Actor {
            request_id: self.request_id.clone(),
            remote: self.remote.clone(),
            user_id: self.caller.claims.sub.clone(),
            user_name: self.caller.claims.user_name.clone(),
            project: self.caller.project(),
            roles: self.caller.claims.roles.iter().map(|role| role.name.clone()).collect(),
        }
    }
}
