//! Two ports and a bouncer between them, whose hosts have the rules that the planner makes of a feed; and the ways to
//! ask the programs of a packet.

use mizar_abi::{
    mapped,
    maps::{
        ANYBODY, Bounce, Ep, Epoch, PolicyAddress, PolicyKey, Route, RouteKind, UNFILTERED, Verdict, VniAddress,
        identity_of,
    },
    option::{Kind, code, flag, verdict_epoch, verdict_set},
};
use mizar_compile::Compiled;
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::{REDIRECT, SHOT, UPLINK, XDP, XDP_REDIRECT},
    links::{since_boot_ms, utc},
    world::{End, Port, underlay},
};
use mizar_domain::policy::reference::{Packet, Transport};
use mizar_packet::{
    geneve::{Outer, SIGNED_OPTION},
    option::Body,
};
use mizar_plan::{Key, Planner, Value};
use mizar_wire::Scope;
use std::{collections::BTreeMap, net::Ipv4Addr};

const VNI: u32 = 77;
/// Where the rules of what comes in are.
const BOUNCER: u32 = 3;
/// Of the ports, which are among those that rules name.
const SUBNET: [u8; 4] = [10, 128, 1, 0];
const ADDRESSES: [u8; 2] = [127, 128];
/// Nothing of a case is as young as a change of rules is for a second.
const LONG_AGO_MS: u32 = 10_000;

/// The hosts: 1 and 2 with a port each, and the bouncer of all addresses.
pub struct Stage {
    w: World,
    /// What the planner wrote, by host.
    rows: [BTreeMap<Key, Value>; 3],
    /// On hosts 1 and 2.
    pub ports: [Port; 2],
    /// A source port of its own for each packet.
    sport: u16,
}

impl Stage {
    pub fn new() -> Self {
        let mut w = World::new_with(BOUNCER, |loader| {
            loader.override_global("NEW_FLOW_RATE", &u32::MAX, true).override_global("NEW_FLOW_BURST", &u32::MAX, true);
        })
        .unwrap();
        w.subnet(VNI, 7, SUBNET, &[[BOUNCER, 0]]).unwrap();
        let ports = [1, 2].map(|host| w.port(host, 10 + host, 7, ADDRESSES[host as usize - 1]).unwrap());
        // Whatever the address, it is of the same subnet.
        let everywhere = Route {
            kind: RouteKind::Bouncers as u32,
            subnet: 7,
            shards: 7,
            log2: 0,
            gateway: SUBNET,
            out_vni: VNI,
            reserved: 0,
        };
        for host in 1..=BOUNCER {
            w.host(host).put_prefix("ROUTE", 32 + 96, VniAddress::new(VNI, mapped([0; 4])), everywhere).unwrap();
        }
        Self { w, rows: Default::default(), ports, sport: 1_000 }
    }

    /// Each host gets what the planner makes of what it is sent of the feed, and the two ports are of these sets.
    pub fn learn(&mut self, all: &Compiled, sets: [u32; 2]) {
        for (host, scope) in (1..).zip([Scope::Host(1), Scope::Host(2), Scope::Subnet(1)]) {
            let mut planner = Planner::new();
            for (key, body) in mizar_drawn::received(all, &[scope]) {
                planner.put(key.clone(), body.clone());
            }
            planner.flush();
            let is_policy = |key: &Key| matches!(key, Key::Policy(_) | Key::Cidr(_) | Key::Epoch(_));
            self.write(host, planner.desired().filter(|(key, _)| is_policy(key)).collect());
        }
        for (port, set) in self.ports.iter_mut().zip(sets) {
            port.set = set;
            let host = self.w.host(port.host);
            let ep: Ep = host.get("EP", port.ep_id).unwrap();
            host.put("EP", port.ep_id, Ep { set, set_since_ms: long_ago(), ..ep }).unwrap();
            let Port { host, ep_id, generation, .. } = *port;
            self.w.tell(BOUNCER, port, Bounce { host, ep_id, set, generation }).unwrap();
        }
        self.w.counts().unwrap();
    }

