//! The planned maps, their keys and values, and operations on them.

use mizar_abi::maps::{
    Addr, Bounce, Cfg, Ep, Epoch, HostAddress, Moved, PolicyAddress, PolicyKey, Route, Shard, ShardKey, Verdict,
    VniAddress, egress, epoch_flag, name,
};
use std::net::IpAddr;

/// A map whose content is planned. Flows, counters and the like are not: the programs write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the map of that name in mizar_abi::maps")]
pub enum Table {
    Cfg,
    Hosts,
    Policy,
    Cidr,
    Epochs,
    Shard,
    Bounce,
    Route,
    Moved,
    Ep,
    Iface,
    Addr,
}

impl Table {
    /// All of them, in the order of [`Key`].
    pub const ALL: [Self; 12] = [
        Self::Cfg,
        Self::Hosts,
        Self::Policy,
        Self::Cidr,
        Self::Epochs,
        Self::Shard,
        Self::Bounce,
        Self::Route,
        Self::Moved,
        Self::Ep,
        Self::Iface,
        Self::Addr,
    ];

    /// Name of the map.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cfg => name::CFG,
            Self::Hosts => name::HOSTS,
            Self::Policy => name::POLICY,
            Self::Cidr => name::CIDR,
            Self::Epochs => name::EPOCHS,
            Self::Shard => name::SHARD,
            Self::Bounce => name::BOUNCE,
            Self::Route => name::ROUTE,
            Self::Moved => name::MOVED,
            Self::Ep => name::EP,
            Self::Iface => name::IFACE,
            Self::Addr => name::ADDR,
        }
    }
}

/// Key of a longest-prefix map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Bits that count, from the VNI's first.
    pub bits: u32,
    /// VNI and address; bits that do not count are 0.
    pub at: VniAddress,
}

impl Prefix {
    /// The prefix of an IPv4 or IPv6 network in a VNI.
    pub fn of(vni: u32, net: &ipnet::IpNet) -> Self {
        Self { bits: 32 + inside(net), at: VniAddress::new(vni, address(net.network())) }
    }

    /// The prefix of one address.
    pub fn single(vni: u32, ip: IpAddr) -> Self {
        Self { bits: VniAddress::BITS, at: VniAddress::new(vni, address(ip)) }
    }
}

/// Key of POLICY: whom a policy allows, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Bits that count.
    pub bits: u32,
    /// Bits that do not count are 0.
    pub at: PolicyKey,
}

/// Key of CIDR: the addresses that a policy tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Bits that count, from the policy's first.
    pub bits: u32,
    /// Bits that do not count are 0.
    pub at: PolicyAddress,
}

impl Cidr {
    /// The prefix of an IPv4 or IPv6 network in a policy.
    pub fn of(policy: u32, net: &ipnet::IpNet) -> Self {
        Self { bits: 32 + inside(net), at: PolicyAddress::new(policy, address(net.network())) }
    }
}

/// Bits of a network's prefix among those of a mapped address.
fn inside(net: &ipnet::IpNet) -> u32 {
    match net {
        ipnet::IpNet::V4(n) => 96 + u32::from(n.prefix_len()),
        ipnet::IpNet::V6(n) => u32::from(n.prefix_len()),
    }
}

/// An address as the maps hold it.
pub fn address(ip: IpAddr) -> mizar_abi::Address {
    match ip {
        IpAddr::V4(v4) => mizar_abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A key of a planned map. The order is the order of additions: an entry comes after everything
/// that it makes the programs look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the key of the map of that name in mizar_abi::maps")]
pub enum Key {
    Cfg,
    Host(u32),
    Policy(Rule),
    Cidr(Cidr),
    Epoch(u32),
    Shard(ShardKey),
    Bounce(VniAddress),
    Route(Prefix),
    Moved(VniAddress),
    Ep(u32),
    Iface(u32),
    Addr(Prefix),
}

impl Key {
    /// The map it is in.
    pub const fn table(&self) -> Table {
        match self {
            Self::Cfg => Table::Cfg,
            Self::Host(_) => Table::Hosts,
            Self::Policy(_) => Table::Policy,
            Self::Cidr(_) => Table::Cidr,
            Self::Epoch(_) => Table::Epochs,
            Self::Shard(_) => Table::Shard,
            Self::Bounce(_) => Table::Bounce,
            Self::Route(_) => Table::Route,
            Self::Moved(_) => Table::Moved,
            Self::Ep(_) => Table::Ep,
            Self::Iface(_) => Table::Iface,
            Self::Addr(_) => Table::Addr,
        }
    }

    /// The set whose rules it is of.
    pub fn set(&self) -> Option<u32> {
        let policy = match self {
            Self::Policy(rule) => rule.at.policy,
            Self::Cidr(cidr) => cidr.at.policy,
            _ => return None,
        };
        Some(u32::from_be_bytes(policy) & !egress(0))
    }
}

/// A value of a planned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the value of the map of that name in mizar_abi::maps")]
pub enum Value {
    Cfg(Cfg),
    Host(HostAddress),
    Policy(Verdict),
    /// [`mizar_abi::maps::cidr_identity`] of a number of this host's.
    Cidr(u32),
    /// The planner leaves `since_ms` 0: when it came into force, the data plane knows.
    Epoch(Epoch),
    Shard(Shard),
    Bounce(Bounce),
    Route(Route),
    Moved(Moved),
    Ep(Ep),
    Iface(u32),
    Addr(Addr),
}

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Add or overwrite.
    Put(Key, Value),
    /// Remove; a key that is not there is no failure.
    Remove(Key),
}

impl Op {
    /// The key written.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Remove(key) => key,
        }
    }
}

