extern crate std;
use super::*;
use mizar_abi::maps::epoch_flag;
use std::collections::{BTreeMap, BTreeSet};

/// Tables of one host in memory.
#[derive(Default)]
struct Memory {
    bounce: BTreeMap<VniAddress, Bounce>,
    routes: BTreeMap<u32, Route>,
    shards: BTreeMap<ShardKey, Shard>,
    dead: BTreeSet<u32>,
    /// All sets miss rules.
    waits: bool,
    /// Questions that policy allows.
    allowed: BTreeSet<(u32, u32, u8, u16)>,
}

impl Tables for Memory {
    fn bounce(&self, key: &VniAddress) -> Option<Bounce> {
        self.bounce.get(key).copied()
    }
    fn route(&self, key: &VniAddress) -> Option<Route> {
        self.routes.get(&u32::from_be_bytes(key.vni)).copied()
    }
    fn shard(&self, key: &ShardKey) -> Option<Shard> {
        self.shards.get(key).copied()
    }
    fn address(&self, host: u32) -> Option<[u8; 4]> {
        (host < 100).then_some([172, 16, 0, host as u8])
    }
    fn is_dead(&self, host: u32) -> bool {
        self.dead.contains(&host)
    }
    fn epoch(&self, set: u32) -> Epoch {
        Epoch { n: set * 10, since_ms: 0, flags: if self.waits { epoch_flag::WAITS } else { 0 } }
    }
    fn allows(&self, q: &Question) -> bool {
        assert_eq!(q.remote, mapped(SRC));
        self.allowed.contains(&(q.policy, q.identity, q.proto, q.port))
    }
}

const VNI: u32 = 7;
const SRC: [u8; 4] = [10, 0, 0, 8];
const DST: [u8; 4] = [10, 0, 0, 9];
/// The destination's set, and the sender's.
const SET: u32 = 6;
const FRIEND: u32 = 5;

fn request() -> Request {
    Request {
        vni: VNI,
        src: SRC,
        dst: DST,
        proto: 6,
        port: 80,
        identity: FRIEND,
        flags: 0,
        tries: 0,
        source_port: 50_000,
    }
}

/// Host 1 and 2 hold the subnet; the tables are of any of them, or of a divider.
fn tables() -> Memory {
    let mut t = Memory::default();
    t.routes.insert(VNI, Route { kind: RouteKind::Bouncers as u32, subnet: 5, shards: 5, ..Route::default() });
    t.shards.insert(ShardKey { set: 5, shard: 0 }, Shard { hosts: [1, 2], pairs: 0 });
    t
}

fn known(host: u32) -> Memory {
    let mut t = tables();
    t.bounce.insert(VniAddress::new(VNI, mapped(DST)), Bounce { host, ep_id: 42, set: UNFILTERED, generation: 1 });
    t
}

fn action(t: &Memory, me: u32, r: Request) -> Result<(Action, u8), Drop> {
    decide(t, me, &r).map(|d| (d.action, d.host[3]))
}

fn admission(vni: u32) -> Decision {
    Decision {
        action: Action::Admit,
        host: [172, 16, 0, 9],
        number: 9,
        vni,
        ep_id: 42,
        set: UNFILTERED,
        epoch: 0,
        reply_only: false,
    }
}

/// The destination has rules: its group's friends may reach port 80.
fn guarded() -> Memory {
    let mut t = known(9);
    t.bounce.values_mut().for_each(|b| b.set = SET);
    t.allowed.insert((SET, FRIEND, 6, 80));
    t
}

#[test]
fn a_verdict_bears_the_generation_of_the_rules() {
    let decision = decide(&guarded(), 1, &request()).unwrap();
    assert_eq!(decision, Decision { set: SET, epoch: SET * 10, ..admission(VNI) });
}

#[test]
fn only_what_certainly_opens_a_conversation_is_finally_denied() {
    for strange in [Request { identity: 7, ..request() }, Request { port: 81, ..request() }] {
        let decision = decide(&guarded(), 1, &strange).unwrap();
        assert_eq!((decision.action, decision.reply_only, decision.epoch), (Action::Admit, true, SET * 10));
        let opens = Request { flags: flag::OPENS, ..strange };
        assert_eq!(decide(&guarded(), 1, &opens).unwrap().action, Action::Deny(code::POLICY));
    }
    let opens = Request { flags: flag::OPENS, ..request() };
    assert_eq!(decide(&guarded(), 1, &opens).unwrap().action, Action::Admit);
}

#[test]
fn a_bouncer_without_the_destinations_rules_leaves_it_to_the_other_and_denies_nothing() {
    let mut t = guarded();
    // Memory knows no generation of it.
    t.bounce.values_mut().for_each(|b| b.set = 0);
    for flags in [0, flag::OPENS] {
        let asked = Request { flags, ..request() };
        assert_eq!(action(&t, 1, asked), Ok((Action::Sibling, 2)));
        assert_eq!(action(&t, 2, asked), Ok((Action::Sibling, 1)));
        let again = Request { flags: flags | flag::SIBLING, ..request() };
        assert_eq!(action(&t, 2, again), Ok((Action::Unready, 0)));
        // A former holder.
        assert!(matches!(action(&t, 3, asked), Ok((Action::Divide, 1 | 2))));
    }
    t.shards.clear();
    assert_eq!(action(&t, 1, request()), Ok((Action::Unready, 0)));
    t.routes.clear();
    assert_eq!(action(&t, 1, request()), Ok((Action::Unready, 0)));
}

