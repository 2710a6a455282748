//! The first property of `isolation.rs` where most ports are filtered, by groups that ask for identities and by stateless
//! ones, and rules change meanwhile: no frame of an endpoint ever reaches an endpoint of another network; nor does any
//! frame from the underlay reach one at all without a valid tag or an established flow of its sender.
//!
//! `MIZAR_FUZZ_ROUNDS` and `MIZAR_FUZZ_SEED` make it longer, and another one (`fuzz/README.md`).

use mizar_abi::{
    mapped,
    maps::{Flow, FlowKey, State, UNFILTERED},
    option::{Kind, STAMP_WINDOW, verdict_epoch, verdict_set},
};
use mizar_dataplane_tests::{
    World,
    drawn::{some_frame, some_rules},
    frame::{self, Ip, at},
    host::is_runnable,
    links::utc,
    policy::{Remote, Rule},
    random::{Random, rounds},
    world::{End, HostNumber, Journey, Port, underlay},
};

const HOSTS: HostNumber = 3;

/// Everything out, in from one's own, and to some services.
const OPEN: u32 = 1;
/// Out to groups, whose members a port's host does not know.
const BY_GROUP: u32 = 2;
/// Answers need rules.
const STATELESS: u32 = 3;
const SETS: u32 = 3;

/// The rules in force when the flows of the beginning were opened.
fn rules_of(set: u32) -> Vec<Rule> {
    let to = |set| Rule { egress: true, ..Rule::all_in(Remote::Set(set)) };
    let services = [Rule::ingress(6, (80, 80)), Rule::ingress(17, (123, 123)), Rule::ingress(1, (0x0800, 0x08ff))];
    let others: &[Rule] = match set {
        OPEN => &[Rule::ALL_OUT, Rule::all_in(Remote::Set(OPEN))],
        BY_GROUP => &[to(OPEN), to(BY_GROUP), to(STATELESS)],
        _ => &[Rule::ALL_OUT, Rule::ingress(6, (0, u16::MAX)), Rule::ingress(17, (0, 1_023))],
    };
    [others, &services].concat()
}

/// Three hosts whose ports may begin any number of flows.
fn hosts() -> World {
    World::new_with(HOSTS, |loader| {
        loader.override_global("NEW_FLOW_RATE", &u32::MAX, true);
        loader.override_global("NEW_FLOW_BURST", &u32::MAX, true);
    })
    .unwrap()
}

/// Two networks with the same addresses over three hosts, all roles shared, flows in both.
struct Cloud {
    w: World,
    ports: Vec<Port>,
    /// Of the rules of all sets.
    n: u32,
}

impl Cloud {
    fn new() -> Self {
        let mut w = hosts();
        w.stateless.insert(STATELESS);
        let mut ports = Vec::new();
        for (vni, subnet, ep) in [(100, 1, 10), (200, 11, 20)] {
            w.subnet(vni, subnet, [10, 0, 0, 0], &[[3, 1]]).unwrap();
            w.subnet(vni, subnet + 1, [10, 0, 1, 0], &[[2, 3]]).unwrap();
            w.dividers(vni, &[[3, 2]]).unwrap();
            ports.push(w.port_of(OPEN, 1, ep + 1, subnet, 5).unwrap());
            ports.push(w.port_of(BY_GROUP, 2, ep + 2, subnet, 6).unwrap());
            ports.push(w.port_of(STATELESS, 1, ep + 3, subnet + 1, 5).unwrap());
            ports.push(w.port_of(UNFILTERED, 2, ep + 4, subnet + 1, 6).unwrap());
        }
        let mut cloud = Self { w, ports, n: 0 };
        cloud.rules(rules_of);
        for net in cloud.ports.clone().chunks(4) {
            for (from, to) in [(0, 1), (0, 2), (1, 2), (3, 0)] {
                cloud.w.connect(&net[from], &net[to], 1000);
            }
        }
        cloud
    }

    fn rules(&mut self, of: impl Fn(u32) -> Vec<Rule>) {
        self.n += 1;
        for set in 1..=SETS {
            self.w.rules(set, self.n, &of(set)).unwrap();
        }
    }

