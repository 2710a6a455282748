//! Policy of a world: rules as the agent would write them into the maps, and a model of what they mean
//! that is written from the Neutron reference alone and knows no maps.

use crate::{
    World,
    frame::{self, Ip},
    links,
    world::{HostNumber, Journey, Port, underlay},
};
use anyhow::{Context, Result};
use mizar_abi::{
    mapped,
    maps::{
        ALLOW, ANYBODY, Ep, Epoch, Flow, FlowKey, PolicyAddress, PolicyKey, Verdict, cidr_identity, egress, epoch_flag,
        identity_of,
    },
    option::Kind,
    unmapped,
};
use mizar_packet::{introduce, option::Body, policy};
use std::collections::{BTreeMap, BTreeSet};

/// Whom a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// Everybody.
    Anybody,
    /// Ports of a set (a group's members, as their sets).
    Set(u32),
    /// Addresses of a prefix.
    Prefix([u8; 4], u8),
}

/// An allowing rule, as Neutron has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// What ports of the set send, rather than what they get.
    pub egress: bool,
    /// IP protocol; none: all.
    pub proto: Option<u8>,
    /// First and last port, or type and code of ICMP as numbers; none: all.
    pub ports: Option<(u16, u16)>,
    /// The other side.
    pub remote: Remote,
}

impl Rule {
    /// Ports of the set may get this from anybody.
    pub fn ingress(proto: u8, ports: (u16, u16)) -> Self {
        Self { egress: false, proto: Some(proto), ports: Some(ports), remote: Remote::Anybody }
    }

    /// The same, but from these alone.
    pub fn from(self, remote: Remote) -> Self {
        Self { remote, ..self }
    }

    /// Ports of the set may send anything to anybody.
    pub const ALL_OUT: Self = Self { egress: true, proto: None, ports: None, remote: Remote::Anybody };

    /// Ports of the set may get anything of these.
    pub fn all_in(remote: Remote) -> Self {
        Self { egress: false, proto: None, ports: None, remote }
    }
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Sent by the port whose rules are asked, rather than got.
    pub egress: bool,
    /// The other side's set, or [`ANYBODY`].
    pub identity: u32,
    /// Its address.
    pub address: [u8; 4],
    /// IP protocol.
    pub proto: u8,
    /// Destination port, or type and code.
    pub port: u16,
}

/// The model: does one of the rules allow it?
pub fn allows(rules: &[Rule], opening: &Opening) -> bool {
    rules.iter().any(|rule| {
        rule.egress == opening.egress
            && rule.proto.is_none_or(|proto| proto == opening.proto)
            && rule.ports.is_none_or(|(first, last)| (first..=last).contains(&opening.port))
            && match rule.remote {
                Remote::Anybody => true,
                Remote::Set(set) => opening.identity == set,
                Remote::Prefix(net, bits) => is_in(opening.address, net, bits),
            }
    })
}

fn is_in(address: [u8; 4], net: [u8; 4], bits: u8) -> bool {
    let shift = 32 - u32::from(bits);
    let of = |a: [u8; 4]| u64::from(u32::from_be_bytes(a)) >> shift;
    of(address) == of(net)
}

/// What a set's rules become in the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// POLICY: bits and key.
    pub policy: BTreeSet<(u32, PolicyKey)>,
    /// CIDR: bits, key and identity.
    pub cidr: BTreeMap<(u32, PolicyAddress), u32>,
    /// Egress rules name sets.
    pub needs_identity: bool,
}

/// Prefixes of 16 bits that make up a range.
fn ranges(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    let mut all = Vec::new();
    while at < end {
        let mut size = if at == 0 { 1 << 16 } else { at & at.wrapping_neg() };
        while at + size > end {
            size /= 2;
        }
        all.push((at as u16, 16 - size.ilog2()));
        at += size;
    }
    all
}

