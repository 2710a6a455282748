//! What hosts drop, and why: of a port, for its project; of a host, for operators. The hosts are asked when
//! the page is, and not again until it is loaded anew.

use crate::cell::{Cell, Link, link_to, time};
use crate::fault::Fault;
use crate::page::{self, Frame};
use crate::resource::declared;
use crate::resource::text::{plain, short};
use crate::signed::Signed;
use actix_web::HttpResponse;
use actix_web::web::Path;
use askama::Template;
use serde_json::Value;

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
#[template(path = "drops.html")]
struct Drops {
    frame: Frame,
    of: Link,
    many: Link,
    side: &'static str,
    /// Hosts that did not answer, and why.
    silent: Vec<String>,
    most: u64,
    reasons: Vec<Reason>,
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

/// Of a port or of a host.
pub async fn page(signed: Signed, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let (kind, id) = path.into_inner();
    let resource = super::kind(&signed, &kind)?;
    let object = super::show::object(&signed, resource, &id).await?;
    let id = plain(&object["id"]);
    let at = match resource.path {
        "ports" => format!("/v2.0/mizar/ports/{id}/drops"),
        "hosts" => format!("/v2.0/mizar/hosts/{id}/drops"),
        _ => return Err(Fault::NotFound),
    };
    let drops = signed.calls.one(&at, "drops").await?;
    let of_port = resource.path == "ports";
    let silent = match of_port {
        true => drops["hosts"].as_array().into_iter().flatten().collect(),
        false => vec![&drops],
    };
    let silent = silent.into_iter().filter(|asked| asked["error"].is_string());
    let silent: Vec<String> = silent
        .map(|asked| {
            format!("{}: {}", if of_port { host(asked) } else { plain(&asked["host"]) }, plain(&asked["error"]))
        })
        .collect();
    let reasons = reasons(&drops, |reason| match (of_port, reason["port_id"].as_str()) {
        (true, _) => Cell::Text(host(reason)),
        (false, Some(port)) => Cell::Links(vec![Link { href: declared("ports").page_of(port), text: short(port) }]),
        (false, None) => Cell::Empty,
    });
    let page = Drops {
        frame: Frame::new(&signed, format!("Drops of {}", (resource.title)(&object)), &resource.page_of(&id)),
        of: link_to(resource, &object),
        many: Link { href: resource.list(), text: resource.many.into() },
        side: if of_port { "By" } else { "Port" },
        silent,
        most: reasons.iter().map(|reason| reason.packets).max().unwrap_or(1).max(1),
        reasons,
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
}
