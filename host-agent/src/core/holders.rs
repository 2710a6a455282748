//! Who holds which addresses, as it was written to the maps, and what must be forgotten when that
//! changes.
//!
//! An established flow is not judged again: while it lives, packets for its local address go to
//! the endpoint that it names, whoever holds the address by now. So whenever a port loses an
//! address, or its right to send from any, its flows with addresses it no longer has are swept.

use mizar_abi::maps::{FlowKey, VniAddress, ep_flag};
use mizar_plan::{Key, Op, Prefix, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Ports by the prefixes they hold, and those that may send from any address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    prefixes: BTreeMap<Prefix, u32>,
    unbounded: BTreeSet<u32>,
}

fn covers(prefix: &Prefix, at: &VniAddress) -> bool {
    let bytes = |of: &VniAddress| {
        let mut all = [0; 20];
        all[..4].copy_from_slice(&of.vni);
        all[4..].copy_from_slice(&of.address);
        all
    };
    let (ours, theirs) = (bytes(&prefix.at), bytes(at));
    let (whole, rest) = ((prefix.bits / 8) as usize, prefix.bits % 8);
    ours[..whole] == theirs[..whole] && (rest == 0 || (ours[whole] ^ theirs[whole]) & !(0xff_u8 >> rest) == 0)
}

impl Holders {
    /// What the maps held before this process wrote to them.
    pub fn observe(&mut self, key: &Key, value: &Value) {
        match (key, value) {
            (Key::Addr(prefix), Value::Addr(addr)) => drop(self.prefixes.insert(*prefix, addr.ep_id)),
            (Key::Ep(port), Value::Ep(ep)) if ep.flags & ep_flag::ANY_SOURCE != 0 => {
                self.unbounded.insert(*port);
            }
            (Key::Ep(port), Value::Ep(_)) => drop(self.unbounded.remove(port)),
            _ => {}
        }
    }

    /// An operation was done. Returns the port that lost an address by it.
    pub fn done(&mut self, op: &Op) -> Option<u32> {
        match op {
            Op::Remove(Key::Addr(prefix)) => self.prefixes.remove(prefix),
            Op::Remove(Key::Ep(port)) => self.unbounded.take(port),
            Op::Remove(_) => None,
            Op::Put(key, value) => {
                let before = match key {
                    Key::Addr(prefix) => self.prefixes.get(prefix).copied(),
                    Key::Ep(port) => self.unbounded.get(port).copied(),
                    _ => None,
                };
                self.observe(key, value);
                before.filter(|port| match key {
                    Key::Addr(prefix) => self.prefixes.get(prefix) != Some(port),
                    _ => !self.unbounded.contains(port),
                })
            }
        }
    }

    /// Whether a port's flow is at an address that it may not have any more.
    pub fn is_stale(&self, port: u32, flow: &FlowKey) -> bool {
        let at = VniAddress::new(flow.vni_proto >> 8, flow.local);
        let holding = self.prefixes.iter().filter(|(prefix, _)| covers(prefix, &at));
        match holding.max_by_key(|(prefix, _)| prefix.bits) {
            Some((_, holder)) => *holder != port,
            None => !self.unbounded.contains(&port),
        }
    }
}

/// What the programs' own maps shall no longer hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// Everything of these ports.
    pub ports: BTreeSet<u32>,
    /// Flows of these ports at addresses that they do not hold.
    pub moved: BTreeSet<u32>,
    /// Who holds which.
    pub holders: Holders,
    /// Everything of ports that are not among these.
    pub others: Option<BTreeSet<u32>>,
}

impl Forget {
    /// Adds what came later.
    pub fn merge(&mut self, later: Self) {
        self.ports.extend(later.ports);
        if !later.moved.is_empty() {
            self.moved.extend(later.moved);
            self.holders = later.holders;
        }
        self.others = later.others.or(self.others.take());
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.moved.is_empty() && self.others.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::maps::{Addr, Ep};

    fn prefix(text: &str) -> Key {
        Key::Addr(Prefix::of(7, &text.parse().unwrap()))
    }

    fn held(text: &str, port: u32) -> Op {
        Op::Put(prefix(text), Value::Addr(Addr { ep_id: port, flags: 0 }))
    }

    fn flow(vni: u32, last: u8) -> FlowKey {
        FlowKey { vni_proto: vni << 8 | 6, local: mizar_abi::mapped([10, 1, 0, last]), ..FlowKey::default() }
    }

    #[test]
    fn a_port_that_loses_an_address_has_stale_flows_there_and_nowhere_else() {
        let mut holders = Holders::default();
        assert_eq!(holders.done(&held("10.1.0.5/32", 5)), None);
        assert_eq!(holders.done(&held("10.1.0.0/28", 5)), None);
        assert_eq!(holders.done(&held("10.1.0.5/32", 5)), None, "the same again");
        assert_eq!(holders.done(&Op::Remove(prefix("10.1.0.0/28"))), Some(5));
        assert!(!holders.is_stale(5, &flow(7, 5)), "still its own");
        assert!(holders.is_stale(5, &flow(7, 6)));
        assert!(holders.is_stale(5, &flow(8, 5)), "of another network");
        holders.done(&held("10.1.0.0/28", 5));
        assert_eq!(holders.done(&held("10.1.0.6/32", 6)), None, "nobody had exactly this one");
        assert_eq!(holders.done(&held("10.1.0.5/32", 6)), Some(5));
        assert!(holders.is_stale(5, &flow(7, 5)) && holders.is_stale(5, &flow(7, 6)));
        assert!(!holders.is_stale(5, &flow(7, 7)) && holders.is_stale(5, &flow(7, 16)));
    }

    #[test]
    fn a_port_that_may_no_longer_send_from_any_address_has_stale_flows_beyond_its_own() {
        let ep = |flags| Op::Put(Key::Ep(5), Value::Ep(Ep { flags, ..EP }));
        let mut holders = Holders::default();
        holders.done(&held("10.1.0.5/32", 5));
        holders.done(&held("10.1.0.6/32", 6));
        assert_eq!(holders.done(&ep(ep_flag::ANY_SOURCE)), None);
        assert!(!holders.is_stale(5, &flow(7, 9)));
        assert!(holders.is_stale(5, &flow(7, 6)), "another port's address");
        assert_eq!(holders.done(&ep(ep_flag::ANY_SOURCE)), None);
        assert_eq!(holders.done(&ep(0)), Some(5));
        assert!(holders.is_stale(5, &flow(7, 9)) && !holders.is_stale(5, &flow(7, 5)));
    }

    const EP: Ep = Ep {
        vni: 7,
        ifindex: 1,
        inner_ifindex: 0,
        set: 0,
        generation: 1,
        mtu: 1398,
        mac: [0; 6],
        kind: 1,
        flags: 0,
        gateway: [0; 4],
        set_since_ms: 0,
        reserved: [0; 2],
    };
}
