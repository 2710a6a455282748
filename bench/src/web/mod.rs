//! The dashboard, with a project of 10,000 ports: how long its pages take, beside the API's own time for the same
//! data, and what they weigh.
//!
//! Pages are made from the API alone, on the same machine; so what a page takes more than the requests that it is
//! made from is the dashboard's own. Requests of the API are made one after the other, as by a client that shows the
//! same; the dashboard makes some at once. No host answers: pages that ask hosts are measured by nobody here.

mod site;

use crate::{
    bed::{Bed, settings},
    http::Connection,
    machine,
    report::{percentile, table},
};
use anyhow::{Context, Result, ensure};
use mizar::client::Api;
use mizar::sandbox::{secrets::Secrets, services::Service, settings::Settings};
use serde_json::{Value, json};
use site::User;

/// Ports of the large project, and how often each page is loaded.
pub const PORTS: usize = 10_000;
/// See [`PORTS`].
pub const ROUNDS: usize = 40;

/// Ports of the project whose map is drawn whole, in subnets of so many.
const MAPPED: (usize, usize) = (1_000, 25);
/// Ports of one request.
const AT_ONCE: usize = 100;

/// What a page may take (p95 of its first byte, ms), and what it may weigh with all that it loads (kB).
const AIM_MS: f64 = 100.0;
const LIST_MS: f64 = 150.0;
const MAP_MS: f64 = 1_000.0;
const WEIGHT_KB: f64 = 150.0;

/// A page, and the requests that bring the same data.
struct Page {
    what: &'static str,
    path: String,
    api: Vec<String>,
    aim_ms: f64,
}

fn page(what: &'static str, path: impl Into<String>, api: &[&str]) -> Page {
    let api = api.iter().map(|path| format!("/v2.0/{path}")).collect();
    Page { what, path: path.into(), api, aim_ms: AIM_MS }
}

/// What was measured of a page.
struct Measured {
    page: Page,
    first_byte: Vec<f64>,
    api: Vec<f64>,
    repeat_kb: f64,
    first_kb: f64,
}

impl Measured {
    fn row(&self, who: &str) -> Vec<String> {
        let at = |ms: &[f64], percent| match ms {
            [] => String::new(),
            ms => format!("{:.1}", percentile(ms, percent)),
        };
        vec![
            format!("{who}: {}", self.page.what),
            at(&self.first_byte, 50),
            at(&self.first_byte, 95),
            format!("{:.0}", self.page.aim_ms),
            at(&self.api, 50),
            at(&self.api, 95),
            format!("{:.1}", self.first_kb),
            format!("{:.1}", self.repeat_kb),
        ]
    }

    /// What is above its aim, in words.
    fn over(&self, who: &str) -> Option<String> {
        let slow = percentile(&self.first_byte, 95) > self.page.aim_ms;
        let heavy = self.first_kb > WEIGHT_KB;
        let what = match (slow, heavy) {
            (true, true) => "time and weight",
            (true, false) => "time",
            (false, true) => "weight",
            (false, false) => return None,
        };
        Some(format!("{who}: {} ({what})", self.page.what))
    }
}

/// Loads them in turns, so that whatever else the machine does meets all of them.
fn measure(user: &mut User, pages: Vec<Page>, rounds: usize) -> Result<Vec<Measured>> {
    let new = |page| Measured { page, first_byte: Vec::new(), api: Vec::new(), repeat_kb: 0.0, first_kb: 0.0 };
    let mut measured: Vec<Measured> = pages.into_iter().map(new).collect();
    for one in &mut measured {
        let assets = user.loaded(&one.page.path)?;
        let bytes = user.page(&one.page.path)?.body.len();
        (one.repeat_kb, one.first_kb) = (bytes as f64 / 1e3, (bytes + assets) as f64 / 1e3);
    }
    for _ in 0..rounds {
        for one in &mut measured {
            one.first_byte.push(user.page(&one.page.path)?.first_byte.as_secs_f64() * 1e3);
            if one.page.api.is_empty() {
                continue;
            }
            let mut ms = 0.0;
            for path in &one.page.api {
                ms += user.api(path)?.first_byte.as_secs_f64() * 1e3;
            }
            one.api.push(ms);
        }
    }
    Ok(measured)
}

