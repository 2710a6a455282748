//! What is remembered of dropped packets beside their number.

use mizar_abi::{Address, mapped, maps::DropCount, reason::Drop};
use mizar_dataplane_tests::{
    World,
    frame::Ip,
    policy::Rule,
    world::{End, Port},
};

const VNI: u32 = 0x1234;
/// Everything out, nothing in.
const CLIENT: u32 = 1;

/// a on host 1, b on host 2; the only bouncer is host 3.
fn pair() -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    w.rules(CLIENT, 4, &[Rule::ALL_OUT]).unwrap();
    let a = w.port_of(CLIENT, 1, 11, 7, 5).unwrap();
    let b = w.port_of(CLIENT, 2, 12, 7, 6).unwrap();
    (w, a, b)
}

fn last(w: &mut World, host: u32, ep_id: u32, reason: Drop) -> DropCount {
    w.host(host).last_drop(ep_id, reason).unwrap().expect("a drop")
}

fn assert_is(count: &DropCount, proto: u8, from: (&Port, u16), to: (&Port, u16)) {
    assert_eq!((count.src, count.dst), (mapped(from.0.address), mapped(to.0.address)));
    assert_eq!((count.vni_proto as u8, count.sport, count.dport), (proto, from.1, to.1));
    assert!(count.last_ns > 0);
}

#[test]
fn a_refused_packet_is_remembered_for_its_sender_and_for_its_receiver() {
    let (mut w, a, b) = pair();
    for xdp in [false, true] {
        w.xdp = xdp;
        for port in [80, 81] {
            let syn = a.frame(Ip::tcp(a.address, b.address, 1000 + port, port, 2));
            assert!(matches!(w.send(&a, &syn).unwrap().end, End::Dropped(_)));
        }
        assert_is(&last(&mut w, 1, 11, Drop::Policy), 6, (&a, 1081), (&b, 81));
        let refused = last(&mut w, 3, 12, Drop::Refused);
        assert_is(&refused, 6, (&a, 1081), (&b, 81));
        assert_eq!((refused.packets, refused.vni_proto >> 8), (if xdp { 4 } else { 2 }, VNI));
        // A second ago it was denied; that is over now.
        w.host(1).evict().unwrap();
    }
    let frame = a.frame(Ip::udp(a.address, b.address, 5, 6, b"x"));
    assert!(matches!(w.send(&a, &frame).unwrap().end, End::Dropped(_)));
    let refused = last(&mut w, 2, 12, Drop::Refused);
    assert_is(&refused, 17, (&a, 5), (&b, 6));
    assert_eq!((refused.packets, refused.bytes), (1, last(&mut w, 1, 11, Drop::Policy).bytes - 4 * 54));
}

#[test]
fn a_frame_whose_headers_were_not_read_is_not_taken_for_an_earlier_one() {
    let (mut w, a, b) = pair();
    let good = a.frame(Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.send(&a, &good).unwrap();
    let mut foreign = good.clone();
    foreign[6] ^= 2;
    w.send(&a, &foreign).unwrap();
    let spoof = last(&mut w, 1, 11, Drop::Spoof);
    assert_eq!((spoof.packets, spoof.bytes, spoof.src), (1, good.len() as u64, Address::default()));
}

#[test]
fn a_forged_source_address_is_remembered() {
    let (mut w, a, b) = pair();
    let forged = Ip::udp([10, 0, 0, 99], b.address, 5, 6, b"x");
    w.send(&a, &a.frame(forged)).unwrap();
    let spoof = last(&mut w, 1, 11, Drop::Spoof);
    assert_eq!((spoof.src, spoof.dport), (mapped([10, 0, 0, 99]), 6));
}

#[test]
fn a_port_with_new_groups_whom_both_replicas_refuse_is_told_so_and_asks_each_once() {
    for other in [[10, 0, 0, 0], [10, 0, 9, 0]] {
        let mut w = World::new(5).unwrap();
        w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 4]]).unwrap();
        let routed = other != [10, 0, 0, 0];
        if routed {
            w.subnet(VNI, 8, other, &[[3, 4]]).unwrap();
            w.dividers(VNI, &[[5, 0]]).unwrap();
        }
        w.rules(CLIENT, 4, &[Rule::ALL_OUT]).unwrap();
        let a = w.port_of(CLIENT, 1, 11, 7, 5).unwrap();
        let b = w.port_of(CLIENT, 2, 12, if routed { 8 } else { 7 }, 6).unwrap();
        for xdp in [false, true] {
            w.xdp = xdp;
            for sport in 1000..1008 {
                let a = w.regroup(&a, CLIENT).unwrap();
                w.counts().unwrap();
                let syn = a.frame(Ip::tcp(a.address, b.address, sport, 80, 2));
                assert_eq!(w.send(&a, &syn).unwrap().end, End::Dropped(1));
                let counts = w.counts().unwrap();
                let sum = |what: &str| -> u64 {
                    counts.iter().filter(|(name, _)| name.contains(what)).map(|(_, count)| count).sum()
                };
                let drops = (sum("h1 p11 dropped policy"), sum("p12 dropped refused"), sum("dropped"));
                assert_eq!((sum("h1 request_out"), drops), (2, (1, 2, 3)), "{counts:?}");
                // A divider knows by itself which replica it asked last.
                assert!(routed || (sum("h3 denied_out"), sum("h4 denied_out")) == (1, 1), "{counts:?}");
            }
        }
    }
}
