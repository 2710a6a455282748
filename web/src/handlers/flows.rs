//! Flows that hosts have at the moment: of a port; and, in words, those that others tell of.

use crate::cell::{Cell, Link, Names, link_to};
use crate::fault::Fault;
use crate::page::{self, Frame};
use crate::resource::text::{plain, traffic};
use crate::resource::{Column, Shape, declared};
use crate::signed::Signed;
use actix_web::HttpResponse;
use actix_web::web::Path;
use askama::Template;
use serde_json::{Value, json};

/// Flows that are named; others are only counted.
const NAMED: usize = 100;

/// Whose flow it is.
static OF_PORT: Column = Column::new("", "port_id", Shape::Reference("ports"));

#[derive(Debug)]
struct Line {
    port: Cell,
    what: String,
    opened_by: &'static str,
    state: String,
    last: String,
}

/// A table of flows.
#[derive(Debug, Template)]
#[template(path = "flows.html")]
pub struct Flows {
    title: &'static str,
    by_port: bool,
    lines: Vec<Line>,
    more: usize,
}

impl Flows {
    /// The first of them in words; with the ports that they are of, where these are several.
    pub async fn of(signed: &Signed, title: &'static str, by_port: bool, flows: &[Value]) -> Result<Self, Fault> {
        let shown = &flows[..flows.len().min(NAMED)];
        let names = match by_port {
            true => Names::of_columns(&signed.calls, &[&OF_PORT], shown).await?,
            false => Names::default(),
        };
        let line = |flow: &Value| Line {
            port: Cell::of(declared("ports"), &OF_PORT, flow, &names),
            what: packet(flow),
            opened_by: opener(flow),
            state: plain(&flow["state"]),
            last: idle(flow["idle_s"].as_u64()),
        };
        Ok(Self { title, by_port, lines: shown.iter().map(line).collect(), more: flows.len() - shown.len() })
    }
}

/// From whom to whom: whoever opened it stands first.
fn packet(flow: &Value) -> String {
    let end = |address: &str, port: &str| match flow[port].as_u64() {
        Some(number) => format!("{}:{number}", plain(&flow[address])),
        None => plain(&flow[address]),
    };
    let (local, remote) = (end("local_address", "local_port"), end("remote_address", "remote_port"));
    let (from, to) = if flow["opened_by"] == "peer" { (remote, local) } else { (local, remote) };
    let protocol = traffic(&json!({"protocol": flow["protocol"], "port_range_min": flow["icmp_type"]}));
    format!("{from} to {to}, {protocol}")
}

fn opener(flow: &Value) -> &'static str {
    match flow["opened_by"].as_str() {
        Some("port") => "the port",
        Some("peer") => "the other side",
        Some("both") => "both",
        _ => "not known",
    }
}

fn idle(seconds: Option<u64>) -> String {
    match seconds {
        None => String::new(),
        Some(0) => "now".into(),
        Some(seconds) => format!("{seconds} s ago"),
    }
}

#[derive(Template)]
#[template(path = "port-flows.html")]
struct OfPort {
    frame: Frame,
    port: Link,
    /// No host has the port.
    nowhere: bool,
    error: String,
    left_out: u64,
    flows: String,
}

/// The flows of a port. Its host is asked when the page is, and not again until it is loaded anew: a host looks
/// through all of its flows for the answer.
pub async fn page(signed: Signed, path: Path<String>) -> Result<HttpResponse, Fault> {
    let ports = declared("ports");
    let port = super::show::object(&signed, ports, &path).await?;
    let id = plain(&port["id"]);
    let told = signed.calls.one(&format!("/v2.0/mizar/ports/{id}/flows"), "flows").await?;
    let listed = told["flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let flows = match listed {
        [] => String::new(),
        some => Flows::of(&signed, "Flows", false, some).await?.render()?,
    };
    let here = format!("{}/flows", ports.page_of(&id));
    page::ok(&OfPort {
        frame: Frame::new(&signed, format!("Flows of {}", (ports.title)(&port)), &here),
        port: link_to(ports, &port),
        nowhere: told["bound"] == false,
        error: plain(&told["error"]),
        left_out: told["left_out"].as_u64().unwrap_or_default(),
        flows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opened_a_flow_stands_first() {
        let flow = |opened_by: &str| {
            json!({"opened_by": opened_by, "protocol": 6, "local_address": "10.0.0.5", "local_port": 443,
                "remote_address": "10.0.0.9", "remote_port": 40000, "icmp_type": null})
        };
        assert_eq!(packet(&flow("peer")), "10.0.0.9:40000 to 10.0.0.5:443, TCP");
        assert_eq!(packet(&flow("port")), "10.0.0.5:443 to 10.0.0.9:40000, TCP");
        let ping = json!({"opened_by": "port", "protocol": 1, "local_address": "10.0.0.5", "local_port": null,
            "remote_address": "10.0.0.9", "remote_port": null, "icmp_type": 8});
        assert_eq!(packet(&ping), "10.0.0.5 to 10.0.0.9, ICMP type 8");
        assert_eq!([None, Some(0), Some(7)].map(idle), ["", "now", "7 s ago"]);
    }
}