/// A tenant with what he has.
struct Tenant {
    api: Api,
    name: &'static str,
    token: String,
    project: String,
    /// Networks, subnets, ports: of each kind the ids.
    networks: Vec<String>,
    subnets: Vec<String>,
    ports: Vec<String>,
}

fn ids(answer: &Value, plural: &str) -> Result<Vec<String>> {
    let list = answer[plural].as_array().with_context(|| format!("no list `{plural}`"))?;
    list.iter().map(|one| Ok(one["id"].as_str().context("an id")?.to_owned())).collect()
}

impl Tenant {
    fn new(bed: &Bed, name: &'static str) -> Result<Self> {
        let api = bed.tenant(name)?;
        let (token, project) = (api.token()?, api.project()?);
        bed.unlimited_in(&project)?;
        Ok(Self { api, name, token, project, networks: Vec::new(), subnets: Vec::new(), ports: Vec::new() })
    }

    fn create(&self, client: &mut Connection, plural: &str, body: Value) -> Result<Vec<String>> {
        let answer = client.call("POST", &format!("/v2.0/{plural}"), &json!({ plural: body }).to_string(), 201)?;
        ids(&serde_json::from_slice(&answer)?, plural)
    }

    /// A network with subnets of these ranges, each with so many ports.
    fn fill(&mut self, client: &mut Connection, ranges: &[String], ports: usize) -> Result<()> {
        let number = self.networks.len();
        let network = self.create(client, "networks", json!([{"name": format!("network-{number}")}]))?.remove(0);
        let subnet = |cidr: &String| json!({"name": cidr, "network_id": network, "ip_version": 4, "cidr": cidr});
        let subnets = self.create(client, "subnets", ranges.iter().map(subnet).collect())?;
        for subnet in &subnets {
            let mut left = ports;
            while left > 0 {
                let first = self.ports.len();
                let some = (first..first + left.min(AT_ONCE)).map(|number| {
                    json!({"name": format!("port-{number}"), "network_id": network, "fixed_ips": [{"subnet_id": subnet}]})
                });
                let made = self.create(client, "ports", some.collect())?;
                left -= made.len();
                self.ports.extend(made);
            }
        }
        self.networks.push(network);
        self.subnets.extend(subnets);
        Ok(())
    }

