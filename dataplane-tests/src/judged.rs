//! What stories about verdicts begin with: sets with simple rules, and ports that have them.

use crate::{
    World,
    frame::Ip,
    policy::{Remote, Rule},
    world::{HostNumber, Port},
};
use mizar_abi::maps::Flow;

/// Of the only network.
pub const VNI: u32 = 0x1234;
/// Default group: everything out, in from the group.
pub const DEFAULT: u32 = 1;
/// A web server: port 80 from anybody, everything out.
pub const WEB: u32 = 2;
/// Nothing at all.
pub const CLOSED: u32 = 3;

/// Hosts 1 and 2 for ports, bouncers 3 and 4, which hold the rules.
pub fn world(bouncers: [HostNumber; 2]) -> World {
    let mut w = World::new(4).expect("the programs run");
    w.subnet(VNI, 7, [10, 0, 0, 0], &[bouncers]).expect("the programs run");
    w.rules(DEFAULT, 4, &[Rule::ALL_OUT, Rule::all_in(Remote::Set(DEFAULT))]).expect("the programs run");
    w.rules(WEB, 5, &[Rule::ALL_OUT, Rule::ingress(6, (80, 80))]).expect("the programs run");
    w.rules(CLOSED, 6, &[]).expect("the programs run");
    w
}

/// a on host 1, b on host 2; the only bouncer is host 3.
pub fn pair(a: u32, b: u32) -> (World, Port, Port) {
    let mut w = world([3, 0]);
    let a = w.port_of(a, 1, 11, 7, 5).expect("the programs run");
    let b = w.port_of(b, 2, 12, 7, 6).expect("the programs run");
    (w, a, b)
}

/// Opens a connection.
pub fn syn(from: &Port, to: &Port, sport: u16, dport: u16) -> Ip {
    Ip::tcp(from.address, to.address, sport, dport, 2)
}

/// A segment of one.
pub fn data(from: &Port, to: &Port, sport: u16, dport: u16) -> Ip {
    Ip::tcp(from.address, to.address, sport, dport, 0x18)
}

/// A flow as the host of `port` has it: protocol, own port, address and port of the other side.
pub fn state(w: &mut World, port: &Port, flow: (u8, u16, [u8; 4], u16)) -> Flow {
    w.host(port.host).flow(port.flow(flow.0, flow.1, flow.2, flow.3)).expect("a flow")
}
