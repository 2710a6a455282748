//! The body of a create or update: its envelope, and its attributes checked against the map.

use super::attribute::AttributeMap;
use super::caller::Caller;
use super::decode::{Decode, shown};
use super::fault::Fault;
use super::resource::Resource;
use super::tx::Above;
use crate::app::App;
use crate::observe::limits::Limits;
use actix_web::dev::Payload;
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpRequest};
use futures::future::LocalBoxFuture;
use mizar_domain::patch::Patch;
use mizar_domain::text::Name;
use serde_json::{Map, Value};

/// Objects that one bulk create may make.
pub const BULK_MAX: usize = 1000;

/// A JSON body, bounded.
#[derive(Debug)]
pub struct JsonBody(pub Value);

impl FromRequest for JsonBody {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = actix_web::web::Payload::from_request(request, payload);
        let app = request.app_data::<Data<App>>();
        let most = app.map_or_else(|| Limits::default().body_bytes, |app| app.settings.limits.body_bytes);
        let of_identity = request.path().starts_with("/v3");
        let read = async move {
            let broken = || Fault::bad_request("Failed to parse request: the body ended early.");
            let payload = payload.await.map_err(|_| broken())?;
            let read = payload.to_bytes_limited(most).await;
            let bytes: Bytes = read.map_err(|_| Fault::too_large(most))?.map_err(|_| broken())?;
            // Actions without inputs come without a body; whoever needs one misses it in null.
            let parsed = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
            parsed.map(Self).map_err(|error| Fault::bad_request(format!("Cannot understand JSON: {error}")))
        };
        Box::pin(async move { read.await.map_err(|fault| if of_identity { fault.of_identity() } else { fault }) })
    }
}

/// What a create body holds.
pub enum Envelope {
    /// `{"port": {…}}`.
    One(Map<String, Value>),
    /// `{"ports": [{…}, …]}`.
    Many(Vec<Map<String, Value>>),
}

/// Opens the body of a create.
pub fn open_create<R: Resource>(body: Value) -> Result<Envelope, Fault> {
    let mut body = object(body)?;
    if let Some(many) = body.remove(R::PLURAL) {
        only::<R>(&body)?;
        let Value::Array(items) = many else {
            return Err(Fault::bad_request(format!("'{}' must be a list.", R::PLURAL)));
        };
        if items.is_empty() {
            return Err(Fault::bad_request("Resources required"));
        }
        if items.len() > BULK_MAX {
            return Err(Fault::bad_request(format!(
                "{} resources exceed the {BULK_MAX} of a bulk create",
                items.len()
            )));
        }
        return items.into_iter().map(object).collect::<Result<_, _>>().map(Envelope::Many);
    }
    open_single::<R>(body).map(Envelope::One)
}

/// Opens the body of an update.
pub fn open_update<R: Resource>(body: Value) -> Result<Map<String, Value>, Fault> {
    open_single::<R>(object(body)?)
}

fn open_single<R: Resource>(mut body: Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let Some(inner) = body.remove(R::SINGULAR) else {
        return Err(Fault::bad_request(format!("Unable to find '{}' in request body", R::SINGULAR)));
    };
    only::<R>(&body)?;
    object(inner)
}

fn object(value: Value) -> Result<Map<String, Value>, Fault> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(Fault::bad_request(format!("'{}' is not a dictionary.", shown(&other)))),
    }
}

fn only<R: Resource>(rest: &Map<String, Value>) -> Result<(), Fault> {
    match rest.keys().next() {
        Some(name) => Err(Fault::bad_request(format!("Unexpected '{name}' beside '{}' in request body", R::SINGULAR))),
        None => Ok(()),
    }
}

fn is_false(value: Option<&Value>) -> bool {
    value.is_some_and(|value| bool::decode(value) == Ok(false))
}

/// Whether attributes are for a create or an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// POST.
    Create,
    /// PUT.
    Update,
}

/// The attributes of one object: known, allowed, not yet typed.
pub struct Fields<'a> {
    fields: Map<String, Value>,
    /// Who sends them.
    pub caller: &'a Caller,
    /// The parent that the path names, if the resource is nested.
    pub above: Option<Above>,
}

