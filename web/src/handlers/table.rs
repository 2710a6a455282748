//! Tables of objects.

use crate::api::{CallError, Calls};
use crate::cell::{Cell, Names};
use crate::resource::{Column, Resource, Shape};
use crate::signed::Signed;
use askama::Template;
use serde_json::Value;

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Id of the object.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// Its cells, by column.
    pub cells: Vec<Cell>,
    /// The cell that names the row.
    head: usize,
}

impl Row {
    /// The cells as HTML, and whether each names the row.
    pub fn html(&self) -> Result<Vec<(bool, String)>, askama::Error> {
        self.cells.iter().enumerate().map(|(at, cell)| Ok((at == self.head, cell.html()?))).collect()
    }
}

/// Some objects of a kind, as a part of a page.
#[derive(Template)]
#[template(path = "part.html")]
pub struct Table {
    /// Headline.
    pub title: &'static str,
    /// Heads of the columns.
    pub heads: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What is read where there is none.
    pub none: String,
    /// Where all of them are, if there are others.
    pub more: Option<String>,
    /// Where another is made, if this user may.
    pub new: Option<String>,
    /// What people call one.
    pub one: &'static str,
}

/// The columns that this user sees.
pub fn columns(signed: &Signed, columns: &'static [Column]) -> Vec<&'static Column> {
    columns.iter().filter(|column| !column.operator || signed.session.is_admin()).collect()
}

/// The rows of these objects.
pub async fn rows(
    calls: &Calls,
    resource: &'static Resource,
    columns: &[&'static Column],
    objects: &[Value],
) -> Result<Vec<Row>, CallError> {
    let names = Names::of_columns(calls, columns, objects).await?;
    let head = columns.iter().position(|column| matches!(column.shape, Shape::Title)).unwrap_or_default();
    let row = |object: &Value| Row {
        head,
        id: object["id"].as_str().unwrap_or_default().to_owned(),
        title: (resource.title)(object),
        cells: columns.iter().map(|column| Cell::of(resource, column, object, &names)).collect(),
    };
    Ok(objects.iter().map(row).collect())
}
