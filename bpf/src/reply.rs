//! What the network itself answers an endpoint: ARP, and ICMP errors as a router would send them.
//! Both go out of the endpoint's own interface.

use mizar_abi::{
    VIRTUAL_MAC,
    maps::{EventKind, addr_flag, ep_flag},
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_LEN, Packet,
    arp::{self, Arp},
    icmp::{self, ERROR_LEN, Error, QUOTE_MAX},
};

use crate::{
    event,
    skb::{SHOT, Skb},
    tables,
    walk::{Step, Walk, count, drop},
};

/// A server without a gateway calls itself this (DHCP), so it must be found.
const LINK_LOCAL_SERVER: [u8; 4] = [169, 254, 169, 254];

/// An endpoint's ARP message: questions about others are answered, its own announcements are told
/// to the agent.
#[inline(never)]
pub fn arp(skb: Skb, walk: &mut Walk) -> Step {
    let ep_id = walk.ep_id;
    let Some(ep) = tables::endpoint(ep_id) else { return drop(Drop::NoPort) };
    let Some(bytes) = skb.read::<{ arp::LEN }>(ETH_LEN) else { return drop(Drop::Malformed) };
    let Some(message) = Arp::parse(&bytes) else { return drop(Drop::Malformed) };
    let any = ep.flags & ep_flag::ANY_SOURCE != 0;
    if message.sender_mac != ep.mac && !any {
        return drop(Drop::Spoof);
    }
    if message.probes() {
        // Duplicate address detection must find nobody (RFC 5227).
        return drop(Drop::ArpIgnored);
    }
    let flags = match tables::owner(ep.vni, message.sender) {
        Some(owner) if owner.ep_id == ep_id => owner.flags,
        _ if any => addr_flag::OWN,
        _ => return drop(Drop::Spoof),
    };
    if message.announces() {
        if flags & addr_flag::PAIR == 0 {
            return drop(Drop::ArpIgnored);
        }
        walk.key.local = mizar_abi::mapped(message.sender);
        walk.key.vni_proto = ep.vni << 8;
        return event::frame(skb, walk, EventKind::Claim as u32);
    }
    if let Some(target) = tables::owner(ep.vni, message.target)
        && target.ep_id == ep_id
        && target.flags & addr_flag::OWN != 0
    {
        return drop(Drop::ArpIgnored);
    }
    if message.target != ep.gateway
        && message.target != LINK_LOCAL_SERVER
        && tables::route(ep.vni, message.target).is_none()
    {
        return drop(Drop::NoRoute);
    }
    if !skb.write(0, &message.answer()) {
        return drop(Drop::Helper);
    }
    count(Counter::Arp);
    skb.out_of(ep.ifindex)
}

/// Turns the packet of `walk.ep_id` (without outer headers, `walk.inner` says what it is) into an
/// ICMP error for it.
#[inline(never)]
pub fn icmp(skb: Skb, walk: &mut Walk, error: u32) -> i32 {
    let Some(ep) = tables::endpoint(walk.ep_id) else { return SHOT };
    let inner = &walk.inner;
    if !icmp::may_answer(inner) {
        return SHOT;
    }
    let error = match error as u8 {
        NET => Error::NetUnreachable,
        HOST => Error::HostUnreachable,
        TTL => Error::TimeExceeded,
        _ => Error::FragmentationNeeded(ep.mtu as u16),
    };
    let from = match tables::route(ep.vni, inner.src) {
        Some(route) if route.gateway != [0; 4] => route.gateway,
        _ if ep.gateway != [0; 4] => ep.gateway,
        _ => inner.dst,
    };
    let len = icmp::quote_len(inner).min(QUOTE_MAX);
    if len < 20 {
        return SHOT;
    }
    walk.quote = [0; QUOTE_MAX];
    // SAFETY: `len` is at most QUOTE_MAX.
    if !unsafe { skb.read_into(ETH_LEN, walk.quote.as_mut_ptr(), len as u32) } {
        return SHOT;
    }
    let headers = icmp::error(error, from, inner.src, &walk.quote, len);
    let (m, v) = (ep.mac, VIRTUAL_MAC);
    // A packet that came back through tcx alone still has its outer transport header on record, and
    // the kernel refuses to cut it. What follows the length in the IP header is padding then; only
    // a packet that would be segmented cannot do with that.
    if !skb.truncate((ETH_LEN + len) as u32) && skb.gso_size() != 0
        || !skb.resize(ERROR_LEN as i32)
        || !skb.write(ETH_LEN, &headers)
        || !skb.write(0, &[m[0], m[1], m[2], m[3], m[4], m[5], v[0], v[1], v[2], v[3], v[4], v[5]])
    {
        return SHOT;
    }
    skb.out_of(ep.ifindex)
}

/// [`Error::NetUnreachable`] as an argument.
pub const NET: u8 = 0;
/// [`Error::HostUnreachable`]
pub const HOST: u8 = 1;
/// [`Error::TimeExceeded`]
pub const TTL: u8 = 2;
/// [`Error::FragmentationNeeded`] with the port's MTU.
pub const MTU: u8 = 3;
