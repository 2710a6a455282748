//! What stories about a connection begin with while rules and groups change: a client, a server, who lets anybody in
//! to one port, and the bouncers between them.

use crate::{
    World,
    frame::Ip,
    policy::{Remote, Rule},
    world::{End, HostNumber, Port},
};
use mizar_abi::maps::{EventKind, FlowKey, flow_flag};

/// Of the only network.
pub const VNI: u32 = 0x1234;
/// The client's set.
pub const CLIENT: u32 = 1;
/// The server's.
pub const SERVER: u32 = 2;
/// One that nobody has yet. Its ports may send anything, as those of the others.
pub const OTHER: u32 = 3;

/// The rule by which the server is reached.
pub const OPEN: Rule = Rule { egress: false, proto: Some(6), ports: Some((80, 80)), remote: Remote::Anybody };

/// Flags of who opened a flow.
pub const OPENED: u8 = flow_flag::I_INIT | flow_flag::R_INIT;

/// A connection from a on host 1 to b on host 2, bouncers as given, rules a while ago.
pub fn connected(bouncers: [HostNumber; 2], server_host: HostNumber) -> (World, Port, Port) {
    let mut w = World::new(4).expect("the programs run");
    w.subnet(VNI, 7, [10, 0, 0, 0], &[bouncers]).expect("the programs run");
    w.rules(CLIENT, 1, &[Rule::ALL_OUT]).expect("the programs run");
    w.rules(OTHER, 1, &[Rule::ALL_OUT]).expect("the programs run");
    w.rules(SERVER, 1, &[Rule::ALL_OUT, OPEN]).expect("the programs run");
    let a = w.port_of(CLIENT, 1, 11, 7, 5).expect("the programs run");
    let b = w.port_of(SERVER, server_host, 12, 7, 6).expect("the programs run");
    w.connect(&a, &b, 1000);
    long_ago(&mut w);
    w.counts().expect("the programs run");
    (w, a, b)
}

/// Everything so far was a while ago.
pub fn long_ago(w: &mut World) {
    for host in 1..=4 {
        w.age(host, 5_000).expect("the programs run");
    }
}

/// A segment of the client.
pub fn there(a: &Port, b: &Port) -> Ip {
    Ip::tcp(a.address, b.address, 1000, 80, 0x18)
}

/// One of the server.
pub fn back(a: &Port, b: &Port) -> Ip {
    Ip::tcp(b.address, a.address, 80, 1000, 0x18)
}

/// The connection's key at the server's host.
pub fn at_server(a: &Port, b: &Port) -> FlowKey {
    b.flow(6, 80, a.address, 1000)
}

/// The connection's key at the client's.
pub fn at_client(a: &Port, b: &Port) -> FlowKey {
    a.flow(6, 1000, b.address, 80)
}

/// How many flows the programs of a host have named since the last call, of which nobody confirmed that they are allowed.
pub fn unconfirmed(w: &mut World, host: HostNumber) -> usize {
    let events = w.host(host).events().expect("the programs run");
    events.iter().filter(|e| e[..4] == [EventKind::Unconfirmed as u8, 0, 0, 0]).count()
}

/// What both sides of a flow send to the port from which they send.
pub fn ntp_packet(from: &Port, to: &Port) -> Ip {
    Ip::udp(from.address, to.address, 123, 123, b"ntp")
}

/// Both open the same flow, whose requests are on their way at once. Returns b's key.
pub fn open_both(w: &mut World, a: &Port, b: &Port) -> FlowKey {
    let leave = |w: &mut World, x: &Port, y: &Port| {
        w.host(x.host).run("endpoint_egress", &x.frame(ntp_packet(x, y)), x.ifindex, 0).expect("the programs run").frame
    };
    let (from_a, from_b) = (leave(w, a, b), leave(w, b, a));
    for frame in [from_a, from_b] {
        assert!(matches!(w.arrive(3, &frame).expect("the programs run").end, End::Delivered { .. }));
    }
    let key = b.flow(17, 123, a.address, 123);
    assert_eq!(w.host(b.host).flow(key).expect("the programs run").flags & OPENED, OPENED);
    key
}
