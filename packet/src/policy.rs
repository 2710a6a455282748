//! Policy: may a packet pass, and does an older verdict still count (DATAPLANE, rules 1 to 5)?
//!
//! What a port gets is judged by the bouncers of its address, what it sends by its own host. A
//! verdict is remembered in the flow, with a mix of the policy's number and generation, the
//! *stamp*. A packet whose flow bears the stamp that is in force costs one comparison; every other
//! one is looked at again. A flow's two directions of opening are judged apart: the local endpoint's
//! egress policy counts for a flow that it opened, its ingress policy for one that the other side
//! opened. Where both did, either is enough, as with any stateful firewall.
//!
//! Where all groups of a port are stateless, the two directions are those of its packets instead: what it
//! sends passes as far as egress rules let *that* out, what it gets as far as ingress rules let *that* in,
//! whoever began. So its flows bear the same two flags and stamps, and a packet needs those of its own
//! direction ([`InForce::lets`]).

use crate::flow::{self, Now};
use crate::ipv4::{self, proto};
use mizar_abi::{
    Address,
    hash::mixed,
    maps::{
        ALLOW, ANYBODY, Ep, Epoch, Flow, FlowKey, PolicyAddress, PolicyKey, UNFILTERED, Verdict, epoch_flag, flow_flag,
    },
    option::{GENERATION, verdict_epoch, verdict_set},
};

/// The tables of rules.
pub trait Rules {
    /// POLICY
    fn policy(&self, key: &PolicyKey) -> Option<Verdict>;
    /// CIDR
    fn cidr(&self, key: &PolicyAddress) -> Option<u32>;
}

/// What is judged: the first packet of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// A set, or its [`mizar_abi::maps::egress`].
    pub policy: u32,
    /// Set of the other side; [`ANYBODY`] if it has none, or none is known.
    pub identity: u32,
    /// Address of the other side.
    pub remote: Address,
    /// IP protocol.
    pub proto: u8,
    /// Destination port; type and code of ICMP ([`crate::ipv4::Inner::judged_port`]).
    pub port: u16,
}

/// Does a policy allow it? At most four look-ups, however many rules there are.
#[inline(always)]
pub fn allows<R: Rules + ?Sized>(rules: &R, question: &Question) -> bool {
    let Question { policy, proto, port, .. } = *question;
    let lets =
        |identity: u32| matches!(rules.policy(&PolicyKey::new(policy, identity, proto, port)), Some(v) if v == ALLOW);
    if question.identity != ANYBODY && lets(question.identity) || lets(ANYBODY) {
        return true;
    }
    match rules.cidr(&PolicyAddress::new(policy, question.remote)) {
        Some(prefix) => lets(prefix),
        None => false,
    }
}

/// What policy judges as port of what is sent from `sport` to `dport`, as far as its flow's key tells: an ICMP answer
/// whose code says what was found (RFC 8335) is judged by its type and code 0, as all of them are one flow.
#[inline(always)]
pub const fn opened_port(number: u8, sport: u16, dport: u16) -> u16 {
    if number != proto::ICMP {
        return dport;
    }
    match ipv4::message(sport, dport) {
        Some(kind) => kind,
        None => u16::MAX,
    }
}

/// Milliseconds for which a flow goes on while its new verdict is asked for.
pub const CONFIRM_MS: u32 = 1_000;

/// Milliseconds for which a port that got another set does not show it in the flows that it has. Bouncers
/// hear of sets at different moments, and to one that knows none of its groups it is nobody.
pub const SETTLE_MS: u32 = 500;

/// An endpoint's policy as it is in force on its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InForce {
    /// [`Ep::set`].
    pub set: u32,
    /// Its generation; 0 if this host does not know it.
    pub n: u32,
    /// [`stamp`] of both, or [`NO_STAMP`]: what a flow is compared with.
    pub stamp: u32,
    /// [`epoch_flag`].
    pub flags: u32,
    /// When the set's generation changed, milliseconds since boot, wrapping.
    pub rules_since_ms: u32,
    /// When the endpoint got this set.
    pub set_since_ms: u32,
}

