//! From what tenants write to what is decided: security groups, address groups and ports are
//! compiled, a host gets what its scopes include, its planner makes rows of that, and these rows,
//! looked up by the code that the kernel runs, let the same packets pass as Neutron's reference does.

mod maps;

use ipnet::IpNet;
use maps::{Maps, Side, plan};
use mizar_abi::maps::{ANYBODY, egress};
use mizar_domain::security_group::{Direction, Ethertype, Protocol, Remote, Rule};
use mizar_drawn::groups::{self, group_id};
use mizar_drawn::{Cloud, asked};
use mizar_wire::Scope;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const CASES: u32 = 1_000;
const PACKETS: usize = 64;
/// Each packet is judged in both directions.
const _: () = assert!(CASES as usize * PACKETS * 2 >= 100_000);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn planned_rows_decide_as_the_reference_does(cloud in groups::cloud(), asked in asked(groups::packet(), PACKETS)) {
        let (all, numbers) = (cloud.compiled(&[0]), cloud.numbers());
        let policy = numbers[0];
        let sides = [
            (Side::of(&all, policy, Scope::Subnet(1)), Direction::Ingress),
            (Side::of(&all, egress(policy), Scope::Host(1)), Direction::Egress),
        ];
        for (side, direction) in &sides {
            prop_assert_eq!(side.is_stateless(), cloud.is_stateless(0), "{:?}", direction);
        }
        for (packet, address, peer) in asked {
            let peer = peer.map(|index| index.index(numbers.len()));
            let identity = peer.map_or(ANYBODY, |peer| numbers[peer]);
            for (side, direction) in &sides {
                let (decided, _) = side.judge(packet, identity, address)?;
                let meant = cloud.meant(0, *direction, packet, address, peer);
                prop_assert_eq!(decided, meant, "{:?} {:?} with {:?} at {}", direction, packet, peer, address);
            }
        }
    }
}

/// The number of rules changes the number of rows, not that of lookups.
#[test]
fn two_thousand_rules_are_decided_by_four_lookups() {
    let rule = |port: u16, remote| Rule {
        direction: Direction::Ingress,
        ethertype: Ethertype::V4,
        protocol: Protocol::parse("tcp").expect("a protocol"),
        low: Some(port.into()),
        high: Some(port.into()),
        remote,
    };
    let to_group = Remote { group: Some(group_id(2)), ..Remote::default() };
    let from = |port: u16| {
        let net = IpNet::new_assert(Ipv4Addr::from(0x0a00_0000 | u32::from(port) << 8).into(), 24);
        Remote { prefix: Some(net), ..Remote::default() }
    };
    let rules = (1..=1000).flat_map(|at| [rule(at * 2, to_group), rule(at * 2, from(at))]).collect();
    let sets = vec![BTreeSet::from([1]), BTreeSet::from([2])];
    let (groups, stateless) = (BTreeMap::from([(1, rules), (2, vec![])]), BTreeSet::new());
    let cloud = groups::Cloud { groups, stateless, addresses: BTreeMap::new(), sets };
    let [own, peers] = cloud.numbers()[..] else { panic!("two sets") };
    let maps = Maps::of(&plan(&cloud.compiled(&[0]), &[Scope::Subnet(1)]));
    for at in 1..=1000u16 {
        let decide = |identity, address: u32, port| maps.decide(own, identity, Ipv4Addr::from(address), 6, port);
        let inside = 0x0a00_0000 | u32::from(at) << 8 | 7;
        assert!(decide(peers, 0x0b00_0000, at * 2) && decide(ANYBODY, inside, at * 2));
        assert!(!decide(peers, 0x0b00_0000, at * 2 + 1) && !decide(ANYBODY, inside, at * 2 + 1));
        assert!(!decide(ANYBODY, 0x0b00_0000, at * 2) && !decide(own, 0x0b00_0000, at * 2));
    }
}
