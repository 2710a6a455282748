//! What some pages show beside facts and lists.

use crate::api::{Query, objects};
use crate::cell::Link;
use crate::fault::Fault;
use crate::handlers::{host, operator, passing};
use crate::page::Fragment;
use crate::resource::text::plain;
use crate::resource::{Extra, Resource, declared};
use crate::signed::Signed;
use askama::Template;
use serde_json::Value;

/// The parts of the page that follow changes.
pub async fn fragments(signed: &Signed, resource: &Resource, object: &Value) -> Result<Vec<Fragment>, Fault> {
    let id = object["id"].as_str().unwrap_or_default();
    Ok(match resource.extra {
        Extra::EffectiveRules => vec![Fragment::of("effective", &passing::effective(signed, object).await?)?],
        Extra::Holders if signed.session.is_admin() => vec![operator::holders(signed, id).await?],
        Extra::Host => host::fragments(signed, object).await?,
        Extra::Interfaces => vec![Fragment::of("interfaces", &interfaces(signed, id).await?)?],
        Extra::None | Extra::Holders => Vec::new(),
    })
}

/// A form of the page whose buttons stand in the part that follows changes: its id, the end of its address, and
/// what it always sends.
pub type PageForm = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The forms of an object's page that are for what it shows beside facts and lists.
pub fn forms(resource: &Resource) -> &'static [PageForm] {
    match resource.extra {
        Extra::Interfaces => {
            &[("join", "interfaces", &[("action", "add")]), ("leave", "interfaces", &[("action", "remove")])]
        }
        _ => &[],
    }
}

#[derive(Template)]
#[template(path = "interfaces.html")]
struct Interfaces {
    may_write: bool,
    joined: Vec<Joined>,
    free: Vec<(String, String)>,
}

struct Joined {
    subnet: String,
    link: Link,
    address: String,
}

async fn interfaces(signed: &Signed, id: &str) -> Result<Interfaces, Fault> {
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
    Ok(Interfaces { may_write: signed.session.may_write(), joined, free })
}