impl<'a> Fields<'a> {
    /// Checks names and rights against the map.
    pub fn new<R: Resource>(
        map: &AttributeMap<R>,
        purpose: Purpose,
        caller: &'a Caller,
        fields: Map<String, Value>,
    ) -> Result<Self, Fault> {
        let mut unknown = fields.keys().filter(|name| map.get(name).is_none()).peekable();
        if unknown.peek().is_some() {
            let names: Vec<&str> = unknown.map(String::as_str).collect();
            return Err(Fault::bad_request(format!("Unrecognized attribute(s) '{}'", names.join(", "))));
        }
        for attribute in map.iter() {
            let sent = fields.contains_key(attribute.name);
            let (access, verb) = match purpose {
                Purpose::Create => (attribute.post, "POST"),
                Purpose::Update => (attribute.put, "PUT"),
            };
            match access {
                None if sent && purpose == Purpose::Create => {
                    return Err(Fault::bad_request(format!("Attribute '{}' not allowed in {verb}", attribute.name)));
                }
                None if sent => {
                    return Err(Fault::bad_request(format!("Cannot update read-only attribute {}", attribute.name)));
                }
                Some(_) if purpose == Purpose::Create && attribute.off && is_false(fields.get(attribute.name)) => {}
                Some(access) if sent && !caller.has(access) => {
                    let action = if purpose == Purpose::Create { "create" } else { "update" };
                    return Err(Fault::forbidden(format!("{action}_{}:{}", R::SINGULAR, attribute.name)));
                }
                _ if attribute.required && purpose == Purpose::Create && !sent => {
                    let name = attribute.name;
                    let message = format!("Failed to parse request. Required attribute '{name}' not specified");
                    return Err(Fault::bad_request(message));
                }
                _ => {}
            }
        }
        Ok(Self { fields, caller, above: None })
    }

    /// Of an action, checked already.
    pub(crate) const fn of_action(fields: Map<String, Value>, caller: &'a Caller) -> Self {
        Self { fields, caller, above: None }
    }

    /// What was sent, and not decoded yet.
    pub(super) fn sent(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// Below a parent.
    #[must_use]
    pub fn below(self, above: Option<Above>) -> Self {
        Self { above, ..self }
    }

    /// Id of the parent that the path names.
    pub fn parent(&self) -> Result<uuid::Uuid, Fault> {
        self.above.map(|above| above.id).ok_or_else(|| Fault::internal("the resource is not nested"))
    }

    /// An attribute that may be absent, but not null.
    pub fn optional<T: Decode>(&mut self, name: &'static str) -> Result<Option<T>, Fault> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        T::decode(&value).map(Some).map_err(|reason| Fault::invalid(name, reason))
    }

    /// An attribute that must be there.
    pub fn required<T: Decode>(&mut self, name: &'static str) -> Result<T, Fault> {
        let message = || format!("Failed to parse request. Required attribute '{name}' not specified");
        self.optional(name)?.ok_or_else(|| Fault::bad_request(message()))
    }

    /// A text column of an update: stays as it is unless a value is sent.
    pub fn over(&mut self, name: &'static str, column: &mut String) -> Result<(), Fault> {
        if let Some(text) = self.optional::<Name>(name)? {
            *column = text.into_string();
        }
        Ok(())
    }

    /// An attribute that null clears.
    pub fn patch<T: Decode>(&mut self, name: &'static str) -> Result<Patch<T>, Fault> {
        match self.fields.get(name) {
            None => Ok(Patch::Keep),
            Some(Value::Null) => {
                self.fields.remove(name);
                Ok(Patch::Clear)
            }
            Some(_) => Ok(self.optional(name)?.map_or(Patch::Keep, Patch::Set)),
        }
    }

    /// An attribute that clients send out of habit, and that can have one value only.
    pub fn only(&mut self, name: &'static str, accepted: &[Value], reason: &str) -> Result<(), Fault> {
        match self.fields.remove(name) {
            Some(value) if !accepted.contains(&value) => Err(Fault::invalid(name, reason)),
            _ => Ok(()),
        }
    }

    /// The project of a new object: the caller's, unless an administrator names another.
    pub fn project(&mut self) -> Result<uuid::Uuid, Fault> {
        let project = self.optional::<uuid::Uuid>("project_id")?;
        let tenant = self.optional::<uuid::Uuid>("tenant_id")?;
        if let (Some(project), Some(tenant)) = (project, tenant)
            && project != tenant
        {
            return Err(Fault::bad_request("'project_id' and 'tenant_id' do not match"));
        }
        let own = self.caller.project();
        match project.or(tenant) {
            Some(named) if Some(named) == own || self.caller.has(super::caller::Access::Admin) => Ok(named),
            Some(_) => Err(Fault::bad_request(
                "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges",
            )),
            None => self
                .above
                .and_then(|above| above.project)
                .or(own)
                .ok_or_else(|| Fault::bad_request("'project_id' is required with a token that has no project")),
        }
    }

    /// Everything must have been read: an attribute that the map allows and no decoder reads is a
    /// mistake of ours.
    pub fn done(self) -> Result<(), Fault> {
        match self.fields.keys().next() {
            Some(name) => Err(Fault::internal(format!("attribute '{name}' is in the map but was not decoded"))),
            None => Ok(()),
        }
    }
}
