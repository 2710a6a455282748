//! What a transit host decides about a request: bounce it to the endpoint's host, pass it on to
//! a bouncer (divider), to the other replica, or refuse it. The same function serves a packet from
//! the underlay in XDP and tcx, and one of an endpoint of the transit host itself.

use crate::{
    path,
    policy::{Question, is_known},
};
use mizar_abi::{
    hash::{shard_of, slot},
    mapped,
    maps::{Bounce, Epoch, Route, RouteKind, Shard, ShardKey, UNFILTERED, VniAddress},
    option::{code, flag},
    reason::Drop,
};

/// The tables of a host that decide.
pub trait Tables {
    /// BOUNCE
    fn bounce(&self, key: &VniAddress) -> Option<Bounce>;
    /// ROUTE
    fn route(&self, key: &VniAddress) -> Option<Route>;
    /// SHARD
    fn shard(&self, key: &ShardKey) -> Option<Shard>;
    /// HOSTS
    fn address(&self, host: u32) -> Option<[u8; 4]>;
    /// DEAD
    fn is_dead(&self, host: u32) -> bool;
    /// EPOCHS: what is known of a set's rules.
    fn epoch(&self, set: u32) -> Epoch;
    /// POLICY and CIDR: [`crate::policy::allows`].
    fn allows(&self, question: &Question) -> bool;
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To the endpoint's host.
    Admit,
    /// To a bouncer of the destination.
    Divide,
    /// To the other replica of this shard.
    Sibling,
    /// Back to its origin, which wants to know the destination's identity first.
    Identify,
    /// Back to its origin: the destination is known here, its rules are not, and nobody else is to be asked.
    Unready,
    /// Back to its origin, with this code.
    Deny(u8),
}

/// A decision and whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub action: Action,
    /// Underlay address of the next host; 0.0.0.0 for what goes back.
    pub host: [u8; 4],
    /// Its number; 0 for what goes back.
    pub number: u32,
    /// Outer VNI from here on.
    pub vni: u32,
    /// The endpoint (Admit, and Deny for its policy).
    pub ep_id: u32,
    /// The endpoint's set (Admit, Identify).
    pub set: u32,
    /// Generation of the set's rules (Admit).
    pub epoch: u32,
    /// Policy does not allow the packet, but it may be a reply (Admit).
    pub reply_only: bool,
}

/// What of a request the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Outer VNI.
    pub vni: u32,
    /// Inner source.
    pub src: [u8; 4],
    /// Inner destination.
    pub dst: [u8; 4],
    /// Inner protocol.
    pub proto: u8,
    /// [`crate::ipv4::Inner::judged_port`]
    pub port: u16,
    /// The sender's set.
    pub identity: u32,
    /// Flags of the option.
    pub flags: u8,
    /// Tries before.
    pub tries: u8,
    /// Outer source port.
    pub source_port: u16,
}

/// One of two replicas: the preferred unless it is dead, none, or of no known address; never `but`, when that is not 0.
/// Two dead ones are as good as two live ones: the preferred (never eject all).
#[inline(always)]
pub fn choose<T: Tables + ?Sized>(tables: &T, shard: &Shard, preferred: usize, but: u32) -> Option<(u32, [u8; 4])> {
    let (first, second) =
        if preferred & 1 == 0 { (shard.hosts[0], shard.hosts[1]) } else { (shard.hosts[1], shard.hosts[0]) };
    let address = |host: u32| if host != 0 && host != but { tables.address(host) } else { None };
    match (address(first), address(second)) {
        (Some(_), Some(there)) if tables.is_dead(first) && !tables.is_dead(second) => Some((second, there)),
        (Some(here), _) => Some((first, here)),
        (None, Some(there)) => Some((second, there)),
        (None, None) => None,
    }
}

/// The shard of SHARD that a route and a destination lead to; for dividers, the pair by `spread`.
#[inline(always)]
pub fn shard_on<T: Tables + ?Sized>(tables: &T, route: &Route, dst: [u8; 4], spread: u32) -> Option<Shard> {
    if route.kind == RouteKind::Bouncers as u32 {
        // Most subnets are small: one shard, and nothing to hash.
        let shard =
            if route.log2 == 0 { 0 } else { shard_of(slot(route.subnet, &mapped(dst)), route.log2 as u8) as u32 };
        return tables.shard(&ShardKey { set: route.shards, shard });
    }
    let first = tables.shard(&ShardKey { set: route.shards, shard: 0 })?;
    if first.pairs < 2 {
        return Some(first);
    }
    let pair = spread % first.pairs;
    if pair == 0 { Some(first) } else { tables.shard(&ShardKey { set: route.shards, shard: pair }) }
}