    /// Every few hundred rounds rules are others, or those of the beginning again, so that what flows have is looked at
    /// again; and every port talks to all others of its network. Returns what was on the wire, with whom it was for.
    fn goes_on(&mut self, r: &mut Random) -> Vec<(HostNumber, Vec<u8>)> {
        match r.below(3) {
            0 => {
                let drawn: Vec<_> = (1..=SETS).map(|_| some_rules(r, SETS)).collect();
                self.rules(|set| drawn[set as usize - 1].clone());
            }
            _ => self.rules(rules_of),
        }
        if r.below(2) == 0 {
            (1..=HOSTS).for_each(|host| self.w.age(host, 1_100).unwrap());
        }
        let mut wire = Vec::new();
        let ports = self.ports.clone();
        for (from, to) in ports.iter().flat_map(|from| ports.iter().map(move |to| (from, to))) {
            if from.vni != to.vni || from == to {
                continue;
            }
            let (a, b) = (from.address, to.address);
            let datagram = Ip::udp(a, b, 123, 123, &[1; 40]);
            let part = |bits, bytes: std::ops::Range<usize>| Ip {
                id: 9,
                bits,
                payload: datagram.payload[bytes].to_vec(),
                ..datagram.clone()
            };
            let talk = [
                (from, Ip::tcp(a, b, r.next() as u16, 80, 2)),
                (from, Ip::tcp(a, b, 1000, 80, 2)),
                (to, Ip::tcp(b, a, 80, 1000, 0x12)),
                (from, Ip::tcp(a, b, 1000, 80, 0x18)),
                (from, datagram.clone()),
                (to, Ip::udp(b, a, 123, 123, &[2; 20])),
                (from, part(0x2000, 0..24)),
                (from, part(3, 24..48)),
                (to, Ip::unreachable(&datagram)),
                (from, Ip::echo(a, b, 8, 7)),
                (to, Ip::echo(b, a, 0, 7)),
            ];
            for (sender, ip) in talk {
                let journey = self.w.send(sender, &sender.frame(ip)).unwrap();
                wire.extend(journey.wire.into_iter().map(|f| (u32::from(f[33]), f)));
            }
        }
        wire
    }

    fn port(&self, ep_id: u32) -> &Port {
        self.ports.iter().find(|p| p.ep_id == ep_id).expect("a known port")
    }

    /// What lets a frame of the underlay in: a flow of its sender's, at the host that gets it; or, should that turn it
    /// around, at the one that it says it is from.
    fn is_of_a_flow(&mut self, host: HostNumber, frame: &[u8]) -> bool {
        let Some(tuple) = frame::carried(frame) else { return false };
        let (vni, from) = (frame::vni(frame), frame::four(frame, 26));
        let mut has = |at: HostNumber, key: FlowKey, peer: [u8; 4]| {
            self.w.host(at).flow(key).is_some_and(|flow| flow.peer_host == peer && flow.state != State::Denied as u8)
        };
        has(host, tuple.received(vni), from)
            || (1..=HOSTS)
                .find(|sender| underlay(*sender) == from)
                .is_some_and(|sender| has(sender, tuple.sent(vni), underlay(host)))
    }
}

/// Rounds between changes of the rules.
const CHANGE: u32 = 500;

#[test]
fn no_frame_of_a_filtered_endpoint_reaches_another_network() {
    let mut cloud = Cloud::new();
    let mut r = Random::of_story(11);
    let (mut delivered, rounds) = (0, rounds(20_000));
    for round in 0..rounds {
        if round % CHANGE == 0 {
            cloud.goes_on(&mut r);
        }
        cloud.w.xdp = round % 2 == 0;
        let from = *r.one(&cloud.ports);
        let frame = some_frame(&mut r, round, &from, &cloud.ports);
        if !is_runnable(&frame) {
            continue;
        }
        let journey = cloud.w.send(&from, &frame).unwrap();
        if let End::Delivered { ep_id, .. } = journey.end {
            delivered += 1;
            assert_eq!(cloud.port(ep_id).vni, from.vni, "round {round}: {frame:02x?} from {from:?}");
        }
    }
    assert!(delivered > rounds / 20, "{delivered} of {rounds} reached someone: the property means something");
}

