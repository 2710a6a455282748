//! Kinds of objects. One file each: what its list shows, what its page shows, which forms it has. The
//! handlers make all pages of all kinds from these declarations.

mod audit;
mod floating_ips;
pub mod hosts;
mod networks;
mod ports;
mod routers;
mod security_group_rules;
mod security_groups;
mod subnet_pools;
mod subnets;
pub mod text;

use serde_json::Value;

/// A kind of object.
#[derive(Debug)]
pub struct Resource {
    /// Where its pages are: `networks`.
    pub path: &'static str,
    /// Where the API has it: `/v2.0/networks`.
    pub api: &'static str,
    /// Name of one in bodies: `network`.
    pub singular: &'static str,
    /// Name of several in bodies: `networks`.
    pub plural: &'static str,
    /// What people call one: `network`.
    pub one: &'static str,
    /// What people call them, as a headline: `Networks`.
    pub many: &'static str,
    /// What they are for, in a sentence.
    pub about: &'static str,
    /// What people call this one.
    pub title: fn(&Value) -> String,
    /// Columns of the list.
    pub columns: &'static [Column],
    /// How the list is sorted where nothing else is asked for: by this attribute, and in which direction.
    pub order: Option<(&'static str, &'static str)>,
    /// What its page shows.
    pub facts: &'static [Column],
    /// By what the list is narrowed.
    pub filters: &'static [Filter],
    /// What its forms ask.
    pub fields: &'static [Field],
    /// Lists of others on its page.
    pub parts: &'static [Part],
    /// What else its page shows.
    pub extra: Extra,
    /// Further pages of one: what their addresses end with, and what they are called.
    pub doors: &'static [(&'static str, &'static str)],
    /// What one must know before deleting it.
    pub dependents: &'static [Dependent],
    /// What can be done.
    pub verbs: Verbs,
}

/// What can be done to a kind of object by whoever may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs {
    /// There is a form for a new one.
    pub create: bool,
    /// There is a form for changes.
    pub edit: bool,
    /// It can be deleted.
    pub delete: bool,
    /// It carries tags.
    pub tags: bool,
    /// Only administrators see it.
    pub operator: bool,
}

impl Verbs {
    /// What tenants own.
    pub const TENANT: Self = Self { create: true, edit: true, delete: true, tags: true, operator: false };
    /// What is only looked at, and that by administrators.
    pub const SHOWN: Self = Self { create: false, edit: false, delete: false, tags: false, operator: true };
}

/// What else a page shows: more than lists of other objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// What may pass to and from a port.
    EffectiveRules,
    /// The subnets that a router joins.
    Interfaces,
    /// Who holds the transit roles of a network; for administrators.
    Holders,
    /// What a host should have and has, how full its maps are, and its transit roles.
    Host,
}

/// A list of other objects on an object's page.
#[derive(Debug)]
pub struct Part {
    /// Path of their kind.
    pub of: &'static str,
    /// The attribute of theirs that names this one.
    pub by: &'static str,
    /// What of this one it names: its id, or its name.
    pub with: &'static str,
}

/// What a deletion meets.
#[derive(Debug)]
pub struct Dependent {
    /// Path of the dependents' kind.
    pub of: &'static str,
    /// The attribute of theirs that names this one.
    pub by: &'static str,
    /// Whether they forbid it; otherwise they go along.
    pub blocks: bool,
}

/// An attribute that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Headline.
    pub label: &'static str,
    /// Attribute.
    pub of: &'static str,
    /// How it looks.
    pub shape: Shape,
    /// The API sorts by it.
    pub sorts: bool,
    /// Only administrators see it.
    pub operator: bool,
}

impl Column {
    /// An attribute in a shape.
    pub const fn new(label: &'static str, of: &'static str, shape: Shape) -> Self {
        Self { label, of, shape, sorts: false, operator: false }
    }

    /// Lists can be sorted by it.
    pub const fn sorted(self) -> Self {
        Self { sorts: true, ..self }
    }

    /// For administrators.
    pub const fn operator(self) -> Self {
        Self { operator: true, ..self }
    }
}

/// How a value looks.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// What the object is called, linked to its page.
    Title,
    /// As it is.
    Text,
    /// As it is, letter by letter: ids, addresses.
    Code,
    /// A state, with the reason if the object has one.
    Status,
    /// A time.
    Time,
    /// These two words, for yes and no.
    Flag(&'static str, &'static str),
    /// An object of that kind.
    Reference(&'static str),
    /// The one that this member of the attribute names.
    Member(&'static str, &'static str),
    /// Several.
    References(&'static str),
    /// The object of the kind that `object_type` names.
    Subject,
    /// A host, by its name.
    Host,
    /// A list of short texts.
    List,
    /// By a function of the attribute.
    By(fn(&Value) -> String),
    /// By a function of the whole object.
    Whole(fn(&Value) -> String),
}

/// By what a list is narrowed.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Name in the address, which is the API's.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// What may be chosen; nothing: any text.
    pub choices: &'static [&'static str],
    /// For administrators.
    pub operator: bool,
    /// What the API is asked for what was written; nothing: for that.
    pub asked: Option<fn(&str) -> String>,
}