    fn pages(&self) -> Result<Vec<Page>> {
        let (p, network, subnet) = (&self.project, &self.networks[0], &self.subnets[0]);
        let port = &self.ports[self.ports.len() / 2];
        let group = ids(&self.api.get("/v2.0/security-groups?name=default")?, "security_groups")?.remove(0);
        let shown = self.api.get(&format!("/v2.0/ports/{port}"))?;
        let address = shown["port"]["fixed_ips"][0]["ip_address"].as_str().context("an address")?;
        // A whole address would lead to its port's page.
        let part = address.rsplit_once('.').map(|(part, _)| format!("{part}.")).context("an IPv4 address")?;
        let all = format!(
            "ports?project_id={p}&sort_key=name&sort_dir=asc&limit=1001&fields=id&fields=name&fields=status&fields=fixed_ips&fields=device_owner&fields=device_id"
        );
        let interfaces = format!("ports?project_id={p}&device_owner=network:router_interface");
        let lists =
            ["networks", "subnets", "routers"].map(|kind| format!("{kind}?project_id={p}&sort_key=name&sort_dir=asc"));
        let map: Vec<&str> = lists.iter().chain([&all, &interfaces]).map(String::as_str).collect();
        let states = ["ERROR", "BUILD", "DOWN"].map(|status| {
            format!("ports?project_id={p}&status={status}&limit=101&fields=id&fields=name&fields=status")
        });
        let (quotas, changes) =
            (format!("quotas/{p}/details"), format!("mizar/audit?project_id={p}&limit=11&sort_key=at&sort_dir=desc"));
        let overview: Vec<&str> = states.iter().chain([&quotas, &changes]).map(String::as_str).collect();
        let of_network = format!("network_id={network}&limit=21");
        Ok(vec![
            page("overview", "/", &overview),
            Page { aim_ms: MAP_MS, ..page("map", "/map", &map) },
            page("networks", "/networks", &["networks?limit=50"]),
            page(
                "a network",
                format!("/networks/{network}"),
                &[&format!("networks/{network}"), &format!("subnets?{of_network}"), &format!("ports?{of_network}")],
            ),
            page("subnets", "/subnets", &["subnets?limit=50"]),
            page("a subnet", format!("/subnets/{subnet}"), &[&format!("subnets/{subnet}")]),
            Page { aim_ms: LIST_MS, ..page("ports", "/ports", &["ports?limit=50"]) },
            Page { aim_ms: LIST_MS, ..page("100 ports", "/ports?size=100", &["ports?limit=100"]) },
            Page {
                aim_ms: LIST_MS,
                ..page("ports by name", "/ports?sort=name", &["ports?limit=50&sort_key=name&sort_dir=asc"])
            },
            Page {
                aim_ms: LIST_MS,
                ..page(
                    "ports after the middle",
                    format!("/ports?marker={port}"),
                    &[&format!("ports?limit=50&marker={port}")],
                )
            },
            page(
                "a port",
                format!("/ports/{port}"),
                &[
                    &format!("ports/{port}"),
                    &format!("ports/{port}/effective-rules"),
                    &format!("floatingips?port_id={port}"),
                ],
            ),
            page(
                "change a port",
                format!("/ports/{port}/edit"),
                &[&format!("ports/{port}"), "security-groups?limit=301"],
            ),
            page("who can reach a port", format!("/ports/{port}/reach"), &[&format!("ports/{port}/reachable-from")]),
            page("delete a port", format!("/ports/delete?id={port}"), &[&format!("ports?id={port}")]),
            page(
                "delete a network",
                format!("/networks/delete?id={network}"),
                &[&format!("networks?id={network}"), &format!("ports?network_id={network}&limit=9")],
            ),
            page("new port", "/ports/new", &["networks?limit=301", "security-groups?limit=301"]),
            page("wizard", "/wizard", &[&format!("subnets?project_id={p}")]),
            page(
                "search by address",
                format!("/search?q={part}"),
                &[&format!("ports?fixed_ips=ip_address_substr={part}&limit=50")],
            ),
            page("search in vain", "/search?q=nobody-is-called-so", &["ports?name=nobody-is-called-so"]),
            page("security groups", "/security-groups", &["security-groups?limit=50"]),
            page("a security group", format!("/security-groups/{group}"), &[&format!("security-groups/{group}")]),
            page("routers", "/routers", &["routers?limit=50"]),
            page("floating IPs", "/floating-ips", &["floatingips?limit=50"]),
            page("subnet pools", "/subnet-pools", &["subnetpools?limit=50"]),
            page("audit log", "/audit", &["mizar/audit?limit=50&sort_key=id&sort_dir=desc"]),
            page("preferences", "/preferences", &[]),
        ])
    }
}

