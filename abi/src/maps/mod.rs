//! Keys and values of the maps, one type each (DATAPLANE, "Maps").

mod flow;
mod log;
mod watch;

use crate::Address;
pub use flow::{Flow, FlowKey, State, flow_flag, tcp_seen};
pub use log::{FlowCount, LogStart, revoked};
pub use watch::{Hop, Watch, hop_flag, watch_flag};

macro_rules! sized { ($($t:ty = $n:literal),* $(,)?) => { $(const _: () = assert!(core::mem::size_of::<$t>() == $n);)* }; }

/// Names of the maps, as the object and the pins carry them.
pub mod name {
    #![allow(missing_docs)]
    pub const CFG: &str = "CFG";
    pub const HOSTS: &str = "HOSTS";
    pub const IFACE: &str = "IFACE";
    pub const EP: &str = "EP";
    pub const ADDR: &str = "ADDR";
    pub const FLOW_EST: &str = "FLOW_EST";
    pub const FLOW_NEW: &str = "FLOW_NEW";
    pub const FRAG: &str = "FRAG";
    pub const MOVED: &str = "MOVED";
    pub const ROUTE: &str = "ROUTE";
    pub const SHARD: &str = "SHARD";
    pub const DEAD: &str = "DEAD";
    pub const BOUNCE: &str = "BOUNCE";
    pub const POLICY: &str = "POLICY";
    pub const CIDR: &str = "CIDR";
    pub const EPOCHS: &str = "EPOCHS";
    pub const BUCKET: &str = "BUCKET";
    pub const PENDING: &str = "PENDING";
    pub const DROPS: &str = "DROPS";
    pub const COUNTERS: &str = "COUNTERS";
    pub const EVENTS: &str = "EVENTS";
    pub const FLOW_COUNT: &str = "FLOW_COUNT";
    pub const FLOW_LOG: &str = "FLOW_LOG";
    pub const WATCH: &str = "WATCH";
}

/// CFG, array of 1: this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Cfg {
    /// Underlay address.
    pub host: [u8; 4],
    /// This host's number.
    pub number: u32,
    /// Interface index of the uplink.
    pub uplink: u32,
    /// MTU of the uplink, bytes.
    pub underlay_mtu: u32,
    /// Seconds that the kernel's TAI clock is ahead of UTC on this host.
    pub tai_offset: i32,
    /// Key ids of `keys`; 0 = no key in this place.
    pub key_ids: [u8; 2],
    /// Which of `keys` signs.
    pub sign: u8,
    /// 1: XDP sends back out of the uplink by XDP_TX, best on a NIC. 0: by redirection, which also
    /// works on a veth (its XDP_TX waits for ever in the ring of a peer without an XDP program).
    pub xdp_tx: u8,
    /// Cluster keys: the current and the former one.
    pub keys: [[u8; 16]; 2],
    /// Reserved, 0.
    pub reserved: [u8; 8],
}

/// Value of HOSTS, hash: host number (u32) to its underlay address.
pub type HostAddress = [u8; 4];

/// What an endpoint is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EpKind {
    /// A veth whose inner end is in a container's namespace: redirect_peer.
    Veth = 1,
    /// A tap of a VM: redirect.
    Tap = 2,
    /// A veth whose inner end is in the host's own namespace: redirect with INGRESS.
    Host = 3,
}

/// Flags of [`Ep`].
pub mod ep_flag {
    /// Any source MAC and address may be sent (port security off).
    pub const ANY_SOURCE: u8 = 1;
    /// The port is administratively down: nothing in, nothing out.
    pub const DOWN: u8 = 2;
    /// A packet of it is waited for, which WATCH describes.
    pub const WATCHED: u8 = 4;
}

/// Value of EP, hash by ep_id (u32): a local endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Ep {
    /// 24 bits.
    pub vni: u32,
    /// Host side interface.
    pub ifindex: u32,
    /// Interface inside the host's own namespace (host endpoints), else 0.
    pub inner_ifindex: u32,
    /// Number of the port's set of groups, its identity and its policy; or [`UNFILTERED`].
    pub set: u32,
    /// Rises with every binding of the port.
    pub generation: u32,
    /// Bytes of inner IP packet.
    pub mtu: u32,
    /// The endpoint's MAC.
    pub mac: [u8; 6],
    /// [`EpKind`].
    pub kind: u8,
    /// [`ep_flag`].
    pub flags: u8,
    /// IPv4 address that ICMP errors of the network come from when no route says better.
    pub gateway: [u8; 4],
    /// Milliseconds since boot, wrapping, when `set` became what it is: the data plane writes it.
    pub set_since_ms: u32,
    /// Reserved, 0.
    pub reserved: [u32; 2],
}

