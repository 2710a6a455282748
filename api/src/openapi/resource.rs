//! The operations of a resource, from its attribute map.

use super::parts::{
    Document, WRITE_FAILURES, answer, body, empty, envelope, named, neutron, only, path, query, rights,
};
use crate::frame::action::{Action, Answer};
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, plain};
use crate::frame::fields::BULK_MAX;
use crate::frame::handlers::base;
use crate::frame::resource::Resource;
use mizar_domain::text::Tags;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, Array, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{AllOfBuilder, RefOr, Response, Schema};

const READ_FAILURES: &[(u16, &str)] =
    &[(400, "The query is malformed"), (403, "Not allowed"), (404, "Not there, or not visible")];
const LIST_FAILURES: &[(u16, &str)] =
    &[(400, "An unknown filter, or a value that is not possible"), (403, "Not allowed"), (404, "No such marker")];

/// Adds all operations and schemas of a resource.
pub fn document<R: Resource>(document: &mut Document) {
    let operations = R::OPERATIONS;
    document.tag(R::PLURAL, rights(&operations));
    schemas::<R>(document);
    let collection = base::<R>();
    let item = format!("{collection}/{{id}}");
    document.operation(HttpMethod::Get, &collection, list::<R>().build());
    document.schema(&format!("One{}", R::KIND), envelope(R::SINGULAR, named(R::KIND)));
    let singular = || named(&format!("One{}", R::KIND));
    let show = operation_of::<R>(format!("show_{}", R::SINGULAR), &format!("Show a {}", R::SINGULAR), READ_FAILURES)
        .parameter(path("id", "Its id"))
        .parameter(query("fields", Vec::<mizar_domain::text::Name>::schema(), "Only these attributes"))
        .response("200", answer("It", singular()));
    document.operation(HttpMethod::Get, &item, show.build());
    if operations.create.is_some() {
        let (create, kind) = (format!("{}Create", R::KIND), R::KIND);
        // Named, so that generated clients have types for them that one can remember.
        let several = ArrayBuilder::new().items(named(&create)).min_items(Some(1)).max_items(Some(BULK_MAX));
        document.schema(&format!("New{kind}"), only(R::SINGULAR, named(&create)));
        document.schema(&format!("New{kind}s"), only(R::PLURAL, several));
        document.schema(&format!("Made{kind}s"), envelope(R::PLURAL, Array::new(named(R::KIND))));
        let (one, many) = (named(&format!("New{kind}")), named(&format!("New{kind}s")));
        let made = named(&format!("Made{kind}s"));
        let summary = format!("Create one {}, or several: all or none", R::SINGULAR);
        let create = operation_of::<R>(format!("create_{}", R::SINGULAR), &summary, WRITE_FAILURES)
            .request_body(Some(body(OneOfBuilder::new().item(one).item(many).into())))
            .response("201", linked::<R>(answer("Made", OneOfBuilder::new().item(singular()).item(made).into())));
        document.operation(HttpMethod::Post, &collection, create.build());
    }
    if operations.update.is_some() {
        let update = write::<R>("update", "Update")
            .request_body(Some(body(only(R::SINGULAR, named(&format!("{}Update", R::KIND))))));
        document.operation(HttpMethod::Put, &item, update.response("200", answer("Updated", singular())).build());
    }
    if operations.delete.is_some() {
        let delete = write::<R>("delete", "Delete").response("204", empty("Gone"));
        document.operation(HttpMethod::Delete, &item, delete.build());
    }
    if operations.tags {
        tags::<R>(document, &item);
    }
    for act in R::actions() {
        let path = format!("{item}/{}", act.name);
        document.operation(act.method.clone(), &path, action(&act));
    }
}

/// What can be done with an object that was just made: tools that follow links test whole lives.
fn linked<R: Resource>(mut made: Response) -> Response {
    let operations = R::OPERATIONS;
    let follow = [
        ("show", true),
        ("update", operations.update.is_some()),
        ("delete", operations.delete.is_some()),
        ("list_tags_of", operations.tags),
        ("add_tags_to", operations.tags),
    ];
    for (verb, _) in follow.into_iter().filter(|(_, there)| R::PARENT.is_none() && *there) {
        let operation = format!("{verb}_{}", R::SINGULAR);
        let id = format!("$response.body#/{}/id", R::SINGULAR);
        let link = Link::builder().operation_id(operation.clone()).parameter("id", id).build();
        made.links.insert(operation, link.into());
    }
    made
}

