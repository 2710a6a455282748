//! A server, two clients, and the rules that come and go.

use super::traffic::{Plan, Stayed, Traffic};
use crate::bed::Bed;
use anyhow::{Context, Result};
use mizar::{
    client::{Api, Network, PortRequest, Subnet},
    sandbox::{
        endpoint::{Endpoint, Kind},
        process::wait_until,
    },
};
use mizar_packet::{flow::DENIED_MS, policy::CONFIRM_MS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// So long nothing may arrive before a flow counts as stopped. What a replica that is behind lets in again
/// comes after a denial, and goes on while its verdict is asked for: sooner than both are over nobody can tell.
pub const WINDOW: Duration = Duration::from_millis(2_500);
const _: () = assert!(WINDOW.as_millis() >= CONFIRM_MS as u128 + DENIED_MS as u128 + 500);
/// A flow that goes on for so long is not revoked.
const FOREVER: Duration = Duration::from_secs(20);
/// For flows to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many datagrams in order show that a flow is under way.
const STEADY: u64 = 50;

const CIDR: &str = "10.7.0.0/24";
/// Where the flow that is revoked goes to, and the flow of the other client, which is not.
const SHARED: u16 = 7_001;
/// Where the first client's other flow goes to, which is not revoked either.
const OWN: u16 = 7_002;

/// What goes, by number.
pub const KINDS: [&str; 5] =
    ["a rule of one address", "a range of ports", "a wider prefix", "a rule of a group", "a rule of egress"];
/// Of [`KINDS`], that of the clients.
const EGRESS: usize = 4;

/// The streams, by number.
const REVOKED: usize = 0;
const STAYING: [usize; 2] = [1, 2];

/// One change that took a flow its rule.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Of [`KINDS`].
    pub kind: usize,
    /// What the request took.
    pub request: Duration,
    /// From its answer to the last datagram.
    pub last: Duration,
    /// From the answer that the rule is there again to the first datagram. What is left of the last denial, up
    /// to a second, is part of it.
    pub back: Duration,
}

/// A tenant with a network.
pub struct Tenant {
    name: String,
    api: Api,
    network: Network,
    subnet: Subnet,
}

impl Tenant {
    /// Makes it. All tenants use the same addresses.
    pub fn new(bed: &Bed, name: &str) -> Result<Self> {
        let api = bed.tenant(name)?;
        let network = api.create_network("revoke")?;
        let subnet = api.create_subnet(network.id, "revoke", CIDR.parse()?)?;
        Ok(Self { name: name.to_owned(), api, network, subnet })
    }

    /// A group that lets everything out, or nothing.
    fn group(&self, name: &str, open: bool) -> Result<String> {
        let body = json!({"security_group": {"name": name}});
        let made = self.api.post("/v2.0/security-groups", &body)?["security_group"].take();
        for rule in made["security_group_rules"].as_array().into_iter().flatten().filter(|_| !open) {
            self.remove(&id(rule)?)?;
        }
        id(&made)
    }

    fn rule(&self, group: &str, direction: &str, ports: (u16, u16), remote: Value) -> Result<String> {
        let mut rule = json!({"security_group_id": group, "direction": direction, "ethertype": "IPv4",
            "protocol": "udp", "port_range_min": ports.0, "port_range_max": ports.1});
        rule.as_object_mut().expect("made as an object").extend(remote.as_object().cloned().unwrap_or_default());
        let made = self.api.post("/v2.0/security-group-rules", &json!({"security_group_rule": rule}))?;
        id(&made["security_group_rule"])
    }

    fn remove(&self, rule: &str) -> Result<()> {
        self.api.delete(&format!("/v2.0/security-group-rules/{rule}"))
    }

    fn endpoint(&self, bed: &Bed, name: &str, host: usize, group: &str) -> Result<Endpoint> {
        let request = PortRequest { name, network: self.network.id, subnet: self.subnet.id, address: None };
        let port = self.api.create_port(&request)?;
        let groups = json!({"port": {"security_groups": [group]}});
        self.api.put(&format!("/v2.0/ports/{}", port.id), Some(&groups))?;
        let hosts = bed.sandbox.hosts();
        let endpoint = bed.sandbox.attach(&bed.admin, &port, &hosts[host % hosts.len()].name, Kind::Container)?;
        self.api.wait_active(port.id, PATIENCE)?;
        Ok(endpoint)
    }
}

fn id(of: &Value) -> Result<String> {
    of["id"].as_str().map(str::to_owned).context("no id in the answer")
}

/// One server with its clients.
pub struct Lane<'a> {
    tenant: &'a Tenant,
    name: String,
    /// Whose ingress rules come and go.
    servers: String,
    /// Whose egress rule does.
    clients: String,
    server: Endpoint,
    client: Endpoint,
    other: Endpoint,
}

