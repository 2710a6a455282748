extern crate std;
use super::*;
use mizar_abi::{
    mapped,
    maps::{cidr_identity, egress},
    option::{verdict_epoch, verdict_set},
};
use std::{cell::Cell, collections::BTreeMap, vec::Vec};

/// Rules in memory, with their prefixes, and how often they were asked.
#[derive(Default)]
struct Memory {
    policy: Vec<(u32, PolicyKey)>,
    cidr: Vec<(u32, PolicyAddress, u32)>,
    asked: Cell<u32>,
}

fn bytes(key: &PolicyKey) -> [u8; 12] {
    let mut all = [0; 12];
    all[..4].copy_from_slice(&key.policy);
    all[4..8].copy_from_slice(&key.identity);
    all[8..].copy_from_slice(&[key.proto, key.pad, key.port[0], key.port[1]]);
    all
}

fn covers(bits: u32, prefix: &[u8], key: &[u8]) -> bool {
    (0..bits as usize).all(|bit| (prefix[bit / 8] ^ key[bit / 8]) & (0x80 >> (bit % 8)) == 0)
}

impl Rules for Memory {
    fn policy(&self, key: &PolicyKey) -> Option<Verdict> {
        self.asked.set(self.asked.get() + 1);
        self.policy.iter().any(|(bits, rule)| covers(*bits, &bytes(rule), &bytes(key))).then_some(ALLOW)
    }
    fn cidr(&self, key: &PolicyAddress) -> Option<u32> {
        self.asked.set(self.asked.get() + 1);
        let found = self
            .cidr
            .iter()
            .filter(|(bits, at, _)| at.policy == key.policy && covers(*bits - 32, &at.address, &key.address));
        found.max_by_key(|(bits, ..)| *bits).map(|(.., identity)| *identity)
    }
}

const SET: u32 = 4;
const FRIENDS: u32 = 9;
const LOCAL: [u8; 4] = [10, 0, 0, 5];
const REMOTE: [u8; 4] = [192, 0, 2, 7];

fn question() -> Question {
    Question { policy: SET, identity: FRIENDS, remote: mapped(REMOTE), proto: 6, port: 443 }
}

fn rule(bits: u32, identity: u32, proto: u8, port: u16) -> (u32, PolicyKey) {
    (bits, PolicyKey::new(SET, identity, proto, port))
}

#[test]
fn an_identity_a_prefix_or_anybody_is_allowed_and_else_nobody() {
    let prefix = cidr_identity(1);
    for (policy, allowed) in [
        (rule(96, FRIENDS, 6, 443), true),
        (rule(96, ANYBODY, 6, 443), true),
        (rule(96, prefix, 6, 443), true),
        (rule(96, FRIENDS, 6, 444), false),
        (rule(96, FRIENDS + 1, 6, 443), false),
        (rule(96, cidr_identity(2), 6, 443), false),
        (rule(80, FRIENDS, 6, 0), true),
        (rule(80, FRIENDS, 17, 0), false),
        (rule(64, ANYBODY, 0, 0), true),
        // A range of ports: 384 to 511.
        (rule(89, FRIENDS, 6, 384), true),
        (rule(89, FRIENDS, 6, 512), false),
    ] {
        let mut rules = Memory { policy: Vec::from([policy]), ..Memory::default() };
        rules.cidr.push((32 + 96 + 24, PolicyAddress::new(SET, mapped([192, 0, 2, 0])), prefix));
        assert_eq!(allows(&rules, &question()), allowed, "{policy:?}");
        assert!(rules.asked.get() <= 4, "{} look-ups", rules.asked.get());
        assert!(!allows(&rules, &Question { policy: egress(SET), ..question() }), "the other direction");
    }
}

#[test]
fn of_nested_prefixes_the_longest_speaks() {
    let mut rules = Memory::default();
    rules.policy.push(rule(96, cidr_identity(1), 6, 443));
    rules.cidr.push((32 + 96, PolicyAddress::new(SET, mapped([0; 4])), cidr_identity(1)));
    assert!(allows(&rules, &question()));
    rules.cidr.push((32 + 96 + 24, PolicyAddress::new(SET, mapped([192, 0, 2, 0])), cidr_identity(2)));
    assert!(!allows(&rules, &question()));
}

#[test]
fn a_stranger_is_never_a_member_of_nothing() {
    let rules = Memory { policy: Vec::from([rule(64, 0, 0, 0)]), ..Memory::default() };
    assert!(allows(&rules, &Question { identity: ANYBODY, ..question() }));
    let rules = Memory { policy: Vec::from([rule(64, FRIENDS, 0, 0)]), ..Memory::default() };
    assert!(!allows(&rules, &Question { identity: ANYBODY, ..question() }));
}

