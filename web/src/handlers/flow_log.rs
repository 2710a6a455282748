//! The flow log of a port: what it spoke with lately and what was refused, the youngest first, narrowed and paged by what
//! stands in the address. Hosts are asked when the page is, and not again until it is loaded anew.

use super::drops::silent;
use crate::api::{CallError, Query, object};
use crate::cell::{Cell, Link, Names, link_to, time};
use crate::fault::Fault;
use crate::page::{self, Frame, answer};
use crate::resource::text::plain;
use crate::resource::{Column, Shape, declared};
use crate::signed::Signed;
use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::{Value, json};

/// What may be chosen: each with its label.
type Choices = &'static [(&'static str, &'static str)];

/// What can be asked for, under the API's names: label, and what may be chosen; nothing: any text.
const ASKED: [(&str, &str, Choices); 5] = [
    ("verdict", "Verdict", &[("accept", "let through"), ("deny", "refused")]),
    ("direction", "Opened by", &[("egress", "the port"), ("ingress", "the other side")]),
    ("protocol", "Protocol", &[]),
    ("remote_address", "Other side: address or range", &[]),
    ("port_number", "Port number", &[]),
];

/// After what a page begins.
const MARKER: &str = "marker";

/// The rules that let a flow pass.
static RULES: Column = Column::new("", "rules", Shape::References("security-group-rules"));

struct Asked {
    name: &'static str,
    label: &'static str,
    value: String,
    /// Value, label, and whether it is chosen.
    choices: Vec<(&'static str, &'static str, bool)>,
}

#[derive(Debug)]
struct Record {
    flow: String,
    opened_by: &'static str,
    verdict: Cell,
    /// Of the rules that let it pass, those that have a page.
    rules: Cell,
    /// What else is known of who decided.
    decided: String,
    sent: String,
    got: String,
    start: Cell,
    end: Cell,
    ended: &'static str,
}

struct Found {
    records: Vec<Record>,
    silent: Vec<String>,
    left_out: u64,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "port-flow-log.html")]
struct FlowLog {
    frame: Frame,
    port: Link,
    here: String,
    asked: Vec<Asked>,
    narrowed: bool,
    /// The youngest of these, where this page begins later.
    first: Option<String>,
    error: Option<String>,
    found: Option<Found>,
}

/// `10.0.0.9:40000 to 10.0.0.5:443, TCP`
fn flow(record: &Value) -> String {
    let end = |side: &str| match record[format!("{side}_port")].as_u64() {
        Some(number) if number > 0 => format!("{}:{number}", plain(&record[side])),
        _ => plain(&record[side]),
    };
    let of = json!({"protocol": record["protocol"], "port_range_min": record["icmp_type"]});
    format!("{} to {}, {}", end("source"), end("destination"), crate::resource::text::traffic(&of))
}

fn verdict(record: &Value) -> Cell {
    let (word, tone) = match record["verdict"].as_str() {
        Some("accept") => ("let through".to_owned(), "good"),
        Some("deny") => ("refused".to_owned(), "bad"),
        _ => (plain(&record["verdict"]), "off"),
    };
    Cell::Status { word, tone, why: plain(&record["reason"]) }
}

/// The rules of groups that are named, which have pages.
fn of_groups(record: &Value) -> Value {
    let rules = record["rules"].as_array().into_iter().flatten();
    let of_groups = rules.filter(|rule| rule["security_group_id"].is_string());
    json!({"rules": of_groups.map(|rule| &rule["id"]).collect::<Vec<_>>()})
}

/// Who decided, where that is not all said by the rules that have pages.
fn decided(record: &Value) -> String {
    let whose = match record["decided_by"].as_str() {
        Some("port") => "what the port may send",
        Some("bouncer") => "what the port may get",
        Some("peer") => "what the other side may get",
        _ => return "no rules, or it is not known".into(),
    };
    match record["rules"].as_array() {
        None => format!("the rules for {whose}"),
        Some(none) if none.is_empty() => format!("no rule for {whose}"),
        Some(some) if some.iter().any(|rule| rule["security_group_id"].is_null()) => "a label policy".into(),
        Some(_) => String::new(),
    }
}

fn ended(record: &Value) -> &'static str {
    match record["ended"].as_str() {
        None => "it goes on",
        Some("closed") => "it was closed",
        Some("timed_out") => "it was silent for too long",
        Some("denied") => "it was refused",
        Some("revoked") => "it was let through, then refused",
        Some("replaced") => "another took its place",
        Some("evicted") => "its host had no place for it any more",
        Some(_) => "not known",
    }
}

fn counted(record: &Value, way: &str) -> String {
    let number = |what: &str| record[format!("{what}_{way}")].as_u64().unwrap_or_default();
    let packets = number("packets");
    if packets == 0 {
        return "nothing".into();
    }
    let refused = if record["verdict"] == "deny" { ", refused" } else { "" };
    format!("{packets} packet{}, {} B{refused}", if packets == 1 { "" } else { "s" }, number("bytes"))
}

fn record(record: &Value, names: &Names) -> Record {
    Record {
        flow: flow(record),
        opened_by: if record["direction"] == "egress" { "the port" } else { "the other side" },
        verdict: verdict(record),
        rules: Cell::of(declared("ports"), &RULES, &of_groups(record), names),
        decided: decided(record),
        sent: counted(record, "out"),
        got: counted(record, "in"),
        start: time(&record["start"]),
        end: time(&record["end"]),
        ended: ended(record),
    }
}

