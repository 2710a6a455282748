//! Tables that write down what is looked up in them.

use crate::dataplane::live::Lookup;
use mizar_abi::maps::{self, RouteKind, ShardKey, VniAddress, egress};
use mizar_abi::unmapped;
use mizar_packet::policy::{self, Question, Rules};
use mizar_packet::transit::Tables;
use mizar_plan::Judged;
use mizar_wire::ask::TEXT;
use mizar_wire::trace::{LOOKS, Look, RULES};
use std::cell::RefCell;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// See the module.
pub struct Recorder<'a, L> {
    tables: &'a L,
    rules: &'a dyn Fn(&Judged) -> Vec<Uuid>,
    looks: RefCell<Vec<Look>>,
}

fn address(at: &VniAddress) -> String {
    let vni = u32::from_be_bytes(at.vni);
    let address = unmapped(&at.address).map_or("?".to_owned(), |bytes| Ipv4Addr::from(bytes).to_string());
    format!("{address} in vni {vni}")
}

fn found<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or("none".to_owned(), show)
}

impl<'a, L: Lookup> Recorder<'a, L> {
    /// Of these tables; `rules` knows what decides, since it knows what their rows were made of.
    pub fn new(tables: &'a L, rules: &'a dyn Fn(&Judged) -> Vec<Uuid>) -> Self {
        Self { tables, rules, looks: RefCell::default() }
    }

    /// What was looked at.
    pub fn into_looks(self) -> Vec<Look> {
        self.looks.into_inner()
    }

    /// Writes a look down, with what it means.
    pub fn note(&self, table: &str, entry: String, says: &str) {
        self.note_rules(table, entry, says, Vec::new());
    }

    fn note_rules(&self, table: &str, entry: String, says: &str, mut rules: Vec<Uuid>) {
        let mut looks = self.looks.borrow_mut();
        if looks.len() < LOOKS {
            rules.truncate(RULES);
            let entry = entry.chars().take(TEXT).collect();
            looks.push(Look { table: table.to_owned(), entry, says: says.to_owned(), rules });
        }
    }

    /// CFG
    pub fn cfg(&self) -> Option<maps::Cfg> {
        self.tables.cfg()
    }

    /// EP
    pub fn ep(&self, port: u32) -> Option<maps::Ep> {
        self.tables.ep(port)
    }

    /// ADDR
    pub fn addr(&self, at: &VniAddress) -> Option<maps::Addr> {
        self.tables.addr(at)
    }

    /// FLOW_EST and FLOW_NEW
    pub fn flow(&self, key: &maps::FlowKey) -> Option<maps::Flow> {
        self.tables.flow(key)
    }

    /// MOVED
    pub fn moved(&self, at: &VniAddress) -> Option<maps::Moved> {
        self.tables.moved(at)
    }

    /// ROUTE, of what nobody wants to read about.
    pub fn route_quietly(&self, at: &VniAddress) -> Option<maps::Route> {
        self.tables.route(at)
    }

    /// EPOCHS
    pub fn epoch(&self, set: u32) -> Option<maps::Epoch> {
        self.tables.epoch(set)
    }
}

impl<L: Lookup> Rules for Recorder<'_, L> {
    fn policy(&self, key: &maps::PolicyKey) -> Option<maps::Verdict> {
        self.tables.policy(key)
    }
    fn cidr(&self, key: &maps::PolicyAddress) -> Option<u32> {
        self.tables.cidr(key)
    }
}

impl<L: Lookup> Tables for Recorder<'_, L> {
    fn bounce(&self, key: &VniAddress) -> Option<maps::Bounce> {
        let bounce = self.tables.bounce(key);
        let says = match bounce {
            Some(bounce) if bounce.host != 0 => "the address is a port's, which a host has",
            Some(_) => "the address is a port's, which no host has",
            None => "no port with this address is known here",
        };
        let show =
            |b: maps::Bounce| format!("host {} port {} set {} generation {}", b.host, b.ep_id, b.set, b.generation);
        self.note("BOUNCE", format!("{} = {}", address(key), found(bounce, show)), says);
        bounce
    }

    fn route(&self, key: &VniAddress) -> Option<maps::Route> {
        let route = self.tables.route(key);
        let says = match route {
            Some(route) if route.kind == RouteKind::Bouncers as u32 => {
                "the address is in a subnet whose bouncers are known here"
            }
            Some(_) => "the address is in another subnet of the network: its dividers know the way",
            None => "no subnet of the network has the address",
        };
        let show = |r: maps::Route| format!("subnet {} kind {} shards {} x 2^{}", r.subnet, r.kind, r.shards, r.log2);
        self.note("ROUTE", format!("{} = {}", address(key), found(route, show)), says);
        route
    }

    fn shard(&self, key: &ShardKey) -> Option<maps::Shard> {
        let shard = self.tables.shard(key);
        let says = if shard.is_some() { "two hosts share the work" } else { "nobody has the role yet" };
        let show = |s: maps::Shard| format!("hosts {} and {}", s.hosts[0], s.hosts[1]);
        self.note("SHARD", format!("{} of {} = {}", key.shard, key.set, found(shard, show)), says);
        shard
    }

    fn address(&self, host: u32) -> Option<[u8; 4]> {
        let address = self.tables.host(host);
        if address.is_none() {
            self.note("HOSTS", format!("{host} = none"), "the host has no known address");
        }
        address
    }

    fn is_dead(&self, host: u32) -> bool {
        let dead = self.tables.dead(host);
        if dead {
            self.note("DEAD", format!("{host}"), "a transit host does not answer and is avoided");
        }
        dead
    }

    fn epoch(&self, set: u32) -> maps::Epoch {
        self.tables.epoch(set).unwrap_or_default()
    }

    fn allows(&self, question: &Question) -> bool {
        let allowed = policy::allows(self, question);
        let Question { policy, identity, remote, proto, port } = *question;
        let remote = Ipv4Addr::from(unmapped(&remote).unwrap_or_default());
        let rules = (self.rules)(&Judged { policy, identity, remote, protocol: proto, port });
        let is_egress = policy >= egress(0);
        let says = match (is_egress, allowed, rules.is_empty()) {
            // Rules are on their way from the control plane to the tables, or could not be written.
            (_, true, true) => "the tables let it pass, but no rule that the host was told of does",
            (_, false, false) => "rules let it pass, but they are not in the tables yet",
            (true, true, _) => "an egress rule of the sender lets it out",
            (true, false, _) => "no egress rule of the sender lets it out",
            (false, true, _) => "an ingress rule of the destination lets it in",
            (false, false, _) => "no ingress rule of the destination lets it in",
        };
        let set = policy & !egress(0);
        let entry = format!("set {set} about set {identity} at {remote}, protocol {proto} number {port} = {allowed}");
        self.note_rules("POLICY", entry, says, rules);
        allowed
    }
}
