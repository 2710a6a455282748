//! Lists: narrowed, sorted and paged by what stands in the address, so that a list can be passed on.

use super::table::{self, Row};
use crate::api::{Query, objects};
use crate::cell::complete;
use crate::fault::Fault;
use crate::page::{self, Fragment, Frame};
use crate::resource::Resource;
use crate::signed::Signed;
use actix_web::http::uri::PathAndQuery;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::Value;

/// Rows of a page, to choose from; the first is usual. All of a page can be deleted at once (`delete::AT_ONCE`).
const SIZES: [u32; 3] = [50, 25, 100];

/// What a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    filters: Vec<(&'static str, String)>,
    sort: Option<&'static str>,
    descends: bool,
    size: u32,
    marker: Option<String>,
    reverse: bool,
    /// Of every project, for administrators.
    all: bool,
}

impl Ask {
    /// Reads it from an address; what no list has is refused.
    pub fn parse(resource: &Resource, query: &Query) -> Result<Self, Fault> {
        let mut ask = Self {
            filters: Vec::new(),
            sort: None,
            descends: false,
            size: SIZES[0],
            marker: None,
            reverse: false,
            all: false,
        };
        for (name, value) in query.pairs() {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            let wrong = |what: &str| Fault::Bad(format!("`{name}` of the address is {what}"));
            match name.as_str() {
                "sort" => {
                    let column = resource.columns.iter().find(|column| column.sorts && column.of == value);
                    ask.sort = Some(column.ok_or_else(|| wrong("not a column to sort by"))?.of);
                }
                "dir" if matches!(value, "asc" | "desc") => ask.descends = value == "desc",
                "size" => {
                    let size = value.parse().ok().filter(|size| SIZES.contains(size));
                    ask.size = size.ok_or_else(|| wrong("not a number of rows to choose"))?;
                }
                "marker" => ask.marker = Some(super::id(value).map_err(|_| wrong("not an id"))?),
                "back" if value == "1" => ask.reverse = true,
                "all" if value == "1" => ask.all = true,
                _ => {
                    let filter = resource.filters.iter().find(|filter| filter.name == name);
                    let filter =
                        filter.ok_or_else(|| Fault::Bad(format!("a list of {} has no `{name}`", resource.many)))?;
                    if !filter.choices.is_empty() && !filter.choices.contains(&value) {
                        return Err(wrong("none of its choices"));
                    }
                    ask.filters.push((filter.name, value.to_owned()));
                }
            }
        }
        Ok(ask)
    }

    /// What the API is asked for.
    pub(super) fn of_api(&self, resource: &Resource, project: &str, admin: bool) -> Query {
        let mut query = Query::new().with("limit", self.size);
        for (name, value) in &self.filters {
            let filter = resource.filters.iter().find(|filter| filter.name == *name);
            query = query.with(name, filter.map_or_else(|| value.clone(), |filter| filter.of_api(value)));
        }
        if let Some(sort) = self.sort {
            query = query.with("sort_key", sort).with("sort_dir", if self.descends { "desc" } else { "asc" });
        } else if let Some((key, dir)) = resource.order {
            query = query.with("sort_key", key).with("sort_dir", dir);
        }
        if let Some(marker) = &self.marker {
            query = query.with("marker", marker);
        }
        if self.reverse {
            query = query.with("page_reverse", "true");
        }
        let named = self.filters.iter().any(|(name, _)| *name == "project_id");
        if admin && !self.all && !named && !resource.verbs.operator {
            query = query.with("project_id", project);
        }
        query
    }

    /// The address of the same list.
    pub(super) fn query(&self) -> Query {
        let mut query = Query::new();
        for (name, value) in &self.filters {
            query = query.with(name, value);
        }
        if let Some(sort) = self.sort {
            query = query.with("sort", sort);
        }
        if self.descends {
            query = query.with("dir", "desc");
        }
        if self.size != SIZES[0] {
            query = query.with("size", self.size);
        }
        if self.all {
            query = query.with("all", 1);
        }
        query
    }

    /// Whether it begins after something.
    pub(super) const fn is_later(&self) -> bool {
        self.marker.is_some()
    }

    /// The query of another page of it, from a link of the API.
    pub(super) fn paged(&self, resource: &Resource, answer: &Value, rel: &str) -> Option<Query> {
        let links = answer[format!("{}_links", resource.plural)].as_array()?;
        let href = links.iter().find(|link| link["rel"] == rel)?["href"].as_str()?;
        let asked = Query::parse(href.split_once('?')?.1);
        let mut query = self.query().with("marker", asked.get("marker")?);
        if asked.get("page_reverse").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            query = query.with("back", 1);
        }
        Some(query)
    }
}

struct Head {
    label: &'static str,
    href: Option<String>,
    /// For `aria-sort`.
    sorted: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "rows.html")]
struct Rows {
    resource: &'static Resource,
    heads: Vec<Head>,
    rows: Vec<Row>,
    chooses: bool,
    narrowed: bool,
    may_write: bool,
    previous: Option<String>,
    next: Option<String>,
}

