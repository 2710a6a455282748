//! Typed look-ups.

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_tai_ns},
    maps::lpm_trie::Key,
};
use mizar_abi::{
    mapped,
    maps::{
        Addr, Bounce, Cfg, Ep, Epoch, Flow, FlowKey, Pending, PolicyAddress, PolicyKey, Route, Shard, ShardKey,
        UNFILTERED, Verdict, VniAddress, flow_flag, revoked,
    },
    reason::Drop,
};
use mizar_packet::{
    flow::{self, Now},
    policy::{self, InForce, Question, Rules},
    transit::Tables,
};

use crate::{
    log,
    maps::{
        ADDR, BOUNCE, CACHED, CIDR, DEAD, EP, EP_CACHE, EPOCHS, FLOW_EST, FLOW_NEW, HOST_CACHE, HOSTS, IFACE,
        IFACE_CACHE, PENDING, POLICY, ROUTE, SHARD, SHARD_CACHE,
    },
    walk::Walk,
};

/// A setting that the loader may have overwritten.
#[inline(always)]
pub fn setting(value: &'static u32) -> u32 {
    // SAFETY: a valid reference; volatile, as the compiler must not take the default for granted.
    unsafe { core::ptr::read_volatile(value) }
}

/// Sets the clocks of the walk: `now` for flows, `utc` for stamps. The kernel's tick comes every
/// few milliseconds; until then what was computed stays. Its number is one load of memory (the
/// verifier puts it in place of the call); clocks are two calls and three divisions.
#[inline(always)]
pub fn clocks(walk: &mut Walk, cfg: &Cfg) {
    // SAFETY: a plain helper call.
    let tick = unsafe { bpf_jiffies64() };
    if walk.tick == tick {
        return;
    }
    walk.tick = tick;
    // SAFETY: a plain helper call.
    walk.now = Now::from_ns(unsafe { bpf_ktime_get_coarse_ns() });
    // SAFETY: a plain helper call.
    let tai = unsafe { bpf_ktime_get_tai_ns() } / 1_000_000_000;
    walk.utc = (tai as u32).wrapping_sub(cfg.tai_offset as u32);
}

/// 32 random bits.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_get_prandom_u32() }
}

/// A local endpoint.
#[inline(always)]
pub fn endpoint(ep_id: u32) -> Option<&'static Ep> {
    // SAFETY: values are replaced, not freed, while a program runs (RCU).
    unsafe { EP.get(&ep_id) }
}

/// A local endpoint's policy.
#[inline(always)]
pub fn in_force(ep: &Ep) -> InForce {
    // SAFETY: as for `endpoint`.
    let epoch = if ep.set == UNFILTERED { None } else { unsafe { EPOCHS.get(&ep.set) }.copied() };
    InForce::of(ep, epoch)
}

/// Who has an address here.
#[inline(always)]
pub fn owner(vni: u32, address: [u8; 4]) -> Option<&'static Addr> {
    ADDR.get(&Key::new(VniAddress::BITS, VniAddress::new(vni, mapped(address))))
}

/// The subnet of an address.
#[inline(always)]
pub fn route(vni: u32, address: [u8; 4]) -> Option<&'static Route> {
    ROUTE.get(&Key::new(VniAddress::BITS, VniAddress::new(vni, mapped(address))))
}

#[inline(always)]
fn live(entry: Option<*mut Flow>, key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    // SAFETY: as for `endpoint`; writers on two CPUs write single fields, last one wins.
    let entry = unsafe { &mut *entry? };
    flow::is_live(entry, key.vni_proto as u8, now).then_some(entry)
}

/// A flow with a known path.
#[inline(always)]
pub fn established(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    live(FLOW_EST.get_ptr_mut(key), key, now)
}

/// A flow without one.
#[inline(always)]
pub fn waiting(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    live(FLOW_NEW.get_ptr_mut(key), key, now)
}

/// A flow in any state, off the fast path.
#[inline(never)]
fn any_flow(key: &FlowKey, now: &Now) -> *mut Flow {
    let found = match established(key, now) {
        Some(found) => Some(found),
        None => waiting(key, now),
    };
    found.map_or(core::ptr::null_mut(), |f| f as *mut Flow)
}

/// The same as a reference.
#[inline(always)]
pub fn find(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    // SAFETY: null or an entry.
    unsafe { any_flow(key, now).as_mut() }
}

/// Writes a flow into the table of its state, and out of the other.
#[inline(never)]
pub fn keep(key: &FlowKey, flow: &Flow) -> bool {
    // Removing what is not there fails; nothing follows from it.
    if flow::is_established(flow) {
        let kept = FLOW_EST.insert(key, flow, 0).is_ok();
        let _ = FLOW_NEW.remove(key);
        kept
    } else {
        let kept = FLOW_NEW.insert(key, flow, 0).is_ok();
        let _ = FLOW_EST.remove(key);
        kept
    }
}

