//! Deleting one object or many: first a page that says what goes along and what forbids it.

use super::cuts::{self, Cut};
use crate::advice;
use crate::api::{CallError, Query};
use crate::cell::{Link, complete, link_to};
use crate::fault::Fault;
use crate::form::Sent;
use crate::page::{self, Frame};
use crate::resource::text::plain;
use crate::resource::{Dependent, Resource, declared};
use crate::signed::{Posted, Signed};
use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use futures::future::try_join_all;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// So many at once: their ids stand in an address, and what stands between (nginx, by itself) takes 8 kB of it.
pub(super) const AT_ONCE: usize = 100;

/// Requests that wait for the API at the same time.
const PARALLEL: usize = 4;

/// Ports of a rule's group that are looked at.
const LOOKED_AT: usize = 50;

/// Dependents that are named; others are only counted.
const NAMED: usize = 8;

struct Found {
    blocks: bool,
    links: Vec<Link>,
    more: bool,
    what: String,
}

/// Ports that lose what only these rules let through.
struct Loss {
    rule: String,
    ports: Vec<Link>,
    /// Ports of the group that another of their groups still lets it through.
    kept: usize,
    more: bool,
}

struct Failure {
    id: String,
    link: Link,
    message: String,
    help: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "delete.html")]
struct Delete {
    frame: Frame,
    title: String,
    list: Link,
    action: String,
    ids: Vec<String>,
    links: Vec<Link>,
    found: Vec<Found>,
    losses: Vec<Loss>,
    cuts: Vec<Cut>,
    failures: Vec<Failure>,
    done: usize,
}

fn deleting(signed: &Signed, kind: &str) -> Result<&'static Resource, Fault> {
    let resource = super::kind(signed, kind)?;
    if !resource.verbs.delete {
        return Err(Fault::NotFound);
    }
    super::may_write(signed)?;
    Ok(resource)
}

fn ids(sent: &mut Sent) -> Result<Vec<String>, Fault> {
    let mut ids = sent.take_all("id").iter().map(|id| super::id(id)).collect::<Result<Vec<_>, _>>()?;
    ids.sort();
    ids.dedup();
    if ids.len() > AT_ONCE {
        return Err(Fault::Bad(format!("at most {AT_ONCE} can be deleted at once")));
    }
    Ok(ids)
}

fn none_chosen(signed: &Signed, resource: &Resource) -> HttpResponse {
    let sentence = format!("Choose the {} to delete first.", resource.plural_words());
    super::not_done(signed, sentence, &resource.list())
}

/// Asks whether they shall be deleted.
pub async fn ask(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let resource = deleting(&signed, &path)?;
    let mut sent = Sent::parse(request.query_string().as_bytes())?;
    let ids = ids(&mut sent)?;
    sent.end()?;
    if ids.is_empty() {
        return Ok(none_chosen(&signed, resource));
    }
    let mut objects = signed.calls.list(resource.api, resource.plural, &Query::new().with_each("id", &ids)).await?;
    complete(&signed.calls, resource, &mut objects).await?;
    if objects.is_empty() {
        return Err(Fault::NotFound);
    }
    let found = found(&signed, resource, &objects).await?;
    let losses = losses(&signed, resource, &objects).await?;
    let cuts = match resource.path {
        "security-group-rules" => cuts::of_rules(&signed, &objects).await?,
        _ => Vec::new(),
    };
    page::ok(&Delete { found, losses, cuts, ..Delete::of(&signed, resource, &objects) })
}

/// What could not be deleted, and why. What is in the way is asked for, and is not told where the service is
/// what failed.
async fn left_over(
    signed: &Signed,
    resource: &'static Resource,
    objects: Vec<Value>,
    failures: Vec<Failure>,
    done: usize,
) -> Result<HttpResponse, Fault> {
    let found = found(signed, resource, &objects).await.unwrap_or_default();
    page::answer(StatusCode::CONFLICT, &Delete { found, failures, done, ..Delete::of(signed, resource, &objects) })
}

fn ids_of(objects: &[Value]) -> Vec<String> {
    objects.iter().filter_map(|object| object["id"].as_str().map(str::to_owned)).collect()
}

impl Delete {
    /// The page about these.
    fn of(signed: &Signed, resource: &'static Resource, objects: &[Value]) -> Self {
        let title = match objects {
            [one] => format!("Delete {} {}", resource.one, (resource.title)(one)),
            many => format!("Delete {} {}", many.len(), resource.plural_words()),
        };
        let action = format!("{}/delete", resource.list());
        Self {
            frame: Frame::new(signed, title.clone(), &action),
            title,
            list: Link { href: resource.list(), text: resource.many.into() },
            action,
            links: objects.iter().map(|object| link_to(resource, object)).collect(),
            losses: Vec::new(),
            cuts: Vec::new(),
            found: Vec::new(),
            ids: ids_of(objects),
            done: 0,
            failures: Vec::new(),
        }
    }
}

/// What no port can do any more once these rules are gone: a preview, by the groups as they are now.
async fn losses(signed: &Signed, resource: &Resource, rules: &[Value]) -> Result<Vec<Loss>, Fault> {
    if resource.path != "security-group-rules" {
        return Ok(Vec::new());
    }
    let (of_ports, of_groups) = (declared("ports"), declared("security-groups"));
    let mut losses = Vec::new();
    for rule in rules {
        let group = plain(&rule["security_group_id"]);
        let query = Query::new().with("security_groups", &group).with("limit", LOOKED_AT + 1);
        let mut ports = signed.calls.list(of_ports.api, of_ports.plural, &query).await?;
        let more = ports.len() > LOOKED_AT;
        ports.truncate(LOOKED_AT);
        let mut others: Vec<&str> = ports.iter().flat_map(groups_of).collect();
        others.sort_unstable();
        others.dedup();
        let groups = match others.is_empty() {
            true => Vec::new(),
            false => signed.calls.list(of_groups.api, of_groups.plural, &Query::new().with_each("id", others)).await?,
        };
        let (kept, lost): (Vec<&Value>, Vec<&Value>) =
            ports.iter().partition(|port| still_passes(port, &groups, rule, rules));
        losses.push(Loss {
            rule: (resource.title)(rule),
            ports: lost.into_iter().map(|port| link_to(of_ports, port)).collect(),
            kept: kept.len(),
            more,
        });
    }
    Ok(losses)
}

