//! What the handlers of accounts share: who may, what a path or a query names, errors, envelopes.

use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::frame::handlers::method_not_allowed;
use crate::frame::query::parameters;
use crate::observe::request::RequestId;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, Resource, web};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use mizar_db::identity::AccountError;
use mizar_db::ledger::{Actor, Event, Ledger};
use mizar_db::pool::Connection;
use mizar_domain::text::Text;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::future::{Ready, ready};
use std::sync::Arc;
use uuid::Uuid;

/// A path that answers 405 to other methods than those it is given.
pub fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(method_not_allowed))
}

/// 400.
pub fn bad(message: impl Into<String>) -> Fault {
    Fault::identity(StatusCode::BAD_REQUEST, message)
}

/// 400, about one field.
pub fn bad_field(field: &str, reason: impl std::fmt::Display) -> Fault {
    bad(format!("Invalid input for field '{field}': {reason}"))
}

/// 401, the same whatever is wrong.
pub fn refused() -> Fault {
    Fault::unauthorized("The request you have made requires authentication.")
}

/// 403.
pub fn forbidden() -> Fault {
    Fault::identity(StatusCode::FORBIDDEN, "You are not authorized to perform the requested action.")
}

/// 404.
pub fn missing(kind: &str, id: &str) -> Fault {
    Fault::identity(StatusCode::NOT_FOUND, format!("Could not find {kind}: {id}."))
}

/// An id of a path or a filter: what is no id names nothing.
pub fn parse(kind: &str, id: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(id).map_err(|_| missing(kind, id))
}

/// Any failure below, in the identity service's form.
pub fn fault(error: impl Into<Fault>) -> Fault {
    error.into().of_identity()
}

impl From<AccountError> for Fault {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NameTaken { .. } => Self::identity(StatusCode::CONFLICT, error.to_string()),
            AccountError::NoSuch { .. } => Self::identity(StatusCode::NOT_FOUND, error.to_string()),
            AccountError::Forbidden(_) => Self::identity(StatusCode::FORBIDDEN, error.to_string()),
            AccountError::Pool(source) => fault(source),
            AccountError::Database(source) => fault(source),
        }
    }
}

/// A connection.
pub async fn connection(app: &App) -> Result<Connection, Fault> {
    app.pool.get().await.map_err(fault)
}

/// Runs a change in a transaction.
pub async fn change<T, F>(app: &App, work: F) -> Result<T, Fault>
where
    F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, AccountError>>,
{
    Ok(app.pool.transaction(work).await?)
}

/// Runs a change in a transaction that also writes it down in the audit log.
pub async fn record<T, F>(app: &App, actor: Actor, event: Event, work: F) -> Result<T, Fault>
where
    T: Send,
    F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, AccountError>> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    change(app, move |conn| {
        let (work, actor, event) = (Arc::clone(&work), actor.clone(), event.clone());
        async move {
            let done = work(conn).await?;
            let mut ledger = Ledger::default();
            ledger.record(event);
            ledger.close(conn, &actor, |_| -1).await?;
            Ok(done)
        }
        .boxed()
    })
    .await
}

/// What the audit log says of a change.
pub fn event(action: &'static str, object_type: &'static str, object_id: Uuid, changes: Value) -> Event {
    Event { action, object_type, object_id, project: None, changes }
}

/// A domain in the audit log, which names everything by UUID: the default domain, whose id is none,
/// is all zeros.
pub fn domain_object(id: &str) -> Uuid {
    Uuid::parse_str(id).unwrap_or_default()
}

/// Somebody who proves by the request itself, without a token, that it is this user.
pub fn bearer_of_proof(app: &App, request: &HttpRequest, user: Uuid, user_name: String) -> Actor {
    Actor {
        request_id: request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone()).unwrap_or_default(),
        remote: app.limiter.address(request).map(|address| address.to_string()).unwrap_or_default(),
        user_id: user.simple().to_string(),
        user_name,
        ..Actor::default()
    }
}

