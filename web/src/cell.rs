//! Values of objects as they stand in tables, and the names of the objects that they mention.

use crate::api::{CallError, Calls, Query, objects};
use crate::resource::text::{plain, short};
use crate::resource::{self, Column, Resource, Shape};
use askama::Template;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many ids are asked for at once: an address must not get too long.
const AT_ONCE: usize = 100;

/// Questions that wait for the API at the same time.
const PARALLEL: usize = 4;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where to.
    pub href: String,
    /// What is read.
    pub text: String,
}

/// A value in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// As it is.
    Text(String),
    /// Letter by letter.
    Code(String),
    /// Links, one after the other.
    Links(Vec<Link>),
    /// A state: its word, what class of states it is of, and why.
    Status {
        /// The word.
        word: String,
        /// `good`, `wait`, `off` or `bad`.
        tone: &'static str,
        /// Why, if the object says it.
        why: String,
    },
    /// A time.
    Time {
        /// For machines.
        iso: String,
        /// For people.
        words: String,
    },
}

/// Letters of a word that a column has room for.
const WORD: usize = 26;

/// Whether a text has a word that no column has room for.
pub fn is_long(text: &str) -> bool {
    text.split_whitespace().any(|word| word.chars().count() > WORD)
}

#[derive(Template)]
#[template(path = "cell.html")]
struct Shown<'a> {
    cell: &'a Cell,
}

impl Cell {
    /// As HTML; what it holds is escaped.
    pub fn html(&self) -> Result<String, askama::Error> {
        Shown { cell: self }.render()
    }

    /// What a column shows of an object.
    pub fn of(resource: &'static Resource, column: &Column, object: &Value, names: &Names) -> Self {
        let value = &object[column.of];
        let text = |text: String, make: fn(String) -> Self| if text.is_empty() { Self::Empty } else { make(text) };
        match column.shape {
            Shape::Title => {
                let id = object["id"].as_str().unwrap_or_default();
                Self::Links(vec![Link { href: resource.page_of(id), text: (resource.title)(object) }])
            }
            Shape::Text => text(plain(value), Self::Text),
            Shape::Code => text(plain(value), Self::Code),
            Shape::Status => status(value, object),
            Shape::Time => time(value),
            Shape::Flag(yes, no) => {
                let word = if value.as_bool().unwrap_or_default() { yes } else { no };
                text(word.to_owned(), Self::Text)
            }
            Shape::Reference(to) => links(to, value.as_str().into_iter(), names),
            Shape::Member(member, to) => links(to, value[member].as_str().into_iter(), names),
            Shape::References(to) => links(to, value.as_array().into_iter().flatten().filter_map(Value::as_str), names),
            Shape::Subject => match subject(object) {
                Some((to, id)) if names.knows(to, id) => links(to, std::iter::once(id), names),
                // It is gone, or has no page here.
                _ => text(plain(value), Self::Code),
            },
            Shape::Host => match plain(value) {
                none if none.is_empty() => Self::Empty,
                name => Self::Links(vec![host(name)]),
            },
            Shape::List => {
                let items: Vec<String> = value.as_array().into_iter().flatten().map(plain).collect();
                text(items.join(", "), Self::Text)
            }
            Shape::By(show) => text(show(value), Self::Text),
            Shape::Whole(show) => text(show(object), Self::Text),
        }
    }
}

/// Kind and id of what an event of the audit log is about.
fn subject(event: &Value) -> Option<(&'static str, &str)> {
    let resource = resource::called(event["object_type"].as_str()?)?;
    Some((resource.path, event["object_id"].as_str()?))
}

fn links<'a>(to: &'static str, ids: impl Iterator<Item = &'a str>, names: &Names) -> Cell {
    let resource = resource::declared(to);
    let links: Vec<Link> = ids
        .filter(|id| !id.is_empty())
        .map(|id| Link { href: resource.page_of(id), text: names.of(to, id).to_owned() })
        .collect();
    if links.is_empty() { Cell::Empty } else { Cell::Links(links) }
}

fn status(value: &Value, object: &Value) -> Cell {
    let (word, tone) = match value {
        Value::Bool(true) => ("alive".to_owned(), "good"),
        Value::Bool(false) => ("silent".to_owned(), "bad"),
        other => {
            let word = plain(other);
            let tone = match word.as_str() {
                "ACTIVE" => "good",
                "BUILD" => "wait",
                "ERROR" => "bad",
                _ => "off",
            };
            (word, tone)
        }
    };
    if word.is_empty() {
        return Cell::Empty;
    }
    Cell::Status { word, tone, why: plain(&object["mizar:status_reason"]) }
}