#[test]
fn a_bouncer_that_misses_rules_lets_in_what_the_others_allow_and_denies_nothing() {
    let mut t = Memory { waits: true, ..guarded() };
    for flags in [0, flag::OPENS] {
        let allowed = decide(&t, 1, &Request { flags, ..request() }).unwrap();
        assert_eq!(allowed, Decision { set: SET, epoch: SET * 10, ..admission(VNI) });
        let other = Request { port: 81, flags, ..request() };
        assert_eq!(action(&t, 1, other), Ok((Action::Sibling, 2)));
        assert_eq!(action(&t, 1, Request { flags: flags | flag::SIBLING, ..other }), Ok((Action::Unready, 0)));
    }
    // Nor by rules of which it cannot say which they are.
    t.bounce.values_mut().for_each(|b| b.set = 0);
    t.allowed.insert((0, FRIEND, 6, 80));
    assert_eq!(action(&t, 1, request()), Ok((Action::Sibling, 2)));
}

#[test]
fn the_destinations_identity_is_told_before_anything_is_judged() {
    let asks = Request { flags: flag::NEED_ID | flag::OPENS, identity: 7, ..request() };
    let decision = decide(&guarded(), 1, &asks).unwrap();
    assert_eq!((decision.action, decision.set, decision.host), (Action::Identify, SET, [0; 4]));
    assert_eq!(decide(&known(0), 1, &asks).unwrap().action, Action::Deny(code::UNREACHABLE));
    assert_eq!(decide(&tables(), 3, &asks).unwrap().action, Action::Divide, "a divider does not know it");
}

#[test]
fn a_bouncer_that_knows_admits() {
    let decision = decide(&known(9), 1, &request()).unwrap();
    assert_eq!(decision, admission(VNI));
}

#[test]
fn a_port_that_is_not_bound_is_unreachable() {
    assert_eq!(action(&known(0), 1, request()), Ok((Action::Deny(code::UNREACHABLE), 0)));
}

#[test]
fn a_bouncer_that_does_not_know_asks_the_other_and_only_once() {
    assert_eq!(action(&tables(), 1, request()), Ok((Action::Sibling, 2)));
    assert_eq!(action(&tables(), 2, request()), Ok((Action::Sibling, 1)));
    let again = Request { flags: flag::SIBLING, ..request() };
    assert_eq!(action(&tables(), 2, again), Ok((Action::Deny(code::UNREACHABLE), 0)));
}

#[test]
fn the_only_bouncer_has_nobody_to_ask() {
    let mut t = tables();
    t.shards.insert(ShardKey { set: 5, shard: 0 }, Shard { hosts: [1, 0], pairs: 0 });
    assert_eq!(action(&t, 1, request()), Ok((Action::Deny(code::UNREACHABLE), 0)));
}

#[test]
fn a_divider_picks_a_live_bouncer_by_path_and_the_other_at_a_second_try() {
    let first = action(&tables(), 3, request()).unwrap();
    let second = action(&tables(), 3, Request { tries: 1, ..request() }).unwrap();
    assert_eq!((first.0, second.0), (Action::Divide, Action::Divide));
    assert_ne!(first.1, second.1);
    let mut t = tables();
    t.dead.insert(first.1.into());
    assert_eq!(action(&t, 3, request()).unwrap().1, second.1);
    t.dead.insert(second.1.into());
    assert_eq!(action(&t, 3, request()).unwrap().1, first.1, "never eject all");
}

#[test]
fn a_shard_without_hosts_is_no_transit_and_an_unknown_network_unreachable() {
    let mut t = tables();
    t.shards.insert(ShardKey { set: 5, shard: 0 }, Shard::default());
    assert_eq!(action(&t, 3, request()), Err(Drop::NoTransit));
    let strange = Request { vni: 8, ..request() };
    assert_eq!(action(&t, 3, strange), Ok((Action::Deny(code::UNREACHABLE), 0)));
}

#[test]
fn a_host_without_an_address_is_named() {
    assert_eq!(action(&known(100), 1, request()), Err(Drop::NoHost));
}

#[test]
fn a_router_changes_the_outer_vni() {
    let mut t = tables();
    t.routes.get_mut(&VNI).unwrap().out_vni = 70;
    assert_eq!(decide(&t, 3, &request()).unwrap().vni, 70);
    t.bounce.insert(VniAddress::new(70, mapped(DST)), Bounce { host: 9, ep_id: 42, set: UNFILTERED, generation: 1 });
    assert_eq!(decide(&t, 3, &request()).unwrap(), admission(70));
}

#[test]
fn pairs_of_dividers_share_the_flows() {
    let mut t = Memory::default();
    let set = ShardKey::dividers(VNI);
    for (shard, hosts) in [[1, 2], [3, 4], [5, 6]].into_iter().enumerate() {
        t.shards.insert(ShardKey { set, shard: shard as u32 }, Shard { hosts, pairs: 3 });
    }
    let route = Route { kind: RouteKind::Dividers as u32, shards: set, ..Route::default() };
    let seen: BTreeSet<u32> = (0..64).map(|spread| shard_on(&t, &route, DST, spread).unwrap().hosts[0]).collect();
    assert_eq!(seen, BTreeSet::from([1, 3, 5]));
}

#[test]
fn a_replica_without_an_address_is_none() {
    let mut t = tables();
    t.shards.insert(ShardKey { set: 5, shard: 0 }, Shard { hosts: [100, 2], pairs: 0 });
    let shard = t.shards[&ShardKey { set: 5, shard: 0 }];
    for preferred in [0, 1] {
        assert_eq!(choose(&t, &shard, preferred, 0), Some((2, [172, 16, 0, 2])));
    }
    assert_eq!(choose(&t, &shard, 0, 2), None);
}
