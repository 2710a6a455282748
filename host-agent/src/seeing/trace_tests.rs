//! Walks through tables of a small cloud: host 1 has port 11, host 3 has port 12, host 2 bounces for their subnet.

use super::*;
use mizar_abi::maps::{
    ALLOW, Addr, Bounce, Cfg, Epoch, HostAddress, Moved, PolicyAddress, PolicyKey, Route, Shard, ShardKey, Verdict,
    epoch_flag,
};
use mizar_plan::Planner;
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Scope};
use std::collections::BTreeMap;

const VNI: u32 = 5000;
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const SET_A: u32 = 3;
const SET_B: u32 = 4;
const RULE: Uuid = Uuid::from_u128(77);

/// Tables as maps, all prefixes of which are whole.
#[derive(Clone, Default)]
struct World {
    number: u32,
    ep: BTreeMap<u32, Ep>,
    addr: BTreeMap<VniAddress, Addr>,
    flow: BTreeMap<FlowKey, Flow>,
    moved: BTreeMap<VniAddress, Moved>,
    subnets: Vec<[u8; 3]>,
    kind: u32,
    shard: BTreeMap<ShardKey, Shard>,
    bounce: BTreeMap<VniAddress, Bounce>,
    allowed: Vec<PolicyKey>,
    flags: u32,
}

impl Lookup for World {
    fn cfg(&self) -> Option<Cfg> {
        Some(Cfg { number: self.number, host: [192, 0, 2, self.number as u8], ..Cfg::default() })
    }
    fn host(&self, number: u32) -> Option<HostAddress> {
        Some([192, 0, 2, number as u8])
    }
    fn dead(&self, _: u32) -> bool {
        false
    }
    fn ep(&self, port: u32) -> Option<Ep> {
        self.ep.get(&port).copied()
    }
    fn addr(&self, at: &VniAddress) -> Option<Addr> {
        self.addr.get(at).copied()
    }
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flow.get(key).copied()
    }
    fn moved(&self, at: &VniAddress) -> Option<Moved> {
        self.moved.get(at).copied()
    }
    fn route(&self, at: &VniAddress) -> Option<Route> {
        let subnet = self.subnets.iter().position(|net| at.address[12..15] == net[..])? as u32;
        Some(Route { kind: self.kind, subnet, out_vni: VNI, ..Route::default() })
    }
    fn shard(&self, key: &ShardKey) -> Option<Shard> {
        self.shard.get(key).copied()
    }
    fn bounce(&self, at: &VniAddress) -> Option<Bounce> {
        self.bounce.get(at).copied()
    }
    fn policy(&self, key: &PolicyKey) -> Option<Verdict> {
        self.allowed.contains(key).then_some(ALLOW)
    }
    fn cidr(&self, _: &PolicyAddress) -> Option<u32> {
        None
    }
    fn epoch(&self, _: u32) -> Option<Epoch> {
        Some(Epoch { n: 9, since_ms: 0, flags: self.flags })
    }
}

fn at(address: Ipv4Addr) -> VniAddress {
    VniAddress::new(VNI, mapped(address.octets()))
}

fn host(number: u32) -> World {
    let mut world = World { number, subnets: vec![[10, 0, 0]], kind: RouteKind::Bouncers as u32, ..World::default() };
    world.shard.insert(ShardKey { set: 0, shard: 0 }, Shard { hosts: [2, 0], pairs: 0 });
    let (port, address, set) = if number == 1 { (11, A, SET_A) } else { (12, B, SET_B) };
    if number != 2 {
        world.ep.insert(port, Ep { vni: VNI, set, ..Ep::default() });
        world.addr.insert(at(address), Addr { ep_id: port, flags: addr_flag::OWN });
    } else {
        world.bounce.insert(at(B), Bounce { host: 3, ep_id: 12, set: SET_B, generation: 1 });
    }
    world
}

fn tcp(port: u16) -> Packet {
    Packet { source: A, destination: B, protocol: 6, source_port: 40_000, destination_port: port }
}

fn request() -> Request {
    Request { vni: VNI, identity: SET_A, flags: flag::OPENS, tries: 0, source_port: 50_000 }
}

