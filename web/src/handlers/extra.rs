//! What some pages show beside facts and lists.

use crate::api::{Query, objects};
use crate::cell::{Link, link_to};
use crate::fault::Fault;
use crate::handlers::operator;
use crate::page::Fragment;
use crate::resource::text::{plain, traffic};
use crate::resource::{Extra, Resource, declared};
use crate::signed::Signed;
use askama::Template;
use serde_json::Value;
use std::collections::BTreeMap;

/// A line of what may pass: in words, and the groups that let it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// What.
    pub traffic: String,
    /// From or to where.
    pub side: String,
    /// By which groups.
    pub by: Vec<Link>,
}

#[derive(Template)]
#[template(path = "effective.html")]
struct Effective {
    filtered: bool,
    groups: usize,
    /// Those of them that this user may not see.
    hidden: usize,
    /// In and out: headline, what the other side is, lines.
    ways: [(&'static str, &'static str, Vec<Passing>); 2],
}

/// What groups let through together in one direction; what several let through is said once.
pub fn passing(groups: &[Value], direction: &str, names: impl Fn(&str) -> String) -> Vec<Passing> {
    let mut lines: BTreeMap<(String, String), Vec<Link>> = BTreeMap::new();
    for group in groups {
        for rule in group["security_group_rules"].as_array().into_iter().flatten() {
            if rule["direction"] != direction {
                continue;
            }
            let side = match (rule["remote_ip_prefix"].as_str(), rule["remote_group_id"].as_str()) {
                (Some(prefix), _) => prefix.to_owned(),
                (_, Some(group)) => format!("ports of group {}", names(group)),
                _ if rule["remote_address_group_id"].is_string() => {
                    format!("address group {}", plain(&rule["remote_address_group_id"]))
                }
                _ => "anywhere".to_owned(),
            };
            let by = lines.entry((traffic(rule), side)).or_default();
            let link = link_to(declared("security-groups"), group);
            if !by.contains(&link) {
                by.push(link);
            }
        }
    }
    lines.into_iter().map(|((traffic, side), by)| Passing { traffic, side, by }).collect()
}

/// The part of the page that follows changes.
pub async fn fragment(signed: &Signed, resource: &Resource, object: &Value) -> Result<Option<Fragment>, Fault> {
    let id = object["id"].as_str().unwrap_or_default();
    Ok(match resource.extra {
        Extra::EffectiveRules => Some(Fragment::of("effective", &effective(signed, object).await?)?),
        Extra::Holders if signed.session.is_admin() => Some(operator::holders(signed, id).await?),
        Extra::Roles => Some(operator::roles_of(signed, object["name"].as_str().unwrap_or_default()).await?),
        Extra::None | Extra::Interfaces | Extra::Holders => None,
    })
}

async fn effective(signed: &Signed, port: &Value) -> Result<Effective, Fault> {
    let ids: Vec<&str> = port["security_groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let of = declared("security-groups");
    let groups = if ids.is_empty() {
        Vec::new()
    } else {
        signed.calls.list(of.api, of.plural, &Query::new().with_each("id", &ids)).await?
    };
    let mut names = crate::cell::Names::default();
    names.learn("security-groups", &groups);
    let name = |id: &str| names.of("security-groups", id).to_owned();
    Ok(Effective {
        filtered: port["port_security_enabled"].as_bool().unwrap_or(true),
        groups: ids.len(),
        hidden: ids.len().saturating_sub(groups.len()),
        ways: [("In", "From", passing(&groups, "ingress", name)), ("Out", "To", passing(&groups, "egress", name))],
    })
}

#[derive(Template)]
#[template(path = "interfaces.html")]
struct Interfaces {
    router: String,
    csrf: String,
    may_write: bool,
    joined: Vec<Joined>,
    free: Vec<(String, String)>,
}

struct Joined {
    subnet: String,
    link: Link,
    address: String,
}

/// The part of the page that has forms.
pub async fn below(signed: &Signed, resource: &Resource, object: &Value, csrf: &str) -> Result<Option<String>, Fault> {
    if resource.extra != Extra::Interfaces {
        return Ok(None);
    }
    let id = object["id"].as_str().unwrap_or_default();
    let (ports, subnets) = (declared("ports"), declared("subnets"));
    let of_router = Query::new().with("device_id", id).with("device_owner", "network:router_interface");
    let project = Query::new().with("project_id", &signed.project.id);
    let (mut interfaces, mut own) =
        futures::try_join!(signed.calls.get(ports.api, &of_router), signed.calls.get(subnets.api, &project))?;
    let (interfaces, own) = (objects(&mut interfaces, ports.plural)?, objects(&mut own, subnets.plural)?);
    let mut joined = Vec::new();
    for ip in interfaces.iter().flat_map(|port| port["fixed_ips"].as_array().into_iter().flatten()) {
        let subnet = plain(&ip["subnet_id"]);
        let known = own.iter().find(|own| own["id"] == ip["subnet_id"]);
        let text = known.map_or_else(|| subnet.chars().take(8).collect(), |known| (subnets.title)(known));
        joined.push(Joined {
            link: Link { href: subnets.page_of(&subnet), text },
            address: plain(&ip["ip_address"]),
            subnet,
        });
    }
    let free = own.iter().filter(|own| own["gateway_ip"].is_string() && !joined.iter().any(|j| own["id"] == *j.subnet));
    let free =
        free.map(|own| (plain(&own["id"]), format!("{} ({})", (subnets.title)(own), plain(&own["cidr"])))).collect();
    let may_write = signed.session.may_write();
    Ok(Some(Interfaces { router: id.to_owned(), csrf: csrf.to_owned(), may_write, joined, free }.render()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_two_groups_let_through_is_said_once_with_both() {
        let web = json!({"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80});
        let out = json!({"direction": "egress", "ethertype": "IPv4"});
        let groups = [
            json!({"id": "a", "name": "one", "security_group_rules": [web, out]}),
            json!({"id": "b", "name": "two", "security_group_rules": [web]}),
        ];
        let ins = passing(&groups, "ingress", str::to_owned);
        assert_eq!(ins.len(), 1);
        assert_eq!((ins[0].traffic.as_str(), ins[0].side.as_str()), ("TCP 80", "anywhere"));
        assert_eq!(ins[0].by.iter().map(|link| link.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(passing(&groups, "egress", str::to_owned)[0].traffic, "any IPv4");
    }
}