/// Denies a flow for a second, whatever its state was.
#[inline(never)]
pub fn deny(key: &FlowKey, flow: &Flow, now: &Now) -> bool {
    let mut denied = *flow;
    if denied.flags & flow_flag::LOGGED != 0 {
        let revoked = if flow::knows_peer(&denied) { revoked::ALLOWED as u32 } else { 0 };
        log::denied(key, denied.peer_identity, revoked, Drop::Policy as u32);
    }
    flow::denied(&mut denied, now);
    keep(key, &denied)
}

/// A transit host owes an answer: the agent probes the one that owes it for long.
#[inline(never)]
pub fn owes_answer(host: &[u8; 4], now: &Now) -> u32 {
    // 0 means nobody waits, so a request in millisecond 0 counts from 1.
    let since = now.ms | (now.ms == 0) as u32;
    match PENDING.get_ptr_mut(host) {
        // SAFETY: as for flows.
        Some(pending) => unsafe {
            if (*pending).since_ms == 0 {
                (*pending).since_ms = since;
            }
            if (*pending).used != now.s {
                (*pending).used = now.s;
            }
        },
        None => {
            let _ = PENDING.insert(host, &Pending { since_ms: since, used: now.s, answered_ms: 0 }, 0);
        }
    }
    0
}

/// It answered, or answered a probe.
#[inline(never)]
pub fn answered(host: &[u8; 4], now: &Now) -> u32 {
    if let Some(pending) = PENDING.get_ptr_mut(host) {
        // SAFETY: as for flows.
        unsafe {
            (*pending).since_ms = 0;
            (*pending).answered_ms = now.ms;
        }
    }
    0
}

/// What IFACE and EP said of an interface.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sender {
    /// When: valid during one tick, as for [`HostSeen`].
    tick: u64,
    ifindex: u32,
    /// The port's number.
    pub ep_id: u32,
    /// The port.
    pub ep: Ep,
    /// Its policy.
    pub force: InForce,
}

/// The endpoint behind an interface, from this CPU's cache or from the maps.
#[inline(always)]
pub fn sender(ifindex: u32, tick: u64) -> Option<&'static Sender> {
    // SAFETY: per CPU.
    let seen = unsafe { &mut *IFACE_CACHE.get_ptr_mut(ifindex & (CACHED - 1))? };
    if seen.tick != tick || seen.ifindex != ifindex {
        // SAFETY: as for `endpoint`.
        let ep_id = unsafe { IFACE.get(&ifindex) }.copied()?;
        let ep = endpoint(ep_id)?;
        *seen = Sender { tick, ifindex, ep_id, ep: *ep, force: in_force(ep) };
    }
    Some(seen)
}

/// What EP said of a port.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Receiver {
    /// When: valid during one tick, as for [`HostSeen`].
    tick: u64,
    ep_id: u32,
    pad: u32,
    /// The port.
    pub ep: Ep,
    /// Its policy.
    pub force: InForce,
}

/// A port that receives, from this CPU's cache or from the map.
#[inline(always)]
pub fn receiver(ep_id: u32, tick: u64) -> Option<&'static Receiver> {
    // SAFETY: per CPU.
    let seen = unsafe { &mut *EP_CACHE.get_ptr_mut(ep_id & (CACHED - 1))? };
    if seen.tick != tick || seen.ep_id != ep_id {
        let ep = endpoint(ep_id)?;
        *seen = Receiver { tick, ep_id, pad: 0, ep: *ep, force: in_force(ep) };
    }
    Some(seen)
}

/// What HOSTS and DEAD said of a host.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostSeen {
    /// When: valid during one tick of the kernel, so a change counts a few milliseconds later.
    tick: u64,
    number: u32,
    address: [u8; 4],
    known: u32,
    dead: u32,
    /// When it was noted in PENDING that this host owes an answer.
    noted: u64,
}

/// A host's entry, from this CPU's cache or from the maps. A busy transit host asks for the same
/// few hosts with every packet; the cache is an array, which costs a tenth of a hash map.
#[inline(always)]
fn host(number: u32, tick: u64) -> Option<&'static HostSeen> {
    // SAFETY: per CPU.
    let seen = unsafe { &mut *HOST_CACHE.get_ptr_mut(number & (CACHED - 1))? };
    if seen.tick != tick || seen.number != number {
        look_up_host(seen, number, tick);
    }
    Some(seen)
}