/// In [`InForce::stamp`]: the generation is not known. No flow bears it, so each packet is looked at, and
/// none that is allowed gets a stamp.
pub const NO_STAMP: u32 = 1;

/// The stamp of a port without port security.
const UNFILTERED_STAMP: u32 = u32::MAX;

/// A set and its generation as flows remember them: a mix of the set's number, whose lower half is turned by
/// the generation, so that two that are equal are of one set, by all 32 bits. 0 is no stamp.
#[inline(always)]
pub const fn stamp(set: u32, n: u32) -> u32 {
    if set == UNFILTERED {
        return UNFILTERED_STAMP;
    }
    match mixed(set) ^ n & 0xffff {
        // As far away as a generation can be.
        taken @ (0 | NO_STAMP | UNFILTERED_STAMP) => taken ^ 0x8000,
        stamp => stamp,
    }
}

impl InForce {
    /// Of an endpoint, with the entry of EPOCHS for its set.
    #[inline(always)]
    pub const fn of(ep: &Ep, epoch: Option<Epoch>) -> Self {
        let Epoch { n, since_ms, flags } = match epoch {
            Some(epoch) => epoch,
            None => Epoch { n: 0, since_ms: ep.set_since_ms, flags: 0 },
        };
        let stamp = if is_known(ep.set, n) { stamp(ep.set, n) } else { NO_STAMP };
        Self { set: ep.set, n, stamp, flags, rules_since_ms: since_ms, set_since_ms: ep.set_since_ms }
    }

    /// Does this host know the set's generation?
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        is_known(self.set, self.n)
    }

    /// Are all of its rules here, so that what they do not allow is denied?
    #[inline(always)]
    pub const fn is_complete(&self) -> bool {
        self.is_known() && self.flags & epoch_flag::WAITS == 0
    }

    /// What a flow that these rules allow remembers.
    #[inline(always)]
    pub const fn remembered(&self) -> u32 {
        if self.is_known() { self.stamp } else { 0 }
    }

    /// Are all that opened the flow allowed to by these very rules?
    #[inline(always)]
    pub const fn covers(&self, flow: &Flow) -> bool {
        (flow.flags & flow_flag::I_INIT == 0 || flow.out_epoch == self.stamp)
            && (flow.flags & flow_flag::R_INIT == 0 || flow.in_epoch == self.stamp)
    }

    /// Is each packet of the endpoint judged by itself?
    #[inline(always)]
    pub const fn is_stateless(&self) -> bool {
        self.flags & epoch_flag::STATELESS != 0
    }

    /// Did rules ever let packets of one side pass in this flow? `init` is the side's flag. Anybody's may, unless the groups
    /// are stateless: then each side needs a rule.
    #[inline(always)]
    pub const fn lets(&self, flow: &Flow, init: u8) -> bool {
        !self.is_stateless() || flow.flags & init != 0
    }

    /// May packets of one side pass in this flow as its entry is? Where the groups are stateless a packet needs the verdict of
    /// its own direction alone: the other's may be outdated for long, for a flow that goes one way never renews it.
    #[inline(always)]
    pub const fn passes(&self, flow: &Flow, init: u8) -> bool {
        if !self.is_stateless() {
            return self.covers(flow);
        }
        let stamp = if init == flow_flag::I_INIT { flow.out_epoch } else { flow.in_epoch };
        flow.flags & init != 0 && stamp == self.stamp
    }

    /// Did the other side open the flow under other rules, so that bouncers are to be asked? While these have
    /// no generation yet, no answer would count.
    #[inline(always)]
    pub const fn doubts(&self, flow: &Flow) -> bool {
        self.is_known() && flow.flags & flow_flag::R_INIT != 0 && flow.in_epoch != self.stamp
    }

    /// Is a bouncer's verdict, of this [`verdict_epoch`] and [`verdict_set`], of these rules, or of later ones that this
    /// host does not know yet?
    #[inline(always)]
    pub const fn counts(&self, epoch: u32, set: u8) -> bool {
        let ours = verdict_epoch(self.set, self.n);
        self.is_known()
            && set == verdict_set(self.set)
            && (epoch ^ ours) & !GENERATION == 0
            && epoch.wrapping_sub(ours) & GENERATION <= GENERATION / 2
    }

    /// Did these rules come into force so lately that a verdict of others may still be confirmed?
    #[inline(always)]
    pub const fn is_young(&self, now: &Now) -> bool {
        is_recent(self.rules_since_ms, now) || is_recent(self.set_since_ms, now)
    }

    /// Did the endpoint get its set so lately that a bouncer may not know it?
    #[inline(always)]
    pub const fn is_new_set(&self, now: &Now) -> bool {
        is_recent(self.set_since_ms, now)
    }

    /// So lately that bouncers are not shown it yet?
    #[inline(always)]
    pub const fn settles(&self, now: &Now) -> bool {
        is_within(self.set_since_ms, SETTLE_MS, now)
    }

    /// May a flow that the other side opened go on without a verdict of these rules? For a second after they
    /// came into force, and for one after it began without any.
    #[inline(always)]
    pub const fn tolerates(&self, flow: &Flow, now: &Now) -> bool {
        self.is_young(now) || flow::is_unconfirmed(flow) && is_recent(flow.since_ms, now)
    }

    /// May a flow that the local endpoint opened, as former rules allowed, go on though those that are here do not
    /// allow it? While others are missing, for as long as one that the other side opened.
    #[inline(always)]
    pub const fn spares(&self, flow: &Flow, now: &Now) -> bool {
        !self.is_complete() && flow.flags & flow_flag::I_INIT != 0 && flow.out_epoch != 0 && self.is_young(now)
    }

    /// May what comes from the other side pass while egress policy waits for its identity?
    #[inline(always)]
    pub const fn waits(&self, flow: &Flow, now: &Now) -> bool {
        self.is_young(now) || flow::is_unidentified(flow) && is_recent(flow.since_ms, now)
    }

    /// Do the endpoint's egress rules name groups?
    #[inline(always)]
    pub const fn needs_identity(&self) -> bool {
        self.flags & epoch_flag::NEED_ID != 0
    }

    /// Was a verdict with this stamp of another set? What could be of this one, but of long ago, counts as that.
    #[inline(always)]
    pub const fn is_other_set(&self, stamp: u32) -> bool {
        const FEW: u32 = 256;
        if self.set == UNFILTERED || stamp == UNFILTERED_STAMP {
            return self.stamp != stamp;
        }
        let turned = stamp ^ mixed(self.set);
        turned >> 16 != 0 || self.is_known() && self.n.wrapping_sub(turned) & 0xffff >= FEW
    }
}

