//! What a host says of its endpoint to the host of a peer, without a packet of the endpoint: that it is to
//! be sent directly, and which groups it is in.

use crate::flow::{self, knows_peer};
use crate::option::Body;
use mizar_abi::maps::{Ep, Flow, FlowKey, flow_flag, identity_of};
use mizar_abi::option::{HOPS, Kind, flag};

/// Is there a host to be told of the endpoint whose flow this is? Of a peer on this host, `here`, the
/// programs see the groups in the maps; of one whose way is asked for, the answer tells.
#[inline(always)]
pub fn concerns(flow: &Flow, here: [u8; 4]) -> bool {
    knows_peer(flow) && flow.peer_host != here
}

/// What is said, by the host at this underlay address.
pub fn acknowledgement(here: [u8; 4], key: &FlowKey, flow: &Flow, ep: &Ep) -> Body {
    let mut body = Body::default();
    let routed = if flow.flags & flow_flag::ROUTED != 0 { flag::ROUTED } else { 0 };
    let as_reply = if flow::was_reply(flow) { flag::REPLY_ONLY } else { 0 };
    body.set_kind(Kind::Ack);
    body.set_flags(routed | as_reply);
    body.set_hops(HOPS);
    body.set_origin(here);
    body.set_origin_vni(ep.vni);
    body.set_cookie(flow.cookie);
    body.set_sport(key.lport);
    body.set_dport(key.rport);
    body.set_identity(identity_of(ep.set));
    body.set_generation(ep.generation);
    body
}
