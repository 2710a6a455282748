//! A host as operators look at it: what it should have and has, how full its maps are, its transit roles; and on the
//! overview those of all hosts that need a look.

use super::operator;
use super::overview::{COUNTED, NAMED, Unwell, Unwells, counted};
use crate::api::{CallError, Query};
use crate::cell::{Cell, Link, link_to};
use crate::fault::Fault;
use crate::page::Fragment;
use crate::resource::text::{plain, short};
use crate::resource::{declared, hosts};
use crate::signed::Signed;
use askama::Template;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// The page waits so long for what only the host knows: all else on it is known at once, and one that does not answer is
/// what operators look at first.
const PATIENCE: Duration = Duration::from_secs(1);

/// From this share of a map on, in percent, somebody should look.
const NEARLY: u64 = 80;

/// A host is behind if it lacks something for so many seconds: what changes is there within one.
const BEHIND_S: u32 = 10;

/// Kinds that are counted: as the API calls them, and for people.
const KINDS: [(&str, &str); 3] =
    [("ports", "Ports"), ("bouncers", "Shards it bounces"), ("dividers", "Networks it divides")];

struct Count {
    kind: &'static str,
    desired: i64,
    applied: i64,
}

struct Difference {
    what: String,
    of: Cell,
    state: String,
    why: String,
}

#[derive(Template)]
#[template(path = "applied.html")]
struct Applied {
    counts: Vec<Count>,
    behind: String,
    differences: Vec<Difference>,
    /// Others that are not named.
    more: i64,
}

#[derive(Debug, PartialEq, Eq)]
struct Fill {
    map: String,
    entries: u64,
    most: u64,
    percent: u64,
    /// What is to be said of it: a class of states and its words; nothing while there is room.
    warns: Option<(&'static str, &'static str)>,
}

#[derive(Template)]
#[template(path = "maps.html")]
struct Maps {
    /// Why it is not known.
    unknown: String,
    fills: Vec<Fill>,
}

/// The parts of a host's page beside its facts and ports.
pub async fn fragments(signed: &Signed, host: &Value) -> Result<Vec<Fragment>, Fault> {
    let (id, name) = (plain(&host["id"]), plain(&host["name"]));
    let (applied, maps, roles) =
        futures::try_join!(applied(signed, &id), maps(signed, &id), operator::roles_of(signed, &name))?;
    Ok(vec![applied, maps, roles])
}

async fn applied(signed: &Signed, id: &str) -> Result<Fragment, Fault> {
    let state = signed.calls.one(&format!("{}/state", declared("hosts").api_of(id)), "state").await?;
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let counts = KINDS.map(|(kind, words)| Count {
        kind: words,
        desired: number(&state["desired"][kind]),
        applied: number(&state["applied"][kind]),
    });
    let applied = Applied {
        counts: counts.into(),
        behind: hosts::behind(&state),
        differences: state["difference"].as_array().into_iter().flatten().map(difference).collect(),
        more: number(&state["left_out"]),
    };
    Fragment::of("applied", &applied)
}

/// Something that is not in force, linked to the page of what it is of.
fn difference(one: &Value) -> Difference {
    let (id, name) = (plain(&one["id"]), plain(&one["name"]));
    let link = |path: &'static str, text: String| match id.as_str() {
        // What it was of is gone.
        "" => Cell::Text(text),
        id => Cell::Links(vec![Link { href: declared(path).page_of(id), text }]),
    };
    let (what, of) = match one["what"].as_str() {
        Some("port") => ("port", link("ports", if name.trim().is_empty() { short(&id) } else { name })),
        Some("bouncer") => ("bouncer", link("subnets", format!("subnet {}, {name}", short(&id)))),
        Some("divider") => ("divider", link("networks", format!("network {}", short(&id)))),
        _ => ("entry", Cell::Code(format!("{name} {id}"))),
    };
    Difference { what: what.into(), of, state: plain(&one["state"]), why: plain(&one["why"]) }
}

async fn maps(signed: &Signed, id: &str) -> Result<Fragment, Fault> {
    let path = format!("{}/maps", declared("hosts").api_of(id));
    let maps = match timeout(PATIENCE, signed.calls.one(&path, "maps")).await {
        Ok(told) => {
            let told = told?;
            let fills = told["maps"].as_array().into_iter().flatten().map(fill).collect();
            Maps { unknown: plain(&told["error"]), fills }
        }
        Err(_) => Maps { unknown: format!("it has not answered within {} s", PATIENCE.as_secs()), fills: Vec::new() },
    };
    Fragment::of("maps", &maps)
}

