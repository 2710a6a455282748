//! Search by name, address, MAC or id; administrators search every project.

use crate::api::{CallError, Query, objects};
use crate::cell::{Cell, Link, link_to};
use crate::fault::Fault;
use crate::page::{self, Frame};
use crate::resource::text::{FIXED_IPS, joined, plain};
use crate::resource::{self, Resource, declared};
use crate::signed::Signed;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use futures::future::try_join_all;
use serde_json::Value;
use std::net::IpAddr;
use uuid::Uuid;

/// So many of each kind are shown.
const SHOWN: u32 = 25;

/// More letters than any name has.
const LONGEST: usize = 255;

/// What a text can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sought {
    Id(String),
    Address(IpAddr),
    PartOfAddress(String),
    Mac(String),
    Name(String),
}

fn sought(text: &str) -> Sought {
    if let Ok(id) = Uuid::try_parse(text) {
        return Sought::Id(id.to_string());
    }
    if let Ok(address) = text.parse() {
        return Sought::Address(address);
    }
    let hex: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    if hex.len() == 12 && text.len() > 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let pairs: Vec<String> = (0..12).step_by(2).map(|at| hex[at..at + 2].to_ascii_lowercase()).collect();
        return Sought::Mac(pairs.join(":"));
    }
    if text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Sought::PartOfAddress(text.to_owned());
    }
    Sought::Name(text.to_owned())
}

/// Which lists are asked for what.
fn questions(sought: &Sought, admin: bool) -> Vec<(&'static Resource, Query)> {
    let by = |path, name: &str, value: &str| (declared(path), Query::new().with(name, value).with("limit", SHOWN));
    match sought {
        Sought::Id(id) => {
            let kinds = resource::all().filter(|of| admin || !of.verbs.operator);
            kinds.map(|of| (of, Query::new().with("id", id))).collect()
        }
        Sought::Address(address) => {
            let address = address.to_string();
            vec![
                by("ports", "fixed_ips", &format!("ip_address={address}")),
                by("floating-ips", "floating_ip_address", &address),
                by("subnets", "gateway_ip", &address),
            ]
        }
        Sought::PartOfAddress(part) => vec![by("ports", "fixed_ips", &format!("ip_address_substr={part}"))],
        Sought::Mac(mac) => vec![by("ports", "mac_address", mac)],
        Sought::Name(name) => {
            let named = ["networks", "subnets", "ports", "security-groups", "routers", "subnet-pools"];
            let hosts = admin.then_some("hosts");
            named.into_iter().chain(hosts).map(|path| by(path, "name", name)).collect()
        }
    }
}

struct Hit {
    kind: &'static str,
    link: Link,
    status: Cell,
    more: String,
    project: String,
}

#[derive(Template)]
#[template(path = "search.html")]
struct Search {
    frame: Frame,
    text: String,
    asked: bool,
    admin: bool,
    hits: Vec<Hit>,
}

/// What was found; one hit is gone to at once.
pub async fn page(signed: Signed, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let text = query.get("q").unwrap_or_default().trim().to_owned();
    if text.chars().count() > LONGEST {
        return Err(Fault::Bad(format!("names have at most {LONGEST} letters")));
    }
    let admin = signed.session.is_admin();
    let mut hits = Vec::new();
    if !text.is_empty() {
        let questions = questions(&sought(&text), admin);
        let answers = try_join_all(questions.iter().map(|(of, query)| async {
            match signed.calls.get(of.api, query).await {
                Ok(mut answer) => objects(&mut answer, of.plural),
                // A kind that cannot be asked so has no such object: names of some are checked.
                Err(CallError::Refused(refused)) if refused.status == 400 => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        }));
        for ((of, _), found) in questions.iter().zip(answers.await?) {
            hits.extend(found.iter().map(|object| hit(of, object)));
        }
    }
    if let [only] = hits.as_slice() {
        return Ok(page::go(&only.link.href));
    }
    let asked = !text.is_empty();
    page::ok(&Search { frame: Frame::new(&signed, "Search", "/search"), text, asked, admin, hits })
}

fn hit(of: &'static Resource, object: &Value) -> Hit {
    let more = match (&object["fixed_ips"], &object["cidr"]) {
        (ips @ Value::Array(_), _) => format!("{} {}", joined(FIXED_IPS.show, ips), plain(&object["mac_address"])),
        (_, Value::String(cidr)) => cidr.clone(),
        _ => plain(&object["description"]),
    };
    let status = of.columns.iter().find(|column| column.of == "status");
    Hit {
        kind: of.one,
        link: link_to(of, object),
        status: status.map_or(Cell::Empty, |column| Cell::of(of, column, object, &Default::default())),
        more,
        project: plain(&object["project_id"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_for_what_it_can_be() {
        assert_eq!(sought("10.0.0.5"), Sought::Address("10.0.0.5".parse().expect("an address")));
        assert_eq!(sought("10.0."), Sought::PartOfAddress("10.0.".into()));
        for mac in ["FA:16:3E:00:00:01", "fa-16-3e-00-00-01", "fa16.3e00.0001"] {
            assert_eq!(sought(mac), Sought::Mac("fa:16:3e:00:00:01".into()), "{mac}");
        }
        assert_eq!(sought("fa163e000001"), Sought::Name("fa163e000001".into()), "as likely a name");
        let id = "6f1c2f60-0000-4000-8000-000000000001";
        assert_eq!(sought(&id.to_uppercase()), Sought::Id(id.into()));
        assert_eq!(sought("web 1"), Sought::Name("web 1".into()));
    }

    #[test]
    fn tenants_do_not_ask_for_hosts() {
        let asks = |sought: Sought, admin| questions(&sought, admin).iter().any(|(of, _)| of.verbs.operator);
        assert!(!asks(Sought::Name("x".into()), false) && !asks(Sought::Id("x".into()), false));
        assert!(asks(Sought::Name("x".into()), true) && asks(Sought::Id("x".into()), true));
    }
}