/// An operation; of a nested resource with its parent.
fn operation_of<R: Resource>(id: String, summary: &str, failures: &[(u16, &str)]) -> OperationBuilder {
    let operation = neutron(R::PLURAL, id, summary, failures);
    match R::PARENT {
        Some(parent) => operation.parameter(path("parent", &format!("Id of the {}", parent.singular))),
        None => operation,
    }
}

fn action<R: Resource>(action: &Action<R>) -> Operation {
    let failures = if action.only_reads() { READ_FAILURES } else { WRITE_FAILURES };
    let mut operation = operation_of::<R>(format!("{}_{}", action.name, R::SINGULAR), action.about, failures)
        .parameter(path("id", "Its id"));
    if !action.inputs.is_empty() {
        let mut object = ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        for input in &action.inputs {
            object = object.property(input.name, (input.schema)());
            if input.required {
                object = object.required(input.name);
            }
        }
        let inner: RefOr<Schema> = object.into();
        operation = operation.request_body(Some(body(match action.envelope {
            Some(name) => only(name, inner),
            None => inner,
        })));
    }
    let operation = match action.answer {
        Answer::Object => operation.response("200", answer("Done", envelope(R::SINGULAR, named(R::KIND)))),
        Answer::Body(schema) => operation.response("200", answer("Done", schema())),
        Answer::Empty => operation.response("204", empty("Done")),
    };
    operation.build()
}

fn write<R: Resource>(verb: &str, title: &str) -> OperationBuilder {
    operation_of::<R>(format!("{verb}_{}", R::SINGULAR), &format!("{title} a {}", R::SINGULAR), WRITE_FAILURES)
        .parameter(path("id", "Its id"))
        .parameter(if_match())
}

fn if_match() -> Parameter {
    let revision = plain(Type::String).pattern(Some("^revision_number=[0-9]{1,18}$"));
    ParameterBuilder::new()
        .name("If-Match")
        .parameter_in(ParameterIn::Header)
        .schema(Some(revision))
        .description(Some("Refused if the object changed since"))
        .build()
}

fn list<R: Resource>() -> OperationBuilder {
    let list = envelope(R::PLURAL, Array::new(named(R::KIND)));
    let links = ObjectBuilder::new().schema_type(Type::Object).property(
        format!("{}_links", R::PLURAL),
        Array::new(
            ObjectBuilder::new()
                .schema_type(Type::Object)
                .property("rel", plain(Type::String).enum_values(Some(["next", "previous"])))
                .property("href", plain(Type::String))
                .required("rel")
                .required("href"),
        ),
    );
    let mut operation = operation_of::<R>(format!("list_{}", R::PLURAL), &format!("List {}", R::PLURAL), LIST_FAILURES)
        .response("200", answer("Them", AllOfBuilder::new().item(list).item(links).into()));
    for attribute in R::map().iter().filter(|attribute| attribute.is_filter()) {
        let any: RefOr<Schema> = Array::new(plain(Type::String)).into();
        operation = operation.parameter(query(attribute.name, any, "Filter; repeated: any of them"));
    }
    let sortable = R::map().iter().filter(|attribute| attribute.sort.is_some()).map(|attribute| attribute.name);
    let keys = plain(Type::String).enum_values(Some(sortable.collect::<Vec<_>>()));
    let dirs = plain(Type::String).enum_values(Some(["asc", "desc"]));
    operation
        .parameter(query("fields", Array::new(plain(Type::String)).into(), "Only these attributes"))
        .parameter(query("sort_key", Array::new(keys).into(), "Sort by these, in order of weight"))
        .parameter(query("sort_dir", Array::new(dirs).into(), "One for each sort_key"))
        .parameter(query("limit", u32::schema(), "At most so many; 0: all"))
        .parameter(query("marker", plain(Type::String).into(), "Id of the object before the page"))
        .parameter(query("page_reverse", bool::schema(), "The page before the marker"))
}

