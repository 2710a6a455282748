//! Following a packet from a port: where it gets to, hop by hop, and what blocks it.
//!
//! The question stands in the address, since nothing is changed by it: an answer can be asked for again, and
//! the question be passed on.

use crate::advice;
use crate::api::{CallError, Query, object};
use crate::cell::{Link, Names, complete, host, link_to};
use crate::fault::Fault;
use crate::page::{Frame, answer};
use crate::resource::text::{plain, rule};
use crate::resource::{Column, Shape, declared};
use crate::signed::Signed;
use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::{Map, Value, json};

/// What can be asked for: name of the API, label, whether it is a number.
const ASKED: [(&str, &str, bool); 5] = [
    ("destination", "To address", false),
    ("protocol", "Protocol", false),
    ("destination_port", "To port", true),
    ("source_port", "From port", true),
    ("icmp_type", "Type of ICMP", true),
];

struct Asked {
    name: &'static str,
    label: &'static str,
    value: String,
    error: Option<String>,
}

/// What a host looked at, and what it found.
struct Looked {
    says: String,
    /// For operators.
    entry: String,
    table: String,
    /// To the rule's page, or its group's where the rule is not known; without an address: a label policy.
    rules: Vec<Link>,
}

struct Hop {
    role: &'static str,
    /// For operators.
    host: Option<Link>,
    error: String,
    looks: Vec<Looked>,
    /// The packet ends here.
    ends: bool,
}

struct Way {
    verdict: &'static str,
    tone: &'static str,
    about: String,
    sender_sees: String,
    receiver_sees: String,
    receiver: Option<Link>,
    packet: String,
    hops: Vec<Hop>,
}

#[derive(Template)]
#[template(path = "trace.html")]
struct Trace {
    frame: Frame,
    port: Link,
    action: String,
    asked: Vec<Asked>,
    error: Option<String>,
    way: Option<Way>,
}

/// Whom the packet reaches.
static RECEIVER: Column = Column::new("", "destination_port_id", Shape::Reference("ports"));

fn role(word: &Value) -> &'static str {
    match word.as_str() {
        Some("source") => "Host of the sender",
        Some("divider") => "Divider of the network",
        Some("bouncer") => "Bouncer of the address",
        Some("destination") => "Host of the receiver",
        _ => "Host",
    }
}

/// What the API is asked, or what is wrong with the question, by name.
fn question(port: &str, query: &Query) -> Result<Map<String, Value>, (&'static str, String)> {
    let mut body = Map::from_iter([("port_id".to_owned(), json!(port))]);
    for (name, _, is_number) in ASKED {
        let text = query.get(name).unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let value = if is_number {
            json!(text.parse::<u16>().map_err(|_| (name, "This is not a number from 0 to 65535.".to_owned()))?)
        } else {
            json!(text)
        };
        body.insert(name.to_owned(), value);
    }
    Ok(body)
}

