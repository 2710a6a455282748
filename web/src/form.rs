//! Forms: what a browser sends is read strictly, into the body that the API gets; and written again,
//! with what is wrong beside the field, when it cannot be.

use crate::fault::Fault;
use crate::resource::text::plain;
use crate::resource::{Field, Kind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// More than any form of ours has.
const PAIRS: usize = 2_000;

/// What a form sent.
#[derive(Clone, Debug, Default)]
pub struct Sent(Vec<(String, String)>);

impl Sent {
    /// Reads a body of type `application/x-www-form-urlencoded`.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().take(PAIRS + 1).collect();
        if pairs.len() > PAIRS {
            return Err(Fault::Bad(format!("the form has more than {PAIRS} fields")));
        }
        // What is not UTF-8 is replaced by this sign when it is read.
        if let Some((name, _)) =
            pairs.iter().find(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'))
        {
            return Err(Fault::Bad(format!("the field `{name}` is not text")));
        }
        Ok(Self(pairs))
    }

    /// Takes the value of a field that may come once.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Fault::Bad(format!("the field `{name}` was sent more than once"))),
        }
    }

    /// Takes the value of a field that must be there.
    pub fn need(&mut self, name: &str) -> Result<String, Fault> {
        self.take(name)?.ok_or_else(|| Fault::Bad(format!("the field `{name}` is missing")))
    }

    /// Takes every value of a field.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(own, _)| own == name);
        self.0 = left;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Ends the reading: nothing may be left.
    pub fn end(self) -> Result<(), Fault> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Fault::Bad(format!("the form has no field `{name}`"))),
        }
    }
}

/// What one may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is sent.
    pub value: String,
    /// What is read.
    pub label: String,
    /// It is chosen.
    pub chosen: bool,
}

/// How a field looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A line.
    Line(String),
    /// A line of digits.
    Digits(String),
    /// Lines.
    Lines(String),
    /// A box to check.
    Check(bool),
    /// One of some.
    One(Vec<Choice>),
    /// Any of some.
    Any(Vec<Choice>),
}

/// A field of a form on a page.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// What it means.
    pub hint: &'static str,
    /// What is wrong with what was sent.
    pub error: Option<String>,
    /// It must not be empty.
    pub needed: bool,
    /// How it looks.
    pub look: Look,
}

impl Input {
    /// Ids of what describes it, for `aria-describedby`.
    pub fn described(&self) -> String {
        let hint = (!self.hint.is_empty()).then(|| format!("{}-hint", self.name));
        let error = self.error.is_some().then(|| format!("{}-error", self.name));
        hint.into_iter().chain(error).collect::<Vec<_>>().join(" ")
    }
}

/// Values as text, by field.
pub type Texts = BTreeMap<&'static str, Vec<String>>;

/// What fields show of an object that there is.
pub fn texts_of(fields: &[&'static Field], object: &Value) -> Texts {
    fields.iter().map(|field| (field.name, texts(field.kind, asked(field, object)))).collect()
}

/// What a field asks of an object.
fn asked<'o>(field: &Field, object: &'o Value) -> &'o Value {
    field.inside.map_or(&object[field.name], |member| &object[field.name][member])
}

/// A value as the attribute has it.
fn wrapped(field: &Field, value: Value) -> Value {
    match field.inside {
        Some(member) => json!({ member: value }),
        None => value,
    }
}

fn texts(kind: Kind, value: &Value) -> Vec<String> {
    match kind {
        Kind::Flag(_) => value.as_bool().unwrap_or_default().then(|| "on".to_owned()).into_iter().collect(),
        Kind::References(_) => value.as_array().into_iter().flatten().map(plain).collect(),
        Kind::Written(written) if written.lines => {
            let lines: Vec<String> = value.as_array().into_iter().flatten().map(written.show).collect();
            vec![lines.join("\n")]
        }
        Kind::Written(written) => vec![(written.show)(value)],
        Kind::Text | Kind::Number(..) | Kind::Choice(_) | Kind::Reference(..) => vec![plain(value)],
    }
}