impl Filter {
    /// By a text that is exactly so.
    pub const fn text(name: &'static str, label: &'static str) -> Self {
        Self { name, label, choices: &[], operator: false, asked: None }
    }

    /// By one of some values.
    pub const fn choice(name: &'static str, label: &'static str, choices: &'static [&'static str]) -> Self {
        Self { name, label, choices, operator: false, asked: None }
    }

    /// By what the API calls otherwise than people write it.
    pub const fn asked(self, asked: fn(&str) -> String) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// What the API is asked for a text.
    pub fn of_api(&self, text: &str) -> String {
        self.asked.map_or_else(|| text.to_owned(), |asked| asked(text))
    }

    /// For administrators.
    pub const fn operator(self) -> Self {
        Self { operator: true, ..self }
    }
}

/// What a form asks.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Attribute, and name in the form.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// What it means and what may be written.
    pub hint: &'static str,
    /// How it is asked and read.
    pub kind: Kind,
    /// Asked for a new object.
    pub creates: bool,
    /// Asked for a change.
    pub edits: bool,
    /// A new object needs it.
    pub needed: bool,
    /// Asked of administrators only.
    pub operator: bool,
    /// What the objects are to be that it chooses from, as filters of the API, whoever owns them;
    /// nothing: those of the project.
    pub among: &'static [(&'static str, &'static str)],
    /// The attribute is an object, and this the member of it that is asked.
    pub inside: Option<&'static str>,
}

impl Field {
    /// An attribute of new objects and of changes.
    pub const fn new(name: &'static str, label: &'static str, kind: Kind) -> Self {
        let (creates, edits, needed, operator) = (true, true, false, false);
        Self { name, label, hint: "", kind, creates, edits, needed, operator, among: &[], inside: None }
    }

    /// It is that member of its attribute.
    pub const fn inside(self, member: &'static str) -> Self {
        Self { inside: Some(member), ..self }
    }

    /// It chooses from those that are so.
    pub const fn among(self, among: &'static [(&'static str, &'static str)]) -> Self {
        Self { among, ..self }
    }

    /// What it means.
    pub const fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    /// For new objects only.
    pub const fn once(self) -> Self {
        Self { edits: false, ..self }
    }

    /// For changes only.
    pub const fn later(self) -> Self {
        Self { creates: false, ..self }
    }

    /// New objects need it.
    pub const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }

    /// For administrators.
    pub const fn operator(self) -> Self {
        Self { operator: true, ..self }
    }
}

/// How a value is asked and read.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A line.
    Text,
    /// A whole number in these bounds.
    Number(i64, i64),
    /// Yes or no; what a new object has.
    Flag(bool),
    /// One of these values, each with its label; an empty value leaves it open.
    Choice(&'static [(&'static str, &'static str)]),
    /// An object of that kind; the label of none.
    Reference(&'static str, &'static str),
    /// Any number of objects of that kind.
    References(&'static str),
    /// Text with a form of its own.
    Written(Written),
}

/// Text with a form of its own.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// It is a list, one item a line.
    pub lines: bool,
    /// A value, or an item, as text.
    pub show: fn(&Value) -> String,
    /// The text as a value, or what is wrong with it.
    pub read: fn(&str) -> Result<Value, String>,
}

/// Every kind, in the order of the menu.
static ALL: [&Resource; 10] = [
    &networks::NETWORKS,
    &subnets::SUBNETS,
    &ports::PORTS,
    &security_groups::SECURITY_GROUPS,
    &security_group_rules::RULES,
    &routers::ROUTERS,
    &floating_ips::FLOATING_IPS,
    &subnet_pools::SUBNET_POOLS,
    &audit::AUDIT,
    &hosts::HOSTS,
];

/// Every kind.
pub fn all() -> impl Iterator<Item = &'static Resource> {
    ALL.into_iter()
}

/// The kind whose pages are there.
pub fn at(path: &str) -> Option<&'static Resource> {
    all().find(|resource| resource.path == path)
}

/// The kind that the API names so in its bodies and in the audit log, if everybody may see it.
pub fn called(singular: &str) -> Option<&'static Resource> {
    all().find(|resource| resource.singular == singular && !resource.verbs.operator)
}

