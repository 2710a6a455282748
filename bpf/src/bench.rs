//! The programs as benchmarks: BPF_PROG_TEST_RUN runs one many times on what the last run left, so
//! each of these puts the packet back afterwards. Loaded by `mizar-bench` alone.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::bpf_xdp_store_bytes,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};

use crate::{
    egress, front,
    maps::FLOW_NEW,
    skb::{NEXT, Skb},
    uplink,
    walk::begin,
};

/// Bytes at the start of a packet that are put back.
const HEAD: usize = 160;

/// How a packet is put back.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Undo {
    /// Bytes of room to make (> 0) or take (< 0).
    pub room: i32,
    /// Forget the flow in FLOW_NEW.
    pub forget: u32,
    /// The first bytes.
    pub head: [u8; HEAD],
}

#[map]
static BENCH: Array<Undo> = Array::with_max_entries(1, 0);

#[inline(always)]
fn put_back(skb: Skb) {
    let Some(undo) = BENCH.get(0) else { return };
    if undo.forget != 0
        && let Some((walk, _)) = begin()
    {
        let _ = FLOW_NEW.remove(&walk.key);
    }
    if undo.room > 0 {
        skb.encapsulate(undo.room as usize & 0xff);
    } else if undo.room < 0 {
        skb.resize(undo.room.max(-255));
    }
    skb.write(0, &undo.head);
}

/// Endpoint egress.
#[classifier]
pub fn bench_endpoint_egress(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    let verdict = egress::run(skb);
    put_back(skb);
    verdict
}

/// Delivery and transit.
#[classifier]
pub fn bench_uplink_tcx(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    let verdict = uplink::run(skb);
    put_back(skb);
    verdict
}

/// Transit in XDP.
#[xdp]
pub fn bench_uplink_xdp(ctx: XdpContext) -> u32 {
    let verdict = front::run(ctx.ctx);
    restore(ctx.ctx);
    verdict
}

#[inline(always)]
fn restore(ctx: *mut xdp_md) {
    let Some(undo) = BENCH.get_ptr_mut(0) else { return };
    // SAFETY: HEAD bytes are there.
    unsafe { bpf_xdp_store_bytes(ctx, 0, (&raw mut (*undo).head).cast(), HEAD as u32) };
}

/// What putting back costs: the bytes alone.
#[classifier]
pub fn bench_undo_write(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    if let Some(undo) = BENCH.get(0) {
        skb.write(0, &undo.head);
    }
    NEXT
}

/// What putting back costs: making room and taking it, and the bytes.
#[classifier]
pub fn bench_undo_room(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    if let Some(undo) = BENCH.get(0) {
        let room = if undo.room < 0 { -undo.room } else { undo.room } & 0xff;
        skb.encapsulate(room as usize);
        skb.resize(-room);
        skb.write(0, &undo.head);
    }
    NEXT
}

/// What putting back costs in XDP.
#[xdp]
pub fn bench_undo_xdp(ctx: XdpContext) -> u32 {
    restore(ctx.ctx);
    2
}
