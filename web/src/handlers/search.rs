//! Search by name, address, MAC or id; administrators search every project.

use crate::api::{CallError, Query, objects};
use crate::cell::{Cell, Link, complete, link_to};
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

/// So many of each kind are shown; that there are more is said, and where.
const SHOWN: usize = 25;

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

/// What the API is asked about a kind.
struct Question {
    of: &'static Resource,
    query: Query,
    /// Where all that is so is listed.
    list: Option<String>,
}

/// What is asked.
fn questions(sought: &Sought, admin: bool) -> Vec<Question> {
    let by = |path, name: &'static str, value: &str| {
        let of = declared(path);
        let filter = of.filters.iter().find(|filter| filter.name == name);
        let asked = filter.map_or_else(|| value.to_owned(), |filter| filter.of_api(value));
        let list = Query::new().with(name, value);
        // Every project is searched for administrators, whose lists are otherwise of one.
        let list = if admin && !of.verbs.operator { list.with("all", 1) } else { list };
        let query = Query::new().with(name, asked).with("limit", SHOWN + 1);
        Question { of, query, list: Some(list.after(&of.list())) }
    };
    match sought {
        Sought::Id(id) => {
            let kinds = resource::all().filter(|of| admin || !of.verbs.operator);
            kinds.map(|of| Question { of, query: Query::new().with("id", id), list: None }).collect()
        }
        Sought::Address(address) => {
            let address = address.to_string();
            vec![
                by("ports", "fixed_ips", &address),
                by("floating-ips", "floating_ip_address", &address),
                by("subnets", "gateway_ip", &address),
            ]
        }
        Sought::PartOfAddress(part) => vec![by("ports", "fixed_ips", part)],
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
    /// Lists of kinds of which there are more than are shown.
    more: Vec<Link>,
}

/// What was found; one hit is gone to at once.
pub async fn page(signed: Signed, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let text = query.get("q").unwrap_or_default().trim().to_owned();
    if text.chars().count() > LONGEST {
        return Err(Fault::Bad(format!("names have at most {LONGEST} letters")));
    }
    let admin = signed.session.is_admin();
    let (mut hits, mut more) = (Vec::new(), Vec::new());
    if !text.is_empty() {
        let questions = questions(&sought(&text), admin);
        let answers = try_join_all(questions.iter().map(|Question { of, query, .. }| async {
            match signed.calls.get(of.api, query).await {
                Ok(mut answer) => {
                    let mut found = objects(&mut answer, of.plural)?;
                    complete(&signed.calls, of, &mut found).await?;
                    Ok(found)
                }
                // A kind that cannot be asked so has no such object: names of some are checked.
                Err(CallError::Refused(refused)) if refused.status == 400 => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        }));
        let answers = answers.await?;
        for (Question { of, list, .. }, found) in questions.into_iter().zip(answers) {
            hits.extend(found.iter().take(SHOWN).map(|object| hit(of, object)));
            if found.len() > SHOWN {
                more.extend(list.map(|href| Link { href, text: format!("all {} that are so", of.plural_words()) }));
            }
        }
    }
    if let [only] = hits.as_slice() {
        return Ok(page::go(&only.link.href));
    }
    let asked = !text.is_empty();
    page::ok(&Search { frame: Frame::new(&signed, "Search", "/search"), text, asked, admin, hits, more })
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
        let asks = |sought: Sought, admin| questions(&sought, admin).iter().any(|asked| asked.of.verbs.operator);
        assert!(!asks(Sought::Name("x".into()), false) && !asks(Sought::Id("x".into()), false));
        assert!(asks(Sought::Name("x".into()), true) && asks(Sought::Id("x".into()), true));
    }
    #[test]
    fn a_list_of_all_that_was_found_asks_what_the_search_asked() {
        for text in ["web", "10.0.0.5", "10.0.", "fa:16:3e:00:00:01"] {
            for admin in [false, true] {
                for Question { of, query, list } in questions(&sought(text), admin) {
                    let list = list.expect("a list");
                    let (path, asked) = list.split_once('?').expect("narrowed");
                    let ask = super::super::list::Ask::parse(of, &Query::parse(asked)).expect(&list);
                    let of_list = ask.of_api(of, "own", admin);
                    assert_eq!(path, of.list());
                    for (name, value) in query.pairs().iter().filter(|(name, _)| name != "limit") {
                        assert_eq!(of_list.get(name), Some(value.as_str()), "{list}");
                    }
                    assert_eq!(of_list.get("project_id"), None, "{list}");
                }
            }
        }
    }
}