/// A planner that knows a rule of set B: TCP 443 from anybody; and one of set A: everything out.
fn planner() -> Planner {
    let mut planner = Planner::new();
    let mut put = |scope, key: u32, body: Body| {
        planner.put(EntryKey { scope, slot: 0, kind: body.kind(), key: key.to_be_bytes().to_vec() }, body);
    };
    let rule = |protocol, ports| body::Rule { id: RULE, ipv6: false, protocol, ports, remote: body::Remote::Any };
    let group = |number, rules| body::Group { number, generation: 1, stateless: false, rules };
    put(Scope::Group(2), 2, Body::Group(group(2, vec![rule(Some(6), [443, 443])])));
    put(Scope::Member(1), 1, Body::Member(group(1, vec![rule(None, [0, u16::MAX])])));
    let bounce = body::Bounce {
        vni: VNI,
        address: B.into(),
        subnet: 0,
        host: 3,
        port: 12,
        generation: 1,
        set: Some(body::GroupSet { number: SET_B, groups: vec![2], labels: None }),
    };
    put(Scope::Subnet(0), 0, Body::Bounce(bounce));
    let port = body::Port {
        id: Uuid::nil(),
        number: 11,
        generation: 1,
        name: String::new(),
        vni: VNI,
        mac: "fa:16:3e:00:00:01".into(),
        fixed_ips: vec![],
        pairs: vec![],
        port_security: true,
        admin_up: true,
        set: Some(body::GroupSet { number: SET_A, groups: vec![1], labels: None }),
        dhcp_options: vec![],
    };
    put(Scope::Host(1), 1, Body::Port(port));
    planner
}

fn ask(world: &World, packet: Packet, at: At) -> Answer {
    let planner = planner();
    answer(world, &|judged| planner.rules_about(judged), &Question { packet, at })
}

fn tables(answer: &Answer) -> Vec<&str> {
    answer.looks.iter().map(|look| look.table.as_str()).collect()
}

fn leave(tries: u8, identity: Option<u32>) -> At {
    At::Leave { port: 11, identity, tries }
}