async fn way(signed: &Signed, trace: &Value) -> Result<Way, Fault> {
    let hops = trace["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids = |member: &'static str| {
        let looks = hops.iter().flat_map(|hop| hop["looks"].as_array().into_iter().flatten());
        let rules = looks.flat_map(|look| look["rules"].as_array().into_iter().flatten());
        let rules = rules.filter(|rule| rule["security_group_id"].is_string());
        let mut ids: Vec<String> = rules.map(|rule| plain(&rule[member])).filter(|id| !id.is_empty()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let of = declared("security-group-rules");
    let mut known = match ids("id") {
        none if none.is_empty() => Vec::new(),
        some => signed.calls.list(of.api, of.plural, &Query::new().with_each("id", &some)).await?,
    };
    complete(&signed.calls, of, &mut known).await?;
    let (verdict, tone) = match trace["verdict"].as_str() {
        Some("delivered") => ("It is delivered", "good"),
        Some("dropped") => ("It is dropped", "bad"),
        _ => ("Nobody knows", "wait"),
    };
    let seen = hops.iter().enumerate().map(|(number, hop)| Hop {
        role: role(&hop["role"]),
        host: hop["host"].as_str().map(|name| host(name.to_owned())),
        error: plain(&hop["error"]),
        looks: hop["looks"].as_array().into_iter().flatten().map(|look| looked(look, &known)).collect(),
        ends: number + 1 == hops.len() && tone == "bad",
    });
    let names = Names::of_columns(&signed.calls, &[&RECEIVER], std::slice::from_ref(trace)).await?;
    let receiver = trace["destination_port_id"].as_str().map(|id| {
        let ports = declared("ports");
        Link { href: ports.page_of(id), text: names.of(ports.path, id).to_owned() }
    });
    Ok(Way {
        verdict,
        tone,
        about: sentence(&plain(&trace["about"])),
        sender_sees: plain(&trace["sender_sees"]),
        receiver_sees: plain(&trace["receiver_sees"]),
        receiver,
        packet: format!(
            "{}:{} to {}:{}, protocol {}",
            plain(&trace["source"]),
            plain(&trace["source_port"]),
            plain(&trace["destination"]),
            plain(&trace["destination_port"]),
            plain(&trace["protocol"])
        ),
        hops: seen.collect(),
    })
}

/// With one full stop: some of what the API says has its own.
fn sentence(text: &str) -> String {
    match text.chars().last() {
        None | Some('.' | '!' | '?') => text.to_owned(),
        Some(_) => format!("{text}."),
    }
}

fn looked(look: &Value, known: &[Value]) -> Looked {
    let link = |named: &Value| {
        let Some(group) = named["security_group_id"].as_str() else {
            // It belongs to no group, and has no page.
            return Link { href: String::new(), text: "a label policy".to_owned() };
        };
        match known.iter().find(|own| own["id"] == named["id"]) {
            Some(own) => Link { href: declared("security-group-rules").page_of(&plain(&own["id"])), text: rule(own) },
            None => Link { href: declared("security-groups").page_of(group), text: "a rule".to_owned() },
        }
    };
    Looked {
        says: plain(&look["says"]),
        entry: plain(&look["entry"]),
        table: plain(&look["table"]),
        rules: look["rules"].as_array().into_iter().flatten().map(link).collect(),
    }
}

/// The form, and, where it is filled, the way of the packet.
pub async fn page(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let ports = declared("ports");
    let port = super::show::object(&signed, ports, &path).await?;
    let id = plain(&port["id"]);
    let query = Query::parse(request.query_string());
    if let Some((name, _)) = query.pairs().iter().find(|(name, _)| ASKED.iter().all(|(own, ..)| own != name)) {
        return Err(Fault::Bad(format!("a trace has no `{name}`")));
    }
    let (mut errors, mut error, mut seen, mut status) = (Vec::new(), None, None, StatusCode::OK);
    if query.get("destination").is_some_and(|destination| !destination.trim().is_empty()) {
        match question(&id, &query) {
            Err(wrong) => {
                status = StatusCode::BAD_REQUEST;
                errors.push(wrong);
            }
            Ok(body) => match signed.calls.post("/v2.0/mizar/trace", &json!({ "trace": body })).await {
                Ok(answer) => seen = Some(way(&signed, &object(answer, "trace")?).await?),
                Err(CallError::Refused(refused)) if matches!(refused.status, 400 | 403 | 409 | 429) => {
                    status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
                    let about = advice::attribute(&refused);
                    match ASKED.iter().find(|(name, ..)| Some(*name) == about) {
                        Some((name, ..)) => errors.push((name, refused.message.clone())),
                        None => error = Some(refused.message.clone()),
                    }
                }
                Err(error) => return Err(error.into()),
            },
        }
    }
    let asked = ASKED.map(|(name, label, _)| Asked {
        name,
        label,
        value: query.get(name).unwrap_or(if name == "protocol" { "tcp" } else { "" }).to_owned(),
        error: errors.iter().find(|(of, _)| *of == name).map(|(_, error)| error.clone()),
    });
    let action = format!("{}/trace", ports.page_of(&id));
    let title = format!("Follow a packet of {}", (ports.title)(&port));
    let frame = Frame::new(&signed, title, &action);
    answer(status, &Trace { frame, port: link_to(ports, &port), action, asked: asked.into(), error, way: seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_was_filled_in() {
        let asked =
            question("p", &Query::parse("destination=+10.0.0.5&protocol=tcp&destination_port=443&source_port="));
        let expected = json!({"port_id": "p", "destination": "10.0.0.5", "protocol": "tcp", "destination_port": 443});
        assert_eq!(asked.map(Value::Object), Ok(expected));
        let wrong = question("p", &Query::parse("destination=10.0.0.5&destination_port=70000"));
        assert_eq!(wrong.map_err(|(name, _)| name), Err("destination_port"));
    }

    #[test]
    fn a_sentence_ends_once() {
        assert_eq!(["", "it is so", "It is so."].map(sentence), ["", "it is so.", "It is so."]);
    }

    #[test]
    fn rules_that_decided_are_named_in_words() {
        let known = [json!({"id": "r", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22})];
        let look = json!({"table": "RULES", "says": "a rule lets it in", "entry": null,
            "rules": [{"id": "r", "security_group_id": "g"}, {"id": "other", "security_group_id": "h"}]});
        let looked = looked(&look, &known);
        assert_eq!(
            looked.rules[0],
            Link { href: "/security-group-rules/r".into(), text: "TCP 22 in, from anywhere".into() }
        );
        assert_eq!(looked.rules[1], Link { href: "/security-groups/h".into(), text: "a rule".into() });
    }

    #[test]
    fn a_label_policy_is_named_and_leads_nowhere() {
        let look = json!({"table": "POLICY", "says": "it is let in", "entry": null,
            "rules": [{"id": "p", "security_group_id": null}, {"id": "r", "security_group_id": "g"}]});
        let links = looked(&look, &[]).rules;
        assert_eq!(links[0], Link { href: String::new(), text: "a label policy".into() });
        assert_eq!(links[1], Link { href: "/security-groups/g".into(), text: "a rule".into() });
    }
}
