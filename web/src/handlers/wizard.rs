//! From an empty project to ports in one form: a network, a subnet of it, and ports.

use crate::advice;
use crate::api::{CallError, Calls, Query, Refused, object, objects};
use crate::cell::Link;
use crate::fault::Fault;
use crate::form::Errors;
use crate::page::{self, Frame};
use crate::resource::declared;
use crate::resource::text::plain;
use crate::signed::{Posted, Signed};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// So many ports can be made along.
const PORTS: usize = 50;

/// Ranges that are in use and named; others are only counted.
const NAMED: usize = 30;

/// Length of the range that is suggested.
const SUGGESTED: u8 = 24;

/// Ranges for private use (RFC 1918), the roomiest first.
const PRIVATE: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 0, 0, 0), 8), (Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(192, 168, 0, 0), 16)];

/// The first private range of this length that overlaps none of these.
pub fn free(used: &[Ipv4Net], length: u8) -> Option<Ipv4Net> {
    PRIVATE.iter().find_map(|(first, prefix)| {
        let space = Ipv4Net::new(*first, *prefix).ok()?;
        let mut candidate = Ipv4Net::new(*first, length).ok()?;
        while space.contains(&candidate) {
            // Past the end of what is in the way, in one step: ranges nest or are apart.
            let Some(other) =
                used.iter().filter(|other| overlap(other, &candidate)).max_by_key(|other| other.broadcast())
            else {
                return Some(candidate);
            };
            let last = other.broadcast().max(candidate.broadcast());
            let next = u32::from(last).checked_add(1)?;
            candidate = Ipv4Net::new(Ipv4Addr::from(next), length).ok()?.trunc();
        }
        None
    })
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// A subnet that there is.
struct Used {
    link: Link,
    range: Ipv4Net,
    overlaps: bool,
}

async fn used(signed: &Signed) -> Result<Vec<(Link, Ipv4Net)>, Fault> {
    let of = declared("subnets");
    let query = Query::new().with("project_id", &signed.project.id);
    let found = objects(&mut signed.calls.get(of.api, &query).await?, of.plural)?;
    let mut used: Vec<(Link, Ipv4Net)> = found
        .iter()
        .filter_map(|subnet| Some((crate::cell::link_to(of, subnet), subnet["cidr"].as_str()?.parse().ok()?)))
        .collect();
    used.sort_by_key(|(_, range)| *range);
    Ok(used)
}

/// What is said of a range: short, because it is read out while somebody types.
#[derive(Template)]
#[template(path = "verdict.html")]
struct Verdict {
    wanted: Option<Ipv4Net>,
    overlapping: usize,
    suggestion: Option<Ipv4Net>,
}

#[derive(Template)]
#[template(path = "ranges.html")]
struct Ranges {
    used: Vec<Used>,
    /// Others that are not named.
    more: usize,
    verdict: Verdict,
}

impl Ranges {
    fn of(used: Vec<(Link, Ipv4Net)>, wanted: Option<Ipv4Net>) -> Self {
        let ranges: Vec<Ipv4Net> = used.iter().map(|(_, range)| *range).collect();
        let suggestion = free(&ranges, wanted.map_or(SUGGESTED, |wanted| wanted.prefix_len()));
        let mut used: Vec<Used> = used
            .into_iter()
            .map(|(link, range)| Used { link, range, overlaps: wanted.is_some_and(|wanted| overlap(&range, &wanted)) })
            .collect();
        let overlapping = used.iter().filter(|used| used.overlaps).count();
        // Those that are in the way first; the sort keeps the order of the others.
        used.sort_by_key(|used| !used.overlaps);
        let more = used.len().saturating_sub(NAMED);
        used.truncate(NAMED);
        Self { used, more, verdict: Verdict { wanted, overlapping, suggestion } }
    }
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    name: String,
    cidr: String,
    ports: String,
    overlaps: bool,
}

#[derive(Template)]
#[template(path = "wizard.html")]
struct Wizard {
    frame: Frame,
    wanted: Wanted,
    errors: Errors,
    error: Option<String>,
    help: Option<&'static str>,
    /// What was begun and could not be taken back.
    left: Option<Link>,
    verdict: String,
    ranges: String,
}

fn range(text: &str) -> Option<Ipv4Net> {
    text.trim().parse::<Ipv4Net>().ok().map(|range| range.trunc())
}

async fn show(
    signed: &Signed,
    wanted: Wanted,
    errors: Errors,
    refused: Option<Refused>,
    left: Option<Link>,
) -> Result<HttpResponse, Fault> {
    let ranges = Ranges::of(used(signed).await?, range(&wanted.cidr));
    let status = match &refused {
        Some(refused) => StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST),
        None if errors.is_empty() => StatusCode::OK,
        None => StatusCode::BAD_REQUEST,
    };
    let wizard = Wizard {
        frame: Frame::new(signed, page::title(status, "New network with ports"), "/wizard"),
        wanted,
        errors,
        help: refused.as_ref().and_then(advice::what_to_do),
        error: refused.map(|refused| refused.message),
        left,
        verdict: ranges.verdict.render()?,
        ranges: ranges.render()?,
    };
    page::answer(status, &wizard)
}

