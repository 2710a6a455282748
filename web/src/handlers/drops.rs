//! What hosts drop, and why: of a port, for its project; of a host, for operators. Hosts are asked when the page
//! is, and again as long as it follows changes.
//!
//! Hosts keep counts and no history. So the chart of the page begins when the page does: each time it is renewed it
//! gets the sums beside the table ([`counted`]) and draws how they grow (`static/chart.js`).

use crate::cell::{Cell, Link, Names, link_to, time};
use crate::fault::Fault;
use crate::page::{self, Fragment, Frame};
use crate::resource::text::plain;
use crate::resource::{Column, Resource, Shape};
use crate::signed::Signed;
use actix_web::HttpResponse;
use actix_web::web::Path;
use askama::Template;
use chrono::Utc;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of whose packets a host counted.
static OF_PORT: Column = Column::new("", "port_id", Shape::Reference("ports"));

struct Sample {
    at: Cell,
    packet: String,
}

struct Reason {
    reason: String,
    about: String,
    packets: u64,
    /// Seen by whom, or of which port.
    side: Cell,
    samples: Vec<Sample>,
}

#[derive(Template)]
#[template(path = "dropped.html")]
struct Dropped {
    side: &'static str,
    /// Hosts that did not answer, and why.
    silent: Vec<String>,
    most: u64,
    reasons: Vec<Reason>,
    /// For the chart.
    counted: Value,
}

#[derive(Template)]
#[template(path = "drops.html")]
struct Drops {
    frame: Frame,
    of: Link,
    /// Where the flows are that were refused; only ports have a log.
    log: Option<String>,
    many: Link,
    counts: Fragment,
}

fn sample(sample: &Value) -> Sample {
    let end = |address: &str, port: &str| match sample[port].as_u64() {
        Some(number) if number > 0 => format!("{}:{number}", plain(&sample[address])),
        _ => plain(&sample[address]),
    };
    let packet = match sample["source"].is_null() {
        true => "not an IPv4 packet".to_owned(),
        false => {
            let (from, to) = (end("source", "source_port"), end("destination", "destination_port"));
            format!("{from} to {to}, protocol {}", plain(&sample["protocol"]))
        }
    };
    Sample { at: time(&sample["at"]), packet }
}

fn reasons(drops: &Value, side: impl Fn(&Value) -> Cell) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = drops["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reason| Reason {
            reason: plain(&reason["reason"]),
            about: plain(&reason["about"]),
            packets: reason["packets"].as_u64().unwrap_or_default(),
            side: side(reason),
            samples: reason["samples"].as_array().into_iter().flatten().map(sample).collect(),
        })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.packets));
    reasons
}

/// Role and, for operators, name of a host.
fn host(value: &Value) -> String {
    let role = if value["role"] == "port" { "the port's host" } else { "a bouncer of its addresses" };
    match value["host"].as_str() {
        Some(name) => format!("{name}, {role}"),
        None => role.to_owned(),
    }
}

/// Those whom the API asked.
fn hosts(drops: &Value) -> Vec<&Value> {
    match drops["hosts"].as_array() {
        Some(hosts) => hosts.iter().collect(),
        // A host's own drops: it alone was asked.
        None => vec![drops],
    }
}

/// Those who did not answer, and why.
pub(super) fn silent(told: &Value) -> Vec<String> {
    let silent = told["hosts"].as_array().into_iter().flatten().filter(|asked| asked["error"].is_string());
    silent.map(|asked| format!("{}: {}", host(asked), plain(&asked["error"]))).collect()
}

/// What the chart is drawn from: when it was counted, by whom, and the packets by reason. Where somebody is silent
/// nobody's sum is known, which `by` says by being null.
fn counted(drops: &Value, at_ms: i64) -> Value {
    let asked = hosts(drops);
    let whole = asked.iter().all(|asked| asked["error"].is_null());
    let by: Vec<String> =
        asked.iter().map(|asked| format!("{} {}", plain(&asked["role"]), plain(&asked["host"]))).collect();
    let mut packets: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in drops["reasons"].as_array().into_iter().flatten() {
        let name = reason["reason"].as_str().unwrap_or_default();
        *packets.entry(name).or_default() += reason["packets"].as_u64().unwrap_or_default();
    }
    json!({"at": at_ms, "by": whole.then(|| by.join(", ")), "packets": packets})
}