#[test]
fn icmp_is_judged_by_type_and_code_as_far_as_the_flow_tells() {
    assert_eq!(opened_port(6, 1, 443), 443);
    assert_eq!(opened_port(47, 0, 0), 0);
    assert_eq!(opened_port(1, 7, 8), 0x0800, "who asks has the id, who answers the next number");
    assert_eq!(opened_port(1, 0xffff, 0), 0x0800);
    assert_eq!((opened_port(1, 7, 9), opened_port(1, 7, 10), opened_port(1, 7, 11)), (0x0d00, 0x0f00, 0x1100));
    assert_eq!(
        (opened_port(1, 7, 12), opened_port(1, 0x0901, 0x4901)),
        (0x2a00, 0x0901),
        "what has no id says its kind"
    );
    assert_eq!(opened_port(1, 8, 7), 0x0000, "an answer says what was asked");
    assert_eq!((opened_port(1, 9, 7), opened_port(1, 10, 7), opened_port(1, 11, 7)), (0x0e00, 0x1000, 0x1200));
    assert_eq!((opened_port(1, 12, 7), opened_port(1, 0, 0xffff)), (0x2b00, 0x0000));
    assert_eq!(
        (opened_port(1, 13, 7), opened_port(1, 0x4901, 0x0901)),
        (u16::MAX, u16::MAX),
        "there is no such answer"
    );
    assert_eq!(opened_port(1, 0, 0), u16::MAX);
}

#[test]
fn a_flow_is_asked_about_as_it_was_opened() {
    let key = FlowKey { vni_proto: 5 << 8 | 6, local: mapped(LOCAL), remote: mapped(REMOTE), lport: 1000, rport: 443 };
    assert_eq!(sent(&key, SET, FRIENDS), Question { policy: egress(SET), ..question() });
    let back = FlowKey { lport: 443, rport: 1000, ..key };
    assert_eq!(received(&back, SET, FRIENDS), question());
}

fn counts_for(force: &InForce, set: u32, n: u32) -> bool {
    force.counts(verdict_epoch(set, n), verdict_set(set))
}

fn in_force(set: u32, n: u32, since_ms: u32) -> InForce {
    let ep = Ep { set, ..Ep::default() };
    InForce::of(&ep, Some(Epoch { n, since_ms, flags: 0 }))
}

const LONG_AGO: Now = Now { s: 500, ms: 500_000 };

#[test]
fn a_verdict_covers_the_openings_it_is_about() {
    let force = in_force(SET, 7, 0);
    for (flags, in_epoch, out_epoch, covered) in [
        (flow_flag::I_INIT, 0, force.stamp, true),
        (flow_flag::I_INIT, force.stamp, 0, false),
        (flow_flag::R_INIT, force.stamp, 0, true),
        (flow_flag::R_INIT, 0, force.stamp, false),
        (flow_flag::R_INIT | flow_flag::I_INIT, force.stamp, 0, false),
        (flow_flag::R_INIT | flow_flag::I_INIT, force.stamp, force.stamp, true),
        (0, 0, 0, true),
    ] {
        let flow = Flow { flags, in_epoch, out_epoch, ..Flow::default() };
        assert_eq!(force.covers(&flow), covered, "{flags} {in_epoch} {out_epoch}");
    }
}

#[test]
fn of_stateless_groups_each_side_needs_a_verdict_of_its_own() {
    let ep = Ep { set: SET, ..Ep::default() };
    let of = |flags| InForce::of(&ep, Some(Epoch { n: 7, since_ms: 0, flags }));
    let (own, theirs) = (flow_flag::I_INIT, flow_flag::R_INIT);
    for (flags, sent, got) in [(own, true, false), (theirs, false, true), (own | theirs, true, true), (0, false, false)]
    {
        let flow = Flow { flags, ..Flow::default() };
        let strict = of(epoch_flag::STATELESS | epoch_flag::NEED_ID);
        assert_eq!((strict.lets(&flow, own), strict.lets(&flow, theirs)), (sent, got), "{flags}");
        let plain = of(epoch_flag::NEED_ID);
        assert!(plain.lets(&flow, own) && plain.lets(&flow, theirs), "an answer needs none");
    }
    // Rules have changed, and only one direction was judged since: what comes that way needs no look at the other.
    for (flags, in_epoch, out_epoch, sent, got) in [
        (own | theirs, stamp(SET, 7), stamp(SET, 6), false, true),
        (own | theirs, stamp(SET, 6), stamp(SET, 7), true, false),
        (own | theirs, stamp(SET, 7), stamp(SET, 7), true, true),
        (theirs, stamp(SET, 7), stamp(SET, 7), false, true),
        (own | theirs, 0, 0, false, false),
    ] {
        let flow = Flow { flags, in_epoch, out_epoch, ..Flow::default() };
        let (strict, plain) = (of(epoch_flag::STATELESS), of(0));
        assert_eq!((strict.passes(&flow, own), strict.passes(&flow, theirs)), (sent, got), "{flow:?}");
        assert_eq!((plain.passes(&flow, own), plain.passes(&flow, theirs)), (plain.covers(&flow), plain.covers(&flow)));
    }
    assert!(!InForce::of(&ep, None).is_stateless() && !in_force(UNFILTERED, 0, 0).is_stateless());
    // What was denied by all rules is not spared while some are missing.
    let waits = Epoch { n: 7, since_ms: LONG_AGO.ms, flags: epoch_flag::WAITS };
    let closed = Flow { flags: theirs, out_epoch: stamp(SET, 6), ..Flow::default() };
    assert!(!InForce::of(&ep, Some(waits)).spares(&closed, &LONG_AGO));
}

