//! What transit decides, with tables that answer anything, but the same question always the same way.

use crate::input::Input;
use mizar_abi::{
    mapped,
    maps::{
        Bounce, Epoch, PolicyAddress, PolicyKey, Route, RouteKind, Shard, ShardKey, UNFILTERED, Verdict, VniAddress,
        epoch_flag,
    },
    option::{code, flag},
};
use mizar_packet::{
    policy::{Question, Rules, allows},
    transit::{Action, Request, Tables, decide},
};
use std::cell::Cell;

/// Decided by a number and what is asked for.
struct Arbitrary {
    seed: u32,
    /// Are all groups?
    stateless: bool,
    looked: Cell<usize>,
}

impl Arbitrary {
    fn of(&self, table: u32, key: &[u8]) -> u32 {
        // FNV-1a, with a last turn of Murmur's: a small number of neighbours must not be alike.
        let mut hash = 0x811c_9dc5 ^ self.seed ^ table;
        for byte in key {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^ hash >> 13
    }

    fn of_address(&self, table: u32, key: &VniAddress) -> u32 {
        self.of(table, &[&key.vni[..], &key.address].concat())
    }
}

impl Rules for Arbitrary {
    fn policy(&self, key: &PolicyKey) -> Option<Verdict> {
        self.looked.set(self.looked.get() + 1);
        let bytes = [&key.policy[..], &key.identity, &[key.proto], &key.port].concat();
        Some(self.of(1, &bytes) % 4).filter(|verdict| *verdict != 3)
    }

    fn cidr(&self, key: &PolicyAddress) -> Option<u32> {
        self.looked.set(self.looked.get() + 1);
        Some(self.of(2, &[&key.policy[..], &key.address].concat())).filter(|identity| identity % 2 == 0)
    }
}

impl Tables for Arbitrary {
    fn bounce(&self, key: &VniAddress) -> Option<Bounce> {
        let r = self.of_address(3, key);
        let set = if r & 8 == 0 { UNFILTERED } else { r >> 8 & 3 };
        (r & 1 == 0).then_some(Bounce { host: r >> 1 & 3, ep_id: r >> 16, set, generation: 1 })
    }

    fn route(&self, key: &VniAddress) -> Option<Route> {
        let r = self.of_address(4, key);
        let kind = [RouteKind::Bouncers, RouteKind::Dividers][r as usize >> 1 & 1] as u32;
        let (log2, out_vni) = (r >> 2 & 3, r >> 4 & 3);
        (r & 1 == 0).then_some(Route { kind, log2: log2 as _, out_vni, subnet: 5, shards: 5, ..Route::default() })
    }

    fn shard(&self, key: &ShardKey) -> Option<Shard> {
        let r = self.of(5, &[key.set.to_be_bytes(), key.shard.to_be_bytes()].concat());
        (r & 7 != 0).then_some(Shard { hosts: [r >> 3 & 3, r >> 5 & 3], pairs: r >> 7 & 3 })
    }

    fn address(&self, host: u32) -> Option<[u8; 4]> {
        (self.of(6, &[host as u8]) & 7 != 0).then_some([172, 16, 0, host as u8])
    }

    fn is_dead(&self, host: u32) -> bool {
        self.of(7, &[host as u8]) & 3 == 0
    }

    fn epoch(&self, set: u32) -> Epoch {
        let r = self.of(8, &set.to_be_bytes());
        let stateless = if self.stateless { epoch_flag::STATELESS } else { 0 };
        Epoch { n: r & 1, since_ms: 0, flags: r >> 1 & (epoch_flag::NEED_ID | epoch_flag::WAITS) | stateless }
    }

    fn allows(&self, question: &Question) -> bool {
        allows(self, question)
    }
}

pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let tables = Arbitrary { seed: input.long(), stateless: false, looked: Cell::new(0) };
    // Hosts begin at 1.
    let me = 1 + input.few() % 3;
    let request = Request {
        vni: input.few(),
        src: [10, 0, 0, input.byte()],
        dst: [10, 0, 0, input.byte()],
        proto: input.byte(),
        port: input.short(),
        identity: input.few(),
        flags: input.byte(),
        tries: input.byte(),
        source_port: input.short(),
    };
    let question = Question {
        policy: request.vni,
        identity: request.identity,
        remote: mapped(request.src),
        proto: request.proto,
        port: request.port,
    };
    let allowed = allows(&tables, &question);
    assert!(tables.looked.get() <= 4, "{} look-ups", tables.looked.get());
    assert_eq!(allowed, allows(&tables, &question), "asked again");
    let decided = decide(&tables, me, &request);
    // A bouncer need not know whose groups are stateless.
    let stateless = Arbitrary { stateless: true, looked: Cell::new(0), ..tables };
    assert_eq!(decide(&stateless, me, &request), decided, "of stateless groups");
    let Ok(decision) = decided else { return };
    let known = tables.address(decision.number).filter(|_| decision.number != 0);
    match decision.action {
        Action::Admit => {
            let found = tables.bounce(&VniAddress::new(decision.vni, mapped(request.dst)));
            let ours = |bounce: Bounce| (bounce.host, bounce.ep_id, bounce.set);
            assert_eq!(found.map(ours), Some((decision.number, decision.ep_id, decision.set)), "{decision:?}");
            assert!(!(decision.reply_only && request.flags & flag::OPENS != 0), "{decision:?} opens");
            let complete = decision.set == UNFILTERED || tables.epoch(decision.set).is_complete();
            assert!(decision.set == UNFILTERED || decision.epoch != 0, "{decision:?} by rules that are not there");
            assert!(complete || !decision.reply_only, "{decision:?} is half denied by rules that are not all there");
        }
        Action::Divide => assert_ne!(decision.number, me, "{decision:?} to itself"),
        Action::Sibling => {
            assert_ne!(decision.number, me, "{decision:?} to itself");
            assert_eq!(request.flags & flag::SIBLING, 0, "{decision:?} a second time");
        }
        Action::Identify => assert_ne!(request.flags & flag::NEED_ID, 0, "{decision:?} unasked"),
        Action::Deny(code::POLICY) => {
            let found = tables.bounce(&VniAddress::new(decision.vni, mapped(request.dst)));
            let complete = found.is_some_and(|bounce| tables.epoch(bounce.set).is_complete());
            assert!(complete, "{decision:?} by rules that are not all there");
        }
        Action::Unready | Action::Deny(_) => {}
    }
    let travels = matches!(decision.action, Action::Admit | Action::Divide | Action::Sibling);
    let wanted = if travels { known } else { Some([0; 4]).filter(|_| decision.number == 0) };
    assert_eq!(Some(decision.host), wanted, "{decision:?}: where it goes to");
}

/// Whatever they are, they decide.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..8u8).map(|n| vec![n, n * 3, 1, 2, n, 1, 8, 9, 6, 0, 80, 2, 0, 0, 0xc0, n]).collect()
}
