//! Transit roles, for operators: who holds which, and whether roles can be placed at present.

use super::list;
use crate::api::{Query, object, objects};
use crate::cell::{Cell, Link, Names, time};
use crate::fault::Fault;
use crate::page::{self, Fragment, Frame};
use crate::resource::text::plain;
use crate::resource::{Column, Shape, declared};
use crate::signed::Signed;
use actix_web::http::uri::PathAndQuery;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::Value;
use std::collections::HashMap;

const ROLES: &str = "/v2.0/mizar/roles";

/// How many hosts have, in the API.
const COUNTS: &str = "/v2.0/mizar/role-counts";

/// The page of the matrix.
const PAGE: &str = "/roles";

/// What a role is of.
static OF_SUBNET: Column = Column::new("", "subnet_id", Shape::Reference("subnets"));
static OF_NETWORK: Column = Column::new("", "network_id", Shape::Reference("networks"));

/// Columns of the matrix: a role in a state.
const KINDS: [(&str, &str); 6] = [
    ("bouncer", "active"),
    ("bouncer", "pending"),
    ("bouncer", "draining"),
    ("divider", "active"),
    ("divider", "pending"),
    ("divider", "draining"),
];

/// Roles that a page names; of others it is said that they are there.
const NAMED: usize = 100;

struct HostRow {
    host: Link,
    lease: Cell,
    transit: String,
    counts: [u64; KINDS.len()],
}

#[derive(Template)]
#[template(path = "matrix.html")]
struct Matrix {
    state: String,
    tone: &'static str,
    reason: String,
    kinds: [(&'static str, &'static str); 6],
    rows: Vec<HostRow>,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "roles.html")]
struct Roles {
    frame: Frame,
    matrix: Fragment,
}

struct Holding {
    host: Link,
    role: String,
    state: String,
    slots: String,
    of: Option<Link>,
    since: Cell,
}

#[derive(Template)]
#[template(path = "holdings.html")]
struct Holdings {
    title: &'static str,
    none: &'static str,
    by_host: bool,
    holdings: Vec<Holding>,
    /// There are others that are not named.
    more: bool,
}

/// Which hosts a page of the matrix is asked for: as a list of hosts is.
pub fn asked(signed: &Signed, query: &Query) -> Result<list::Ask, Fault> {
    if !signed.session.is_admin() {
        return Err(Fault::NotFound);
    }
    list::Ask::parse(declared("hosts"), query)
}

/// Which host has how many roles of each kind, a page of hosts at a time.
pub async fn matrix(signed: &Signed, ask: &list::Ask) -> Result<Fragment, Fault> {
    let (none, of) = (Query::new(), declared("hosts"));
    let wanted = ask.of_api(of, &signed.project.id, true);
    let (mut answer, placement) =
        futures::try_join!(signed.calls.get(of.api, &wanted), signed.calls.get("/v2.0/mizar/placement", &none))?;
    let (hosts, placement) = (objects(&mut answer, of.plural)?, object(placement, "placement")?);
    let roles = match hosts.as_slice() {
        [] => Vec::new(),
        some => {
            let query = Query::new().with_each("host", some.iter().map(|host| plain(&host["name"])));
            signed.calls.list(COUNTS, "role_counts", &query).await?
        }
    };
    let counts = counts(&roles);
    let rows = hosts.iter().map(|host| HostRow {
        host: crate::cell::link_to(of, host),
        lease: Cell::of(of, &Column::new("", "alive", Shape::Status), host, &Names::default()),
        transit: plain(&host["transit"]),
        counts: host["name"].as_str().and_then(|name| counts.get(name)).copied().unwrap_or_default(),
    });
    let state = plain(&placement["state"]);
    let matrix = Matrix {
        tone: if state == "normal" { "good" } else { "bad" },
        reason: plain(&placement["reason"]),
        state,
        kinds: KINDS,
        rows: rows.collect(),
        previous: ask.paged(of, &answer, "previous").map(|query| query.after(PAGE)),
        next: ask.paged(of, &answer, "next").map(|query| query.after(PAGE)),
    };
    Fragment::of("matrix", &matrix)
}

/// How many roles of each kind a host has, by its name.
fn counts(roles: &[Value]) -> HashMap<&str, [u64; KINDS.len()]> {
    let mut counts: HashMap<&str, [u64; KINDS.len()]> = HashMap::new();
    for role in roles {
        let (Some(host), Some(kind), Some(state)) =
            (role["host"].as_str(), role["role"].as_str(), role["state"].as_str())
        else {
            continue;
        };
        if let Some(at) = KINDS.iter().position(|known| *known == (kind, state)) {
            counts.entry(host).or_default()[at] = role["count"].as_u64().unwrap_or_default();
        }
    }
    counts
}