#[test]
fn what_the_other_side_opened_under_other_rules_is_in_doubt() {
    let force = in_force(SET, 7, 0);
    let flow = |flags, in_epoch| Flow { flags, in_epoch, ..Flow::default() };
    assert!(force.doubts(&flow(flow_flag::R_INIT, 0)) && force.doubts(&flow(flow_flag::R_INIT, stamp(SET, 6))));
    assert!(!force.doubts(&flow(flow_flag::R_INIT, force.stamp)) && !force.doubts(&flow(flow_flag::I_INIT, 0)));
    assert!(!in_force(SET, 0, 0).doubts(&flow(flow_flag::R_INIT, 0)), "no answer would count");
}

#[test]
fn stamps_tell_sets_and_generations_apart_and_are_never_none() {
    let mut seen = BTreeMap::new();
    for set in (1..300).chain([65_535, 65_536, 65_537, 1 << 20, (1 << 31) - 2, (1 << 31) - 1, UNFILTERED]) {
        for n in 0..40 {
            let stamp = stamp(set, n);
            assert!(![0, NO_STAMP].contains(&stamp));
            assert_eq!(stamp == u32::MAX, set == UNFILTERED);
            let set = if set == UNFILTERED { (set, 0) } else { (set, n) };
            if let Some(other) = seen.insert(stamp, set) {
                assert_eq!(other, set);
            }
        }
    }
    // The sets whose mix is that of what has no set: by none of their generations they become it.
    for (reserved, set) in [(0, 0x0), (NO_STAMP, 0xd61f40c), (u32::MAX, 0x331da083)] {
        assert_eq!(mixed(set), reserved);
        assert!((0..70_000).all(|n| ![0, NO_STAMP, u32::MAX].contains(&stamp(set, n))), "{set}");
    }
    let force = in_force(SET, 300, 0);
    for set in (1..3_000).chain([1 << 16 | SET, UNFILTERED]).filter(|set| *set != SET) {
        assert!(force.is_other_set(stamp(set, 300)), "{set}");
    }
    assert!((60..=300).all(|n| !force.is_other_set(stamp(SET, n))));
    assert!(in_force(UNFILTERED, 0, 0).is_other_set(stamp(SET, 7)));
    assert!(!in_force(UNFILTERED, 0, 0).is_other_set(stamp(UNFILTERED, 0)));
}

#[test]
fn a_verdict_of_older_rules_or_another_set_does_not_count() {
    let force = in_force(SET, 7, 0);
    for (set, n, counts) in [
        (SET, 7, true),
        (SET, 8, true),
        (SET, 6, false),
        (SET, 0, false),
        (SET + 1, 7, false),
        (SET + 256, 7, false),
        (SET ^ 0x0101, 7, false),
        (1 << 16 | SET, 7, false),
        (1 << 24 | SET, 8, false),
        (UNFILTERED, 7, false),
        (UNFILTERED, 0, false),
    ] {
        assert_eq!(counts_for(&force, set, n), counts, "{set} {n}");
    }
    assert!(counts_for(&in_force(SET, 0xffff, 0), SET, 0x1_0000), "generations wrap");
    assert!(!counts_for(&in_force(SET, 0x1_0000, 0), SET, 0xffff));
    assert!(counts_for(&in_force(UNFILTERED, 0, 0), UNFILTERED, 0));
    assert!((1..100_000).all(|set| !counts_for(&in_force(UNFILTERED, 0, 0), set, 1)), "a few sets of 16 million do");
}