/// Data of an LPM key over a VNI and an address. Prefix length counts from the VNI's first bit:
/// 32 bits of VNI (big-endian), then the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct VniAddress {
    /// Big-endian, so that a prefix is a prefix.
    pub vni: [u8; 4],
    /// IPv4 mapped.
    pub address: Address,
}

impl VniAddress {
    /// Bits of a full match.
    pub const BITS: u32 = 160;

    /// The key of one address.
    #[inline(always)]
    pub const fn new(vni: u32, address: Address) -> Self {
        Self { vni: vni.to_be_bytes(), address }
    }
}

/// Flags of [`Addr`].
pub mod addr_flag {
    /// An address of the port itself: packets to it are delivered.
    pub const OWN: u32 = 1;
    /// An allowed address pair: may be a source.
    pub const PAIR: u32 = 2;
}

/// Value of ADDR, LPM by [`VniAddress`]: which local endpoint has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Addr {
    /// Port number.
    pub ep_id: u32,
    /// [`addr_flag`].
    pub flags: u32,
}

/// Key of FRAG, LRU: fragments of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FragKey {
    /// Sending endpoint.
    pub ep_id: u32,
    /// Source.
    pub src: Address,
    /// Destination.
    pub dst: Address,
    /// IPv4 identification.
    pub id: u32,
    /// IP protocol.
    pub proto: u32,
}

/// The ports of a flow, in the direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Ports {
    /// Source, host order.
    pub sport: u16,
    /// Destination, host order.
    pub dport: u16,
}

/// Value of FRAG: what a first fragment says of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Head {
    /// Its ports.
    pub ports: Ports,
    /// ICMP type and code, as policy judges them; 0 for other protocols.
    pub icmp: u16,
    /// Reserved, 0.
    pub pad: u16,
}

/// Value of MOVED, hash by [`VniAddress`]: where an endpoint of this host went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Moved {
    /// Number of its new host; 0 = not known (the packet is returned).
    pub host: u32,
    /// Port number.
    pub ep_id: u32,
    /// Generation of its new binding.
    pub generation: u32,
    /// Seconds since boot when this entry ends.
    pub until: u32,
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteKind {
    /// Bouncers of the destination's subnet.
    Bouncers = 1,
    /// Dividers of the network.
    Dividers = 2,
}

/// Value of ROUTE, LPM by [`VniAddress`]: subnets of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Route {
    /// [`RouteKind`].
    pub kind: u32,
    /// The destination's subnet, for slots and for telling whether the packet is routed.
    pub subnet: u32,
    /// First part of the key of SHARD: the subnet's number, or [`ShardKey::dividers`].
    pub shards: u32,
    /// Shards are 2^log2; bouncers only.
    pub log2: u32,
    /// IPv4 gateway of the destination's subnet; 0.0.0.0 = none.
    pub gateway: [u8; 4],
    /// VNI of the destination.
    pub out_vni: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// Key of SHARD, hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct ShardKey {
    /// Subnet number, or [`ShardKey::dividers`] of a network.
    pub set: u32,
    /// Number of the shard; dividers: number of the pair.
    pub shard: u32,
}

impl ShardKey {
    /// The divider set of a network: its VNI with the top bit set. Subnet numbers stay below 2^31.
    #[inline(always)]
    pub const fn dividers(vni: u32) -> u32 {
        vni | 0x8000_0000
    }
}

/// Value of DEAD, hash by host number: any; the key alone counts.
pub type Dead = u8;

/// Value of SHARD: the hosts that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Shard {
    /// Host numbers; 0 = none. Both serve, the path hash chooses.
    pub hosts: [u32; 2],
    /// Pairs of dividers in this set (dividers only, in every value of the set); else 0.
    pub pairs: u32,
}

