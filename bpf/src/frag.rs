//! Ports of fragments (DATAPLANE, rule 14), and the ICMP type: the first fragment writes them, the
//! others read.

use mizar_abi::{
    mapped,
    maps::{FragKey, Head, Ports},
};
use mizar_packet::ipv4::Fragment;

use crate::{maps::FRAG, tables, walk::Walk};

/// Puts the ports of an endpoint's fragment into `walk.inner`; 0 if no first fragment was seen.
#[inline(never)]
pub fn resolve(walk: &mut Walk) -> u32 {
    let ep_id = walk.ep_id;
    let inner = &mut walk.inner;
    let key = FragKey {
        ep_id,
        src: mapped(inner.src),
        dst: mapped(inner.dst),
        id: inner.id as u32,
        proto: inner.proto as u32,
    };
    if matches!(inner.fragment, Fragment::First) {
        // The table is shared: a port that floods it with heads must not evict those of others.
        if !tables::take_token(ep_id) {
            return 0;
        }
        let ports = Ports { sport: inner.tuple.sport, dport: inner.tuple.dport };
        return FRAG.insert(&key, &Head { ports, icmp: inner.icmp, pad: 0 }, 0).is_ok() as u32;
    }
    // SAFETY: see `tables::endpoint`.
    match unsafe { FRAG.get(&key) } {
        Some(head) => {
            inner.tuple.sport = head.ports.sport;
            inner.tuple.dport = head.ports.dport;
            inner.icmp = head.icmp;
            1
        }
        None => 0,
    }
}