/// Compiles a set's rules. `first` numbers its prefixes on the host.
pub fn compile(set: u32, rules: &[Rule], first: u32) -> Tables {
    let mut tables = Tables::default();
    let mut number = first;
    for direction in [false, true] {
        let policy = if direction { egress(set) } else { set };
        let here: Vec<&Rule> = rules.iter().filter(|rule| rule.egress == direction).collect();
        let mut put = |identity: u32, rule: &Rule| {
            let proto = rule.proto.unwrap_or(0);
            let key = |port| PolicyKey::new(policy, identity, proto, port);
            match (rule.proto, rule.ports) {
                (None, _) => drop(tables.policy.insert((PolicyKey::ANY_BITS, key(0)))),
                (_, None) => drop(tables.policy.insert((PolicyKey::PROTO_BITS, key(0)))),
                (_, Some((low, high))) => tables.policy.extend(
                    ranges(low, high).into_iter().map(|(port, bits)| (PolicyKey::PROTO_BITS + bits, key(port))),
                ),
            }
        };
        for rule in &here {
            match rule.remote {
                Remote::Anybody => put(ANYBODY, rule),
                Remote::Set(other) => {
                    tables.needs_identity |= direction;
                    put(other, rule);
                }
                Remote::Prefix(net, bits) => {
                    // The longest prefix alone is found: all that lie in this one get its rule too.
                    let within = here.iter().filter_map(|other| match other.remote {
                        Remote::Prefix(n, b) if b >= bits && is_in(n, net, bits) => Some((n, b)),
                        _ => None,
                    });
                    for (net, bits) in within {
                        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                        let net = (u32::from_be_bytes(net) & mask).to_be_bytes();
                        let at = (32 + 96 + u32::from(bits), PolicyAddress::new(policy, mapped(net)));
                        let identity = *tables.cidr.entry(at).or_insert_with(|| {
                            number += 1;
                            cidr_identity(number)
                        });
                        put(identity, rule);
                    }
                }
            }
        }
    }
    tables
}

/// Milliseconds since boot, as the maps count them.
fn now_ms() -> u32 {
    links::since_boot_ms() as u32
}

impl World {
    /// Every host learns a set's rules, as of this generation, which is in force from now.
    pub fn rules(&mut self, set: u32, n: u32, rules: &[Rule]) -> Result<()> {
        for host in 1..=self.hosts() {
            self.rules_at(host, set, n, rules)?;
        }
        Ok(())
    }

    /// One host learns them.
    pub fn rules_at(&mut self, host: HostNumber, set: u32, n: u32, rules: &[Rule]) -> Result<()> {
        let tables = compile(set, rules, set << 12);
        let stateless = if self.stateless.contains(&set) { epoch_flag::STATELESS } else { 0 };
        let host = self.host(host);
        for policy in [set, egress(set)] {
            for (bits, key) in host.prefixes::<PolicyKey, Verdict>("POLICY")? {
                if key.policy == policy.to_be_bytes() {
                    host.remove_prefix::<_, Verdict>("POLICY", bits, key)?;
                }
            }
            for (bits, key) in host.prefixes::<PolicyAddress, u32>("CIDR")? {
                if key.policy == policy.to_be_bytes() {
                    host.remove_prefix::<_, u32>("CIDR", bits, key)?;
                }
            }
        }
        for (bits, key) in tables.policy {
            host.put_prefix("POLICY", bits, key, ALLOW)?;
        }
        for ((bits, key), identity) in tables.cidr {
            host.put_prefix("CIDR", bits, key, identity)?;
        }
        let flags = if tables.needs_identity { epoch_flag::NEED_ID } else { 0 };
        host.put("EPOCHS", set, Epoch { n, since_ms: now_ms(), flags: flags | stateless })
    }

    /// One host learns of a generation, 0 if it cannot say which, without all of its rules: those that are
    /// written are what it has.
    pub fn waits_at(&mut self, host: HostNumber, set: u32, n: u32) -> Result<()> {
        let host = self.host(host);
        let before: Epoch = host.get("EPOCHS", set).context("a set that is known")?;
        host.put("EPOCHS", set, Epoch { n, since_ms: now_ms(), flags: before.flags | epoch_flag::WAITS })
    }

    /// A port gets another set; its bouncers are told by `announce`.
    pub fn regroup(&mut self, port: &Port, set: u32) -> Result<Port> {
        let host = self.host(port.host);
        let ep: Ep = host.get("EP", port.ep_id).context("the port is wired")?;
        host.put("EP", port.ep_id, Ep { set, set_since_ms: now_ms(), ..ep })?;
        Ok(Port { set, ..*port })
    }