/// A time of the API, which gives UTC.
pub fn time(value: &Value) -> Cell {
    match value.as_str() {
        Some(iso) if iso.len() >= 19 && iso.is_ascii() => {
            Cell::Time { iso: iso.to_owned(), words: format!("{} {} UTC", &iso[..10], &iso[11..19]) }
        }
        _ => Cell::Empty,
    }
}

/// What the objects are called that others mention.
#[derive(Debug, Default)]
pub struct Names(HashMap<(&'static str, String), String>);

impl Names {
    /// Asks for the names of all that these columns of these objects mention, one question for each kind.
    pub async fn of_columns(calls: &Calls, columns: &[&Column], objects: &[Value]) -> Result<Self, CallError> {
        let mut wanted: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
        for object in objects {
            for column in columns {
                let value = &object[column.of];
                match column.shape {
                    Shape::Reference(to) => wanted.entry(to).or_default().extend(value.as_str()),
                    Shape::Member(member, to) => wanted.entry(to).or_default().extend(value[member].as_str()),
                    Shape::References(to) => {
                        let ids = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                        wanted.entry(to).or_default().extend(ids);
                    }
                    Shape::Subject => {
                        if let Some((to, id)) = subject(object) {
                            wanted.entry(to).or_default().insert(id);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut questions = Vec::new();
        for (to, ids) in wanted {
            let ids: Vec<&str> = ids.into_iter().filter(|id| !id.is_empty()).collect();
            for some in ids.chunks(AT_ONCE) {
                let fields = resource::declared(to).called_by();
                questions.push((to, Query::new().with_each("id", some.iter().copied()).with_each("fields", fields)));
            }
        }
        let answers = questions.iter().map(|(to, query)| async move {
            let resource = resource::declared(to);
            let found = objects_of(calls, resource, query).await?;
            Ok::<_, CallError>((*to, found))
        });
        let mut names = Self::default();
        let mut answers = stream::iter(answers).buffer_unordered(PARALLEL);
        while let Some((to, found)) = answers.try_next().await? {
            names.learn(to, &found);
        }
        Ok(names)
    }

    /// Takes the names of objects that are known already.
    pub fn learn(&mut self, path: &'static str, objects: &[Value]) {
        let resource = resource::declared(path);
        for object in objects {
            if let Some(id) = object["id"].as_str() {
                self.0.insert((path, id.to_owned()), (resource.title)(object));
            }
        }
    }

    /// Whether it is known, and so is there.
    fn knows(&self, path: &'static str, id: &str) -> bool {
        self.0.contains_key(&(path, id.to_owned()))
    }

    /// What it is called; the beginning of its id where that is not known.
    pub fn of<'a>(&'a self, path: &'static str, id: &'a str) -> &'a str {
        let known = self.0.get(&(path, id.to_owned())).map(String::as_str);
        known.unwrap_or_else(|| id.get(..8).unwrap_or(id))
    }
}

async fn objects_of(calls: &Calls, resource: &Resource, query: &Query) -> Result<Vec<Value>, CallError> {
    let mut found = objects(&mut calls.get(resource.api, query).await?, resource.plural)?;
    complete(calls, resource, &mut found).await?;
    Ok(found)
}

/// Adds what a title says beside what the object holds: to a rule, what the group is called that it names.
pub async fn complete(calls: &Calls, of: &Resource, objects: &mut [Value]) -> Result<(), CallError> {
    if of.path != "security-group-rules" {
        return Ok(());
    }
    let groups = resource::declared("security-groups");
    let ids: BTreeSet<String> = objects.iter().map(|rule| plain(&rule["remote_group_id"])).collect();
    let ids: Vec<&String> = ids.iter().filter(|id| !id.is_empty()).collect();
    for some in ids.chunks(AT_ONCE) {
        let query = Query::new().with_each("id", some).with_each("fields", groups.called_by());
        let known = calls.list(groups.api, groups.plural, &query).await?;
        for rule in objects.iter_mut() {
            if let Some(group) = known.iter().find(|group| group["id"] == rule["remote_group_id"]) {
                rule["remote_group_name"] = (groups.title)(group).into();
            }
        }
    }
    Ok(())
}

/// A link to a host by its name, which is all that others say of it.
pub fn host(name: String) -> Link {
    Link { href: Query::new().with("name", &name).after(&resource::declared("hosts").list()), text: name }
}

/// A link to an object.
pub fn link_to(resource: &Resource, object: &Value) -> Link {
    let id = object["id"].as_str().unwrap_or_default();
    let title = (resource.title)(object);
    Link { href: resource.page_of(id), text: if title.is_empty() { short(id) } else { title } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell(shape: Shape, object: &Value) -> Cell {
        Cell::of(resource::declared("networks"), &Column::new("", "x", shape), object, &Names::default())
    }

    #[test]
    fn whatever_stands_in_a_value_is_text() -> Result<(), askama::Error> {
        let evil = json!({"id": "\"><script>", "name": "<img src=x onerror=alert(1)>", "x": "<script>&\"'"});
        for shape in [Shape::Text, Shape::Code, Shape::Status, Shape::Title] {
            let html = cell(shape, &evil).html()?;
            assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("\">\""), "{html}");
        }
        assert!(cell(Shape::Text, &evil).html()?.contains("script"));
        Ok(())
    }

    #[test]
    fn only_what_no_column_has_room_for_is_broken() -> Result<(), askama::Error> {
        let html = |text: &str| cell(Shape::Text, &json!({"x": text})).html();
        assert!(!html("add_router_interface router")?.contains("breaks"));
        assert!(html(&"x".repeat(WORD + 1))?.contains("class=\"breaks\""));
        assert!(cell(Shape::Title, &json!({"id": "1", "name": "y".repeat(99)})).html()?.contains("class=\"breaks\""));
        Ok(())
    }

    #[test]
    fn a_state_says_why() -> Result<(), askama::Error> {
        let html = cell(Shape::Status, &json!({"x": "ERROR", "mizar:status_reason": "no <host>"})).html()?;
        assert!(html.contains("ERROR") && html.contains("bad") && html.contains("no &#60;host&#62;"), "{html}");
        Ok(())
    }

    #[test]
    fn a_host_is_linked_by_its_name() {
        let link = Link { href: "/hosts?name=rack+1%26all%3D1".into(), text: "rack 1&all=1".into() };
        assert_eq!(cell(Shape::Host, &json!({"x": "rack 1&all=1"})), Cell::Links(vec![link]));
        assert_eq!(cell(Shape::Host, &json!({"x": ""})), Cell::Empty);
    }

    #[test]
    fn what_is_empty_is_said_to_be() {
        for shape in [Shape::Text, Shape::Code, Shape::Status, Shape::Time, Shape::Reference("ports"), Shape::List] {
            assert_eq!(cell(shape, &json!({"x": null})), Cell::Empty, "{shape:?}");
        }
        assert_eq!(cell(Shape::Flag("yes", "no"), &json!({})), Cell::Text("no".into()));
        assert_eq!(cell(Shape::Flag("yes", ""), &json!({})), Cell::Empty);
    }

    #[test]
    fn an_unknown_object_is_called_by_its_id() {
        let mut names = Names::default();
        names.learn("ports", &[json!({"id": "aaaaaaaabbbb", "name": "web"}), json!({"id": "cccccccc1", "name": " "})]);
        assert_eq!(names.of("ports", "aaaaaaaabbbb"), "web");
        assert_eq!(names.of("ports", "cccccccc1"), "cccccccc");
        assert_eq!(names.of("ports", "x"), "x");
    }

    #[test]
    fn what_an_event_is_about_is_linked_while_it_is_there() {
        let column = Column::new("Object", "object_id", Shape::Subject);
        let mut names = Names::default();
        names.learn("ports", &[json!({"id": "a", "name": "web"})]);
        let cell = |kind: &str, id: &str| {
            Cell::of(resource::declared("audit"), &column, &json!({"object_type": kind, "object_id": id}), &names)
        };
        assert_eq!(cell("port", "a"), Cell::Links(vec![Link { href: "/ports/a".into(), text: "web".into() }]));
        for (kind, id) in [("port", "b"), ("network", "a"), ("role_assignment", "a"), ("mizar_host", "a")] {
            assert_eq!(cell(kind, id), Cell::Code(id.into()), "{kind}");
        }
    }

    #[test]
    fn times_are_said_in_utc() {
        let Cell::Time { words, .. } = time(&json!("2026-11-23T06:41:53Z")) else { panic!("a time") };
        assert_eq!(words, "2026-11-23 06:41:53 UTC");
        assert_eq!(time(&json!("soon")), Cell::Empty);
    }
}
