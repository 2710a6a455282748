//! The page of one object.

use super::extra;
use super::table::{self, Table};
use crate::api::Query;
use crate::cell::{Cell, Names, complete};
use crate::fault::Fault;
use crate::page::{self, Fragment, Frame};
use crate::resource::{self, Column, Extra, Part, Resource};
use crate::signed::Signed;
use actix_web::HttpResponse;
use actix_web::web::Path;
use askama::Template;
use futures::future::try_join_all;
use serde_json::Value;

/// So many of another kind are listed on a page; its own list has the others.
const LISTED: u32 = 20;

#[derive(Template)]
#[template(path = "facts.html")]
struct Facts {
    facts: Vec<(&'static str, Cell)>,
}

#[derive(Template)]
#[template(source = "<h1>{{ title }}</h1>", ext = "html")]
struct Title {
    title: String,
}

/// The buttons belong to a form of the page (`show.html`): what is renewed holds no secret, which would be another
/// one each time.
#[derive(Template)]
#[template(path = "tags.html")]
struct Tags {
    resource: &'static Resource,
    tags: Vec<String>,
    edits: bool,
}

#[derive(Template)]
#[template(path = "show.html")]
struct Show {
    frame: Frame,
    resource: &'static Resource,
    id: String,
    title: Fragment,
    fragments: Vec<Fragment>,
    /// Forms whose buttons stand in the parts.
    forms: &'static [extra::PageForm],
    tags: Option<Fragment>,
    edits: bool,
    deletes: bool,
}

fn title(resource: &Resource, object: &Value) -> Result<Fragment, Fault> {
    Fragment::of("title", &Title { title: (resource.title)(object) })
}

fn tags(signed: &Signed, resource: &'static Resource, object: &Value) -> Result<Option<Fragment>, Fault> {
    if !resource.verbs.tags {
        return Ok(None);
    }
    let tags = object["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let tags = Tags { resource, tags, edits: resource.verbs.edit && signed.session.may_write() };
    Ok(Some(Fragment::of("tags", &tags)?))
}

/// All of the page that follows the changes of an object.
pub async fn followed(signed: &Signed, resource: &'static Resource, object: &Value) -> Result<Vec<Fragment>, Fault> {
    let mut all = vec![title(resource, object)?];
    all.extend(fragments(signed, resource, object).await?);
    all.extend(tags(signed, resource, object)?);
    Ok(all)
}

/// The parts between title and tags.
async fn fragments(signed: &Signed, resource: &'static Resource, object: &Value) -> Result<Vec<Fragment>, Fault> {
    let parts = try_join_all(resource.parts.iter().map(|part| part_of(signed, part, object)));
    let (facts, parts, extra) =
        futures::try_join!(facts(signed, resource, object), parts, extra::fragments(signed, resource, object))?;
    let mut fragments = vec![facts];
    // What may pass belongs beside what the port is; who carries a network comes last.
    if resource.extra == Extra::EffectiveRules {
        fragments.extend(extra);
        fragments.extend(parts);
    } else {
        fragments.extend(parts);
        fragments.extend(extra);
    }
    Ok(fragments)
}

async fn facts(signed: &Signed, resource: &'static Resource, object: &Value) -> Result<Fragment, Fault> {
    let columns = table::columns(signed, resource.facts);
    let names = Names::of_columns(&signed.calls, &columns, std::slice::from_ref(object)).await?;
    let cell = |column: &&'static Column| (column.label, Cell::of(resource, column, object, &names));
    Fragment::of("facts", &Facts { facts: columns.iter().map(cell).collect() })
}

async fn part_of(signed: &Signed, part: &'static Part, object: &Value) -> Result<Fragment, Fault> {
    let resource = resource::declared(part.of);
    let value = object[part.with].as_str().unwrap_or_default();
    let by = Query::new().with(part.by, value);
    let listed = by.clone().with("limit", LISTED + 1);
    let mut objects = signed.calls.list(resource.api, resource.plural, &listed).await?;
    complete(&signed.calls, resource, &mut objects).await?;
    let shown = &objects[..objects.len().min(LISTED as usize)];
    let columns: Vec<&'static Column> =
        table::columns(signed, resource.columns).into_iter().filter(|column| column.of != part.by).collect();
    let rows = table::rows(&signed.calls, resource, &columns, shown).await?;
    let filtered = resource.filters.iter().any(|filter| filter.name == part.by);
    let fillable = resource.fields.iter().any(|field| field.name == part.by && field.creates && !field.operator);
    let more = objects.len() > shown.len() && filtered;
    let may = resource.verbs.create && fillable && signed.session.may_write();
    let all = if signed.session.is_admin() { by.clone().with("all", 1) } else { by.clone() };
    let table = Table {
        title: resource.many,
        heads: columns.iter().map(|column| column.label).collect(),
        rows,
        none: format!("No {} here.", resource.plural_words()),
        more: more.then(|| all.after(&resource.list())),
        new: may.then(|| by.after(&format!("{}/new", resource.list()))),
        one: resource.one,
    };
    Fragment::of(format!("part-{}", part.of), &table)
}

/// Asks for the object of an address.
pub async fn object(signed: &Signed, resource: &'static Resource, id: &str) -> Result<Value, Fault> {
    let mut object = signed.calls.one(&resource.api_of(&super::id(id)?), resource.singular).await?;
    complete(&signed.calls, resource, std::slice::from_mut(&mut object)).await?;
    Ok(object)
}

/// The page.
pub async fn page(signed: Signed, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let (kind, id) = path.into_inner();
    let resource = super::kind(&signed, &kind)?;
    let object = object(&signed, resource, &id).await?;
    let fragments = fragments(&signed, resource, &object).await?;
    let id = object["id"].as_str().unwrap_or(&id).to_owned();
    let may_write = signed.session.may_write();
    let here = resource.page_of(&id);
    let (title, tags) = (title(resource, &object)?, tags(&signed, resource, &object)?);
    let frame = Frame::new(&signed, format!("{}: {}", (resource.title)(&object), resource.one), &here);
    let show = Show {
        frame: frame.following(&here, fragments.iter().chain([&title]).chain(&tags)),
        id,
        title,
        fragments,
        forms: if may_write { extra::forms(resource) } else { &[] },
        tags,
        edits: resource.verbs.edit && may_write,
        deletes: resource.verbs.delete && may_write,
        resource,
    };
    page::ok(&show)
}