#[inline(never)]
fn look_up_host(seen: &mut HostSeen, number: u32, tick: u64) -> u32 {
    // SAFETY: as for `endpoint`.
    let (address, dead) = unsafe { (HOSTS.get(&number).copied(), DEAD.get(&number).is_some()) };
    seen.known = address.is_some() as u32;
    seen.address = address.unwrap_or_default();
    seen.dead = dead as u32;
    if seen.number != number {
        seen.noted = 0;
    }
    seen.number = number;
    seen.tick = tick;
    seen.known
}

/// What SHARD said of a shard: a divider asks for the few of its network with every packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ShardSeen {
    /// When: valid during one tick, as for [`HostSeen`].
    tick: u64,
    key: ShardKey,
    shard: Shard,
    known: u32,
}

/// A shard, from this CPU's cache or from the map.
#[inline(always)]
fn shard(key: &ShardKey, tick: u64) -> Option<Shard> {
    let slot = (key.set ^ key.shard.wrapping_mul(0x9e37_79b1)) & (CACHED - 1);
    // SAFETY: per CPU.
    let seen = unsafe { &mut *SHARD_CACHE.get_ptr_mut(slot)? };
    if seen.tick != tick || seen.key.set != key.set || seen.key.shard != key.shard {
        look_up_shard(seen, key.set, key.shard, tick);
    }
    (seen.known != 0).then_some(seen.shard)
}

#[inline(never)]
fn look_up_shard(seen: &mut ShardSeen, set: u32, shard: u32, tick: u64) -> u32 {
    let key = ShardKey { set, shard };
    // SAFETY: as for `endpoint`.
    let found = unsafe { SHARD.get(&key) };
    seen.known = found.is_some() as u32;
    seen.shard = found.copied().unwrap_or_default();
    seen.key = key;
    seen.tick = tick;
    seen.known
}

/// The host of `walk.decision` owes an answer. Noted once a tick: this is for hosts that pass on
/// what many others ask for.
#[inline(always)]
pub fn next_owes_answer(walk: &Walk) {
    // SAFETY: per CPU.
    let Some(seen) = (unsafe { HOST_CACHE.get_ptr_mut(walk.decision.number & (CACHED - 1)).and_then(|s| s.as_mut()) })
    else {
        return;
    };
    if seen.noted != walk.tick {
        seen.noted = walk.tick;
        owes_answer(&walk.to, &walk.now);
    }
}

/// POLICY and CIDR.
struct Rulebook;

impl Rules for Rulebook {
    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<Verdict> {
        POLICY.get(&Key::new(PolicyKey::BITS, *key)).copied()
    }
    #[inline(always)]
    fn cidr(&self, key: &PolicyAddress) -> Option<u32> {
        CIDR.get(&Key::new(PolicyAddress::BITS, *key)).copied()
    }
}

/// [`policy::allows`], of numbers: verified once a caller, and without their stack.
#[inline(never)]
fn judge(policy: u32, identity: u32, remote: u32, proto_port: u32) -> u32 {
    let question = Question {
        policy,
        identity,
        remote: mapped(remote.to_ne_bytes()),
        proto: (proto_port >> 16) as u8,
        port: proto_port as u16,
    };
    policy::allows(&Rulebook, &question) as u32
}

/// The maps, as transit asks them, during one tick.
pub struct Maps {
    /// `Walk::tick`
    pub tick: u64,
}

impl Tables for Maps {
    #[inline(always)]
    fn bounce(&self, key: &VniAddress) -> Option<Bounce> {
        // SAFETY: as for `endpoint`.
        unsafe { BOUNCE.get(key) }.copied()
    }
    #[inline(always)]
    fn route(&self, key: &VniAddress) -> Option<Route> {
        ROUTE.get(&Key::new(VniAddress::BITS, *key)).copied()
    }
    #[inline(always)]
    fn shard(&self, key: &ShardKey) -> Option<Shard> {
        shard(key, self.tick)
    }
    #[inline(always)]
    fn address(&self, number: u32) -> Option<[u8; 4]> {
        let host = host(number, self.tick)?;
        (host.known != 0).then_some(host.address)
    }
    #[inline(always)]
    fn is_dead(&self, number: u32) -> bool {
        matches!(host(number, self.tick), Some(host) if host.dead != 0)
    }
    #[inline(always)]
    fn epoch(&self, set: u32) -> Epoch {
        // SAFETY: as for `endpoint`.
        unsafe { EPOCHS.get(&set) }.copied().unwrap_or_default()
    }
    #[inline(always)]
    fn allows(&self, question: &Question) -> bool {
        let r = &question.remote;
        let remote = u32::from_ne_bytes([r[12], r[13], r[14], r[15]]);
        let proto_port = (question.proto as u32) << 16 | question.port as u32;
        judge(question.policy, question.identity, remote, proto_port) != 0
    }
}
