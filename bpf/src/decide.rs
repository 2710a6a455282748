//! Transit's decision, as a function of its own for all three front-ends.

use mizar_abi::{maps::Cfg, reason::Drop};
use mizar_packet::transit::{self, Request};

use crate::{tables::Maps, walk::Walk};

/// Decides about the request in `walk.signed.body` (outer VNI and source port in `walk.seen`,
/// inner destination in `walk.inner`), takes a hop, and writes `walk.decision`. Returns 0, or the
/// number of the reason to drop it. With a stack of its own: what calls it calls others that need much too.
#[inline(never)]
pub fn decide(walk: &mut Walk, cfg: &Cfg) -> u32 {
    let body = &mut walk.signed.body;
    let hops = body.hops();
    if hops == 0 {
        return Drop::Loop as u32;
    }
    body.set_hops(hops - 1);
    let request = Request {
        vni: walk.seen.vni,
        src: walk.inner.src,
        dst: walk.inner.dst,
        proto: walk.inner.proto,
        port: body.epoch() as u16,
        identity: body.identity(),
        flags: body.flags(),
        tries: body.reason(),
        source_port: walk.seen.source_port,
    };
    match transit::decide(&Maps { tick: walk.tick }, cfg.number, &request) {
        Ok(decision) => {
            walk.decision = decision;
            0
        }
        Err(reason) => reason as u32,
    }
}