fn reason(answer: &Answer) -> &str {
    match &answer.then {
        Then::Drop { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// Host 1, whose port may send everything.
fn sender() -> World {
    let out = mizar_abi::maps::egress(SET_A);
    World { allowed: vec![PolicyKey::new(out, 0, 6, 443), PolicyKey::new(out, 0, 6, 80)], ..host(1) }
}

#[test]
fn a_first_packet_is_asked_of_a_bouncer_and_the_rule_that_lets_it_out_is_named() {
    let got = ask(&sender(), tcp(443), leave(0, None));
    let Then::Ask { host: 2, role: Role::Bouncer, request } = got.then else { panic!("{got:?}") };
    assert_eq!((request.vni, request.identity, request.flags), (VNI, SET_A, flag::OPENS));
    assert_eq!(tables(&got), ["EP", "ADDR", "FLOW", "POLICY", "ROUTE", "SHARD"]);
    assert_eq!(got.looks[3].rules, [RULE]);
    let flow = &got.looks[2].entry;
    assert!(flow.contains(&format!("{A} number 40000 and {B} number 443, protocol 6, vni {VNI}")), "{flow}");
    assert!(request.source_port >= path::FIRST_PORT);
}

#[test]
fn what_the_sender_may_not_is_dropped_where_the_programs_drop_it() {
    let forged = Packet { source: B, ..tcp(443) };
    assert_eq!(reason(&ask(&sender(), forged, leave(0, None))), "spoof");
    let many = Packet { destination: Ipv4Addr::BROADCAST, ..tcp(443) };
    assert_eq!(reason(&ask(&sender(), many, leave(0, None))), "multicast");
    let denied = ask(&host(1), tcp(443), leave(0, None));
    assert_eq!(reason(&denied), "policy");
    // The rule is known and not in the table: that is said, not passed over.
    assert!(denied.looks.iter().any(|look| look.says.contains("not in the tables yet")), "{denied:?}");
    assert_eq!(reason(&ask(&host(2), tcp(443), leave(0, None))), "no_port");
    let mut down = sender();
    down.ep.entry(11).and_modify(|ep| ep.flags = ep_flag::DOWN);
    assert_eq!(reason(&ask(&down, tcp(443), leave(0, None))), "admin_down");
    let far = Packet { destination: Ipv4Addr::new(10, 9, 0, 1), ..tcp(443) };
    let got = ask(&sender(), far, leave(0, None));
    assert!(
        matches!(got.then, Then::Drop { ref reason, told: Some(Told::NetUnreachable), .. } if reason == "no_route"),
        "{got:?}"
    );
    let alone = World { shard: BTreeMap::new(), ..sender() };
    assert_eq!(reason(&ask(&alone, tcp(443), leave(0, None))), "no_transit");
}

#[test]
fn egress_by_group_asks_first_who_the_destination_is() {
    let out = mizar_abi::maps::egress(SET_A);
    let by_group = World { allowed: vec![PolicyKey::new(out, SET_B, 6, 443)], flags: epoch_flag::NEED_ID, ..host(1) };
    let got = ask(&by_group, tcp(443), leave(0, None));
    let Then::Ask { request, .. } = got.then else { panic!("{got:?}") };
    assert_eq!(request.flags & flag::NEED_ID, flag::NEED_ID);
    let got = ask(&host(2), tcp(443), At::Carry(request));
    assert_eq!(got.then, Then::Identify { identity: SET_B });
    let got = ask(&by_group, tcp(443), leave(0, Some(SET_B)));
    assert!(matches!(got.then, Then::Ask { request, .. } if request.flags & flag::NEED_ID == 0), "{got:?}");
    assert_eq!(reason(&ask(&by_group, tcp(443), leave(0, Some(SET_A)))), "policy");
}

#[test]
fn a_bouncer_admits_what_a_rule_lets_in_and_refuses_the_rest() {
    let lets = World { allowed: vec![PolicyKey::new(SET_B, 0, 6, 443)], ..host(2) };
    let got = ask(&lets, tcp(443), At::Carry(request()));
    let Then::Admit { host: 3, admission } = got.then else { panic!("{got:?}") };
    assert_eq!((admission.port, admission.reply_only), (12, false));
    assert_eq!(
        got.looks.iter().find(|look| look.table == "POLICY").map(|look| look.rules.as_slice()),
        Some(&[RULE][..])
    );
    let refused = ask(&lets, tcp(80), At::Carry(request()));
    assert_eq!(reason(&refused), "refused");
    assert!(
        refused.looks.iter().any(|look| look.says == "no ingress rule of the destination lets it in"),
        "{refused:?}"
    );
    // A datagram may be an answer, which the endpoint's host alone can tell.
    let datagram = Packet { protocol: 17, ..tcp(80) };
    let got = ask(&lets, datagram, At::Carry(Request { flags: 0, ..request() }));
    let Then::Admit { admission, .. } = got.then else { panic!("{got:?}") };
    assert!(admission.reply_only);
    assert_eq!(reason(&ask(&host(3), datagram, At::Arrive(admission))), "refused");
    let nobody = Packet { destination: Ipv4Addr::new(10, 0, 0, 99), ..tcp(443) };
    let got = ask(&lets, nobody, At::Carry(request()));
    assert!(matches!(got.then, Then::Drop { told: Some(Told::HostUnreachable), .. }), "{got:?}");
}

#[test]
fn the_endpoints_host_delivers_follows_a_move_and_sends_back_what_was_judged_by_old_rules() {
    let epoch = verdict_epoch(SET_B, 9);
    let admission = Admission { vni: VNI, port: 12, epoch, mark: verdict_set(SET_B), reply_only: false };
    assert_eq!(ask(&host(3), tcp(443), At::Arrive(admission)).then, Then::Deliver { port: 12 });
    let old = Admission { epoch: verdict_epoch(SET_B, 8), ..admission };
    assert_eq!(ask(&host(3), tcp(443), At::Arrive(old)).then, Then::Return);
    let mut former = host(1);
    assert_eq!(reason(&ask(&former, tcp(443), At::Arrive(admission))), "no_endpoint");
    former.moved.insert(at(B), Moved { host: 3, ep_id: 12, generation: 2, until: u32::MAX });
    assert!(matches!(ask(&former, tcp(443), At::Arrive(admission)).then, Then::Admit { host: 3, .. }));
}

#[test]
fn of_stateless_groups_each_direction_needs_what_rules_say_of_it_and_the_trace_says_so() {
    let says = |answer: &Answer, what: &str| answer.looks.iter().any(|look| look.says.contains(what));
    let a = World { flags: epoch_flag::STATELESS, ..sender() };
    assert!(says(&ask(&a, tcp(443), leave(0, None)), "an answer needs an ingress rule"));
    assert!(!says(&ask(&sender(), tcp(443), leave(0, None)), "stateless"));
    let admission =
        Admission { vni: VNI, port: 12, epoch: verdict_epoch(SET_B, 9), mark: verdict_set(SET_B), reply_only: false };
    let mut b = World { flags: epoch_flag::STATELESS, ..host(3) };
    let got = ask(&b, tcp(443), At::Arrive(admission));
    assert_eq!(got.then, Then::Deliver { port: 12 });
    assert!(says(&got, "an answer needs an egress rule"));
    // Though the port has asked for it.
    let now = clock::now();
    let stamp = mizar_packet::policy::stamp(SET_B, 9);
    let from = Ipv4Addr::new(192, 0, 2, 1);
    let known = Flow {
        state: State::Est as u8,
        last_seen: now.s,
        peer_vni: VNI,
        ep_id: 12,
        peer_host: from.octets(),
        out_epoch: stamp,
        in_epoch: stamp,
        ..Flow::default()
    };
    let datagram = Packet { protocol: 17, ..tcp(443) };
    let key = inner(&datagram).expect("a packet").tuple.received(VNI);
    b.flow.insert(key, Flow { flags: flow_flag::I_INIT, ..known });
    let answer = At::Arrive(Admission { reply_only: true, ..admission });
    assert_eq!(reason(&ask(&b, datagram, answer.clone())), "refused");
    let direct = At::Direct { vni: VNI, from };
    assert_eq!(ask(&b, datagram, direct.clone()).then, Then::Return, "bouncers are to be asked");
    b.flags = 0;
    assert_eq!(ask(&b, datagram, answer).then, Then::Deliver { port: 12 });
    assert_eq!(ask(&b, datagram, direct.clone()).then, Then::Deliver { port: 12 });
    b.flags = epoch_flag::STATELESS;
    b.flow.insert(key, Flow { flags: flow_flag::R_INIT, ..known });
    assert_eq!(ask(&b, datagram, direct).then, Then::Deliver { port: 12 });
}

#[test]
fn a_known_flow_goes_straight_unless_the_other_side_forgot_it() {
    let now = clock::now();
    let stamp = |set| mizar_packet::policy::stamp(set, 9);
    let known = Flow { state: State::Est as u8, last_seen: now.s, peer_vni: VNI, ..Flow::default() };
    let mut a = sender();
    let sent = inner(&tcp(443)).expect("a packet").tuple.sent(VNI);
    let ours =
        Flow { ep_id: 11, flags: flow_flag::I_INIT, out_epoch: stamp(SET_A), peer_host: [192, 0, 2, 3], ..known };
    a.flow.insert(sent, ours);
    let got = ask(&a, tcp(443), leave(0, None));
    assert_eq!(got.then, Then::Direct { host: Ipv4Addr::new(192, 0, 2, 3), vni: VNI });
    let entry = got.looks.iter().find(|look| look.table == "FLOW").map(|look| look.entry.clone()).unwrap_or_default();
    assert!(entry.contains("= established, opened here, peer at host 192.0.2.3"), "{entry}");
    let from = Ipv4Addr::new(192, 0, 2, 1);
    let mut b = host(3);
    let direct = At::Direct { vni: VNI, from };
    assert_eq!(ask(&b, tcp(443), direct.clone()).then, Then::Return);
    let received = inner(&tcp(443)).expect("a packet").tuple.received(VNI);
    let theirs =
        Flow { ep_id: 12, flags: flow_flag::R_INIT, in_epoch: stamp(SET_B), peer_host: from.octets(), ..known };
    b.flow.insert(received, theirs);
    assert_eq!(ask(&b, tcp(443), direct).then, Then::Deliver { port: 12 });
    // Asked anew, what is known does not count.
    assert!(matches!(ask(&a, tcp(443), leave(1, None)).then, Then::Ask { .. }));
    a.flow.insert(sent, Flow { state: State::Denied as u8, since_ms: now.ms, ..ours });
    assert_eq!(reason(&ask(&a, tcp(443), leave(0, None))), "flow_denied");
}

#[test]
fn answers_are_never_longer_than_their_readers_take() {
    let got = ask(&sender(), tcp(443), leave(0, None));
    let wire = mizar_wire::ask::Answer::Trace(got);
    assert_eq!(mizar_wire::ask::Answer::from_value(wire.to_value()).expect("it is read"), wire);
}