/// In words, whom an attribute is for.
const fn reserved(access: Access) -> &'static str {
    match access {
        Access::Reader | Access::Writer => "",
        Access::Manager => "For managers and administrators.",
        Access::Privileged => "For administrators and services.",
        Access::Admin => "For administrators.",
    }
}

fn about<R: Resource>(attribute: &Attribute<R>, access: Access, schema: RefOr<Schema>) -> RefOr<Schema> {
    let about = [attribute.about, reserved(access)].into_iter().filter(|text| !text.is_empty());
    let about = about.collect::<Vec<_>>().join(" ");
    if about.is_empty() {
        return schema;
    }
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.description = Some(about);
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.description = Some(about);
            RefOr::T(Schema::Array(array))
        }
        // Not wrapped: generators lose what may be null inside of another schema.
        RefOr::T(Schema::OneOf(mut one)) => {
            one.description = Some(about);
            RefOr::T(Schema::OneOf(one))
        }
        other => AllOfBuilder::new().item(other).description(Some(about)).into(),
    }
}

/// Nothing is required in an answer: `fields` may leave out any attribute.
fn schemas<R: Resource>(document: &mut Document) {
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    let closed = || object().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let (mut view, mut create, mut update) = (object(), closed(), closed());
    for attribute in R::map().iter() {
        if attribute.show.is_some() {
            view = view.property(attribute.name, about(attribute, attribute.seen_by, (attribute.schema)()));
        }
        let input = |access| about(attribute, access, (attribute.input)());
        if let Some(access) = attribute.post {
            create = create.property(attribute.name, input(access));
            if attribute.required {
                create = create.required(attribute.name);
            }
        }
        if let Some(access) = attribute.put {
            update = update.property(attribute.name, input(access));
        }
    }
    document.schema(R::KIND, view.into());
    if R::OPERATIONS.create.is_some() {
        document.schema(&format!("{}Create", R::KIND), create.into());
    }
    if R::OPERATIONS.update.is_some() {
        document.schema(&format!("{}Update", R::KIND), update.into());
    }
}

fn tags<R: Resource>(document: &mut Document, item: &str) {
    let all = format!("{item}/tags");
    let one = format!("{all}/{{tag}}");
    let list = || envelope("tags", Tags::schema());
    let operation = |verb: &str, summary: &str, failures| {
        operation_of::<R>(format!("{verb}_{}", R::SINGULAR), summary, failures).parameter(path("id", "Its id"))
    };
    let tag = || path("tag", "The tag");
    let get = operation("list_tags_of", "List its tags", READ_FAILURES).response("200", answer("They", list()));
    document.operation(HttpMethod::Get, &all, get.build());
    let put = operation("replace_tags_of", "Replace its tags", WRITE_FAILURES)
        .request_body(Some(body(only("tags", Tags::schema()))))
        .response("200", answer("They", list()));
    document.operation(HttpMethod::Put, &all, put.build());
    let post = operation("add_tags_to", "Add tags", WRITE_FAILURES)
        .request_body(Some(body(only("tags", Tags::schema()))))
        .response("201", answer("They", list()));
    document.operation(HttpMethod::Post, &all, post.build());
    let clear = operation("clear_tags_of", "Remove its tags", WRITE_FAILURES).response("204", empty("None are left"));
    document.operation(HttpMethod::Delete, &all, clear.build());
    let check = operation("check_tag_of", "Whether it has a tag", READ_FAILURES).parameter(tag());
    document.operation(HttpMethod::Get, &one, check.response("204", empty("It has")).build());
    let add = operation("add_tag_to", "Add a tag", WRITE_FAILURES).parameter(tag());
    document.operation(HttpMethod::Put, &one, add.response("201", empty("It has it now")).build());
    let remove = operation("remove_tag_from", "Remove a tag", WRITE_FAILURES).parameter(tag());
    document.operation(HttpMethod::Delete, &one, remove.response("204", empty("Gone")).build());
}