    /// A host's rows become these.
    fn write(&mut self, number: u32, rows: BTreeMap<Key, Value>) {
        let host = self.w.host(number);
        let had = &mut self.rows[number as usize - 1];
        for key in had.keys().filter(|key| !rows.contains_key(key)) {
            match key {
                Key::Policy(rule) => host.remove_prefix::<PolicyKey, Verdict>("POLICY", rule.bits, rule.at),
                Key::Cidr(cidr) => host.remove_prefix::<PolicyAddress, u32>("CIDR", cidr.bits, cidr.at),
                Key::Epoch(set) => host.remove::<u32, Epoch>("EPOCHS", *set),
                other => panic!("{other:?} is not about rules"),
            }
            .unwrap();
        }
        for (key, value) in rows.iter().filter(|(key, value)| had.get(key) != Some(value)) {
            match (key, value) {
                (Key::Policy(rule), Value::Policy(verdict)) => host.put_prefix("POLICY", rule.bits, rule.at, *verdict),
                (Key::Cidr(cidr), Value::Cidr(identity)) => host.put_prefix("CIDR", cidr.bits, cidr.at, *identity),
                (Key::Epoch(set), Value::Epoch(epoch)) => {
                    host.put("EPOCHS", *set, Epoch { since_ms: long_ago(), ..*epoch })
                }
                other => panic!("{other:?} is not about rules"),
            }
            .unwrap();
        }
        *had = rows;
    }

    /// Does the bouncer of the first port's address let it in, as who has this identity and address sends it?
    pub fn lets_in(&mut self, packet: Packet, identity: u32, from: Ipv4Addr, (opens, xdp): (bool, bool)) -> bool {
        let to = self.ports[0];
        let out = self.transit(&request(packet, identity, from, &to, opens), xdp);
        let body = frame::body(&out);
        match (body.kind(), body.flags() & flag::REPLY_ONLY != 0) {
            (Some(Kind::Admitted), reply_only) => {
                let known = self.rows[BOUNCER as usize - 1].get(&Key::Epoch(to.set));
                let Some(Value::Epoch(Epoch { n, .. })) = known else { panic!("no generation of {}", to.set) };
                assert_eq!((body.epoch(), body.reason()), (verdict_epoch(to.set, *n), verdict_set(to.set)));
                assert!(!(reply_only && opens), "what opens a conversation is no reply: {packet:?}");
                !reply_only
            }
            (Some(Kind::Denied), _) => {
                assert!(opens && body.reason() == code::POLICY, "{packet:?}: {body:?}");
                false
            }
            other => panic!("{packet:?}: {other:?}"),
        }
    }

    /// A frame that the bouncer got, as it goes on.
    fn transit(&mut self, frame: &[u8], xdp: bool) -> Vec<u8> {
        let (program, ifindex, expected) = if xdp { (XDP, 0, XDP_REDIRECT) } else { ("uplink_tcx", UPLINK, REDIRECT) };
        let out = self.w.host(BOUNCER).run(program, frame, ifindex, 0).unwrap();
        assert_eq!(out.verdict, expected, "not decided by {program}");
        out.frame
    }

    /// Does the first port's host let it out, to who has this identity and address? `None`: no packet that an endpoint
    /// begins with.
    pub fn lets_out(&mut self, packet: Packet, identity: u32, to: Ipv4Addr, xdp: bool) -> Option<bool> {
        let from = self.ports[0];
        let frame = from.frame(self.begins(packet, from.address, to.octets())?);
        self.w.host(1).evict().unwrap();
        let out = self.w.host(1).run("endpoint_egress", &frame, from.ifindex, 0).unwrap();
        if out.verdict == SHOT {
            return Some(false);
        }
        let mut asks = out.frame;
        if frame::body(&asks).flags() & flag::NEED_ID != 0 {
            let set = if identity == ANYBODY { UNFILTERED } else { identity };
            let there = Bounce { host: 2, ep_id: 99, set, generation: 1 };
            self.w.host(BOUNCER).put("BOUNCE", VniAddress::new(VNI, mapped(to.octets())), there).unwrap();
            let back = self.transit(&asks, xdp);
            assert_eq!(frame::body(&back).kind(), Some(Kind::Return));
            let out = self.w.host(1).run("uplink_tcx", &back, UPLINK, 0).unwrap();
            if out.verdict == SHOT {
                return Some(false);
            }
            asks = out.frame;
        }
        let body = frame::body(&asks);
        assert_eq!((body.kind(), body.flags() & flag::NEED_ID), (Some(Kind::Req), 0), "{packet:?}");
        assert_eq!(body.identity(), identity_of(from.set));
        // What no rule lets out may be an answer, and is delivered if the other side's host waits for it.
        Some(body.flags() & flag::NO_EGRESS == 0)
    }

