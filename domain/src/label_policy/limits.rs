//! How much one policy may ask of the hosts that it is for.
//!
//! Asked when a tenant writes one, not when a stored one is read: what is there stays readable.

use super::manifest::ManifestError;
use super::{Peer, Policy};

/// Exceptions of one block. Each may leave a range for every bit that it is longer than the block.
pub const EXCEPT_MAX: usize = 64;

/// Ranges that the blocks of a policy come to without their exceptions.
pub const RANGES_MAX: usize = 1000;

/// Refuses a policy that comes to more, by the place at which it does.
pub fn check(policy: &Policy) -> Result<(), ManifestError> {
    let directions = [("ingress", "from", &policy.ingress), ("egress", "to", &policy.egress)];
    let mut ranges = 0;
    for (direction, peers, rules) in directions {
        for (at_rule, rule) in rules.iter().flatten().enumerate() {
            for (at_peer, peer) in rule.peers.iter().enumerate() {
                let Peer::Block { except, .. } = peer else { continue };
                let place = || format!("spec.{direction}[{at_rule}].{peers}[{at_peer}].ipBlock");
                if except.len() > EXCEPT_MAX {
                    let reason = format!("has {} elements, and may have {EXCEPT_MAX}", except.len());
                    return Err(ManifestError { place: format!("{}.except", place()), reason });
                }
                ranges += peer.blocks().len();
                if ranges > RANGES_MAX {
                    let reason = format!("with it the policy comes to more than {RANGES_MAX} ranges of addresses");
                    return Err(ManifestError { place: place(), reason });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label_policy::{Rule, Selector};
    use ipnet::{IpNet, Ipv4Net};
    use std::net::Ipv4Addr;

    /// All addresses but for so many, no two of which are neighbours.
    fn block(exceptions: u32, length: u8) -> Peer {
        let hole = |n: u32| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(n << 20), length));
        Peer::Block { cidr: "0.0.0.0/0".parse().unwrap(), except: (0..exceptions).map(hole).collect() }
    }

    fn policy(ingress: Vec<Peer>, egress: Vec<Peer>) -> Policy {
        let rules = |peers| Some(vec![Rule::default(), Rule { peers, ports: vec![] }]);
        let (ingress, egress) = (rules(ingress), rules(egress));
        Policy { name: "n".into(), namespace: "shop".into(), ports: Selector::default(), ingress, egress }
    }

    #[test]
    fn a_block_with_too_many_exceptions_is_refused_by_its_place() {
        assert_eq!(check(&policy(vec![], vec![block(64, 16)])), Ok(()));
        let error = check(&policy(vec![], vec![block(1, 16), block(65, 16)])).expect_err("it has 65");
        assert_eq!(error.to_string(), "spec.egress[1].to[1].ipBlock.except: has 65 elements, and may have 64");
    }

    #[test]
    fn blocks_that_come_to_too_many_ranges_together_are_refused_at_the_first_beyond() {
        let one = block(20, 32).blocks().len();
        assert!((300..500).contains(&one), "{one}");
        assert_eq!(check(&policy(vec![block(20, 32)], vec![block(20, 32)])), Ok(()));
        let error = check(&policy(vec![block(20, 32), block(20, 32)], vec![block(1, 32), block(20, 32)]))
            .expect_err("too many");
        assert_eq!(error.place, "spec.egress[1].to[1].ipBlock");
        assert!(error.reason.contains("1000"), "{error}");
    }
}