async fn found(signed: &Signed, log: &Value, asked: &Query, here: &str) -> Result<Found, Fault> {
    let records = log["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mentioned: Vec<Value> = records.iter().map(of_groups).collect();
    let names = Names::of_columns(&signed.calls, &[&RULES], &mentioned).await?;
    let next = log["next_marker"].as_str();
    Ok(Found {
        records: records.iter().map(|one| record(one, &names)).collect(),
        silent: silent(log),
        left_out: log["left_out"].as_u64().unwrap_or_default(),
        next: next.map(|marker| asked.clone().without(MARKER).with(MARKER, marker).after(here)),
    })
}

/// What the address asks for; what it cannot is refused by name.
fn asked(query: &Query) -> Result<Query, Fault> {
    let known = |name: &str| name == MARKER || ASKED.iter().any(|(own, ..)| *own == name);
    if let Some((name, _)) = query.pairs().iter().find(|(name, _)| !known(name)) {
        return Err(Fault::Bad(format!("a flow log has no `{name}`")));
    }
    let pairs = query.pairs().iter().map(|(name, value)| (name, value.trim()));
    Ok(pairs.filter(|(_, value)| !value.is_empty()).fold(Query::new(), |asked, (name, value)| asked.with(name, value)))
}

/// The page.
pub async fn page(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let ports = declared("ports");
    let port = super::show::object(&signed, ports, &path).await?;
    let id = plain(&port["id"]);
    let asked = asked(&Query::parse(request.query_string()))?;
    let here = format!("{}/flow-log", ports.page_of(&id));
    let (mut status, mut error, mut seen) = (StatusCode::OK, None, None);
    match signed.calls.get(&format!("/v2.0/mizar/ports/{id}/flow-log"), &asked).await {
        Ok(answer) => seen = Some(found(&signed, &object(answer, "flow_log")?, &asked, &here).await?),
        Err(CallError::Refused(refused)) if matches!(refused.status, 400 | 403) => {
            status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            error = Some(refused.message);
        }
        Err(error) => return Err(error.into()),
    }
    let first = asked.clone().without(MARKER);
    let fields = ASKED.map(|(name, label, choices)| {
        let value = asked.get(name).unwrap_or_default();
        let choices = choices.iter().map(|(choice, label)| (*choice, *label, *choice == value)).collect();
        Asked { name, label, value: value.to_owned(), choices }
    });
    let title = page::title(status, &format!("Flow log of {}", (ports.title)(&port)));
    let page = FlowLog {
        frame: Frame::new(&signed, title, &here),
        port: link_to(ports, &port),
        asked: fields.into(),
        narrowed: !first.pairs().is_empty(),
        first: asked.get(MARKER).is_some().then(|| first.after(&here)),
        here,
        error,
        found: seen,
    };
    answer(status, &page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> Value {
        json!({
            "direction": "ingress", "source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 6, "source_port": 40_000,
            "destination_port": 443, "icmp_type": null, "verdict": "accept", "reason": null, "decided_by": "bouncer",
            "rules": [{"id": "0123456789", "security_group_id": "g"}, {"id": "p", "security_group_id": null}],
            "packets_out": 1, "bytes_out": 60, "packets_in": 2, "bytes_in": 3_000, "ended": "timed_out",
            "start": "2026-01-31T08:00:00.000Z", "end": "2026-01-31T08:00:01.000Z",
        })
    }

    #[test]
    fn a_record_is_said_in_words() {
        let seen = record(&tcp(), &Names::default());
        assert_eq!((seen.flow.as_str(), seen.opened_by), ("10.0.0.9:40000 to 10.0.0.5:443, TCP", "the other side"));
        assert_eq!(seen.verdict, Cell::Status { word: "let through".into(), tone: "good", why: String::new() });
        assert_eq!((seen.sent.as_str(), seen.got.as_str()), ("1 packet, 60 B", "2 packets, 3000 B"));
        assert_eq!(seen.ended, "it was silent for too long");
        let link = Link { href: "/security-group-rules/0123456789".into(), text: "01234567".into() };
        assert_eq!((seen.rules, seen.decided.as_str()), (Cell::Links(vec![link]), "a label policy"));
    }

    #[test]
    fn who_refused_is_said_and_that_no_rule_let_it_pass() {
        let mut refused = tcp();
        for (name, value) in [
            ("direction", json!("egress")),
            ("protocol", json!(1)),
            ("source_port", Value::Null),
            ("destination_port", Value::Null),
            ("icmp_type", json!(8)),
            ("verdict", json!("deny")),
            ("reason", json!("policy")),
            ("rules", json!([])),
            ("ended", Value::Null),
            ("packets_in", json!(0)),
        ] {
            refused[name] = value;
        }
        let seen = record(&refused, &Names::default());
        assert_eq!((seen.flow.as_str(), seen.opened_by), ("10.0.0.9 to 10.0.0.5, ICMP type 8", "the port"));
        assert_eq!(seen.verdict, Cell::Status { word: "refused".into(), tone: "bad", why: "policy".into() });
        assert_eq!((seen.rules, seen.decided.as_str()), (Cell::Empty, "no rule for what the port may get"));
        assert_eq!((seen.sent.as_str(), seen.got.as_str()), ("1 packet, 60 B, refused", "nothing"));
        assert_eq!(seen.ended, "it goes on");
        let of = |by: Value, rules: Value| decided(&json!({"decided_by": by, "rules": rules}));
        assert_eq!(of(json!("peer"), Value::Null), "the rules for what the other side may get");
        assert_eq!(of(Value::Null, Value::Null), "no rules, or it is not known");
    }

    #[test]
    fn what_is_asked_for_is_what_the_address_says() {
        let query = |text: &str| asked(&Query::parse(text));
        let expected = Query::new().with("verdict", "deny").with("port_number", "443");
        assert_eq!(query("verdict=deny&protocol=&port_number=+443").expect("good"), expected);
        assert!(query("colour=red").is_err_and(|error| error.to_string().contains("`colour`")));
    }
}