    /// Lets a host's past be older by so many milliseconds: rules, sets and flows.
    pub fn age(&mut self, host: HostNumber, ms: u32) -> Result<()> {
        let host = self.host(host);
        for (set, epoch) in host.all::<u32, Epoch>("EPOCHS")? {
            host.put("EPOCHS", set, Epoch { since_ms: epoch.since_ms.wrapping_sub(ms), ..epoch })?;
        }
        for (port, ep) in host.all::<u32, Ep>("EP")? {
            host.put("EP", port, Ep { set_since_ms: ep.set_since_ms.wrapping_sub(ms), ..ep })?;
        }
        for map in ["FLOW_EST", "FLOW_NEW"] {
            for (key, flow) in host.all::<FlowKey, Flow>(map)? {
                host.put(map, key, Flow { since_ms: flow.since_ms.wrapping_sub(ms), ..flow })?;
            }
        }
        Ok(())
    }

    /// The agent of `port`'s host asks a bouncer about a flow that the other side opened.
    pub fn ask(&mut self, bouncer: HostNumber, port: &Port, key: FlowKey) -> Result<Journey> {
        let flow = self.host(port.host).flow(key).context("a flow to ask about")?;
        let frame = self.question(bouncer, port, key, &flow);
        self.arrive(bouncer, &frame)
    }

    /// The agent of `port`'s host tells those of its peers which groups the port is in now: as many as it
    /// finds.
    pub fn introduce(&mut self, port: &Port) -> Result<Vec<Journey>> {
        let here = underlay(port.host);
        let host = self.host(port.host);
        let ep: Ep = host.get("EP", port.ep_id).context("the port is wired")?;
        let mut frames = Vec::new();
        for map in ["FLOW_EST", "FLOW_NEW"] {
            for (key, flow) in host.all::<FlowKey, Flow>(map)? {
                if flow.ep_id == port.ep_id && introduce::concerns(&flow, here) {
                    let body = introduce::acknowledgement(here, &key, &flow, &ep);
                    let v4 = |address| unmapped(&address).expect("IPv4");
                    let inner = Ip::new(v4(key.local), v4(key.remote), key.vni_proto as u8, Vec::new());
                    let frame = frame::acknowledgement(here, flow.peer_host, flow.peer_vni, &inner, body, links::utc());
                    frames.push((u32::from(flow.peer_host[3]), frame));
                }
            }
        }
        frames.into_iter().map(|(to, frame)| self.arrive(to, &frame)).collect()
    }

    /// What it sends.
    pub fn question(&self, bouncer: HostNumber, port: &Port, key: FlowKey, flow: &Flow) -> Vec<u8> {
        let asked = policy::received(&key, port.set, identity_of(flow.peer_identity));
        let mut body = Body::default();
        body.set_hops(6);
        body.set_origin_vni(port.vni);
        body.set_cookie(flow.cookie);
        body.set_sport(key.rport);
        body.set_dport(key.lport);
        body.set_identity(flow.peer_identity);
        body.set_epoch(u32::from(asked.port));
        body.set_ep_id(port.ep_id);
        let v4 = |address| unmapped(&address).expect("IPv4");
        let inner = Ip::new(v4(key.remote), v4(key.local), asked.proto, Vec::new());
        let (from, to) = (underlay(port.host), underlay(bouncer));
        frame::about_flow(Kind::Ask, from, to, port.vni, &inner, body, links::utc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_sum_of_its_prefixes() {
        for (first, last) in [(0, 65_535), (1, 65_534), (80, 80), (1_024, 2_047), (3, 9), (0, 0), (65_535, 65_535)] {
            let covered = |port: u16| {
                ranges(first, last).iter().filter(|(at, bits)| u32::from(port ^ at) >> (16 - bits) == 0).count()
            };
            for port in 0..=u16::MAX {
                assert_eq!(covered(port), usize::from((first..=last).contains(&port)), "{first}-{last}: {port}");
            }
            assert!(ranges(first, last).len() <= 30);
        }
    }
}