/// Does the ingress policy of a port with this set let the request in?
#[inline(always)]
pub fn admits<T: Tables + ?Sized>(tables: &T, set: u32, request: &Request) -> bool {
    let Request { identity, proto, port, .. } = *request;
    set == UNFILTERED || tables.allows(&Question { policy: set, identity, remote: mapped(request.src), proto, port })
}

/// The rules by which this host judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Their generation.
    pub n: u32,
    /// All of them are here. Else they let in what they allow, and deny nothing.
    pub complete: bool,
}

/// How the rules of a set stand; `None` if they are not in force here, and nothing can be judged by them.
#[inline(always)]
pub fn standing<T: Tables + ?Sized>(tables: &T, set: u32) -> Option<Standing> {
    if set == UNFILTERED {
        return Some(Standing { n: 0, complete: true });
    }
    let epoch = tables.epoch(set);
    is_known(set, epoch.n).then_some(Standing { n: epoch.n, complete: epoch.is_complete() })
}

/// Decides. `me` is this host's number.
#[inline(always)]
pub fn decide<T: Tables + ?Sized>(tables: &T, me: u32, request: &Request) -> Result<Decision, Drop> {
    let mut deny = Decision {
        action: Action::Deny(code::UNREACHABLE),
        host: [0; 4],
        number: 0,
        vni: request.vni,
        ep_id: 0,
        set: 0,
        epoch: 0,
        reply_only: false,
    };
    let mut vni = request.vni;
    let mut key = VniAddress::new(vni, mapped(request.dst));
    let mut bounce = tables.bounce(&key);
    let mut route = None;
    if bounce.is_none() {
        let Some(found) = tables.route(&key) else { return Ok(deny) };
        if found.out_vni != 0 && found.out_vni != vni {
            vni = found.out_vni;
            key = VniAddress::new(vni, mapped(request.dst));
            bounce = tables.bounce(&key);
        }
        route = Some(found);
    }
    if let Some(bounce) = bounce {
        if bounce.host == 0 {
            return Ok(deny);
        }
        let set = bounce.set;
        if request.flags & flag::NEED_ID != 0 {
            return Ok(Decision { action: Action::Identify, set, ..deny });
        }
        let standing = standing(tables, set);
        let allowed = standing.is_some() && admits(tables, set, request);
        if let Some(Standing { n: epoch, complete }) = standing
            && (allowed || complete)
        {
            if !allowed && request.flags & flag::OPENS != 0 {
                return Ok(Decision { action: Action::Deny(code::POLICY), vni, ep_id: bounce.ep_id, ..deny });
            }
            let host = tables.address(bounce.host).ok_or(Drop::NoHost)?;
            return Ok(Decision {
                action: Action::Admit,
                host,
                number: bounce.host,
                vni,
                ep_id: bounce.ep_id,
                set,
                epoch,
                reply_only: !allowed,
            });
        }
        deny.action = Action::Unready;
        if route.is_none() {
            route = tables.route(&key);
        }
    }
    let Some(route) = route else { return Ok(deny) };
    let Some(shard) = shard_on(tables, &route, request.dst, request.source_port as u32) else { return Ok(deny) };
    if shard.hosts[0] == me || shard.hosts[1] == me {
        // It is ours to know or to judge, and we cannot: perhaps the other replica was told sooner.
        if request.flags & flag::SIBLING != 0 || route.kind != RouteKind::Bouncers as u32 {
            return Ok(deny);
        }
        return Ok(match choose(tables, &shard, 0, me) {
            Some((number, host)) => Decision { action: Action::Sibling, host, number, vni, ..deny },
            None => deny,
        });
    }
    let preferred = path::divider_replica(request.source_port, request.tries);
    match choose(tables, &shard, preferred, 0) {
        Some((number, host)) => Ok(Decision { action: Action::Divide, host, number, vni, ..deny }),
        None => Err(Drop::NoTransit),
    }
}

#[cfg(test)]
#[path = "transit_tests.rs"]
mod tests;