/// What operators look at beside that.
fn of_operator() -> Vec<Page> {
    vec![
        Page { aim_ms: LIST_MS, ..page("ports of every project", "/ports?all=1", &["ports?limit=50"]) },
        page(
            "overview of operators",
            "/",
            &["alive=false", "failing=true", "behind_s=10"]
                .map(|few| format!("mizar/hosts?{few}&limit=101&sort_key=seen_at&sort_dir=asc"))
                .each_ref()
                .map(String::as_str),
        ),
        page("hosts", "/hosts", &["mizar/hosts?limit=50&sort_key=name&sort_dir=asc"]),
        page("roles", "/roles", &["mizar/roles", "mizar/hosts", "mizar/placement"]),
        page("audit log of all", "/audit?all=1", &["mizar/audit?limit=50&sort_key=id&sort_dir=desc"]),
    ]
}

/// Runs everything.
pub fn run(ports: usize, rounds: usize) -> Result<()> {
    ensure!((100..=60_000).contains(&ports) && rounds > 0, "100 to 60,000 ports, and one round at least");
    let bed = Bed::up("benchweb", Settings { limited: false, web: true, ..settings(1) })?;
    // A sandbox has a host at least.
    bed.sandbox.stop(&Service::Agent(bed.sandbox.hosts()[0].name.clone()))?;
    let server = |url: String| url.trim_start_matches("http://").to_owned();
    let (api, web) = (server(bed.sandbox.api_url()), server(bed.sandbox.web_url()));

    let mut large = Tenant::new(&bed, "large")?;
    large.fill(&mut Connection::to_api(&api, &large.token)?, &["10.64.0.0/16".to_owned()], ports)?;
    let mut mapped = Tenant::new(&bed, "mapped")?;
    let (all, each) = MAPPED;
    let ranges: Vec<String> = (0..all / each).map(|number| format!("10.65.{number}.0/24")).collect();
    let mut client = Connection::to_api(&api, &mapped.token)?;
    for half in ranges.chunks(ranges.len().div_ceil(2)) {
        mapped.fill(&mut client, half, each)?;
    }
    println!("{}", machine::describe());

    let mut secrets = Secrets::load(bed.sandbox.layout())?;
    let mut user = |name: &str, token: &str| User::new(&web, &api, name, &secrets.of(name)?, token);
    let map = mapped.pages()?.into_iter().filter(|page| page.path == "/map").collect();
    let (of_large, of_map) = (format!("{ports} ports"), format!("{all} ports"));
    let measured = [
        (of_large, measure(&mut user(large.name, &large.token)?, large.pages()?, rounds)?),
        (of_map, measure(&mut user(mapped.name, &mapped.token)?, map, rounds)?),
        ("operator".to_owned(), measure(&mut user("admin", &bed.admin.token()?)?, of_operator(), rounds)?),
    ];
    let each = || measured.iter().flat_map(|(who, pages)| pages.iter().map(move |page| (who, page)));
    let rows: Vec<Vec<String>> = each().map(|(who, page)| page.row(who)).collect();
    let header = ["page", "first byte p50", "p95", "aim", "API p50", "p95", "first visit, kB", "again, kB"];
    table("Pages of the dashboard, ms, and what they weigh compressed", &header, &rows);
    let over: Vec<String> = each().filter_map(|(who, page)| page.over(who)).collect();
    match over.as_slice() {
        [] => println!("\nEvery page is within its aim, and below {WEIGHT_KB:.0} kB with all that it loads."),
        over => println!("\nAbove their aim ({WEIGHT_KB:.0} kB at most): {}", over.join(", ")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_its_aim_is_named() {
        let measured = |ms: f64, first_kb: f64| Measured {
            page: page("ports", "/ports", &["ports"]),
            first_byte: vec![ms; 20],
            api: Vec::new(),
            repeat_kb: 1.0,
            first_kb,
        };
        assert_eq!(measured(99.0, 149.0).over("x"), None);
        assert_eq!(measured(101.0, 149.0).over("x").as_deref(), Some("x: ports (time)"));
        assert_eq!(measured(101.0, 151.0).over("x").as_deref(), Some("x: ports (time and weight)"));
        assert_eq!(measured(9.0, 9.0).row("x")[4], "", "a page without data has no time of the API");
    }
}