#[test]
fn no_frame_of_the_underlay_without_a_tag_or_a_flow_is_delivered() {
    let mut cloud = Cloud::new();
    let mut r = Random::of_story(12);
    let (mut tagged, mut of_flows, rounds) = (0, 0, rounds(20_000));
    // What was on the wire, to be changed.
    let mut wire = Vec::new();
    for round in 0..rounds {
        if round % CHANGE == 0 {
            wire = cloud.goes_on(&mut r);
        }
        cloud.w.xdp = round % 2 == 0;
        let (host, mut frame) = r.one(&wire).clone();
        if frame::is_signed(&frame, utc() - STAMP_WINDOW) {
            // As if it had been sent just now.
            let body = frame::body(&frame);
            frame::sign(&mut frame, body, utc());
        }
        for _ in 0..r.below(5) {
            // Anywhere in the outer headers, the option, or the inner headers.
            let at = 14 + r.below(frame.len().min(160) - 14);
            frame[at] = *r.one(&[r.0 as u8, frame[at] ^ 1, 0, 0xff]);
        }
        if r.below(10) == 0 {
            frame.truncate(14 + r.below(frame.len() - 14));
        }
        if !is_runnable(&frame) {
            continue;
        }
        let by_tag = frame::is_signed(&frame, utc());
        let by_flow = cloud.is_of_a_flow(host, &frame);
        let journey = cloud.w.arrive(host, &frame).unwrap();
        if let End::Delivered { ep_id, .. } = journey.end {
            assert_eq!(cloud.port(ep_id).vni, frame::vni(&frame), "round {round}: {frame:02x?}");
            assert!(by_tag || by_flow, "round {round}: neither tag nor flow, by {:?}: {frame:02x?}", journey.hosts);
            tagged += u32::from(by_tag);
            of_flows += u32::from(by_flow && !by_tag);
        }
    }
    assert!(
        tagged.min(of_flows) > rounds / 400,
        "{tagged} by a tag, {of_flows} by a flow: the property means something"
    );
}

/// A frame with arbitrary fields that a host which knows the key has signed, and whom it is for. Half of them are
/// control packets; of these, and of the others, half are about a flow that there is.
fn some_signed(r: &mut Random, cloud: &mut Cloud, template: &[u8], flows: &[(HostNumber, FlowKey, Flow)]) -> Signed {
    let mut frame = template.to_vec();
    let control = r.below(2) == 0;
    let (known, key, flow) = r.one(flows);
    let host = if r.below(2) == 0 { *known } else { 1 + r.below(HOSTS) };
    // Whom it is from gets the answer: another host.
    let other = (host + r.below(2u32)) % HOSTS + 1;
    let mut body = frame::body(&frame);
    let kind = 1 + r.below(12) as u8;
    let vni = *r.one(&[100u32, 200, 300]);
    let vni = if r.below(2) == 0 { key.vni_proto >> 8 } else { vni };
    let v4 = |address: &[u8; 16]| [address[12], address[13], address[14], address[15]];
    let set = 1 + r.below(SETS);
    let (mut src, mut dst, mut proto) =
        (r.one(&cloud.ports).address, r.one(&cloud.ports).address, *r.one(&[6, 6, 17, 1]));
    body.set_sport(*r.one(&[80, 1000, 5000]));
    body.set_dport(*r.one(&[80, 1000, 5000]));
    body.set_cookie(if r.below(2) == 0 { 0 } else { r.next() as u32 });
    body.set_epoch(*r.one(&[0, 80, verdict_epoch(set, cloud.n), verdict_epoch(set, cloud.n - 1)]));
    body.set_reason(*r.one(&[0, 1, 2, 3, verdict_set(set), r.0 as u8]));
    body.set_identity(r.below(SETS + 1));
    body.set_ep_id(r.one(&cloud.ports).ep_id);
    if r.below(2) == 0 {
        let flow = cloud.w.host(*known).flow(*key).unwrap_or(*flow);
        proto = key.vni_proto as u8;
        body.set_cookie(flow.cookie);
        if r.below(2) == 0 {
            (src, dst) = (v4(&key.remote), v4(&key.local));
            body.set_sport(key.rport);
            body.set_dport(key.lport);
            body.set_ep_id(flow.ep_id);
        } else {
            (src, dst) = (v4(&key.local), v4(&key.remote));
            body.set_sport(key.lport);
            body.set_dport(key.rport);
        }
    }
    body.set_kind_number(kind);
    body.set_flags(*r.one(&[0, 1, 2, 8, 32, 64, 128, 0xff]));
    body.set_hops(r.below(7) as u8);
    body.set_origin(underlay(other));
    body.set_origin_vni(*r.one(&[100, 200]));
    frame[46..49].copy_from_slice(&vni.to_be_bytes()[1..]);
    let inner = at::BODY + 48 + 14;
    frame[inner + 9] = proto;
    frame[inner + 12..inner + 16].copy_from_slice(&src);
    frame[inner + 16..inner + 20].copy_from_slice(&dst);
    if control {
        // OAM. What is about a flow has headers that name it.
        frame[at::GENEVE + 1] |= 0x80;
        let about_flow = [Kind::Ack, Kind::Denied, Kind::Ask, Kind::Answer].map(|kind| kind as u8);
        frame.truncate(if about_flow.contains(&kind) { inner + 20 } else { inner - 14 });
        let (total, udp) = (frame.len() as u16 - 14, frame.len() as u16 - 34);
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[38..40].copy_from_slice(&udp.to_be_bytes());
    }
    frame::set_outer(&mut frame, underlay(other), underlay(host));
    frame::sign(&mut frame, body, utc());
    Signed { host, frame, control, vnis: [vni, body.origin_vni()] }
}