struct Narrow {
    name: &'static str,
    label: &'static str,
    value: String,
    choices: Vec<(&'static str, bool)>,
}

#[derive(Template)]
#[template(path = "list.html")]
struct List {
    frame: Frame,
    resource: &'static Resource,
    narrows: Vec<Narrow>,
    sizes: Vec<(u32, bool)>,
    sort: Option<&'static str>,
    descends: bool,
    all: bool,
    admin: bool,
    /// The filters are shown at once.
    opened: bool,
    rows: Fragment,
}

/// The rows of a list.
pub async fn fragment(signed: &Signed, resource: &'static Resource, ask: &Ask) -> Result<Fragment, Fault> {
    let admin = signed.session.is_admin();
    let mut answer = signed.calls.get(resource.api, &ask.of_api(resource, &signed.project.id, admin)).await?;
    let mut found = objects(&mut answer, resource.plural)?;
    complete(&signed.calls, resource, &mut found).await?;
    let columns = table::columns(signed, resource.columns);
    let rows = table::rows(&signed.calls, resource, &columns, &found).await?;
    let heads = columns.iter().map(|column| {
        let is_sorted = ask.sort == Some(column.of);
        let other_way = Ask { sort: Some(column.of), descends: is_sorted && !ask.descends, ..ask.clone() };
        Head {
            label: column.label,
            href: column.sorts.then(|| other_way.query().after(&resource.list())),
            sorted: is_sorted.then_some(if ask.descends { "descending" } else { "ascending" }),
        }
    });
    let rows = Rows {
        resource,
        heads: heads.collect(),
        rows,
        chooses: resource.verbs.delete && signed.session.may_write(),
        narrowed: !ask.filters.is_empty(),
        may_write: signed.session.may_write(),
        previous: ask.paged(resource, &answer, "previous").map(|query| query.after(&resource.list())),
        next: ask.paged(resource, &answer, "next").map(|query| query.after(&resource.list())),
    };
    Fragment::of("rows", &rows)
}

/// A list.
pub async fn page(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let resource = super::kind(&signed, &path)?;
    let ask = Ask::parse(resource, &Query::parse(request.query_string()))?;
    let rows = match fragment(&signed, resource, &ask).await {
        // What the page began after was deleted: the list begins anew.
        Err(Fault::NotFound) if ask.marker.is_some() => return Ok(page::go(&ask.query().after(&resource.list()))),
        other => other?,
    };
    let admin = signed.session.is_admin();
    let narrows = resource.filters.iter().filter(|filter| admin || !filter.operator).map(|filter| {
        let value = ask.filters.iter().find(|(name, _)| *name == filter.name).map(|(_, value)| value.clone());
        let value = value.unwrap_or_default();
        let choices = filter.choices.iter().map(|choice| (*choice, *choice == value)).collect();
        Narrow { name: filter.name, label: filter.label, value, choices }
    });
    let list = List {
        narrows: narrows.collect(),
        sizes: SIZES.iter().map(|size| (*size, *size == ask.size)).collect(),
        sort: ask.sort,
        descends: ask.descends,
        all: ask.all,
        opened: ask.all || !ask.filters.is_empty(),
        admin: admin && !resource.verbs.operator,
        frame: Frame::new(&signed, resource.many, &resource.list())
            .following(request.uri().path_and_query().map_or("/", PathAndQuery::as_str), [&rows]),
        resource,
        rows,
    };
    page::ok(&list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::declared;
    use serde_json::json;

    fn ask(query: &str) -> Result<Ask, Fault> {
        Ask::parse(declared("ports"), &Query::parse(query))
    }

    #[test]
    fn a_list_is_what_its_address_says() {
        let query = "status=ACTIVE&sort=name&dir=desc&size=100&all=1";
        let asked = ask(query).expect("good");
        assert_eq!(asked.query().after("/ports"), format!("/ports?{query}"));
        assert_eq!(
            asked.of_api(declared("ports"), "p", true),
            Query::parse("limit=100&status=ACTIVE&sort_key=name&sort_dir=desc")
        );
    }

    #[test]
    fn a_whole_page_can_be_deleted_at_once() {
        assert!(SIZES.iter().all(|size| *size as usize <= super::super::delete::AT_ONCE));
    }

    #[test]
    fn an_administrator_sees_his_project_until_he_asks_for_all() {
        let of = |query: &str, admin| {
            ask(query).expect("good").of_api(declared("ports"), "p", admin).get("project_id").map(str::to_owned)
        };
        assert_eq!(of("", true).as_deref(), Some("p"));
        assert_eq!(of("all=1", true), None);
        assert_eq!(of("", false), None, "a tenant also sees what others share");
    }

    #[test]
    fn what_no_list_has_is_refused_by_name() {
        for (query, named) in [
            ("colour=red", "`colour`"),
            ("sort=colour", "`sort`"),
            ("sort=fixed_ips", "`sort`"),
            ("dir=up", "`dir`"),
            ("size=7", "`size`"),
            ("marker=x", "`marker`"),
            ("status=GONE", "`status`"),
            ("back=yes", "`back`"),
        ] {
            let error = ask(query).expect_err(query).to_string();
            assert!(error.contains(named), "{query}: {error}");
        }
        assert_eq!(ask("name=&status=").expect("empty filters are none"), ask("").expect("good"));
    }

    #[test]
    fn the_next_page_keeps_what_was_asked_for() {
        let asked = ask("status=DOWN&sort=name").expect("good");
        let id = "6f1c2f60-0000-4000-8000-000000000001";
        let answer = json!({"ports_links": [
            {"rel": "next", "href": format!("http://x/v2.0/ports?limit=50&marker={id}")},
            {"rel": "previous", "href": format!("http://x/v2.0/ports?limit=50&marker={id}&page_reverse=True")}]});
        let paged = |rel| Some(asked.paged(declared("ports"), &answer, rel)?.after("/ports"));
        assert_eq!(paged("next"), Some(format!("/ports?status=DOWN&sort=name&marker={id}")));
        assert_eq!(paged("previous"), Some(format!("/ports?status=DOWN&sort=name&marker={id}&back=1")));
        assert_eq!(asked.paged(declared("ports"), &json!({}), "next"), None);
    }
}
