//! Ports of fragments (DATAPLANE, rule 14), and the ICMP type: the first fragment writes them, the
//! others read.

use mizar_abi::{
    mapped,
    maps::{FragKey, Head, Ports},
};
use mizar_packet::ipv4::Fragment;

use crate::{maps::FRAG, tables::setting, tokens, walk::Walk};

/// Datagrams in parts that one port may send a second, in the long run. Parts follow their first one within
/// milliseconds, so that FRAG holds those of a tenth of a second and more.
#[unsafe(no_mangle)]
static FRAGMENTED_RATE: u32 = 50_000;
/// Such datagrams at once: a quarter of FRAG.
#[unsafe(no_mangle)]
static FRAGMENTED_BURST: u32 = 2_048;

/// `walk.inner` has the ports.
pub const KNOWN: u32 = 1;
/// No first fragment was seen.
pub const NO_HEAD: u32 = 0;
/// The port begins more of them than others have room for.
pub const TOO_FAST: u32 = 2;

/// Puts the ports of an endpoint's fragment into `walk.inner`.
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
        let (rate, burst) = (setting(&FRAGMENTED_RATE), setting(&FRAGMENTED_BURST));
        if !tokens::for_fragments(ep_id, rate, burst) {
            return TOO_FAST;
        }
        let ports = Ports { sport: inner.tuple.sport, dport: inner.tuple.dport };
        let kept = FRAG.insert(&key, &Head { ports, icmp: inner.icmp, pad: 0 }, 0).is_ok();
        return if kept { KNOWN } else { NO_HEAD };
    }
    // SAFETY: see `tables::endpoint`.
    match unsafe { FRAG.get(&key) } {
        Some(head) => {
            inner.tuple.sport = head.ports.sport;
            inner.tuple.dport = head.ports.dport;
            inner.icmp = head.icmp;
            KNOWN
        }
        None => NO_HEAD,
    }
}