/// The form, with a range that is free.
pub async fn form(signed: Signed) -> Result<HttpResponse, Fault> {
    super::may_write(&signed)?;
    let ranges: Vec<Ipv4Net> = used(&signed).await?.into_iter().map(|(_, range)| range).collect();
    let cidr = free(&ranges, SUGGESTED).map(|range| range.to_string()).unwrap_or_default();
    show(&signed, Wanted { cidr, ports: "2".into(), ..Wanted::default() }, Errors::new(), None, None).await
}

/// What a range overlaps, while it is written: the two parts of the form that say so.
pub async fn ranges(signed: Signed, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let ranges = Ranges::of(used(&signed).await?, query.get("cidr").and_then(range));
    let part =
        |id: &str, html: String| format!("<hx-partial hx-target=\"#{id}\" hx-swap=\"innerHTML\">{html}</hx-partial>");
    let html = part("range-verdict", ranges.verdict.render()?) + &part("ranges", ranges.render()?);
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html))
}

/// Makes all of it; what was made before something is refused goes again.
pub async fn make(posted: Posted<Signed>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    super::may_write(&signed)?;
    let text = |text: String| text.trim().to_owned();
    let wanted = Wanted {
        name: text(sent.need("name")?),
        cidr: text(sent.need("cidr")?),
        ports: text(sent.need("ports")?),
        overlaps: sent.take("overlaps")?.is_some(),
    };
    sent.end()?;
    let mut errors = Errors::new();
    if wanted.name.is_empty() {
        errors.insert("name", "This is needed.".into());
    }
    let count = wanted.ports.parse::<usize>().ok().filter(|count| *count <= PORTS);
    if count.is_none() {
        errors.insert("ports", format!("This is not a whole number from 0 to {PORTS}."));
    }
    match range(&wanted.cidr) {
        None => _ = errors.insert("cidr", format!("`{}` is not a range such as 10.0.0.0/24", wanted.cidr)),
        Some(range) if !wanted.overlaps => {
            let met: Vec<String> = used(&signed)
                .await?
                .iter()
                .filter(|(_, other)| overlap(other, &range))
                .map(|(link, other)| format!("{} ({other})", link.text))
                .collect();
            if !met.is_empty() {
                let says = format!(
                    "It overlaps {}. Choose another, or allow it: then no router can join both.",
                    met.join(", ")
                );
                errors.insert("cidr", says);
            }
        }
        Some(_) => {}
    }
    let (Some(range), Some(count), true) = (range(&wanted.cidr), count, errors.is_empty()) else {
        return show(&signed, wanted, errors, None, None).await;
    };
    // A browser that goes away ends what waits for it: what is begun is completed or taken back all the same.
    let (calls, name) = (signed.calls.clone(), wanted.name.clone());
    let building = actix_web::rt::spawn(async move { build(&calls, &name, range, count).await });
    let built = building.await.map_err(|error| CallError::NotUnderstood(error.to_string()))?;
    match built {
        Ok(network) => {
            let sentence = format!("Created network {} with a subnet and {count} ports.", wanted.name);
            Ok(super::done(&signed, sentence, &declared("networks").page_of(&network)))
        }
        Err(Unbuilt { error: CallError::Refused(refused), left }) if refused.status != 401 => {
            show(&signed, wanted, errors, Some(refused), left).await
        }
        Err(Unbuilt { error: CallError::Unreachable(_) | CallError::NotUnderstood(_), left: Some(left) }) => {
            let message = "The network service did not answer in between.".into();
            let unknown = Refused { status: 502, kind: String::new(), message };
            show(&signed, wanted, errors, Some(unknown), Some(left)).await
        }
        Err(Unbuilt { error, .. }) => Err(error.into()),
    }
}

