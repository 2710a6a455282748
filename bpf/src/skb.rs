//! The tcx front-end: a packet as a socket buffer.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS,
    },
    helpers::{
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_tail,
        bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
};
use core::mem::MaybeUninit;
use mizar_packet::{Packet, Words};

/// The packet ends here.
pub const SHOT: i32 = 2;
/// Not ours: the next program, then the stack.
pub const NEXT: i32 = -1;

/// Room is made or taken between Ethernet and network header.
const ROOM_MAC: u32 = 1;
/// Segment sizes stay: every endpoint's MTU leaves room for the headers.
const FIXED_GSO: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64;
/// The inner frame's Ethernet header is 14 bytes, whatever the options before it.
const ENCAP: u64 = (BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH) as u64
    | FIXED_GSO
    | (14 << 56);

/// A socket buffer, its Ethernet header first.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Skb(pub *mut __sk_buff);

impl Packet for Skb {
    /// From the linear part, where headers nearly always are; a helper call fetches them from
    /// elsewhere. Offsets are below 64 KB, which the verifier wants to see.
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let offset = offset & 0xffff;
        // SAFETY: the context is valid as long as the program runs; the range is checked.
        unsafe {
            let start = (*self.0).data as usize + offset;
            if start + N <= (*self.0).data_end as usize {
                return Some((start as *const [u8; N]).read_unaligned());
            }
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper checks the range and fills all of `bytes` when it returns 0.
        unsafe {
            if bpf_skb_load_bytes(self.0.cast(), offset as u32, bytes.as_mut_ptr().cast(), N as u32) != 0 {
                return None;
            }
            Some(bytes.assume_init())
        }
    }

    /// The same in words. An odd address would be slow, not wrong: the kernel loads these programs
    /// only where it may be read.
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<Words<N>> {
        let offset = offset & 0xffff;
        // SAFETY: the context is valid as long as the program runs; the range is checked.
        unsafe {
            let start = (*self.0).data as usize + offset;
            if start + 2 * N <= (*self.0).data_end as usize {
                return Some((start as *const Words<N>).read());
            }
        }
        let mut words = MaybeUninit::<Words<N>>::uninit();
        // SAFETY: the helper checks the range and fills all of `words` when it returns 0.
        unsafe {
            if bpf_skb_load_bytes(self.0.cast(), offset as u32, words.as_mut_ptr().cast(), 2 * N as u32) != 0 {
                return None;
            }
            Some(words.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }
}

macro_rules! context {
    ($($(#[$doc:meta])* $name:ident,)*) => { $(
        $(#[$doc])*
        #[inline(always)]
        // SAFETY: the context is valid as long as the program runs.
        pub fn $name(self) -> u32 { unsafe { (*self.0).$name } }
    )* };
}

impl Skb {
    context! {
        /// Bytes.
        len,
        /// EtherType, network order.
        protocol,
        /// 1 if a VLAN tag was taken off.
        vlan_present,
        /// The interface it came in by.
        ifindex,
        /// Bytes of payload per segment; 0 = not to be segmented.
        gso_size,
    }

    /// Reads `len` bytes, which the caller has bounded by the size of `to`.
    ///
    /// # Safety
    /// `to` must have room for `len` bytes.
    #[inline(always)]
    pub unsafe fn read_into(self, offset: usize, to: *mut u8, len: u32) -> bool {
        // SAFETY: by contract.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset as u32, to.cast(), len) == 0 }
    }

    /// Writes `N` bytes.
    #[inline(always)]
    pub fn write<const N: usize>(self, offset: usize, bytes: &[u8; N]) -> bool {
        // SAFETY: the length is the array's.
        unsafe { self.write_from(offset, bytes.as_ptr(), N as u32) }
    }

    /// Writes `len` bytes.
    ///
    /// # Safety
    /// `from` must have `len` bytes.
    #[inline(always)]
    pub unsafe fn write_from(self, offset: usize, from: *const u8, len: u32) -> bool {
        // SAFETY: by contract.
        unsafe { bpf_skb_store_bytes(self.0.cast(), offset as u32, from.cast(), len, 0) == 0 }
    }

    /// Makes room for outer headers.
    ///
    /// The kernel keeps one set of inner headers, so it refuses what is a tunnel's packet already
    /// (an endpoint may run its own VXLAN). One such that needs no segmentation can do without.
    #[inline(always)]
    pub fn encapsulate(self, bytes: usize) -> bool {
        // SAFETY: a plain helper call.
        unsafe {
            bpf_skb_adjust_room(self.0, bytes as i32, ROOM_MAC, ENCAP) == 0
                || (self.gso_size() == 0 && bpf_skb_adjust_room(self.0, bytes as i32, ROOM_MAC, FIXED_GSO) == 0)
        }
    }

    /// Takes outer headers away, or makes room beside them (`bytes` > 0).
    #[inline(always)]
    pub fn resize(self, bytes: i32) -> bool {
        // SAFETY: a plain helper call.
        unsafe { bpf_skb_adjust_room(self.0, bytes, ROOM_MAC, FIXED_GSO) == 0 }
    }

    /// Cuts the packet; it will not be segmented any more.
    #[inline(always)]
    pub fn truncate(self, len: u32) -> bool {
        // SAFETY: a plain helper call.
        unsafe { bpf_skb_change_tail(self.0, len, 0) == 0 }
    }

    /// Out of the uplink, neighbour resolved by the kernel.
    #[inline(always)]
    pub fn to_underlay(self, uplink: u32) -> i32 {
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) as i32 }
    }

    /// Out of an interface.
    #[inline(always)]
    pub fn out_of(self, ifindex: u32) -> i32 {
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    /// Into the namespace at the other end of a veth.
    #[inline(always)]
    pub fn to_peer_of(self, ifindex: u32) -> i32 {
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
    }

    /// In by an interface of this namespace.
    #[inline(always)]
    pub fn in_by(self, ifindex: u32) -> i32 {
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) as i32 }
    }

    /// The frame is for whom it is given to, whatever its MAC said before.
    #[inline(always)]
    pub fn mark_for_host(self) {
        // SAFETY: a plain helper call. It fails only for types that no frame of ours has.
        unsafe { bpf_skb_change_type(self.0, 0) };
    }
}