/// Value of BOUNCE, hash by [`VniAddress`]: where an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Bounce {
    /// Number of its host; 0 = not bound (unreachable).
    pub host: u32,
    /// Port number.
    pub ep_id: u32,
    /// Its set of groups: policy of what it gets, and its identity; or [`UNFILTERED`].
    pub set: u32,
    /// Generation of its binding.
    pub generation: u32,
}

/// In [`Ep::set`] and [`Bounce::set`]: a port without port security. Nothing is filtered, in or
/// out; and it is in no group.
pub const UNFILTERED: u32 = u32::MAX;

/// The identity of everybody.
pub const ANYBODY: u32 = 0;

/// The identity that a port with this `set` shows to others: its set. A port without port security
/// is in no group, like everything that has no port.
#[inline(always)]
pub const fn identity_of(set: u32) -> u32 {
    if set == UNFILTERED { ANYBODY } else { set }
}

/// The policy for what a set's ports send; the one for what they get has the set's number. Numbers
/// of sets are from 1 to 2^31 - 1.
#[inline(always)]
pub const fn egress(set: u32) -> u32 {
    set | 1 << 31
}

/// The identity of addresses in a prefix, by which CIDR and POLICY of one host hang together:
/// numbers that no set has.
#[inline(always)]
pub const fn cidr_identity(number: u32) -> u32 {
    number | 1 << 31
}

/// Data of an LPM key: whom a policy allows, and what. Absent is denied.
///
/// A decision asks for the identity of the other side, for the identity of the prefix its address
/// is in, and for [`ANYBODY`]. So a rule is as many keys as there are identities it names, times
/// the prefixes that make up its range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PolicyKey {
    /// [`egress`] of a set, or a set: big-endian, so that a prefix is a prefix.
    pub policy: [u8; 4],
    /// A set, a [`cidr_identity`], or [`ANYBODY`]; big-endian.
    pub identity: [u8; 4],
    /// IP protocol.
    pub proto: u8,
    /// Reserved, 0.
    pub pad: u8,
    /// Destination port; ICMP: type and code. Of other protocols 0. Big-endian.
    pub port: [u8; 2],
}

impl PolicyKey {
    /// Bits of a full match.
    pub const BITS: u32 = 96;
    /// Bits of a rule for one protocol, any port.
    pub const PROTO_BITS: u32 = 80;
    /// Bits of a rule for any protocol.
    pub const ANY_BITS: u32 = 64;

    /// The key of one question.
    #[inline(always)]
    pub const fn new(policy: u32, identity: u32, proto: u8, port: u16) -> Self {
        Self { policy: policy.to_be_bytes(), identity: identity.to_be_bytes(), proto, pad: 0, port: port.to_be_bytes() }
    }
}

/// Value of POLICY.
pub type Verdict = u32;

/// [`Verdict`]: allowed. Everything else, and what is not there, is denied.
pub const ALLOW: Verdict = 1;

/// Data of an LPM key of CIDR: a policy and an address; the value is a [`cidr_identity`]. The
/// longest prefix alone is found, so its identity has the rules of all prefixes around it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PolicyAddress {
    /// [`egress`] of a set, or a set; big-endian.
    pub policy: [u8; 4],
    /// IPv4 mapped.
    pub address: Address,
}

impl PolicyAddress {
    /// Bits of a full match.
    pub const BITS: u32 = 160;

    /// The key of one address.
    #[inline(always)]
    pub const fn new(policy: u32, address: Address) -> Self {
        Self { policy: policy.to_be_bytes(), address }
    }
}

/// Value of EPOCHS, hash by set (u32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Epoch {
    /// The set's generation, which rises with those of its groups, from 1. 0, or no entry: it is not known
    /// here, and by the set's rules nothing is judged.
    pub n: u32,
    /// Milliseconds since boot, wrapping, when `n` became what it is: the data plane writes it.
    pub since_ms: u32,
    /// [`epoch_flag`].
    pub flags: u32,
}