/// Why nothing is there, and what could not be taken back.
struct Unbuilt {
    error: CallError,
    left: Option<Link>,
}

/// Makes the network and what belongs into it, or nothing; its id.
async fn build(calls: &Calls, name: &str, range: Ipv4Net, count: usize) -> Result<String, Unbuilt> {
    let network = made(calls, "networks", json!({ "name": name })).await;
    let network = plain(&network.map_err(|error| Unbuilt { error, left: None })?["id"]);
    let Err(error) = furnish(calls, &network, name, range, count).await else { return Ok(network) };
    // Ports are made all or none, as the last step, so what was refused has left the network and its subnet at
    // most. Where no answer came, the ports may be there, and then the network stays.
    let of = declared("networks");
    let left = match calls.delete(&of.api_of(&network)).await {
        Ok(()) => None,
        Err(CallError::Refused(refused)) if refused.status == 404 => None,
        Err(left) => {
            tracing::warn!(error = %left, network, "a network that could not be completed stays");
            Some(Link { href: of.page_of(&network), text: name.to_owned() })
        }
    };
    Err(Unbuilt { error, left })
}

async fn furnish(calls: &Calls, network: &str, name: &str, range: Ipv4Net, count: usize) -> Result<(), CallError> {
    let subnet = json!({"network_id": network, "name": format!("{name}-subnet"), "ip_version": 4, "cidr": range});
    made(calls, "subnets", subnet).await?;
    if count == 0 {
        return Ok(());
    }
    let ports: Vec<Value> =
        (1..=count).map(|number| json!({"network_id": network, "name": format!("{name}-{number}")})).collect();
    let of = declared("ports");
    calls.post(of.api, &json!({ of.plural: ports })).await.map(drop)
}

async fn made(calls: &Calls, kind: &'static str, body: Value) -> Result<Value, CallError> {
    let of = declared(kind);
    object(calls.post(of.api, &json!({ of.singular: body })).await?, of.singular)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn the_first_range_that_overlaps_nothing_is_suggested() {
        let first = |used: &[&str], length| free(&nets(used), length).map(|range| range.to_string());
        assert_eq!(first(&[], 24).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(first(&["10.0.0.0/24", "10.0.1.0/25"], 24).as_deref(), Some("10.0.2.0/24"));
        assert_eq!(first(&["10.0.0.128/25"], 24).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(first(&["10.0.0.0/16", "10.0.3.0/24"], 20).as_deref(), Some("10.1.0.0/20"));
        assert_eq!(first(&["10.0.0.0/8"], 24).as_deref(), Some("172.16.0.0/24"));
        assert_eq!(first(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], 24), None);
        assert_eq!(first(&["0.0.0.0/0"], 24), None);
    }

    #[test]
    fn what_a_range_overlaps_is_marked() {
        let link = || Link { href: "/subnets/x".into(), text: "front".into() };
        let used = nets(&["10.0.0.0/24", "10.0.1.0/24"]).into_iter().map(|range| (link(), range)).collect();
        let ranges = Ranges::of(used, range("10.0.1.128/25"));
        assert_eq!(ranges.used.iter().map(|used| used.overlaps).collect::<Vec<_>>(), [true, false], "it comes first");
        let Verdict { overlapping, suggestion, .. } = ranges.verdict;
        assert_eq!((overlapping, suggestion.map(|range| range.to_string()).as_deref()), (1, Some("10.0.2.0/25")));
        let many = (0..50).map(|_| (link(), range("10.9.0.0/24").expect("a range"))).collect();
        let ranges = Ranges::of(many, None);
        assert_eq!((ranges.used.len(), ranges.more), (NAMED, 50 - NAMED));
    }
}
