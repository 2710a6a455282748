//! Pieces that operations are made of.

use crate::frame::action::Input;
use crate::frame::decode::plain;
use crate::frame::resource::Operations;
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{Components, Content, Ref, RefOr, Required, Response, ResponseBuilder, Schema};

/// Name of the security scheme.
const TOKEN: &str = "token";

/// A document in the making.
pub struct Document {
    paths: Paths,
    components: Components,
    tags: Vec<Tag>,
}

impl Default for Document {
    fn default() -> Self {
        let mut components = Components::new();
        let key = ApiKeyValue::with_description("X-Auth-Token", "From POST /v3/auth/tokens.");
        components.add_security_scheme(TOKEN, SecurityScheme::ApiKey(ApiKey::Header(key)));
        let mut document = Self { paths: Paths::new(), components, tags: Vec::new() };
        document.schema("NeutronError", neutron_error());
        document.schema("KeystoneError", keystone_error());
        document
    }
}

fn text() -> RefOr<Schema> {
    plain(Type::String).into()
}

fn wrapped(name: &str, inner: ObjectBuilder) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).property(name, inner).required(name).into()
}

fn neutron_error() -> RefOr<Schema> {
    let inner = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("type", text())
        .property("message", text())
        .property("detail", text());
    wrapped("NeutronError", inner.required("type").required("message").required("detail"))
}

fn keystone_error() -> RefOr<Schema> {
    let inner = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("code", plain(Type::Integer))
        .property("title", text())
        .property("message", text());
    wrapped("error", inner.required("code").required("title").required("message"))
}

impl Document {
    /// Adds a named schema.
    pub fn schema(&mut self, name: &str, schema: RefOr<Schema>) {
        self.components.schemas.insert(name.to_owned(), schema);
    }

    /// Adds the schema of a type and of what it holds.
    pub fn schema_of<T: ToSchema>(&mut self) {
        let mut nested = Vec::new();
        T::schemas(&mut nested);
        nested.push((T::name().into_owned(), T::schema()));
        self.components.schemas.extend(nested);
    }

    /// Adds a group of operations.
    pub fn tag(&mut self, name: &str, about: &str) {
        self.tags.push(TagBuilder::new().name(name).description(Some(about)).build());
    }

    /// Adds an operation.
    pub fn operation(&mut self, method: HttpMethod, path: &str, operation: Operation) {
        self.paths.add_path_operation(path, vec![method], operation);
    }

    /// The parts.
    pub fn finish(self) -> (Paths, Components, Vec<Tag>) {
        (self.paths, self.components, self.tags)
    }
}

/// A reference to a named schema.
pub fn named(schema: &str) -> RefOr<Schema> {
    Ref::from_schema_name(schema).into()
}

/// `{"name": schema}`.
pub fn envelope(name: &str, schema: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).property(name, schema).required(name).into()
}

/// The same of a request: with nothing beside it.
pub fn only(name: &str, schema: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let closed = Some(AdditionalProperties::FreeForm(false));
    let object = ObjectBuilder::new().schema_type(Type::Object).additional_properties(closed);
    object.property(name, schema).required(name).into()
}

/// What may be sent, and nothing else.
pub fn request(inputs: Vec<Input>) -> RefOr<Schema> {
    let closed = Some(AdditionalProperties::FreeForm(false));
    let object = ObjectBuilder::new().schema_type(Type::Object).additional_properties(closed);
    let request = inputs.into_iter().fold(object, |object, input| {
        let object = object.property(input.name, (input.schema)());
        if input.required { object.required(input.name) } else { object }
    });
    request.into()
}

/// An answer with a JSON body.
pub fn answer(about: &str, schema: RefOr<Schema>) -> Response {
    ResponseBuilder::new().description(about).content("application/json", Content::new(Some(schema))).build()
}

/// An answer without body.
pub fn empty(about: &str) -> Response {
    ResponseBuilder::new().description(about).build()
}

/// A required JSON body.
pub fn body(schema: RefOr<Schema>) -> RequestBody {
    RequestBodyBuilder::new()
        .content("application/json", Content::new(Some(schema)))
        .required(Some(Required::True))
        .build()
}

/// A parameter of the query.
pub fn query(name: &str, schema: RefOr<Schema>, about: &str) -> Parameter {
    parameter(name, ParameterIn::Query, Required::False, schema, about)
}

/// A parameter of the path.
pub fn path(name: &str, about: &str) -> Parameter {
    parameter(name, ParameterIn::Path, Required::True, text(), about)
}

/// A header of the request.
pub fn header(name: &str, required: Required, about: &str) -> Parameter {
    parameter(name, ParameterIn::Header, required, text(), about)
}

fn parameter(name: &str, place: ParameterIn, required: Required, schema: RefOr<Schema>, about: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(schema))
        .description((!about.is_empty()).then_some(about))
        .build()
}

/// An operation that needs a token and may fail in the ways of the network service.
pub fn neutron(tag: &str, id: String, summary: &str, failures: &[(u16, &str)]) -> OperationBuilder {
    let mut operation = base(tag, id, summary)
        .security(SecurityRequirement::new(TOKEN, Vec::<String>::new()))
        .response("401", answer("No token, or none that counts", named("KeystoneError")));
    for (status, about) in failures.iter().chain(OVERLOAD) {
        operation = operation.response(status.to_string(), answer(about, named("NeutronError")));
    }
    operation
}

/// An operation of the identity service.
pub fn keystone(id: &str, summary: &str, needs_token: bool, failures: &[(u16, &str)]) -> OperationBuilder {
    let mut operation = base("identity", id.to_owned(), summary);
    if needs_token {
        operation = operation
            .security(SecurityRequirement::new(TOKEN, Vec::<String>::new()))
            .response("401", answer("No token, or none that counts", named("KeystoneError")));
    }
    for (status, about) in failures.iter().chain(OVERLOAD) {
        operation = operation.response(status.to_string(), answer(about, named("KeystoneError")));
    }
    operation
}

fn base(tag: &str, id: String, summary: &str) -> OperationBuilder {
    OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary))
}

/// May happen to everything.
const OVERLOAD: &[(u16, &str)] = &[
    (429, "Too many requests of this project, or too many failed logins; Retry-After says when"),
    (503, "Overloaded, or the database is away; Retry-After says when"),
];

/// What a write may fail with.
pub const WRITE_FAILURES: &[(u16, &str)] = &[
    (400, "Malformed, or a value is not possible"),
    (403, "Not allowed"),
    (404, "It, or what it names, is not there or not visible"),
    (409, "It conflicts with what there is"),
    (412, "If-Match names another revision"),
    (413, "The body is too large"),
];

/// In words, for the document.
pub fn rights(operations: &Operations) -> &'static str {
    use crate::frame::caller::Access;
    match operations.read {
        Access::Admin => "Administrators only.",
        _ => "Objects of one's own project, and what others share with it; administrators see all.",
    }
}