fn groups_of(port: &Value) -> impl Iterator<Item = &str> {
    port["security_groups"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether the same is let through by a rule that stays, of any group of the port.
fn still_passes(port: &Value, groups: &[Value], rule: &Value, gone: &[Value]) -> bool {
    const SAME: [&str; 7] = [
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_group_id",
        "normalized_cidr",
    ];
    let own = groups.iter().filter(|group| groups_of(port).any(|id| group["id"] == id));
    let rules = own.flat_map(|group| group["security_group_rules"].as_array().into_iter().flatten());
    let mut staying = rules.filter(|other| gone.iter().all(|gone| gone["id"] != other["id"]));
    staying.any(|other| SAME.iter().all(|member| other[*member] == rule[*member]))
}

/// What the end of these meets.
async fn found(signed: &Signed, resource: &'static Resource, objects: &[Value]) -> Result<Vec<Found>, Fault> {
    let ids = ids_of(objects);
    let found = try_join_all(resource.dependents.iter().map(|dependent| dependents(signed, dependent, &ids))).await?;
    Ok(found.into_iter().filter(|found| !found.links.is_empty()).collect())
}

async fn dependents(signed: &Signed, dependent: &'static Dependent, ids: &[String]) -> Result<Found, Fault> {
    let of = declared(dependent.of);
    let query = Query::new().with_each(dependent.by, ids).with("limit", NAMED + 1);
    let mut objects = signed.calls.list(of.api, of.plural, &query).await?;
    complete(&signed.calls, of, &mut objects).await?;
    Ok(Found {
        blocks: dependent.blocks,
        more: objects.len() > NAMED,
        links: objects.iter().take(NAMED).map(|object| link_to(of, object)).collect(),
        what: of.plural_words(),
    })
}

/// Deletes them. What is gone already is as wanted; what is refused is shown with the reason.
pub async fn delete(posted: Posted<Signed>, path: Path<String>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let resource = deleting(&signed, &path)?;
    let ids = ids(&mut sent)?;
    sent.end()?;
    // Without ids the API would list everything.
    if ids.is_empty() {
        return Ok(none_chosen(&signed, resource));
    }
    let mut names = signed.calls.list(resource.api, resource.plural, &Query::new().with_each("id", &ids)).await?;
    complete(&signed.calls, resource, &mut names).await?;
    let calls = &signed.calls;
    let outcomes: Vec<(&String, Result<(), CallError>)> = stream::iter(&ids)
        .map(|id| async move { (id, calls.delete(&resource.api_of(id)).await) })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let link = |id: &str| {
        let object = names.iter().find(|object| object["id"] == id).cloned();
        link_to(resource, &object.unwrap_or_else(|| json!({ "id": id })))
    };
    let (mut done, mut failures) = (0, Vec::new());
    for (id, outcome) in outcomes {
        match outcome {
            Ok(()) => done += 1,
            Err(CallError::Refused(refused)) if refused.status == 404 => {}
            Err(CallError::Refused(refused)) if refused.status != 401 => {
                let help = advice::what_to_do(&refused);
                failures.push(Failure { id: id.clone(), link: link(id), help, message: refused.message });
            }
            Err(error @ CallError::Refused(_)) => return Err(error.into()),
            // It says what was done before nothing answered any more.
            Err(error) => failures.push(Failure {
                id: id.clone(),
                link: link(id),
                message: error.to_string(),
                help: Some("It may have been deleted all the same: look, and try again in a moment."),
            }),
        }
    }
    if !failures.is_empty() {
        let left = failures.iter().filter_map(|failure| names.iter().find(|object| failure.id == object["id"]));
        return left_over(&signed, resource, left.cloned().collect(), failures, done).await;
    }
    let sentence = match (names.as_slice(), done) {
        (_, 0) => "There was nothing left to delete.".to_owned(),
        ([one], _) => format!("Deleted {} {}.", resource.one, (resource.title)(one)),
        _ => format!("Deleted {done} {}.", resource.plural_words()),
    };
    Ok(super::done(&signed, sentence, &back(resource, &names)))
}

/// After a rule, the page of its group; after anything else, the list.
fn back(resource: &Resource, objects: &[Value]) -> String {
    match objects.first().and_then(|object| object["security_group_id"].as_str()) {
        Some(group) if resource.path == "security-group-rules" => declared("security-groups").page_of(group),
        _ => resource.list(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_keeps_what_another_of_its_groups_lets_through() {
        let web = |id: &str| {
            json!({"id": id, "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 80, "port_range_max": 80, "remote_group_id": null, "normalized_cidr": null})
        };
        let groups = [
            json!({"id": "a", "security_group_rules": [web("1")]}),
            json!({"id": "b", "security_group_rules": [web("2")]}),
        ];
        let keeps =
            |of: &[&str], gone: &[Value]| still_passes(&json!({"security_groups": of}), &groups, &web("1"), gone);
        assert!(!keeps(&["a"], &[web("1")]));
        assert!(keeps(&["a", "b"], &[web("1")]));
        assert!(!keeps(&["a", "b"], &[web("1"), web("2")]), "when both go, nothing stays");
    }
}