/// What fields show for a new object.
pub fn blank(fields: &[&'static Field]) -> Texts {
    let of = |field: &Field| match field.kind {
        Kind::Flag(true) => vec!["on".to_owned()],
        _ => Vec::new(),
    };
    fields.iter().map(|field| (field.name, of(field))).collect()
}

/// Takes the values of these fields out of what was sent.
pub fn take(fields: &[&'static Field], sent: &mut Sent) -> Result<Texts, Fault> {
    let mut texts = Texts::new();
    for field in fields {
        let values = match field.kind {
            Kind::References(_) => sent.take_all(field.name),
            _ => sent.take(field.name)?.into_iter().collect(),
        };
        texts.insert(field.name, values);
    }
    Ok(texts)
}

/// What is wrong, by field.
pub type Errors = BTreeMap<&'static str, String>;

/// The body for a new object: what is empty is left to the API.
pub fn creation(fields: &[&'static Field], texts: &Texts) -> Result<Map<String, Value>, Errors> {
    let mut body = Map::new();
    let mut errors = Errors::new();
    for field in fields {
        match read(field.kind, values(texts, field)) {
            Ok(Some(value)) => _ = body.insert(field.name.to_owned(), wrapped(field, value)),
            Ok(None) if field.needed => _ = errors.insert(field.name, "This is needed.".into()),
            Ok(None) => {}
            Err(error) => _ = errors.insert(field.name, error),
        }
    }
    if errors.is_empty() { Ok(body) } else { Err(errors) }
}

/// The body for a change of `object`: what is other than it was; what was emptied is emptied.
pub fn change(fields: &[&'static Field], texts: &Texts, object: &Value) -> Result<Map<String, Value>, Errors> {
    let mut body = Map::new();
    let mut errors = Errors::new();
    let before = texts_of(fields, object);
    for field in fields {
        let now = values(texts, field);
        if same(field, now, values(&before, field)) {
            continue;
        }
        let value = match read(field.kind, now) {
            Ok(Some(value)) => Ok(wrapped(field, keep_known(field.name, value, &object[field.name]))),
            Ok(None) => emptied(field),
            Err(error) => Err(error),
        };
        match value {
            Ok(value) => _ = body.insert(field.name.to_owned(), value),
            Err(error) => _ = errors.insert(field.name, error),
        }
    }
    if errors.is_empty() { Ok(body) } else { Err(errors) }
}

fn values<'a>(texts: &'a Texts, field: &Field) -> &'a [String] {
    texts.get(field.name).map(Vec::as_slice).unwrap_or_default()
}

/// Browsers send the lines of a text with CR LF.
fn tidy(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

fn same(field: &Field, a: &[String], b: &[String]) -> bool {
    // Of a text of several lines, which other clients can write, browsers make one in a field of one line.
    if let Kind::Text = field.kind {
        let line = |texts: &[String]| texts.concat().replace(['\r', '\n'], "").trim().to_owned();
        return line(a) == line(b);
    }
    let lines = |texts: &[String]| -> Vec<String> {
        let mut lines: Vec<String> = texts.iter().flat_map(|text| tidy(text)).map(str::to_owned).collect();
        // Only name servers are asked in their order; of everything else the API keeps a set.
        if field.name != "dns_nameservers" {
            lines.sort();
        }
        lines
    };
    lines(a) == lines(b)
}

/// An address that the port has already keeps its subnet, so that it is known to be the same one.
fn keep_known(name: &str, value: Value, before: &Value) -> Value {
    if name != "fixed_ips" {
        return value;
    }
    let known = |ip: &Value| before.as_array()?.iter().find(|known| known["ip_address"] == ip["ip_address"]).cloned();
    Value::Array(value.as_array().into_iter().flatten().map(|ip| known(ip).unwrap_or_else(|| ip.clone())).collect())
}

/// What an emptied field means.
fn emptied(field: &Field) -> Result<Value, String> {
    if field.needed {
        return Err("This is needed.".into());
    }
    match field.kind {
        Kind::Text => Ok(json!("")),
        Kind::References(_) => Ok(json!([])),
        Kind::Written(written) if written.lines => Ok(json!([])),
        Kind::Written(_) | Kind::Reference(..) => Ok(Value::Null),
        Kind::Flag(_) => Ok(json!(false)),
        Kind::Number(..) | Kind::Choice(_) => Err("This cannot be empty.".into()),
    }
}

/// The value of a field; nothing where it is empty.
fn read(kind: Kind, values: &[String]) -> Result<Option<Value>, String> {
    if let Kind::References(_) = kind {
        let ids: Vec<&str> = values.iter().flat_map(|text| tidy(text)).collect();
        return if ids.is_empty() {
            Ok(None)
        } else {
            ids.into_iter().map(id).collect::<Result<Vec<_>, _>>().map(|ids| Some(json!(ids)))
        };
    }
    let text = values.first().map(|text| text.trim()).unwrap_or_default();
    if let Kind::Flag(_) = kind {
        return match text {
            "" => Ok(Some(json!(false))),
            "on" => Ok(Some(json!(true))),
            other => Err(format!("`{other}` is not a mark")),
        };
    }
    if text.is_empty() {
        return Ok(None);
    }
    match kind {
        Kind::Text => Ok(Some(json!(text))),
        Kind::Number(least, most) => {
            let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
            number
                .map(|number| Some(json!(number)))
                .ok_or_else(|| format!("This is not a whole number from {least} to {most}."))
        }
        Kind::Choice(choices) => {
            let known = choices.iter().any(|(value, _)| *value == text);
            known.then(|| Some(json!(text))).ok_or_else(|| format!("`{text}` is not one of the choices."))
        }
        Kind::Reference(..) => id(text).map(|id| Some(json!(id))),
        Kind::Written(written) if written.lines => {
            let items = tidy(text).into_iter().map(written.read).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(Value::Array(items)))
        }
        Kind::Written(written) => (written.read)(text).map(Some),
        Kind::Flag(_) | Kind::References(_) => Ok(None),
    }
}

fn id(text: &str) -> Result<String, String> {
    match uuid::Uuid::try_parse(text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(format!("`{text}` is not an id.")),
    }
}

/// The fields as they look, with what was written and what is wrong. `choices` are the objects that
/// references choose from; where there are too many to choose from, an id is asked for.
pub fn inputs(
    fields: &[&'static Field],
    texts: &Texts,
    errors: &Errors,
    choices: &BTreeMap<&'static str, Option<Vec<Choice>>>,
    creates: bool,
) -> Vec<Input> {
    let look = |field: &Field| {
        let values = values(texts, field);
        let text = values.first().cloned().unwrap_or_default();
        let options = choices.get(field.name).and_then(Option::as_ref);
        let marked = |options: &[Choice]| -> Vec<Choice> {
            options.iter().map(|option| Choice { chosen: values.contains(&option.value), ..option.clone() }).collect()
        };
        match field.kind {
            Kind::Text => Look::Line(text),
            Kind::Number(..) => Look::Digits(text),
            Kind::Flag(_) => Look::Check(text == "on"),
            Kind::Choice(of) => {
                let open = (creates && !field.needed).then_some(("", "As usual"));
                let all = open.into_iter().chain(of.iter().copied());
                let choice = |(value, label): (&str, &str)| Choice {
                    value: value.into(),
                    label: label.into(),
                    chosen: value == text,
                };
                Look::One(all.map(choice).collect())
            }
            Kind::Reference(_, none) => match options {
                None => Look::Line(text),
                Some(options) => {
                    let mut all = vec![Choice { value: String::new(), label: none.into(), chosen: text.is_empty() }];
                    all.extend(marked(options));
                    // What is chosen already stays choosable, whoever owns it.
                    if !text.is_empty() && !all.iter().any(|option| option.chosen) {
                        all.push(Choice { value: text.clone(), label: text, chosen: true });
                    }
                    Look::One(all)
                }
            },
            Kind::References(_) => match options {
                None => Look::Lines(values.iter().flat_map(|text| tidy(text)).collect::<Vec<_>>().join("\n")),
                Some(options) => {
                    let mut all = marked(options);
                    // A box that is not there is sent as one that is not checked: what is chosen already
                    // stays choosable, whoever owns it.
                    for value in values {
                        if !all.iter().any(|option| option.value == *value) {
                            all.push(Choice { value: value.clone(), label: value.clone(), chosen: true });
                        }
                    }
                    Look::Any(all)
                }
            },
            Kind::Written(written) if written.lines => Look::Lines(text),
            Kind::Written(_) => Look::Line(text),
        }
    };
    let input = |field: &&'static Field| {
        let look = look(field);
        let by_id = matches!((field.kind, &look), (Kind::References(_), Look::Lines(_)));
        Input {
            name: field.name,
            label: field.label,
            hint: if by_id { "There are too many to choose from: one id a line." } else { field.hint },
            error: errors.get(field.name).cloned(),
            needed: field.needed && creates,
            look,
        }
    };
    fields.iter().map(input).collect()
}

#[cfg(test)]
mod tests;