struct Signed {
    host: HostNumber,
    frame: Vec<u8>,
    control: bool,
    /// Its own, and that of its origin.
    vnis: [u32; 2],
}

/// Even with the key: no verdict makes a host deliver into a network that the port is not in, nor a control packet
/// deliver anything, and every flow that exists belongs to a port of its network.
#[test]
fn signed_and_control_packets_about_filtered_ports_never_cross_networks() {
    let mut cloud = Cloud::new();
    let mut r = Random::of_story(14);
    let (from, to) = (cloud.ports[0], cloud.ports[1]);
    let first = cloud.w.send(&from, &from.frame(Ip::tcp(from.address, to.address, 5000, 80, 2))).unwrap();
    let template = first.wire[0].clone();
    let (mut delivered, rounds) = (0, rounds(20_000));
    let mut flows = Vec::new();
    cloud.w.counts().unwrap();
    for round in 0..rounds {
        if round % CHANGE == 0 {
            cloud.goes_on(&mut r);
            flows = all_flows(&mut cloud.w);
        }
        cloud.w.xdp = round % 2 == 0;
        let Signed { host, frame, control, vnis } = some_signed(&mut r, &mut cloud, &template, &flows);
        let journey: Journey = cloud.w.arrive(host, &frame).unwrap();
        if let End::Delivered { ep_id, .. } = journey.end {
            delivered += 1;
            let port = cloud.port(ep_id);
            // To its destination; or back in the VNI of its origin, as an error or to be asked again.
            assert!(vnis.contains(&port.vni), "round {round}: {:?} reached {port:?}", frame::body(&frame));
            assert!(!control, "round {round}: {:?} brought {port:?} something", frame::body(&frame));
        }
    }
    assert!(delivered > rounds / 200, "{delivered} of {rounds}");
    let counts = cloud.w.counts().unwrap();
    for counter in
        ["admitted_in", "ack_in", "return_in", "denied_in", "ask_answered", "answer_in", "probe", "probe_reply"]
    {
        let counted: u64 = (1..=HOSTS).filter_map(|host| counts.get(&format!("h{host} {counter}"))).sum();
        assert!(counted > 0, "{counter}: {counts:?}");
    }
    for (host, key, flow) in all_flows(&mut cloud.w) {
        let port = cloud.port(flow.ep_id);
        assert_eq!((key.vni_proto >> 8, key.local), (port.vni, mapped(port.address)), "{key:?} {flow:?}");
        assert_eq!(port.host, host);
    }
}

/// With the host that has each.
fn all_flows(w: &mut World) -> Vec<(HostNumber, FlowKey, Flow)> {
    let mut all = Vec::new();
    for (host, map) in (1..=HOSTS).flat_map(|host| [(host, "FLOW_EST"), (host, "FLOW_NEW")]) {
        let flows = w.host(host).all::<FlowKey, Flow>(map).unwrap();
        all.extend(flows.into_iter().map(|(key, flow)| (host, key, flow)));
    }
    all
}
