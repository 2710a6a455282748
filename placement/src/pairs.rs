//! Pairs of dividers: the second of a pair takes over from the first.
//!
//! Senders choose a pair by the path hash and one of the two by another bit of it, so order
//! within a pair means nothing; it rises, so that the same holders always give the same body.

use crate::host::Host;
use std::collections::BTreeMap;

/// Pairs the holders so that partners stand as far apart as they can: in different zones before
/// different racks before different hosts. An odd one is paired with a holder of another pair; a
/// single one with 0, which means none.
pub fn pair(hosts: &[Host], holders: &[u32]) -> Vec<[u32; 2]> {
    let place: BTreeMap<u32, (&str, &str)> =
        hosts.iter().map(|h| (h.number, (h.az.as_str(), h.rack.as_str()))).collect();
    let closeness = |a: u32, b: u32| match (place.get(&a), place.get(&b)) {
        (Some(a), Some(b)) if a == b => 2,
        (Some(a), Some(b)) if a.0 == b.0 => 1,
        _ => 0,
    };
    let mut all = holders.to_vec();
    all.sort_unstable();
    all.dedup();
    let mut left = all.clone();
    let mut pairs = Vec::with_capacity(all.len().div_ceil(2));
    // The holder with the most company in its own domain chooses first: choosing late it would
    // find only that company left.
    while let Some(first) = left.iter().copied().max_by_key(|a| {
        let near: u32 = left.iter().map(|b| closeness(*a, *b)).sum();
        (near, std::cmp::Reverse(*a))
    }) {
        left.retain(|h| *h != first);
        let partner = left.iter().copied().min_by_key(|b| (closeness(first, *b), *b));
        let partner = match partner {
            Some(partner) => {
                left.retain(|h| *h != partner);
                partner
            }
            None => match all.iter().copied().filter(|b| *b != first).min_by_key(|b| (closeness(first, *b), *b)) {
                Some(borrowed) => borrowed,
                None => {
                    pairs.push([first, 0]);
                    continue;
                }
            },
        };
        pairs.push([first.min(partner), first.max(partner)]);
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Transit;

    fn hosts(places: &[(u32, &str, &str)]) -> Vec<Host> {
        places
            .iter()
            .map(|(number, az, rack)| Host {
                number: *number,
                az: (*az).into(),
                rack: (*rack).into(),
                transit: Transit::Yes,
                weight: 1,
                live: true,
            })
            .collect()
    }

    #[test]
    fn partners_stand_in_different_racks() {
        let hosts = hosts(&[(1, "a", "r1"), (2, "a", "r1"), (3, "a", "r2"), (4, "a", "r2")]);
        assert_eq!(pair(&hosts, &[1, 2, 3, 4]), [[1, 3], [2, 4]]);
    }

    #[test]
    fn partners_stand_in_different_zones_before_different_racks() {
        let hosts = hosts(&[(1, "a", "r1"), (2, "a", "r2"), (3, "b", "r1"), (4, "b", "r2")]);
        assert_eq!(pair(&hosts, &[4, 3, 2, 1]), [[1, 3], [2, 4]]);
    }

    #[test]
    fn an_odd_holder_borrows_a_partner_and_a_single_one_has_none() {
        let hosts = hosts(&[(1, "a", "r1"), (2, "a", "r2"), (3, "a", "r2")]);
        assert_eq!(pair(&hosts, &[1, 2, 3]), [[1, 2], [1, 3]]);
        assert_eq!(pair(&hosts, &[2]), [[2, 0]]);
        assert!(pair(&hosts, &[]).is_empty());
    }

    #[test]
    fn a_crowded_rack_does_not_pair_with_itself_while_others_are_free() {
        let hosts = hosts(&[(1, "a", "r1"), (2, "a", "r2"), (3, "a", "r3"), (4, "a", "r3")]);
        assert_eq!(pair(&hosts, &[1, 2, 3, 4]), [[1, 3], [2, 4]]);
    }
}