/// What was sent, as the audit log keeps it: without the envelope, and without what nobody may read.
fn without_secrets(body: &Value) -> Value {
    match body {
        Value::Object(envelope) if envelope.len() == 1 => {
            let attributes = envelope.values().next().and_then(Value::as_object).cloned().unwrap_or_default();
            let secret = |name: &str| matches!(name, "password" | "original_password" | "secret");
            let shown = attributes.into_iter().map(|(name, value)| {
                let value = if secret(&name) { json!("***") } else { value };
                (name, value)
            });
            Value::Object(shown.collect())
        }
        _ => json!({}),
    }
}

/// The caller, who is an administrator.
pub struct Admin(pub Actor);

impl FromRequest for Admin {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let context = Context::from_request(request, payload);
        Box::pin(async move {
            let context = context.await?;
            admin(&context.caller)?;
            Ok(Self(context.actor()))
        })
    }
}

/// Refuses all but administrators.
pub fn admin(caller: &Caller) -> Result<(), Fault> {
    if caller.has(Access::Admin) { Ok(()) } else { Err(forbidden()) }
}

/// The user that a path names, if the caller is that user or an administrator.
pub fn own_or_admin(caller: &Caller, id: &str) -> Result<Uuid, Fault> {
    let user = Uuid::parse_str(id);
    if user.as_ref().ok() != caller.claims.user_id().as_ref() {
        admin(caller)?;
    }
    user.map_err(|_| missing("user", id))
}

/// A JSON body of a known form, bounded; every refusal names the field. Second, what the audit log
/// says of it.
pub struct Body<T>(pub T, pub Value);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = JsonBody::from_request(request, payload);
        Box::pin(async move {
            let JsonBody(value) = body.await.map_err(Fault::of_identity)?;
            let said = without_secrets(&value);
            serde_json::from_value(value).map(|body| Self(body, said)).map_err(|error| bad(error.to_string()))
        })
    }
}

/// The query of a list. Keystone ignores filters that it does not know, and its clients send some.
pub struct Filters(Vec<(String, String)>);

impl FromRequest for Filters {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parameters(request.query_string()).map(Self).map_err(Fault::of_identity))
    }
}

impl Filters {
    /// The last value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a name, owned.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A flag, as Keystone's clients write them: `?enabled` and `?enabled=1` are true. Keystone takes every
    /// other word for true; here it is refused.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "" | "1" | "t" | "true" | "y" | "yes" | "on" => Ok(Some(true)),
            "0" | "f" | "false" | "n" | "no" | "off" => Ok(Some(false)),
            _ => Err(bad_field(name, "neither true nor false")),
        }
    }

    /// The parts of a value with commas.
    pub fn words(&self, name: &str) -> Vec<String> {
        self.get(name).into_iter().flat_map(|value| value.split(',')).map(str::to_owned).collect()
    }
}

/// `{"users": [...], "links": {...}}`: everything is on one page.
pub fn listed<T: Serialize>(plural: &str, items: impl IntoIterator<Item = T>) -> HttpResponse {
    let items: Vec<T> = items.into_iter().collect();
    HttpResponse::Ok().json(json!({plural: items, "links": {"next": null, "previous": null, "self": null}}))
}

/// `{"user": {...}}`.
pub fn shown<T: Serialize>(singular: &str, item: T) -> HttpResponse {
    HttpResponse::Ok().json(json!({ singular: item }))
}

/// The same, of what was made.
pub fn made<T: Serialize>(singular: &str, item: T) -> HttpResponse {
    HttpResponse::Created().json(json!({ singular: item }))
}

/// A name: not blank, at most `MAX` characters.
pub fn name<const MAX: usize>(field: &str, value: String) -> Result<String, Fault> {
    if value.trim().is_empty() {
        return Err(bad_field(field, "a name may not be blank"));
    }
    text::<MAX>(field, value)
}

/// A text of at most `MAX` characters.
pub fn text<const MAX: usize>(field: &str, value: String) -> Result<String, Fault> {
    Text::<MAX>::new(value).map(Text::into_string).map_err(|reason| bad_field(field, reason))
}

/// An attribute that clients send empty out of habit, and that can have no other value.
pub fn nothing<T: Default + PartialEq>(field: &str, value: Option<T>) -> Result<(), Fault> {
    match value {
        Some(value) if value != T::default() => Err(bad_field(field, "this is not supported here")),
        _ => Ok(()),
    }
}
