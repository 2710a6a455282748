//! The first page: what of the quotas is used, which ports are not well and why, what has changed.

use super::host;
use super::table::{self, Table};
use crate::api::{CallError, Query};
use crate::cell::{Cell, Link, Names, link_to};
use crate::fault::Fault;
use crate::page::{self, Fragment, Frame};
use crate::resource::text::plain;
use crate::resource::{Column, Resource, declared};
use crate::signed::Signed;
use actix_web::HttpResponse;
use askama::Template;
use serde_json::Value;

/// Quotas that are shown: the API's name, and the kind.
const QUOTAS: [(&str, &str); 7] = [
    ("network", "networks"),
    ("subnet", "subnets"),
    ("port", "ports"),
    ("security_group", "security-groups"),
    ("router", "routers"),
    ("floatingip", "floating-ips"),
    ("subnetpool", "subnet-pools"),
];

/// States of ports that somebody should look at, the worst first.
const UNWELL: [&str; 3] = ["ERROR", "BUILD", "DOWN"];

/// So many ports or hosts of a state are counted.
pub const COUNTED: usize = 100;

/// So many are named.
pub const NAMED: usize = 5;

/// So many changes are shown.
const CHANGES: u32 = 10;

/// How full a quota is.
#[derive(Debug, PartialEq, Eq)]
struct Bar {
    link: Link,
    used: i64,
    /// None: there is no limit.
    limit: Option<i64>,
    tone: &'static str,
}

impl Bar {
    fn of(resource: &Resource, detail: &Value) -> Option<Self> {
        let (used, limit) = (detail["used"].as_i64()?, detail["limit"].as_i64()?);
        let limit = (limit >= 0).then_some(limit);
        let tone = match limit {
            Some(limit) if used >= limit => "full",
            Some(limit) if used * 5 >= limit * 4 => "nearly full",
            _ => "",
        };
        Some(Self { link: Link { href: resource.list(), text: resource.many.into() }, used, limit, tone })
    }
}

#[derive(Template)]
#[template(path = "quotas.html")]
struct Quotas {
    bars: Vec<Bar>,
}

/// Some that are not well, and are so in the same way.
pub struct Unwell {
    /// In which.
    pub cell: Cell,
    /// How many.
    pub count: String,
    /// Where all of them are.
    pub all: String,
    /// The first of them, and why.
    pub named: Vec<(Link, String)>,
}

/// What is not well.
#[derive(Template)]
#[template(path = "unwell.html")]
pub struct Unwells {
    /// Headline.
    pub title: &'static str,
    /// What is read where all is well.
    pub none: String,
    /// The worst first.
    pub states: Vec<Unwell>,
}

/// How many were found, where one more than are counted was asked for.
pub fn counted(found: usize) -> String {
    if found > COUNTED { format!("more than {COUNTED}") } else { found.to_string() }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    fragments: Vec<Fragment>,
    is_empty: bool,
}

async fn quotas(signed: &Signed) -> Result<(Fragment, bool), Fault> {
    let path = format!("/v2.0/quotas/{}/details", signed.project.id);
    let details = signed.calls.one(&path, "quota").await?;
    let bars: Vec<Bar> = QUOTAS.iter().filter_map(|(name, kind)| Bar::of(declared(kind), &details[*name])).collect();
    let is_empty = details["network"]["used"] == 0;
    Ok((Fragment::of("quotas", &Quotas { bars })?, is_empty))
}

