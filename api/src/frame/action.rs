//! Actions on one object: `PUT /v2.0/routers/{id}/add_router_interface`.

use super::caller::{Access, Caller};
use super::decode::Decode;
use super::fault::Fault;
use super::fields::Fields;
use super::resource::Resource;
use super::tx::Tx;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::{RefOr, Schema};

/// One attribute of an action's body.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// Whether the action is refused without it.
    pub required: bool,
    /// What it holds.
    pub schema: fn() -> RefOr<Schema>,
}

impl Input {
    /// One that must be sent.
    pub const fn required<T: Decode>(name: &'static str) -> Self {
        Self { name, required: true, schema: T::schema }
    }

    /// One that may be left out.
    pub const fn optional<T: Decode>(name: &'static str) -> Self {
        Self { name, required: false, schema: T::schema }
    }
}

/// What an action answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// 200 and the object as it is afterwards, in its envelope. What the rule returns is ignored.
    Object,
    /// 200 and what the rule returns, which has this schema.
    Body(fn() -> RefOr<Schema>),
    /// 204. What the rule returns is ignored.
    Empty,
}

/// The rule of an action on a locked object (one that only reads: on an object that is not
/// locked). The names in the body were checked against the inputs; every one must be decoded: the
/// frame asserts that it was.
pub type Run<R> = for<'t> fn(&'t mut Tx<'_>, R, &'t mut Fields<'_>) -> BoxFuture<'t, Result<Value, Fault>>;

/// An action of a resource.
pub struct Action<R: Resource> {
    /// The path's end, and the audit event's name.
    pub name: &'static str,
    /// One sentence for the document.
    pub about: &'static str,
    /// PUT, POST, DELETE; or GET, which only reads: no lock, no audit event.
    pub method: HttpMethod,
    /// Who may.
    pub access: Access,
    /// Name around the body (`{"router": {…}}`), if there is one.
    pub envelope: Option<&'static str>,
    /// What the body may hold. Empty: no body is read.
    pub inputs: Vec<Input>,
    /// What is answered.
    pub answer: Answer,
    /// The rule.
    pub run: Run<R>,
}

impl<R: Resource> Action<R> {
    /// A PUT for writers without body. Set what differs: `Action { inputs: vec![…], ..Action::put(…) }`.
    pub fn put(name: &'static str, about: &'static str, run: Run<R>) -> Self {
        Self {
            name,
            about,
            method: HttpMethod::Put,
            access: Access::Writer,
            envelope: None,
            inputs: Vec::new(),
            answer: Answer::Object,
            run,
        }
    }

    /// A GET for readers.
    pub fn get(name: &'static str, about: &'static str, run: Run<R>) -> Self {
        Self { method: HttpMethod::Get, access: Access::Reader, ..Self::put(name, about, run) }
    }

    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        self.method == HttpMethod::Get
    }

    /// The body, strictly.
    pub fn open<'a>(&self, caller: &'a Caller, body: &Value) -> Result<Fields<'a>, Fault> {
        open(&self.inputs, self.envelope, caller, body)
    }
}

/// A body that may hold these inputs, in an envelope or not. Every one of them must be decoded then.
pub fn open<'a>(
    inputs: &[Input],
    envelope: Option<&str>,
    caller: &'a Caller,
    body: &Value,
) -> Result<Fields<'a>, Fault> {
    if inputs.is_empty() {
        return Ok(Fields::of_action(Map::new(), caller));
    }
    let not_a_dictionary = || Fault::bad_request("The body must be a dictionary.");
    let mut fields = body.as_object().ok_or_else(not_a_dictionary)?.clone();
    if let Some(envelope) = envelope {
        let inner = fields.remove(envelope);
        let inner = inner.ok_or_else(|| Fault::bad_request(format!("Unable to find '{envelope}' in request body")))?;
        if let Some(name) = fields.keys().next() {
            return Err(Fault::bad_request(format!("Unexpected '{name}' beside '{envelope}' in request body")));
        }
        let Value::Object(inner) = inner else { return Err(not_a_dictionary()) };
        fields = inner;
    }
    let known = |name: &String| inputs.iter().any(|input| input.name == name);
    if let Some(name) = fields.keys().find(|name| !known(name)) {
        return Err(Fault::bad_request(format!("Unrecognized attribute(s) '{name}'")));
    }
    if let Some(input) = inputs.iter().find(|input| input.required && !fields.contains_key(input.name)) {
        let message = format!("Failed to parse request. Required attribute '{}' not specified", input.name);
        return Err(Fault::bad_request(message));
    }
    Ok(Fields::of_action(fields, caller))
}
