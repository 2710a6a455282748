//! A transit host that owes an answer, and how it shows that it lives.

use mizar_abi::{maps::Pending, option::Kind};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::{REDIRECT, SHOT, UPLINK, XDP_REDIRECT, XDP_TX},
    links::utc,
    world::{Port, underlay},
};

fn world() -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(9, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

fn since(w: &mut World) -> Option<u32> {
    w.host(1).get::<[u8; 4], Pending>("PENDING", underlay(3)).map(|p| p.since_ms)
}

#[test]
fn a_bouncer_owes_an_answer_until_the_flow_is_acknowledged() {
    let (mut w, a, b) = world();
    assert_eq!(since(&mut w), None);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 2));
    let first = since(&mut w).unwrap();
    assert_ne!(first, 0);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 2000, 80, 2));
    assert_eq!(since(&mut w), Some(first), "the oldest counts");
    w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x12));
    assert_eq!(since(&mut w), Some(0));
}

#[test]
fn a_denial_is_an_answer_too() {
    let (mut w, a, _) = world();
    w.send(&a, &a.frame(Ip::udp(a.address, [10, 0, 0, 77], 5, 6, b"x"))).unwrap();
    assert_eq!(since(&mut w), Some(0));
}

#[test]
fn a_probe_is_answered_in_xdp_and_in_tcx_and_the_reply_is_noted() {
    let (mut w, a, b) = world();
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.counts().unwrap();
    let probe = frame::control(Kind::Probe, underlay(1), underlay(3), 0xabcd, utc());
    for (program, verdict) in [("uplink_xdp", XDP_REDIRECT), ("uplink_tcx", REDIRECT)] {
        let outcome = w.host(3).run(program, &probe, if program == "uplink_tcx" { UPLINK } else { 0 }, 0).unwrap();
        assert_eq!(outcome.verdict, verdict, "{program}");
        frame::assert_outer_is_sound(&outcome.frame);
        let body = frame::body(&outcome.frame);
        assert_eq!((body.kind(), body.cookie()), (Some(Kind::ProbeReply), 0xabcd));
        assert_eq!(frame::split(&outcome.frame).0, underlay(1));
        w.assert_counts(&[("h3 probe", 1)]);
        let reply = w.host(1).run("uplink_tcx", &outcome.frame, UPLINK, 0).unwrap();
        assert_eq!(reply.verdict, SHOT, "consumed");
        w.assert_counts(&[("h1 probe_reply", 1)]);
    }
    // On a NIC by XDP_TX.
    let cfg = w.host(3).cfg;
    w.host(3).configure(mizar_abi::maps::Cfg { xdp_tx: 1, ..cfg }).unwrap();
    assert_eq!(w.host(3).run("uplink_xdp", &probe, 0, 0).unwrap().verdict, XDP_TX);
    let pending: Pending = w.host(1).get("PENDING", underlay(3)).unwrap();
    assert_eq!(pending.since_ms, 0);
    assert_ne!(pending.answered_ms, 0);
}

#[test]
fn a_forged_probe_is_not_answered() {
    let (mut w, _, _) = world();
    let mut probe = frame::control(Kind::Probe, underlay(1), underlay(3), 0xabcd, utc());
    probe[60] ^= 1;
    w.xdp = true;
    w.arrive(3, &probe).unwrap();
    w.assert_counts(&[("h3 p0 dropped bad_tag", 1)]);
}
