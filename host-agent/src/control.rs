//! Signed control packets that the agent sends itself: probes, and acknowledgements for endpoints
//! that only receive.
//!
//! They are ordinary UDP datagrams from the host's own stack; what makes them believed is the
//! tag. Layout: Geneve with the control bit, the signed option, and in an acknowledgement the
//! headers of the flow's packet (Ethernet, IPv4), which name the flow but are delivered to nobody.

use mizar_abi::maps::{Cfg, Ep, Flow, FlowKey, flow_flag};
use mizar_abi::option::{HOPS, Kind, OPTION_LEN, flag};
use mizar_abi::unmapped;
use mizar_packet::geneve::{OUTER_LEN, Outer, SIGNED_OPTION};
use mizar_packet::option::{Body, Bound};
use std::time::SystemTime;

/// Where in the outer headers Geneve begins: what is before is the host's stack's work.
const GENEVE_AT: usize = OUTER_LEN - 8;

fn utc() -> u32 {
    // Wraps in 2106, as the stamp does.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as u32
}

/// The datagram; `None` while this host has no key to sign with.
fn datagram(cfg: &Cfg, mut body: Body, bound: &Bound, headers: &[u8]) -> Option<Vec<u8>> {
    if !body.sign(cfg, utc(), bound) {
        return None;
    }
    let outer = Outer {
        src: cfg.host,
        dst: bound.receiver,
        tos: 0,
        source_port: 0,
        vni: bound.vni,
        options: OPTION_LEN,
        // Control packets count as empty, whatever headers they carry.
        frame: 0,
    };
    Some([&outer.bytes()[GENEVE_AT..], &SIGNED_OPTION, &body.bytes(), headers].concat())
}

/// Are you alive?
pub fn probe(cfg: &Cfg, to: [u8; 4], cookie: u32) -> Option<Vec<u8>> {
    let mut body = Body::default();
    body.set_kind(Kind::Probe);
    body.set_hops(HOPS);
    body.set_origin(cfg.host);
    body.set_cookie(cookie);
    datagram(cfg, body, &Bound { receiver: to, ..Bound::default() }, &[])
}

/// Send directly from now on: for a flow whose endpoint here has not answered by itself.
pub fn acknowledge(cfg: &Cfg, key: &FlowKey, flow: &Flow, ep: &Ep) -> Option<Vec<u8>> {
    let (source, destination) = (unmapped(&key.local)?, unmapped(&key.remote)?);
    let proto = key.vni_proto as u8;
    let mut body = Body::default();
    body.set_kind(Kind::Ack);
    body.set_flags(if flow.flags & flow_flag::ROUTED != 0 { flag::ROUTED } else { 0 });
    body.set_hops(HOPS);
    body.set_origin(cfg.host);
    body.set_origin_vni(ep.vni);
    body.set_cookie(flow.cookie);
    body.set_sport(key.lport);
    body.set_dport(key.rport);
    body.set_identity(ep.set);
    body.set_generation(ep.generation);
    let bound = Bound { receiver: flow.peer_host, vni: flow.peer_vni, src: source, dst: destination, proto };
    let mut headers = [0u8; 34];
    headers[12..14].copy_from_slice(&[0x08, 0x00]);
    headers[14] = 0x45;
    headers[16..18].copy_from_slice(&20u16.to_be_bytes());
    headers[22] = 64;
    headers[23] = proto;
    headers[26..30].copy_from_slice(&source);
    headers[30..34].copy_from_slice(&destination);
    datagram(cfg, body, &bound, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::mapped;
    use mizar_packet::geneve::SIGNED_OUTER_LEN;

    fn cfg() -> Cfg {
        Cfg { host: [192, 0, 2, 9], key_ids: [1, 0], keys: [[7; 16], [0; 16]], ..Cfg::default() }
    }

    fn body_of(datagram: &[u8]) -> Body {
        Body::from_bytes(datagram[12..60].try_into().unwrap())
    }

    #[test]
    fn a_probe_is_a_signed_control_packet_for_its_receiver_alone() {
        let to = [192, 0, 2, 1];
        let probe = probe(&cfg(), to, 77).unwrap();
        assert_eq!(probe.len(), SIGNED_OUTER_LEN - GENEVE_AT);
        assert_eq!(probe[..8], [13, 0xc0, 0x65, 0x58, 0, 0, 0, 0]);
        let body = body_of(&probe);
        assert_eq!((body.kind(), body.cookie(), body.origin()), (Some(Kind::Probe), 77, [192, 0, 2, 9]));
        assert_eq!(body.verify(&cfg(), utc(), &Bound { receiver: to, ..Bound::default() }), Ok(()));
        assert!(body.verify(&cfg(), utc(), &Bound { receiver: [192, 0, 2, 2], ..Bound::default() }).is_err());
    }

    #[test]
    fn an_acknowledgement_is_bound_to_the_flow_it_names() {
        let key = FlowKey {
            vni_proto: 5000 << 8 | 17,
            local: mapped([10, 0, 0, 5]),
            remote: mapped([10, 0, 1, 6]),
            lport: 53,
            rport: 4000,
        };
        let flow =
            Flow { peer_host: [192, 0, 2, 1], peer_vni: 6000, cookie: 9, flags: flow_flag::ROUTED, ..Flow::default() };
        let ep = Ep { vni: 5000, generation: 3, ..Ep::default() };
        let ack = acknowledge(&cfg(), &key, &flow, &ep).unwrap();
        assert_eq!(ack[4..7], [0, 0x17, 0x70], "VNI of the receiving endpoint");
        let body = body_of(&ack);
        assert_eq!((body.sport(), body.dport(), body.origin_vni(), body.generation()), (53, 4000, 5000, 3));
        assert_eq!(body.flags(), flag::ROUTED);
        let bound = Bound { receiver: [192, 0, 2, 1], vni: 6000, src: [10, 0, 0, 5], dst: [10, 0, 1, 6], proto: 17 };
        assert_eq!(body.verify(&cfg(), utc(), &bound), Ok(()));
        assert_eq!(ack[60 + 26..60 + 34], [10, 0, 0, 5, 10, 0, 1, 6]);
    }

    #[test]
    fn without_a_key_nothing_is_sent() {
        assert_eq!(probe(&Cfg::default(), [192, 0, 2, 1], 1), None);
    }
}
