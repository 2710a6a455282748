//! Property, from what tenants write to what the kernel decides: security groups, address groups, labels and policies
//! as good as drawn are compiled, each host gets what its scopes include, its planner makes rows of that, and the
//! programs that have these rows in their maps let the same packets pass as the references of Neutron and Kubernetes:
//! a bouncer what comes in, in tcx and in XDP, a port's host what goes out, with the identity of the other side where
//! rules need it, and all of them what arrives. More than 100,000 decisions of each kind of cloud, in about a minute.

mod stage;

use mizar_abi::maps::ANYBODY;
use mizar_domain::security_group::Direction::{Egress, Ingress};
use mizar_drawn::{Asked, Cloud, asked, groups, labels};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use stage::Stage;
use std::cell::RefCell;
use std::net::Ipv4Addr;

const CASES: u32 = 240;
/// Of each case; in each direction one decision, and of some what becomes of them on the way.
const PACKETS: usize = 240;
const JOURNEYS: usize = 30;

/// What the programs decided.
#[derive(Debug, Default)]
struct Decided {
    all: u32,
    allowed: u32,
    arrived: u32,
}

fn judge(stage: &mut Stage, decided: &mut Decided, cloud: &dyn Cloud, asked: Vec<Asked>) -> TestCaseResult {
    let numbers = cloud.numbers();
    // The first two sets, or one that both have.
    let sets = [0, numbers.len().min(2) - 1];
    stage.learn(&cloud.compiled(&sets), sets.map(|set| numbers[set]));
    let addresses = stage.ports.map(|port| Ipv4Addr::from(port.address));
    for (n, (packet, address, peer)) in asked.into_iter().enumerate() {
        let peer = peer.map(|index| index.index(numbers.len()));
        let identity = peer.map_or(ANYBODY, |peer| numbers[peer]);
        let (opens, xdp) = (n % 4 < 2, n % 2 == 0);
        let mut compare = |what: &str, got: bool, meant: bool| {
            decided.all += 1;
            decided.allowed += u32::from(got);
            prop_assert_eq!(got, meant, "{} {:?} with {:?} at {}", what, packet, peer, address);
            Ok(())
        };
        let meant = |direction| cloud.meant(sets[0], direction, packet, address, peer);
        compare("in", stage.lets_in(packet, identity, address, (opens, xdp)), meant(Ingress))?;
        // The ports themselves are where they are.
        if !addresses.contains(&address)
            && let Some(got) = stage.lets_out(packet, identity, address, xdp)
        {
            compare("out", got, meant(Egress))?;
        }
        if n >= JOURNEYS {
            continue;
        }
        let from = n % 2;
        let (here, there) = (sets[from], sets[1 - from]);
        let meant = cloud.meant(here, Egress, packet, addresses[1 - from], Some(there))
            && cloud.meant(there, Ingress, packet, addresses[from], Some(here));
        if let Some(got) = stage.arrives(from, packet, n % 4 < 2) {
            decided.arrived += u32::from(got);
            prop_assert_eq!(got, meant, "{:?} from port {} to the other", packet, from + 1);
        }
    }
    stage.assert_dropped_by_rules();
    Ok(())
}

fn kernel_decides_as_meant<C: Cloud>(clouds: impl Strategy<Value = (C, Vec<Asked>)>) {
    let stage = RefCell::new((Stage::new(), Decided::default()));
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::with_source_file(file!()) };
    let done = TestRunner::new(config).run(&clouds, |(cloud, asked)| {
        let (stage, decided) = &mut *stage.borrow_mut();
        judge(stage, decided, &cloud, asked)
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    let Decided { all, allowed, arrived } = stage.into_inner().1;
    assert!(all >= 100_000, "{all} decisions");
    assert!((all / 20..all * 19 / 20).contains(&allowed), "{allowed} of {all} allowed: the property means something");
    assert!(arrived > CASES / 10, "{arrived} arrived: the property means something");
}

#[test]
fn kernel_decides_as_the_reference_of_neutron_does() {
    kernel_decides_as_meant((groups::cloud(), asked(groups::packet(), PACKETS)));
}

#[test]
fn kernel_decides_as_the_reference_of_kubernetes_does() {
    kernel_decides_as_meant((labels::cloud(), asked(labels::packet(), PACKETS)));
}