#[test]
fn without_a_generation_nothing_is_known_and_no_verdict_counts() {
    let ep = Ep { set: SET, ..Ep::default() };
    for force in [InForce::of(&ep, None), in_force(SET, 0, 0)] {
        assert!(!force.is_known());
        assert_eq!(force.remembered(), 0);
        for n in [0, 1, 7] {
            assert!(!counts_for(&force, SET, n), "{n}");
        }
        for epoch in [0, stamp(SET, 0), stamp(SET, 1)] {
            let flow = Flow { flags: flow_flag::R_INIT, in_epoch: epoch, ..Flow::default() };
            assert!(!force.covers(&flow), "{epoch:x}");
        }
    }
    assert!(in_force(UNFILTERED, 0, 0).is_known(), "there are no rules to know");
    assert_eq!(in_force(SET, 7, 0).remembered(), stamp(SET, 7));
}

#[test]
fn rules_that_are_missing_end_no_flow_at_once_and_their_generation_counts() {
    let of = |n, flags, ago: u32| {
        let ep = Ep { set: SET, set_since_ms: LONG_AGO.ms - 5_000, ..Ep::default() };
        InForce::of(&ep, Some(Epoch { n, since_ms: LONG_AGO.ms - ago, flags }))
    };
    let before = Flow { flags: flow_flag::I_INIT, out_epoch: stamp(SET, 6), ..Flow::default() };
    let never = Flow { out_epoch: 0, ..before };
    let now = Flow { out_epoch: stamp(SET, 7), ..before };
    for (n, flags, ago, spared) in [
        (7, epoch_flag::WAITS, 900, true),
        (7, epoch_flag::WAITS, 1_100, false),
        (0, epoch_flag::WAITS, 900, true),
        (0, 0, 900, true),
        (7, 0, 900, false),
    ] {
        let force = of(n, flags, ago);
        assert_eq!(force.spares(&before, &LONG_AGO), spared, "{n} {flags} {ago}");
        assert!(!force.spares(&never, &LONG_AGO), "what no rules allowed");
        assert_eq!(force.covers(&now), n == 7);
        assert_eq!(force.counts(verdict_epoch(SET, 7), verdict_set(SET)), n == 7);
        assert!(!force.is_other_set(stamp(SET, 7)), "{n}");
        assert!(force.is_other_set(stamp(SET + 1, 7)), "{n}");
    }
}

#[test]
fn a_second_is_given_to_confirm_a_flow_and_no_more() {
    // The set itself is older.
    let at = |since_ms: u32, ms: u32| {
        let ep = Ep { set: SET, set_since_ms: ms.wrapping_sub(5_000), ..Ep::default() };
        InForce::of(&ep, Some(Epoch { n: 7, since_ms, flags: 0 })).is_young(&Now { s: 0, ms })
    };
    for (since, now, young) in [
        (500_000, 500_000, true),
        (500_000, 501_000, true),
        (500_000, 501_001, false),
        (500_004, 500_000, true),
        (u32::MAX - 10, 700, true),
        (u32::MAX - 10, 1_200, false),
        (4_000_000_000, 4_000_000_900, true),
    ] {
        assert_eq!(at(since, now), young, "{since} {now}");
    }
    let force = in_force(SET, 7, 1);
    let flow = |flags, in_epoch, ago| Flow { flags, in_epoch, since_ms: LONG_AGO.ms - ago, ..Flow::default() };
    for (flags, in_epoch, ago, tolerated, waits) in [
        (flow_flag::R_INIT, 0, 900, true, false),
        (flow_flag::R_INIT, 0, 1_100, false, false),
        // Older rules have said so, which others replaced long ago.
        (flow_flag::R_INIT, stamp(SET, 6), 900, false, false),
        (flow_flag::I_INIT | flow_flag::NEED_ID, 0, 900, false, true),
        (flow_flag::I_INIT | flow_flag::NEED_ID, 0, 1_100, false, false),
        (flow_flag::I_INIT, 0, 900, false, false),
    ] {
        let flow = flow(flags, in_epoch, ago);
        assert_eq!((force.tolerates(&flow, &LONG_AGO), force.waits(&flow, &LONG_AGO)), (tolerated, waits), "{flow:?}");
    }
    let ep = Ep { set: SET, set_since_ms: LONG_AGO.ms - 10, ..Ep::default() };
    assert!(InForce::of(&ep, None).is_young(&LONG_AGO), "a port that got another set");
    for (ago, settles, new) in [(0, true, true), (500, true, true), (501, false, true), (1_001, false, false)] {
        let force = InForce::of(&Ep { set_since_ms: LONG_AGO.ms - ago, ..ep }, None);
        assert_eq!((force.settles(&LONG_AGO), force.is_new_set(&LONG_AGO)), (settles, new), "{ago}");
    }
}