/// Additions in the order of their keys, then removals in the reverse order; generations of policies
/// after all that, for a verdict that bears the new one must be of the new rules. But that rules are missing,
/// or that nobody knows which these are, is said before any of them goes: else what they allowed would be
/// denied for good meanwhile. Where both are to be said, the former generation waits first. A set that is in
/// use no more keeps its generation until nobody is of it: what it let pass goes on by that of the next.
///
/// `was` is what an entry was. Sets that `give_up` all rows, though they are in use, leave their room to
/// others before these need it.
pub fn in_safe_order(ops: Vec<Op>, was: impl Fn(&Key) -> Option<Value>, gives_up: impl Fn(u32) -> bool) -> Vec<Op> {
    let mut phases: [Vec<Op>; 5] = Default::default();
    let [unsure, given_up, additions, removals, generations] = &mut phases;
    for op in ops {
        match op {
            Op::Remove(Key::Epoch(set)) if gives_up(set) => unsure.push(op),
            Op::Put(key @ Key::Epoch(_), Value::Epoch(epoch)) => {
                let complete = match was(&key) {
                    Some(Value::Epoch(before)) if before.n != 0 && before.flags & epoch_flag::WAITS == 0 => {
                        Some(before)
                    }
                    _ => None,
                };
                if let Some(before) = complete
                    && epoch.n != 0
                    && epoch.flags & epoch_flag::WAITS != 0
                {
                    unsure.push(Op::Put(key, Value::Epoch(Epoch { n: before.n, ..epoch })));
                    if before.n == epoch.n {
                        continue;
                    }
                }
                if epoch.n == 0 { unsure.push(op) } else { generations.push(op) }
            }
            Op::Put(..) => additions.push(op),
            Op::Remove(key) if key.set().is_some_and(&gives_up) => given_up.push(op),
            Op::Remove(_) => removals.push(op),
        }
    }
    for upwards in [unsure, additions, generations] {
        upwards.sort_by(|a, b| a.key().cmp(b.key()));
    }
    for downwards in [given_up, removals] {
        downwards.sort_by(|a, b| b.key().cmp(a.key()));
    }
    phases.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(set: u32, identity: u32) -> Key {
        Key::Policy(Rule { bits: PolicyKey::BITS, at: PolicyKey::new(set, identity, 6, 80) })
    }

    fn allow(set: u32, identity: u32) -> Op {
        Op::Put(rule(set, identity), Value::Policy(1))
    }

    fn epoch(set: u32, n: u32, flags: u32) -> Op {
        Op::Put(Key::Epoch(set), Value::Epoch(Epoch { n, since_ms: 0, flags }))
    }

    #[test]
    fn rules_of_both_directions_are_their_sets() {
        for policy in [5, egress(5)] {
            assert_eq!(rule(policy, 9).set(), Some(5));
            assert_eq!(Key::Cidr(Cidr { bits: 32, at: PolicyAddress::new(policy, [0; 16]) }).set(), Some(5));
        }
        assert_eq!(Key::Epoch(5).set(), None);
    }

    /// All sets were of generation 1, and all their rules there; set 9 gives up what it has.
    fn ordered(ops: &[Op]) -> Vec<Op> {
        let was = |_: &Key| Some(Value::Epoch(Epoch { n: 1, ..Epoch::default() }));
        in_safe_order(ops.to_vec(), was, |set| set == 9)
    }

    #[test]
    fn a_generation_rises_after_its_rules_have_changed() {
        let (raise, add, remove) = (epoch(1, 2, 0), allow(1, 5), Op::Remove(rule(1, 6)));
        assert_eq!(ordered(&[raise, remove, add]), [add, remove, raise]);
    }

    #[test]
    fn that_rules_are_missing_is_said_before_they_go() {
        let (add, remove) = (allow(1, 5), Op::Remove(rule(1, 6)));
        for unsure in [epoch(1, 1, epoch_flag::WAITS), epoch(1, 0, epoch_flag::WAITS)] {
            assert_eq!(ordered(&[remove, add, unsure]), [unsure, add, remove]);
        }
        // A later generation that waits is not vouched for before its rules are there.
        let (waits, raise) = (epoch(1, 1, epoch_flag::WAITS), epoch(1, 2, epoch_flag::WAITS));
        assert_eq!(ordered(&[raise, remove, add]), [waits, add, remove, raise]);
        let was = |_: &Key| Some(Value::Epoch(Epoch { n: 1, since_ms: 0, flags: epoch_flag::WAITS }));
        assert_eq!(in_safe_order(vec![raise, add], was, |_| false), [add, raise], "it waits already");
    }

    #[test]
    fn a_set_keeps_its_generation_until_nobody_is_of_it() {
        let (moved, forget, remove) = (Key::Ep(5), Op::Remove(Key::Epoch(1)), Op::Remove(rule(1, 6)));
        let moved = Op::Put(moved, Value::Ep(Ep::default()));
        let raise = epoch(2, 2, 0);
        assert_eq!(ordered(&[forget, remove, raise, moved]), [moved, forget, remove, raise]);
    }

    #[test]
    fn who_gives_up_rows_makes_room_before_others_take_it() {
        let ops = [allow(1, 5), Op::Remove(rule(1, 6)), Op::Remove(rule(egress(9), 7)), Op::Remove(Key::Epoch(9))];
        let [add, remove, give_up, forget] = ops;
        assert_eq!(ordered(&ops), [forget, give_up, add, remove]);
    }
}