/// The kind that a declaration names.
pub(crate) fn declared(path: &'static str) -> &'static Resource {
    at(path).unwrap_or_else(|| panic!("no kind of objects is at `{path}`"))
}

impl Resource {
    /// The API's address of one.
    pub fn api_of(&self, id: &str) -> String {
        format!("{}/{id}", self.api)
    }

    /// The address of one's page.
    pub fn page_of(&self, id: &str) -> String {
        format!("/{}/{id}", self.path)
    }

    /// What people call several, in a sentence.
    pub fn plural_words(&self) -> String {
        format!("{}s", self.one)
    }

    /// The attributes that say what one is called, also where it is chosen from; none: it takes all of them.
    pub fn called_by(&self) -> &'static [&'static str] {
        match self.path {
            "subnets" => &["id", "name", "cidr"],
            "ports" => &["id", "name", "fixed_ips"],
            "floating-ips" => &["id", "floating_ip_address"],
            "networks" | "security-groups" | "routers" | "subnet-pools" | "hosts" => &["id", "name"],
            _ => &[],
        }
    }

    /// Where the list is.
    pub fn list(&self) -> String {
        format!("/{}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_that_a_declaration_names_is_there() {
        for resource in all() {
            let shown = resource.columns.iter().chain(resource.facts).filter_map(|column| match column.shape {
                Shape::Reference(to) | Shape::Member(_, to) | Shape::References(to) => Some(to),
                _ => None,
            });
            let asked = resource.fields.iter().filter_map(|field| match field.kind {
                Kind::Reference(to, _) | Kind::References(to) => Some(to),
                _ => None,
            });
            let parts = resource.parts.iter().map(|part| part.of);
            for path in shown.chain(asked).chain(parts).chain(resource.dependents.iter().map(|d| d.of)) {
                assert!(at(path).is_some(), "{}: {path}", resource.path);
            }
        }
    }

    #[test]
    fn an_object_is_called_by_what_is_asked_for() {
        let whole = json!({"id": "0123456789ab", "name": "own", "cidr": "10.0.0.0/24", "description": "x", "status": "x",
            "floating_ip_address": "198.51.100.7", "fixed_ips": [{"ip_address": "10.0.0.5"}], "action": "create",
            "object_type": "port", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"});
        for resource in all().filter(|resource| !resource.called_by().is_empty()) {
            for name in ["own", ""] {
                let mut whole = whole.clone();
                whole["name"] = json!(name);
                let asked = resource.called_by().iter().map(|of| ((*of).to_owned(), whole[*of].clone()));
                let asked = Value::Object(asked.collect());
                assert_eq!((resource.title)(&asked), (resource.title)(&whole), "{}", resource.path);
            }
        }
    }

    #[test]
    fn what_is_declared_is_in_the_api() -> Result<(), serde_json::Error> {
        let document: Value = serde_json::from_str(include_str!("../../../openapi/mizar.json"))?;
        let names = |value: &Value| -> BTreeSet<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect()
        };
        for resource in all() {
            let list = &document["paths"][resource.api]["get"];
            let taken = names(&list["parameters"]);
            for filter in resource.filters {
                assert!(taken.contains(filter.name), "{} is not filtered by {}", resource.path, filter.name);
            }
            let sorts: Vec<&str> = list["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["name"] == "sort_key")
                .flat_map(|parameter| parameter["schema"]["items"]["enum"].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
                .collect();
            for column in resource.columns.iter().filter(|column| column.sorts) {
                assert!(sorts.contains(&column.of), "{} is not sorted by {}", resource.path, column.of);
            }
            let of_kind = |verb: &str| {
                let name = schema_name(
                    &document,
                    &format!("{}{}", resource.api, if verb == "post" { "" } else { "/{id}" }),
                    verb,
                );
                document["components"]["schemas"][format!("{name}{}", if verb == "post" { "Create" } else { "Update" })]
                    ["properties"]
                    .clone()
            };
            let (create, update) = (of_kind("post"), of_kind("put"));
            for field in resource.fields {
                assert!(
                    !field.creates || !create[field.name].is_null(),
                    "{} is made without {}",
                    resource.path,
                    field.name
                );
                assert!(
                    !field.edits || !update[field.name].is_null(),
                    "{} is changed without {}",
                    resource.path,
                    field.name
                );
            }
        }
        Ok(())
    }

    /// What the document calls the kind: its operations are about `NewX`, `OneX`.
    fn schema_name(document: &Value, path: &str, verb: &str) -> String {
        let text = document["paths"][path][verb]["responses"].to_string();
        let at = text.find("schemas/One").map(|at| at + "schemas/One".len());
        at.map(|at| text[at..].split('"').next().unwrap_or_default().to_owned()).unwrap_or_default()
    }
}
