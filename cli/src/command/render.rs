//! Objects as text: tables for people, JSON, YAML and bare values for scripts.

use super::failure::{Exit, Problem};
use anyhow::Result;
use clap::ArgMatches;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One value.
    Json,
    /// The same in YAML.
    Yaml,
    /// Bare: a line per object, tabs between attributes.
    Value,
}

/// What of it to write, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    format: Format,
    columns: Vec<String>,
}

impl Output {
    /// As the arguments say.
    pub fn of(matches: &ArgMatches) -> Self {
        Self::new(*matches.get_one("output").expect("has a default"), super::tree::many(matches, "column"))
    }

    /// Of this form.
    pub fn new(format: Format, columns: Vec<String>) -> Self {
        Self { format, columns }
    }

    /// A list; `standard` are its columns in tables unless others are named.
    pub fn list(&self, objects: &[Value], standard: &[&str]) -> Result<String> {
        self.check(objects.first())?;
        let columns: Vec<&str> = match self.columns.as_slice() {
            [] => standard.to_vec(),
            named => named.iter().map(String::as_str).collect(),
        };
        match self.format {
            Format::Json => Ok(serde_json::to_string_pretty(&self.picked(objects))?),
            Format::Yaml => yaml(&self.picked(objects)),
            Format::Value => {
                let line =
                    |object| columns.iter().map(|column| cell(&at(object, column))).collect::<Vec<_>>().join("\t");
                Ok(objects.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            Format::Table => {
                let mut table = table();
                table.set_header(columns.iter().map(|column| heading(column)));
                for object in objects {
                    table.add_row(columns.iter().map(|column| cell(&at(object, column))));
                }
                Ok(table.to_string())
            }
        }
    }

    /// One object.
    pub fn object(&self, object: &Value) -> Result<String> {
        self.check(Some(object))?;
        let every: Vec<&str> = object.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let columns = if self.columns.is_empty() { every } else { self.columns.iter().map(String::as_str).collect() };
        match self.format {
            Format::Json => Ok(serde_json::to_string_pretty(&self.pick(object))?),
            Format::Yaml => yaml(&self.pick(object)),
            Format::Value => Ok(columns.iter().map(|column| cell(&at(object, column))).collect::<Vec<_>>().join("\n")),
            Format::Table => {
                let mut table = table();
                table.set_header(["attribute", "value"]);
                for column in columns {
                    table.add_row([column.to_owned(), cell(&at(object, column))]);
                }
                Ok(table.to_string())
            }
        }
    }

    /// A column that no object has is a name misspelt.
    fn check(&self, object: Option<&Value>) -> Result<(), Problem> {
        let Some(Value::Object(object)) = object else { return Ok(()) };
        let known = |column: &str| object.contains_key(column.split_once('.').map_or(column, |(field, _)| field));
        match self.columns.iter().find(|column| !known(column)) {
            None => Ok(()),
            Some(unknown) => {
                let names: Vec<&str> = object.keys().map(String::as_str).collect();
                let problem = Problem::new(Exit::Usage, format!("--column: there is no attribute `{unknown}`"));
                Err(problem.hint(format!("there are {}", names.join(", "))))
            }
        }
    }

    fn picked(&self, objects: &[Value]) -> Value {
        objects.iter().map(|object| self.pick(object)).collect()
    }

    fn pick(&self, object: &Value) -> Value {
        if self.columns.is_empty() {
            return object.clone();
        }
        Value::Object(self.columns.iter().map(|column| (column.clone(), at(object, column).into_owned())).collect())
    }
}

fn yaml(value: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?.trim_end().to_owned())
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    // Cut lines could not be copied; a terminal that is too narrow wraps them itself.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// `fixed_ips.ip_address`: this member of each element.
fn at<'a>(object: &'a Value, column: &str) -> Cow<'a, Value> {
    match column.split_once('.') {
        Some((field, member)) if object.get(column).is_none() => match &object[field] {
            Value::Array(elements) => Cow::Owned(elements.iter().map(|element| element[member].clone()).collect()),
            other => Cow::Owned(other[member].clone()),
        },
        _ => Cow::Borrowed(&object[column]),
    }
}

fn heading(column: &str) -> String {
    column.rsplit(['.', ':']).next().unwrap_or(column).replace('_', " ")
}

/// A value in a table or a line.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text).into_owned(),
        Value::Array(elements) => elements.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{}={}", printable(name), cell(value));
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Names are their tenants': what would steer a terminal is shown as it is written in Rust.
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| if steers(c) { c.escape_default().to_string() } else { c.to_string() })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ports() -> Vec<Value> {
        vec![
            json!({"id": "1", "name": "a\u{1b}[2J\tb", "fixed_ips": [{"ip_address": "10.0.0.1", "subnet_id": "s"}, {"ip_address": "10.0.0.2", "subnet_id": "s"}], "binding:host_id": null}),
            json!({"id": "2", "name": "", "fixed_ips": [], "binding:host_id": "host1"}),
        ]
    }

    fn list(format: Format, columns: &[&str]) -> Result<String> {
        let output = Output::new(format, columns.iter().map(|column| (*column).to_owned()).collect());
        output.list(&ports(), &["id", "name", "fixed_ips.ip_address", "binding:host_id"])
    }

    #[test]
    fn a_table_has_the_standard_columns_and_no_escape_sequences() -> Result<()> {
        let expected = "\
┌────┬───────────────┬────────────────────┬─────────┐
│ id ┆ name          ┆ ip address         ┆ host id │
╞════╪═══════════════╪════════════════════╪═════════╡
│ 1  ┆ a\\u{1b}[2J\\tb ┆ 10.0.0.1, 10.0.0.2 ┆         │
│ 2  ┆               ┆                    ┆ host1   │
└────┴───────────────┴────────────────────┴─────────┘";
        assert_eq!(list(Format::Table, &[])?, expected);
        Ok(())
    }

    #[test]
    fn values_are_bare_and_lines_are_objects() -> Result<()> {
        assert_eq!(list(Format::Value, &["id", "binding:host_id"])?, "1\t\n2\thost1");
        Ok(())
    }

    #[test]
    fn json_and_yaml_have_whole_objects_unless_columns_are_named() -> Result<()> {
        assert_eq!(serde_json::from_str::<Value>(&list(Format::Json, &[])?)?, Value::Array(ports()));
        let picked: Value = serde_json::from_str(&list(Format::Json, &["fixed_ips.ip_address", "id"])?)?;
        assert_eq!(picked[0], json!({"fixed_ips.ip_address": ["10.0.0.1", "10.0.0.2"], "id": "1"}));
        let back: Value = serde_saphyr::from_str(&list(Format::Yaml, &[])?)?;
        assert_eq!(back, Value::Array(ports()));
        Ok(())
    }

    #[test]
    fn an_unknown_column_is_refused_and_the_known_are_named() {
        let error = list(Format::Value, &["nmae"]).expect_err("misspelt");
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        assert_eq!(problem.exit, Exit::Usage);
        assert!(problem.to_string().contains("`nmae`"), "{problem}");
    }

    #[test]
    fn one_object_is_a_line_per_attribute() -> Result<()> {
        let output = Output::new(Format::Value, vec!["name".into(), "fixed_ips".into()]);
        assert_eq!(output.object(&ports()[1])?, "\n");
        let shown = Output::new(Format::Table, Vec::new()).object(&ports()[0])?;
        assert!(shown.contains("│ id              ┆ 1 "), "{shown}");
        assert!(shown.contains("ip_address=10.0.0.1 subnet_id=s, ip_address=10.0.0.2 subnet_id=s"), "{shown}");
        Ok(())
    }
}
