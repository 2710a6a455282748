//! The attribute map of a resource: what each attribute is, who may write it, who sees it, how it
//! filters and sorts. Everything generic reads it: the body decoder, the list query, the answer's
//! writer, and the OpenAPI document, which therefore cannot drift from what is executed.

use super::caller::{Access, Caller};
use super::resource::{Context, Resource};
use mizar_db::listing::{Listed, Predicate, SortKey};
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::openapi::{RefOr, Schema};

/// A filter: the values of one query parameter (any of them may match) to a predicate.
pub type Filter<R> = fn(&[String]) -> Result<Predicate<<<R as Resource>::Row as Listed>::Table>, String>;

/// A filter that depends on who asks, or on the cloud, as on the length of a lease.
pub type FilterIn<R> = fn(&Context, &[String]) -> Result<Predicate<<<R as Resource>::Row as Listed>::Table>, String>;

/// JSON text in the making. Answers are written attribute by attribute, without a tree of values
/// in between: a list of ten thousand ports would allocate a third of a million of them.
#[derive(Debug, Default)]
pub struct Json(Vec<u8>);

impl Json {
    /// Appends a value.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.0, value).expect("texts, numbers and lists always serialize into memory");
    }

    /// Appends text that is JSON already.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Writes an attribute of an object.
pub type Show<R> = fn(&R, &mut Json);

/// One attribute.
pub struct Attribute<R: Resource> {
    /// As in bodies and queries.
    pub name: &'static str,
    /// One sentence for the document.
    pub about: &'static str,
    /// What answers hold, and bodies unless `input` says otherwise.
    pub schema: fn() -> RefOr<Schema>,
    /// What bodies hold.
    pub input: fn() -> RefOr<Schema>,
    /// In answers; none: only a filter.
    pub show: Option<Show<R>>,
    /// Who sees it in answers.
    pub seen_by: Access,
    /// Who may send it when creating; none: nobody.
    pub post: Option<Access>,
    /// Who may send it when updating.
    pub put: Option<Access>,
    /// A create with `false` says what would be anyway, and asks for no right.
    pub off: bool,
    /// A create without it is refused.
    pub required: bool,
    /// In list queries.
    pub filter: Option<Filter<R>>,
    /// In list queries, where it counts who asks, or the cloud's settings.
    pub filter_in: Option<FilterIn<R>>,
    /// In list queries.
    pub sort: Option<SortKey<R::Row>>,
}

impl<R: Resource> Attribute<R> {
    /// An attribute that answers hold.
    pub const fn shown(name: &'static str, schema: fn() -> RefOr<Schema>, show: Show<R>) -> Self {
        Self {
            name,
            about: "",
            schema,
            input: schema,
            show: Some(show),
            seen_by: Access::Reader,
            post: None,
            put: None,
            off: false,
            required: false,
            filter: None,
            filter_in: None,
            sort: None,
        }
    }

    /// A name that only list queries and bodies know.
    pub const fn hidden(name: &'static str, schema: fn() -> RefOr<Schema>) -> Self {
        Self {
            name,
            about: "",
            schema,
            input: schema,
            show: None,
            seen_by: Access::Reader,
            post: None,
            put: None,
            off: false,
            required: false,
            filter: None,
            filter_in: None,
            sort: None,
        }
    }

    /// One sentence for the document.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// May be sent when creating and updating.
    #[must_use]
    pub const fn writable(self) -> Self {
        self.post().put()
    }

    /// May be sent when creating.
    #[must_use]
    pub const fn post(mut self) -> Self {
        self.post = Some(Access::Writer);
        self
    }

    /// May be sent when updating.
    #[must_use]
    pub const fn put(mut self) -> Self {
        self.put = Some(Access::Writer);
        self
    }

    /// May be sent when updating, by these only.
    #[must_use]
    pub const fn put_by(mut self, access: Access) -> Self {
        self.put = Some(access);
        self
    }

    /// Must be sent when creating.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self.post()
    }

    /// Only these may send it.
    #[must_use]
    pub const fn sent_by(mut self, access: Access) -> Self {
        if self.post.is_some() {
            self.post = Some(access);
        }
        if self.put.is_some() {
            self.put = Some(access);
        }
        self
    }

    /// Without it the object has `false`: who creates may say so, whoever else may not send it. Clients
    /// send the defaults of what only an administrator may ask for.
    #[must_use]
    pub const fn off_by_default(mut self) -> Self {
        self.off = true;
        self
    }

    /// Only these see it.
    #[must_use]
    pub const fn seen_by(mut self, access: Access) -> Self {
        self.seen_by = access;
        self
    }

    /// Bodies hold something else than answers.
    #[must_use]
    pub const fn input(mut self, input: fn() -> RefOr<Schema>) -> Self {
        self.input = input;
        self
    }

    /// Filters list queries.
    #[must_use]
    pub const fn filter(mut self, filter: Filter<R>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Filters list queries by who asks, or by what the cloud's settings say.
    #[must_use]
    pub const fn filter_in(mut self, filter: FilterIn<R>) -> Self {
        self.filter_in = Some(filter);
        self
    }

    /// Whether list queries may name it.
    pub const fn is_filter(&self) -> bool {
        self.filter.is_some() || self.filter_in.is_some()
    }

    /// Sorts list queries.
    #[must_use]
    pub const fn sort(mut self, key: SortKey<R::Row>) -> Self {
        self.sort = Some(key);
        self
    }
}

/// All attributes of a resource, in the order in which answers hold them.
pub struct AttributeMap<R: Resource> {
    attributes: Vec<Attribute<R>>,
}

impl<R: Resource> AttributeMap<R> {
    /// A map; names must differ, which a test of every resource asserts.
    pub const fn new(attributes: Vec<Attribute<R>>) -> Self {
        Self { attributes }
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute<R>> {
        self.attributes.iter()
    }

    /// By name.
    pub fn get(&self, name: &str) -> Option<&Attribute<R>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The attributes that a caller sees, and that were asked for.
    pub fn selection(&self, caller: &Caller, fields: &BTreeSet<String>) -> Vec<(&'static str, Show<R>)> {
        self.attributes
            .iter()
            .filter(|attribute| fields.is_empty() || fields.contains(attribute.name))
            .filter(|attribute| caller.has(attribute.seen_by))
            .filter_map(|attribute| Some((attribute.name, attribute.show?)))
            .collect()
    }
}

/// Writes an object with the selected attributes.
pub fn write_object<R: Resource>(item: &R, selection: &[(&'static str, Show<R>)], out: &mut Json) {
    out.raw("{");
    for (place, (name, show)) in selection.iter().enumerate() {
        if place > 0 {
            out.raw(",");
        }
        out.raw("\"");
        out.raw(name);
        out.raw("\":");
        show(item, out);
    }
    out.raw("}");
}