fn fill(map: &Value) -> Fill {
    let number = |name: &str| map[name].as_u64().unwrap_or_default();
    let (entries, most) = (number("entries"), number("most").max(1));
    let percent = entries.saturating_mul(100) / most;
    let warns = match percent {
        100.. => Some(("bad", "full")),
        NEARLY.. => Some(("wait", "nearly full")),
        _ => None,
    };
    Fill { map: plain(&map["map"]), entries, most, percent, warns }
}

/// Hosts that somebody should look at, the worst first: by what the list is narrowed to, the word, its class, and what is
/// said of each.
type Look = (&'static str, String, &'static str, &'static str, fn(&Value) -> String);

/// Those of the cloud, for its operators.
pub async fn unwell(signed: &Signed) -> Result<Fragment, Fault> {
    let of = declared("hosts");
    let looks: [Look; 3] = [
        ("alive", "false".into(), "silent", "bad", |host| format!("heard of {}", hosts::heard(host))),
        ("failing", "true".into(), "failing", "bad", |host| hosts::failures(&host["failures"])),
        ("behind_s", BEHIND_S.to_string(), "behind", "wait", |host| format!("lacks {}", hosts::behind(host))),
    ];
    let asked = looks.map(|look| async move {
        let query = Query::new().with(look.0, &look.1).with("limit", COUNTED + 1);
        let query = query.with("sort_key", "seen_at").with("sort_dir", "asc");
        let found = signed.calls.list(of.api, of.plural, &query).await?;
        Ok::<_, CallError>((look, found))
    });
    let mut states = Vec::new();
    for ((filter, value, word, tone, why), found) in futures::future::try_join_all(asked).await? {
        if found.is_empty() {
            continue;
        }
        states.push(Unwell {
            cell: Cell::Status { word: word.into(), tone, why: String::new() },
            count: counted(found.len()),
            all: Query::new().with(filter, value).after(&of.list()),
            named: found.iter().take(NAMED).map(|host| (link_to(of, host), why(host))).collect(),
        });
    }
    let none = format!(
        "None: each is heard of, has applied what it was told, and lacks nothing for longer than {BEHIND_S} seconds."
    );
    Fragment::of("hosts", &Unwells { title: "Hosts that need a look", none, states })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_map_warns_before_it_is_full() {
        let warns = |entries: u64, most: u64| {
            let fill = fill(&json!({"map": "EP", "entries": entries, "most": most}));
            (fill.percent, fill.warns.map(|(_, words)| words))
        };
        assert_eq!(warns(0, 8), (0, None));
        assert_eq!(warns(799, 1_000), (79, None));
        assert_eq!(warns(800, 1_000), (80, Some("nearly full")));
        assert_eq!(warns(999, 1_000), (99, Some("nearly full")));
        assert_eq!(warns(1_048_576, 1_048_576), (100, Some("full")));
    }

    #[test]
    fn what_differs_leads_to_what_it_is_of() {
        let id = "6f1c2f60-0000-4000-8000-000000000001";
        let of = |what: &str, id: &str, name: &str| {
            difference(&json!({"what": what, "id": id, "name": name, "state": "x", "why": "y"})).of
        };
        let link = |href: &str, text: &str| Cell::Links(vec![Link { href: href.into(), text: text.into() }]);
        assert_eq!(of("port", id, "web"), link(&format!("/ports/{id}"), "web"));
        assert_eq!(of("port", id, " "), link(&format!("/ports/{id}"), "6f1c2f60"));
        assert_eq!(of("bouncer", id, "slots 0 to 7"), link(&format!("/subnets/{id}"), "subnet 6f1c2f60, slots 0 to 7"));
        assert_eq!(of("divider", id, ""), link(&format!("/networks/{id}"), "network 6f1c2f60"));
        assert_eq!(of("divider", "", ""), Cell::Text("network ".into()));
        assert_eq!(of("entry", "0a", "Bounce of Subnet(7)"), Cell::Code("Bounce of Subnet(7) 0a".into()));
    }
}
