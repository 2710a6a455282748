//! The kernel programs of a Mizar host (DATAPLANE). README.md says what they need of their loader.
#![no_std]
#![no_main]

mod back;
mod bench;
mod control;
mod decide;
mod egress;
mod event;
mod frag;
mod front;
mod log;
mod maps;
mod neighbour;
mod policy;
mod reply;
mod send;
mod skb;
mod tables;
mod tokens;
mod transit;
mod uplink;
mod walk;
mod watch;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// tcx ingress at the host side of an endpoint's interface.
#[classifier]
pub fn endpoint_egress(ctx: TcContext) -> i32 {
    egress::run(skb::Skb(ctx.skb.skb))
}

/// tcx ingress of the uplink.
#[classifier]
pub fn uplink_tcx(ctx: TcContext) -> i32 {
    uplink::run(skb::Skb(ctx.skb.skb))
}

/// Native XDP of the uplink.
#[xdp]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    front::run(ctx.ctx)
}

/// The same for uplinks of an MTU above about 3,500, whose frames come in several buffers.
#[xdp(frags)]
pub fn uplink_xdp_frags(ctx: XdpContext) -> u32 {
    front::run(ctx.ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Nothing here panics; the verifier would refuse a program that could.
    loop {}
}
