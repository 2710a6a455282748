//! Signed control packets that the agent sends itself: probes, acknowledgements for endpoints that
//! only receive, and questions about flows whose rules have changed.
//!
//! They are ordinary UDP datagrams from the host's own stack; what makes them believed is the
//! tag. Layout: Geneve with the control bit, the signed option, and where a flow is meant the
//! headers of a packet of it (Ethernet, IPv4), which name the flow but are delivered to nobody.

use mizar_abi::maps::{Cfg, Ep, Flow, FlowKey};
use mizar_abi::option::{HOPS, Kind, OPTION_LEN};
use mizar_abi::unmapped;
use mizar_packet::geneve::{OUTER_LEN, Outer, SIGNED_OPTION};
use mizar_packet::introduce;
use mizar_packet::option::{Body, Bound};
use mizar_packet::policy;
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
    let (src, dst) = (unmapped(&key.local)?, unmapped(&key.remote)?);
    let body = introduce::acknowledgement(cfg.host, key, flow, ep);
    let bound = Bound { receiver: flow.peer_host, vni: flow.peer_vni, src, dst, proto: key.vni_proto as u8 };
    datagram(cfg, body, &bound, &headers(&bound))
}

/// Is this flow, which the other side opened, still allowed by the rules that you have now?
pub fn ask(cfg: &Cfg, key: &FlowKey, flow: &Flow, ep: &Ep, bouncer: [u8; 4]) -> Option<Vec<u8>> {
    let question = policy::received(key, ep.set, flow.peer_identity);
    let mut body = Body::default();
    body.set_kind(Kind::Ask);
    body.set_hops(HOPS);
    body.set_origin(cfg.host);
    body.set_origin_vni(ep.vni);
    body.set_cookie(flow.cookie);
    body.set_sport(key.rport);
    body.set_dport(key.lport);
    body.set_identity(question.identity);
    body.set_epoch(question.port.into());
    body.set_ep_id(flow.ep_id);
    let (src, dst) = (unmapped(&key.remote)?, unmapped(&key.local)?);
    let bound = Bound { receiver: bouncer, vni: ep.vni, src, dst, proto: question.proto };
    datagram(cfg, body, &bound, &headers(&bound))
}

/// Headers that name a flow.
fn headers(bound: &Bound) -> [u8; 34] {
    let mut headers = [0u8; 34];
    headers[12..14].copy_from_slice(&[0x08, 0x00]);
    headers[14] = 0x45;
    headers[16..18].copy_from_slice(&20u16.to_be_bytes());
    headers[22] = 64;
    headers[23] = bound.proto;
    headers[26..30].copy_from_slice(&bound.src);
    headers[30..34].copy_from_slice(&bound.dst);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::mapped;
    use mizar_abi::maps::flow_flag;
    use mizar_abi::option::flag;
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
    fn who_took_a_packet_as_a_reply_says_so() {
        let key = FlowKey { local: mapped([10, 0, 0, 5]), remote: mapped([10, 0, 0, 6]), ..FlowKey::default() };
        let flags = |of| {
            let flow = Flow { flags: of, ..Flow::default() };
            body_of(&acknowledge(&cfg(), &key, &flow, &Ep::default()).unwrap()).flags()
        };
        assert_eq!(flags(flow_flag::I_INIT | flow_flag::OWES_ACK), flag::REPLY_ONLY);
        assert_eq!(flags(flow_flag::R_INIT), 0);
    }

    #[test]
    fn a_question_describes_the_packet_that_opened_the_flow() {
        let key = FlowKey {
            vni_proto: 5000 << 8 | 1,
            local: mapped([10, 0, 0, 5]),
            remote: mapped([10, 0, 1, 6]),
            lport: 8,
            rport: 7,
        };
        let flow = Flow { cookie: 9, peer_identity: 44, ep_id: 3, ..Flow::default() };
        let ep = Ep { vni: 5000, set: 12, ..Ep::default() };
        let bouncer = [192, 0, 2, 8];
        let question = ask(&cfg(), &key, &flow, &ep, bouncer).unwrap();
        let body = body_of(&question);
        assert_eq!((body.kind(), body.cookie(), body.origin()), (Some(Kind::Ask), 9, [192, 0, 2, 9]));
        assert_eq!((body.identity(), body.ep_id(), body.sport(), body.dport()), (44, 3, 7, 8));
        assert_eq!(body.epoch(), 0x0800, "an echo request");
        let bound = Bound { receiver: bouncer, vni: 5000, src: [10, 0, 1, 6], dst: [10, 0, 0, 5], proto: 1 };
        assert_eq!(body.verify(&cfg(), utc(), &bound), Ok(()));
        assert_eq!(question[60 + 26..60 + 34], [10, 0, 1, 6, 10, 0, 0, 5]);
    }

    #[test]
    fn without_a_key_nothing_is_sent() {
        assert_eq!(probe(&Cfg::default(), [192, 0, 2, 1], 1), None);
    }
}