/// Where the API tells of what is dropped; only of ports and hosts it does.
fn api(resource: &Resource, id: &str) -> Result<String, Fault> {
    match resource.path {
        "ports" => Ok(format!("/v2.0/mizar/ports/{id}/drops")),
        "hosts" => Ok(format!("/v2.0/mizar/hosts/{id}/drops")),
        _ => Err(Fault::NotFound),
    }
}

/// The counts, of a port or of a host.
pub async fn fragment(signed: &Signed, resource: &'static Resource, id: &str) -> Result<Fragment, Fault> {
    let drops = signed.calls.one(&api(resource, &super::id(id)?)?, "drops").await?;
    let of_port = resource.path == "ports";
    let silent = match (of_port, drops["error"].as_str()) {
        (true, _) => silent(&drops),
        (false, error) => error.map(|error| format!("{}: {error}", plain(&drops["host"]))).into_iter().collect(),
    };
    let listed = drops["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = match of_port {
        true => Names::default(),
        false => Names::of_columns(&signed.calls, &[&OF_PORT], listed).await?,
    };
    let reasons = reasons(&drops, |reason| match of_port {
        true => Cell::Text(host(reason)),
        false => Cell::of(resource, &OF_PORT, reason, &names),
    });
    let dropped = Dropped {
        side: if of_port { "By" } else { "Port" },
        silent,
        most: reasons.iter().map(|reason| reason.packets).max().unwrap_or(1).max(1),
        reasons,
        counted: counted(&drops, Utc::now().timestamp_millis()),
    };
    Fragment::of("drops", &dropped)
}

/// The page.
pub async fn page(signed: Signed, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let (kind, id) = path.into_inner();
    let resource = super::kind(&signed, &kind)?;
    let object = super::show::object(&signed, resource, &id).await?;
    let id = plain(&object["id"]);
    let counts = fragment(&signed, resource, &id).await?;
    let here = format!("{}/drops", resource.page_of(&id));
    let page = Drops {
        frame: Frame::new(&signed, format!("Drops of {}", (resource.title)(&object)), &here)
            .following(&here, [&counts]),
        of: link_to(resource, &object),
        log: (resource.path == "ports").then(|| format!("{}/flow-log?verdict=deny", resource.page_of(&id))),
        many: Link { href: resource.list(), text: resource.many.into() },
        counts,
    };
    page::ok(&page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_most_frequent_reason_comes_first() {
        let drops = json!({"reasons": [
            {"reason": "spoofed", "about": "x", "packets": 2, "samples": []},
            {"reason": "policy", "about": "y", "packets": 9, "samples": [
                {"at": "2026-11-23T07:00:00.000Z", "source": "10.0.0.5", "source_port": 5000, "destination": "10.0.0.6",
                 "destination_port": 22, "protocol": 6}, {"at": null, "source": null}]}]});
        let seen = reasons(&drops, |_| Cell::Empty);
        assert_eq!(seen.iter().map(|reason| reason.reason.as_str()).collect::<Vec<_>>(), ["policy", "spoofed"]);
        assert_eq!(seen[0].samples[0].packet, "10.0.0.5:5000 to 10.0.0.6:22, protocol 6");
        assert_eq!(seen[0].samples[1].packet, "not an IPv4 packet");
    }

    #[test]
    fn tenants_read_what_a_host_is_to_the_port() {
        assert_eq!(host(&json!({"role": "port", "host": null})), "the port's host");
        assert_eq!(host(&json!({"role": "bouncer", "host": "h1"})), "h1, a bouncer of its addresses");
    }

    #[test]
    fn the_chart_gets_sums_by_reason_and_who_said_them() {
        let reason = |name: &str, packets: u64| json!({"reason": name, "packets": packets});
        let host = |error: Value| json!({"role": "port", "host": "h1", "error": error});
        let all = [reason("policy", 2), reason("policy", 3), reason("spoof", 1)];
        let of_port = json!({"hosts": [host(json!(null))], "reasons": all});
        let expected = json!({"at": 7, "by": "port h1", "packets": {"policy": 5, "spoof": 1}});
        assert_eq!(counted(&of_port, 7), expected);
        let silent = json!({"hosts": [host(json!(null)), host(json!("it slept"))], "reasons": []});
        assert_eq!(counted(&silent, 7)["by"], json!(null), "a sum without somebody is no sum");
        let of_host = |error: Value| json!({"host": "h1", "error": error, "reasons": []});
        assert_eq!(counted(&of_host(json!(null)), 7)["by"], " h1");
        assert_eq!(counted(&of_host(json!("it slept")), 7)["by"], json!(null));
    }
}