/// Flags of [`Epoch`].
pub mod epoch_flag {
    /// Egress rules of the set name groups: what is not allowed by address is asked for by identity.
    pub const NEED_ID: u32 = 1;
    /// Rules of the set are missing here. The others allow what they allow, also as a bouncer's; but what they
    /// do not may be allowed all the same, so this host denies nothing as a bouncer, and ends no flow at once.
    /// Unless whole groups are missing, `n` is known: verdicts of others count by it.
    pub const WAITS: u32 = 2;
    /// All groups of the set are stateless: each packet of its ports is judged by itself, an answer too. What a
    /// port sends needs an egress rule, what it gets an ingress rule, whoever began. Its host alone looks at this.
    pub const STATELESS: u32 = 4;
}

impl Epoch {
    /// Are all rules of the set here, so that what they do not allow is denied?
    #[inline(always)]
    pub const fn is_complete(&self) -> bool {
        self.n != 0 && self.flags & epoch_flag::WAITS == 0
    }
}

/// Value of PENDING, LRU by underlay address (4 bytes) of a transit host: does it owe an answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Pending {
    /// Milliseconds since boot, wrapping, of the oldest request without an answer; 0 = none.
    pub since_ms: u32,
    /// Seconds since boot of the last request.
    pub used: u32,
    /// Milliseconds since boot of the last probe reply or answer.
    pub answered_ms: u32,
}

/// Key of BUCKET for the flows that others open to a port: a flood of them must not keep the port from
/// opening its own. Numbers of ports are below 2^31.
#[inline(always)]
pub const fn inbound(ep_id: u32) -> u32 {
    ep_id | 1 << 31
}

/// Value of BUCKET, hash by ep_id or its [`inbound`]: tokens for new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Bucket {
    /// Nanoseconds since boot of the last refill.
    pub refilled: u64,
    /// Tokens left.
    pub tokens: u32,
    /// Reserved, 0.
    pub pad: u32,
}

/// Key of DROPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct DropKey {
    /// Port number; 0 = not known.
    pub ep_id: u32,
    /// [`crate::reason::Drop`].
    pub reason: u32,
}

/// Value of DROPS, one per CPU: how many, and the last of them. What is kept beside the count costs a
/// drop a few nanoseconds and nobody else anything, and needs no reader that keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct DropCount {
    /// Packets (a GSO packet counts once).
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds since boot, by the coarse clock, of the last one.
    pub last_ns: u64,
    /// Its VNI in the upper 24 bits, where that is known, and its IP protocol in the lower 8.
    pub vni_proto: u32,
    /// Its source port, host order.
    pub sport: u16,
    /// Its destination port.
    pub dport: u16,
    /// Its source; zeros: its headers were not read.
    pub src: Address,
    /// Its destination.
    pub dst: Address,
}

/// What an [`Event`] tells the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A DHCP request; `frame` holds it.
    Dhcp = 1,
    /// A second request of a flow that only receives: the agent acknowledges it.
    NeedAck = 2,
    /// A flow was denied.
    Denied = 3,
    /// An allowed address announced itself at another port (gratuitous ARP).
    Claim = 4,
    /// A flow's verdict is of an outdated policy: the agent asks a bouncer.
    Unconfirmed = 5,
    /// A packet that is followed went on, or ended here; `frame` holds a [`Hop`].
    Traced = 6,
}

/// Bytes of frame in an event: a DHCP message (at least 576, RFC 2131) with its headers.
pub const EVENT_FRAME: usize = 640;

/// Record of the ring buffer EVENTS.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Event {
    /// [`EventKind`].
    pub kind: u32,
    /// Port number.
    pub ep_id: u32,
    /// Bytes used of `frame`.
    pub len: u32,
    /// [`crate::reason::Drop`] where there is one.
    pub reason: u32,
    /// The flow, where there is one.
    pub flow: FlowKey,
    /// First bytes of the frame.
    pub frame: [u8; EVENT_FRAME],
}

sized! {
    Watch = 24, Hop = 64, Cfg = 64, Ep = 48, VniAddress = 20, Addr = 8, FlowKey = 40, Flow = 48, FragKey = 44, Ports = 4, Head = 8,
    PolicyKey = 12, PolicyAddress = 20, Epoch = 12, Moved = 16, Route = 28, ShardKey = 8, Shard = 12, Bounce = 16, Pending = 12, Bucket = 16,
    DropKey = 8, DropCount = 64, Event = 696, FlowCount = 56, LogStart = 152,
}