async fn health(signed: &Signed) -> Result<Fragment, Fault> {
    let ports = declared("ports");
    let of = |status: &'static str| async move {
        let query =
            Query::new().with("status", status).with("project_id", &signed.project.id).with("limit", COUNTED + 1);
        let fields = query.with_each("fields", ["id", "name", "status", "mizar:status_reason"]);
        let found = signed.calls.list(ports.api, ports.plural, &fields).await?;
        Ok::<_, CallError>((status, found))
    };
    let mut states = Vec::new();
    for (status, found) in futures::future::try_join_all(UNWELL.map(of)).await? {
        let Some(first) = found.first() else { continue };
        let column = Column::new("", "status", crate::resource::Shape::Status);
        let without_reason = serde_json::json!({"status": first["status"]});
        states.push(Unwell {
            cell: Cell::of(ports, &column, &without_reason, &Names::default()),
            count: counted(found.len()),
            all: Query::new().with("status", status).after(&ports.list()),
            named: found.iter().take(NAMED).map(|port| (link_to(ports, port), why(port))).collect(),
        });
    }
    Fragment::of("health", &Unwells { title: "Ports that are not active", none: "None.".into(), states })
}

/// Why a port is not ACTIVE, in the API's words or in those of the states.
fn why(port: &Value) -> String {
    let said = plain(&port["mizar:status_reason"]);
    match port["status"].as_str() {
        _ if !said.is_empty() => said,
        Some("BUILD") => "its host is setting it up".into(),
        Some("DOWN") => "on no host, switched off, or its host is not heard of".into(),
        _ => String::new(),
    }
}

/// What was done last to objects of the project.
async fn changes(signed: &Signed) -> Result<Fragment, Fault> {
    let audit = declared("audit");
    let query = Query::new().with("project_id", &signed.project.id).with("limit", CHANGES + 1);
    let query = query.with("sort_key", "at").with("sort_dir", "desc");
    let mut events = signed.calls.list(audit.api, audit.plural, &query).await?;
    let more = events.len() > CHANGES as usize;
    events.truncate(CHANGES as usize);
    let columns = table::columns(signed, audit.columns);
    let changes = Table {
        title: "Recent changes",
        heads: columns.iter().map(|column| column.label).collect(),
        rows: table::rows(&signed.calls, audit, &columns, &events).await?,
        none: "None.".into(),
        more: more.then(|| audit.list()),
        new: None,
        one: audit.one,
    };
    Fragment::of("changes", &changes)
}

async fn parts(signed: &Signed) -> Result<(Vec<Fragment>, bool), Fault> {
    let hosts = async { if signed.session.is_admin() { host::unwell(signed).await.map(Some) } else { Ok(None) } };
    let ((quotas, is_empty), hosts, health, changes) =
        futures::try_join!(quotas(signed), hosts, health(signed), changes(signed))?;
    Ok(([Some(quotas), hosts, Some(health), Some(changes)].into_iter().flatten().collect(), is_empty))
}

/// The parts of the page that follow changes.
pub async fn fragments(signed: &Signed) -> Result<Vec<Fragment>, Fault> {
    Ok(parts(signed).await?.0)
}

/// The page.
pub async fn page(signed: Signed) -> Result<HttpResponse, Fault> {
    let (fragments, is_empty) = parts(&signed).await?;
    page::ok(&Overview { frame: Frame::new(&signed, "Overview", "/").following("/", &fragments), fragments, is_empty })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quota_says_when_it_is_nearly_full() {
        let of = |used: i64, limit: i64| {
            let bar = Bar::of(declared("ports"), &json!({"used": used, "limit": limit})).expect("numbers");
            (bar.limit, bar.tone)
        };
        assert_eq!(of(3, 10), (Some(10), ""));
        assert_eq!(of(8, 10), (Some(10), "nearly full"));
        assert_eq!(of(10, 10), (Some(10), "full"));
        assert_eq!(of(0, 0), (Some(0), "full"));
        assert_eq!(of(500, -1), (None, ""));
    }

    #[test]
    fn a_port_that_is_not_well_says_why() {
        assert_eq!(why(&json!({"status": "ERROR", "mizar:status_reason": "no host"})), "no host");
        assert!(why(&json!({"status": "BUILD", "mizar:status_reason": ""})).contains("setting it up"));
    }
}