impl<'a> Lane<'a> {
    /// Makes it, each endpoint on another host.
    pub fn new(bed: &Bed, tenant: &'a Tenant, number: usize) -> Result<Self> {
        let name = format!("{}-{number}", tenant.name);
        let named = |what: &str| format!("{name}-{what}");
        let servers = tenant.group(&named("servers"), true)?;
        let clients = tenant.group(&named("clients"), false)?;
        let others = tenant.group(&named("others"), true)?;
        let server = tenant.endpoint(bed, &named("server"), number, &servers)?;
        let client = tenant.endpoint(bed, &named("client"), number + 1, &clients)?;
        let other = tenant.endpoint(bed, &named("other"), number + 2, &others)?;
        tenant.rule(&clients, "egress", (OWN, OWN), Value::Null)?;
        tenant.rule(&servers, "ingress", (OWN, OWN), from(&client)?)?;
        tenant.rule(&servers, "ingress", (SHARED, SHARED), from(&other)?)?;
        Ok(Self { tenant, name, servers, clients, server, client, other })
    }

    /// Adds the rule that the flow of this kind of change needs.
    fn allow(&self, kind: usize) -> Result<String> {
        let (group, direction, ports, remote) = match kind {
            0 => (&self.servers, "ingress", (SHARED, SHARED), from(&self.client)?),
            1 => (&self.servers, "ingress", (SHARED, OWN), from(&self.client)?),
            2 => (&self.servers, "ingress", (SHARED, SHARED), json!({"remote_ip_prefix": CIDR})),
            3 => (&self.servers, "ingress", (SHARED, SHARED), json!({"remote_group_id": self.clients})),
            _ => (&self.clients, "egress", (SHARED, SHARED), Value::Null),
        };
        self.tenant.rule(group, direction, ports, remote)
    }

    /// Does `count` changes, one after the other; what they took, and what the flows that were allowed
    /// all the time lost.
    pub fn run(&self, count: usize) -> Result<(Vec<Change>, Vec<Stayed>)> {
        let mut egress = self.allow(EGRESS)?;
        let mut ingress = (0, self.allow(0)?);
        let plan = |what: &str, from, port| Plan { name: format!("{}, {what}", self.name), from, port };
        let plans = [
            plan("revoked", &self.client, SHARED),
            plan("same client, another port", &self.client, OWN),
            plan("another client, same port", &self.other, SHARED),
        ];
        let traffic = Traffic::start(&self.server, &plans)?;
        // A second of each, since when the paths are known.
        for stream in 0..plans.len() {
            traffic.flows(stream, 1_000, PATIENCE)?;
        }
        let counted = STAYING.map(|stream| (stream, traffic.sent(stream)));
        let mut changes = Vec::with_capacity(count);
        for number in 0..count {
            let what = || format!("{}, change {}", self.name, number + 1);
            // Each turn goes once through all kinds; the last of a turn leaves the first's rule.
            let change = if number % KINDS.len() == EGRESS {
                change(&traffic, EGRESS, || self.tenant.remove(&egress), || self.allow(EGRESS)).map(|(done, rule)| {
                    egress = rule;
                    done
                })
            } else {
                let (kind, next) = (ingress.0, (ingress.0 + 1) % EGRESS);
                change(&traffic, kind, || self.tenant.remove(&ingress.1), || self.allow(next)).map(|(done, rule)| {
                    ingress = (next, rule);
                    done
                })
            };
            changes.push(change.with_context(what)?);
        }
        Ok((changes, traffic.stop(&counted)?))
    }
}

fn from(endpoint: &Endpoint) -> Result<Value> {
    Ok(json!({"remote_ip_prefix": format!("{}/32", endpoint.address()?)}))
}

fn change(
    traffic: &Traffic,
    kind: usize,
    remove: impl FnOnce() -> Result<()>,
    add: impl FnOnce() -> Result<String>,
) -> Result<(Change, String)> {
    let asked = Instant::now();
    remove()?;
    let answered = Instant::now();
    wait_until(FOREVER, || traffic.last(REVOKED).max(answered).elapsed() > WINDOW)
        .with_context(|| format!("{}: the flow goes on {} s after it went", KINDS[kind], FOREVER.as_secs()))?;
    let last = traffic.last(REVOKED).saturating_duration_since(answered);
    let before = traffic.arrived(REVOKED);
    let rule = add()?;
    let added = Instant::now();
    wait_until(PATIENCE, || traffic.arrived(REVOKED) > before)
        .with_context(|| format!("{}: the flow does not come back", KINDS[kind]))?;
    let back = added.elapsed();
    traffic.flows(REVOKED, STEADY, PATIENCE)?;
    Ok((Change { kind, request: answered - asked, last, back }, rule))
}