/// The page of the matrix.
pub async fn roles(signed: Signed, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let ask = asked(&signed, &Query::parse(request.query_string()))?;
    let matrix = match matrix(&signed, &ask).await {
        // The host that the page began after is gone: it begins anew.
        Err(Fault::NotFound) if ask.is_later() => return Ok(page::go(&ask.query().after(PAGE))),
        other => other?,
    };
    let here = request.uri().path_and_query().map_or(PAGE, PathAndQuery::as_str);
    page::ok(&Roles { frame: Frame::new(&signed, "Transit roles", PAGE).following(here, [&matrix]), matrix })
}

/// Who holds the roles of a network.
pub async fn holders(signed: &Signed, network: &str) -> Result<Fragment, Fault> {
    let query = Query::new().with("network_id", network).with("limit", NAMED + 1);
    let roles = signed.calls.list(ROLES, "roles", &query).await?;
    let none = "Nobody yet: roles are placed once hosts with transit are there.";
    holdings(signed, "Who bounces and divides", none, true, roles).await
}

/// The roles of a host.
pub async fn roles_of(signed: &Signed, host: &str) -> Result<Fragment, Fault> {
    let query = Query::new().with("host", host).with("limit", NAMED + 1);
    let roles = signed.calls.list(ROLES, "roles", &query).await?;
    holdings(signed, "Transit roles", "None.", false, roles).await
}

async fn holdings(
    signed: &Signed,
    title: &'static str,
    none: &'static str,
    by_host: bool,
    roles: Vec<Value>,
) -> Result<Fragment, Fault> {
    let (roles, more) = first(roles);
    let names = Names::of_columns(&signed.calls, &[&OF_SUBNET, &OF_NETWORK], &roles).await?;
    let holdings = roles.iter().map(|role| holding(role, &names)).collect();
    Fragment::of("holders", &Holdings { title, none, by_host, holdings, more })
}

/// The first of them, and whether there are others.
fn first(mut roles: Vec<Value>) -> (Vec<Value>, bool) {
    let text = |role: &Value, name: &str| plain(&role[name]);
    roles.sort_by_cached_key(|role| {
        (text(role, "role"), text(role, "subnet_id"), role["first_slot"].as_i64(), text(role, "host"))
    });
    let more = roles.len() > NAMED;
    roles.truncate(NAMED);
    (roles, more)
}

fn holding(role: &Value, names: &Names) -> Holding {
    let slots = match (role["first_slot"].as_i64(), role["last_slot"].as_i64()) {
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => String::new(),
    };
    let of = match (role["subnet_id"].as_str(), role["network_id"].as_str()) {
        (Some(id), _) => Some(("subnets", id)),
        (None, Some(id)) => Some(("networks", id)),
        _ => None,
    };
    Holding {
        host: crate::cell::host(plain(&role["host"])),
        role: plain(&role["role"]),
        state: plain(&role["state"]),
        slots,
        of: of.map(|(path, id)| Link { href: declared(path).page_of(id), text: names.of(path, id).to_owned() }),
        since: time(&role["since"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_are_counted_by_host_and_state() {
        let role = |host: &str, role: &str, state: &str, count: u64| json!({"host": host, "role": role, "state": state, "count": count});
        let roles = [
            role("h1", "bouncer", "active", 2),
            role("h1", "divider", "draining", 1),
            role("h2", "bouncer", "active", 1),
        ];
        let counts = counts(&roles);
        assert_eq!(counts.get("h1"), Some(&[2, 0, 0, 0, 0, 1]));
        assert_eq!((counts.get("h2"), counts.get("h3")), (Some(&[1, 0, 0, 0, 0, 0]), None));
    }

    #[test]
    fn of_many_roles_some_are_named_and_it_is_said_that_there_are_others() {
        let role = |slot: usize| json!({"host": "h1", "role": "bouncer", "state": "active", "first_slot": slot, "last_slot": slot});
        let roles: Vec<Value> = (0..NAMED + 7).map(role).collect();
        let (named, more) = first(roles.clone());
        assert_eq!((named.len(), more), (NAMED, true));
        assert!(!first(roles[..NAMED].to_vec()).1);
    }
}