    /// Does it reach the other port, from this one of the two?
    pub fn arrives(&mut self, from: usize, packet: Packet, xdp: bool) -> Option<bool> {
        let (from, to) = (self.ports[from], self.ports[1 - from]);
        let frame = from.frame(self.begins(packet, from.address, to.address)?);
        for host in 1..=2 {
            self.w.host(host).evict().unwrap();
        }
        self.w.xdp = xdp;
        let journey = self.w.send(&from, &frame).unwrap();
        Some(match journey.end {
            End::Delivered { ep_id, .. } => {
                assert_eq!(ep_id, to.ep_id);
                true
            }
            End::Dropped(_) => false,
            other => panic!("{packet:?}: {other:?}"),
        })
    }

    /// Whatever was dropped since [`Self::learn`] was dropped by rules.
    pub fn assert_dropped_by_rules(&mut self) {
        let counts = self.w.counts().unwrap();
        let by_rules = |name: &str| name.ends_with("dropped policy") || name.ends_with("dropped refused");
        let others: Vec<_> = counts.iter().filter(|(name, _)| name.contains("dropped") && !by_rules(name)).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    /// The packet of an endpoint. An ICMP error begins nothing: it goes with what it quotes.
    fn begins(&mut self, packet: Packet, src: [u8; 4], dst: [u8; 4]) -> Option<Ip> {
        self.sport = self.sport.checked_add(1).unwrap_or(1_000);
        let sport = self.sport;
        Some(match (packet.protocol, packet.transport) {
            (6, Transport::Port(dport)) => Ip::tcp(src, dst, sport, dport, 2),
            (17, Transport::Port(dport)) => Ip::udp(src, dst, sport, dport, b"x"),
            (protocol, Transport::Port(dport)) => {
                Ip::new(src, dst, protocol, [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8]].concat())
            }
            (_, Transport::Icmp(3 | 4 | 5 | 11 | 12, _)) => return None,
            (_, Transport::Icmp(kind, code)) => {
                let [high, low] = sport.to_be_bytes();
                let mut message = vec![kind, code, 0, 0, high, low, 0, 1];
                let sum = frame::checksum(&message);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                Ip::new(src, dst, 1, message)
            }
            (protocol, Transport::Other) => Ip::new(src, dst, protocol, vec![0; 8]),
        })
    }
}

fn long_ago() -> u32 {
    (since_boot_ms() as u32).wrapping_sub(LONG_AGO_MS)
}

/// A request as the host of a port with this identity and address would send it to the bouncer.
fn request(packet: Packet, identity: u32, from: Ipv4Addr, to: &Port, opens: bool) -> Vec<u8> {
    let number = mizar_drawn::number(packet.transport);
    let inner = Ip::new(from.octets(), to.address, packet.protocol, vec![0; 40]).frame();
    let outer = Outer {
        src: underlay(1),
        dst: underlay(BOUNCER),
        tos: 0,
        source_port: 50_000,
        vni: VNI,
        options: 52,
        frame: inner.len(),
    };
    let mut body = Body::default();
    body.set_kind(Kind::Req);
    body.set_flags(if opens { flag::OPENS } else { 0 });
    body.set_hops(6);
    body.set_origin(underlay(1));
    body.set_origin_vni(VNI);
    body.set_cookie(7);
    body.set_sport(1_000);
    body.set_dport(number);
    body.set_identity(identity);
    body.set_epoch(number.into());
    let mut frame = [&[0; 12][..], &[8, 0], &outer.bytes(), &SIGNED_OPTION, &[0; 48], &inner].concat();
    frame::sign(&mut frame, body, utc());
    frame
}