/// Has the set rules that are in force here? Generations begin at 1: without one the rules are not written
/// yet, or not all of them, and to deny by them would be as wrong as to allow.
#[inline(always)]
pub const fn is_known(set: u32, n: u32) -> bool {
    set == UNFILTERED || n != 0
}

/// Less than a second ago?
#[inline(always)]
const fn is_recent(since_ms: u32, now: &Now) -> bool {
    is_within(since_ms, CONFIRM_MS, now)
}

/// No longer ago than so? User space reads a finer clock than the programs, so a moment may lie a little
/// ahead.
#[inline(always)]
const fn is_within(since_ms: u32, ms: u32, now: &Now) -> bool {
    const AHEAD_MS: u32 = 100;
    now.ms.wrapping_sub(since_ms).wrapping_add(AHEAD_MS) <= ms + AHEAD_MS
}

/// The question about a flow that the local endpoint opened.
#[inline(always)]
pub const fn sent(key: &FlowKey, set: u32, identity: u32) -> Question {
    let number = key.vni_proto as u8;
    let port = opened_port(number, key.lport, key.rport);
    Question { policy: mizar_abi::maps::egress(set), identity, remote: key.remote, proto: number, port }
}

/// The question about a flow that the other side opened.
#[inline(always)]
pub const fn received(key: &FlowKey, set: u32, identity: u32) -> Question {
    let number = key.vni_proto as u8;
    let port = opened_port(number, key.rport, key.lport);
    Question { policy: set, identity, remote: key.remote, proto: number, port }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
