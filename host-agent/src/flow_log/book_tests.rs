use super::*;
use mizar_abi::mapped;
use mizar_abi::reason::Drop;
use std::cell::RefCell;
use std::collections::BTreeMap;

const START: u64 = 100_000;
const PORT: u32 = 7;

fn key(lport: u16) -> FlowKey {
    FlowKey { vni_proto: 5000 << 8 | 6, local: mapped([10, 0, 0, 5]), remote: mapped([10, 0, 0, 9]), lport, rport: 443 }
}

/// Maps that a test writes, and the rules that were asked for.
#[derive(Default)]
struct World {
    counts: BTreeMap<FlowKey, FlowCount>,
    flows: BTreeMap<FlowKey, Flow>,
    asked: RefCell<Vec<Asked>>,
    book: Book,
}

impl World {
    /// The programs begin to count a flow.
    fn begin(&mut self, key: FlowKey, now_ms: u64, refused: Option<Drop>) -> Vec<Outcome> {
        let count = FlowCount {
            packets_out: 1,
            bytes_out: 60,
            started_ns: now_ms * 1_000_000,
            last_ms: now_ms as u32,
            ep_id: PORT,
            refused: refused.map_or(0, |reason| reason as u8),
            ..FlowCount::default()
        };
        let former = self.counts.insert(key, count).unwrap_or_default();
        if refused.is_none() {
            self.flows.insert(key, flow(State::NewOut, now_ms));
        }
        let fresh = FlowCount { packets_out: 0, bytes_out: 0, ..count };
        let asked = &self.asked;
        let judge = |asked_now: &Asked| judged(asked, asked_now);
        self.book.begin(&LogStart { count: fresh, former, key }, now_ms, &judge)
    }

    fn passes(&mut self, key: FlowKey, now_ms: u64, packets: u64) {
        let count = self.counts.get_mut(&key).expect("is counted");
        count.packets_in += packets;
        count.bytes_in += packets * 1_000;
        count.last_ms = now_ms as u32;
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.last_seen = (now_ms / 1_000) as u32;
        }
    }

    fn look(&mut self, now_ms: u64) -> Vec<Outcome> {
        let (counts, flows, asked) = (&self.counts, &self.flows, &self.asked);
        let judge = |asked_now: &Asked| judged(asked, asked_now);
        let count = |key: &FlowKey| counts.get(key).copied();
        let flow = |key: &FlowKey| flows.get(key).copied();
        let look = self.book.look(1_000, now_ms, &count, &flow, &judge);
        for key in look.gone {
            self.counts.remove(&key);
        }
        look.outcomes
    }

    /// Looks each second, until then; the records, with the second of each.
    fn looks(&mut self, from_ms: u64, until_ms: u64) -> Vec<(u64, Outcome)> {
        let moments = (from_ms..=until_ms).step_by(1_000);
        moments
            .flat_map(|now| self.look(now).into_iter().map(move |outcome| (now, outcome)).collect::<Vec<_>>())
            .collect()
    }
}

fn judged(asked: &RefCell<Vec<Asked>>, now: &Asked) -> Option<Decided> {
    let mut asked = asked.borrow_mut();
    asked.push(*now);
    Some(Decided { by: Some(Decider::Port), rules: Some(vec![Uuid::from_u128(asked.len() as u128)]) })
}

fn flow(state: State, now_ms: u64) -> Flow {
    Flow {
        state: state as u8,
        flags: flow_flag::I_INIT | flow_flag::LOGGED,
        ep_id: PORT,
        peer_identity: 3,
        last_seen: (now_ms / 1_000) as u32,
        since_ms: now_ms as u32,
        ..Flow::default()
    }
}

fn set(world: &mut World, key: FlowKey, state: State) {
    world.flows.get_mut(&key).expect("a flow").state = state as u8;
}

fn only(records: Vec<(u64, Outcome)>) -> (u64, Outcome) {
    assert_eq!(records.len(), 1, "{records:?}");
    records.into_iter().next().expect("is one")
}

#[test]
fn a_flow_that_is_closed_has_one_record_soon_after() {
    let mut world = World::default();
    assert_eq!(world.begin(key(1), START, None), []);
    assert_eq!(world.looks(START, START + 2_000), []);
    set(&mut world, key(1), State::Est);
    world.passes(key(1), START + 3_000, 9);
    set(&mut world, key(1), State::Closing);
    let (at, record) = only(world.looks(START + 3_000, START + 20_000));
    assert!(at <= START + 3_000 + u64::from(QUIET_MS) + AGAIN_MS, "{at}");
    assert_eq!(
        (record.ended, record.verdict, record.direction),
        (Some(Ended::Closed), Verdict::Accept, Direction::Egress)
    );
    assert_eq!((record.count.packets_out, record.count.packets_in, record.count.bytes_in), (1, 9, 9_000));
    // The rules that let it pass are those of its beginning.
    assert_eq!(record.decided.rules, Some(vec![Uuid::from_u128(1)]));
    assert_eq!(world.asked.borrow().iter().map(|asked| asked.identity).collect::<Vec<_>>(), [3]);
    assert!(world.book.due_ms().is_none() && world.counts.is_empty());
}

#[test]
fn a_flow_that_goes_on_has_a_record_a_minute_and_a_silent_one_none() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    set(&mut world, key(1), State::Est);
    let mut records = Vec::new();
    for second in 1..=150 {
        let now = START + second * 1_000;
        world.passes(key(1), now, 1);
        records.extend(world.look(now).into_iter().map(|record| (second, record)));
    }
    assert_eq!(records.len(), 2, "{records:?}");
    for (n, (second, record)) in records.iter().enumerate() {
        let minute = 60 * (n as u64 + 1);
        assert!((minute..=minute + 2 * AGAIN_MS / 1_000).contains(second), "{second}");
        assert_eq!((record.ended, record.count.packets_in), (None, *second));
    }
    // It is silent for an hour, which TCP may be.
    let said = world.looks(START + 151_000, START + 3_600_000);
    assert_eq!(said.len(), 1, "what passed since the last record: {said:?}");
    let end = START + 150_000 + 7_441_000;
    let (_, record) = only(world.looks(end - 5_000, end + 10_000));
    assert_eq!((record.ended, record.count.packets_in), (Some(Ended::TimedOut), 150));
}

#[test]
fn who_tries_again_and_again_what_is_refused_gets_one_record() {
    let mut world = World::default();
    world.begin(key(1), START, Some(Drop::Policy));
    for tries in [1_000, 3_000, 7_000] {
        // Each try is a flow that is refused in turn, or a packet without one.
        assert_eq!(world.begin(key(1), START + tries, Some(Drop::Policy)), []);
    }
    let (at, record) = only(world.looks(START + 7_000, START + 40_000));
    assert!(at >= START + 7_000 + u64::from(REFUSED_MS), "{at}");
    assert_eq!((record.verdict, record.ended), (Verdict::Deny, Some(Ended::Denied)));
    // The first one's count was not read again before it was replaced; the others were.
    assert_eq!((record.count.packets_out, record.count.started_ns), (4, START * 1_000_000));
    assert_eq!(record.count.last_ms, (START + 7_000) as u32);
}

#[test]
fn a_flow_that_is_let_in_at_last_has_a_record_apart_from_its_refused_tries() {
    let mut world = World::default();
    world.begin(key(1), START, Some(Drop::Policy));
    assert_eq!(world.looks(START, START + 2_000), []);
    world.begin(key(1), START + 3_000, None);
    set(&mut world, key(1), State::Closing);
    let records = world.looks(START + 3_000, START + 20_000);
    let seen: Vec<_> =
        records.iter().map(|(_, record)| (record.verdict, record.ended, record.count.packets_out)).collect();
    let expected = [(Verdict::Deny, Some(Ended::Denied), 1), (Verdict::Accept, Some(Ended::Closed), 1)];
    assert_eq!(seen, expected);
}

#[test]
fn a_flow_that_is_revoked_was_accepted_and_says_why_it_ended() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    set(&mut world, key(1), State::Est);
    world.passes(key(1), START + 2_000, 5);
    assert_eq!(world.look(START + 2_000), []);
    let count = world.counts.get_mut(&key(1)).expect("is counted");
    (count.refused, count.revoked, count.peer_identity) = (Drop::Policy as u8, revoked::ALLOWED, 4);
    world.flows.clear();
    let (_, record) = only(world.looks(START + 3_000, START + 30_000));
    assert_eq!((record.verdict, record.ended), (Verdict::Accept, Some(Ended::Revoked)));
    // Who revoked it is asked anew, with the identity that the other side had then.
    let asked = *world.asked.borrow().last().expect("was asked");
    assert_eq!((asked.refused, asked.identity), (Drop::Policy as u8, 4));
}

#[test]
fn who_was_refused_in_doubt_and_is_answered_was_let_in() {
    for (after, verdict, ended) in
        [(revoked::DOUBTFUL, Verdict::Accept, Ended::Closed), (0, Verdict::Accept, Ended::Revoked)]
    {
        let mut world = World::default();
        for port in [1, 2] {
            world.begin(key(port), START, None);
            let count = world.counts.get_mut(&key(port)).expect("is counted");
            (count.refused, count.revoked) = (Drop::Policy as u8, after);
        }
        world.passes(key(2), START + 500, 3);
        set(&mut world, key(2), State::Closing);
        let mut records = world.looks(START, START + 30_000);
        records.sort_by_key(|(_, record)| record.key.lport);
        let seen: Vec<_> = records.iter().map(|(_, record)| (record.verdict, record.ended)).collect();
        assert_eq!(seen, [(Verdict::Deny, Some(Ended::Denied)), (verdict, Some(ended))]);
    }
}

#[test]
fn a_connection_between_the_ports_of_a_former_one_ends_that_with_its_last_counts() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    world.passes(key(1), START + 500, 7);
    let [former] = &world.begin(key(1), START + 600, None)[..] else { panic!("one record") };
    assert_eq!((former.ended, former.count.packets_in), (Some(Ended::Replaced), 7));
    world.passes(key(1), START + 700, 1);
    set(&mut world, key(1), State::Closing);
    let (_, record) = only(world.looks(START + 1_000, START + 20_000));
    assert_eq!((record.ended, record.count.packets_in), (Some(Ended::Closed), 1));
}

#[test]
fn counts_that_made_place_end_a_flow_with_what_was_known_of_it() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    world.passes(key(1), START + 900, 7);
    assert_eq!(world.look(START + 1_000), []);
    world.passes(key(1), START + 5_000, 1);
    world.counts.clear();
    let (_, record) = only(world.looks(START + 6_000, START + 9_000));
    assert_eq!((record.ended, record.count.packets_in), (Some(Ended::Evicted), 7));
    assert_eq!(world.book.due_ms(), None);
}

#[test]
fn counts_that_made_place_and_began_again_are_of_the_same_flow() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    world.passes(key(1), START + 900, 7);
    assert_eq!(world.look(START + 1_000), []);
    world.counts.clear();
    // An answer is the first that is counted again, of a flow that both sides may send in.
    let again = FlowCount { started_ns: (START + 2_000) * 1_000_000, ep_id: PORT, inbound: 1, ..FlowCount::default() };
    let start = LogStart { count: again, former: FlowCount::default(), key: key(1) };
    let nobody = |_: &Asked| -> Option<Decided> { panic!("it is decided") };
    let [former] = &world.book.begin(&start, START + 2_000, &nobody)[..] else { panic!("one record") };
    assert_eq!((former.ended, former.count.packets_in), (Some(Ended::Evicted), 7));
    world.counts.insert(key(1), FlowCount { packets_in: 1, last_ms: (START + 2_000) as u32, ..again });
    world.flows.get_mut(&key(1)).expect("a flow").flags |= flow_flag::R_INIT;
    set(&mut world, key(1), State::Closing);
    let (_, record) = only(world.looks(START + 3_000, START + 20_000));
    assert_eq!((record.ended, record.direction), (Some(Ended::Closed), Direction::Egress));
    assert_eq!((record.count.packets_in, record.decided), (1, former.decided.clone()));
}

#[test]
fn who_decided_is_asked_again_where_there_was_no_time_and_no_record_waits_for_it() {
    let mut world = World::default();
    for port in [1, 2] {
        world.begin(key(port), START, None);
    }
    set(&mut world, key(2), State::Closing);
    let (counts, flows) = (&world.counts, &world.flows);
    let look = |book: &mut Book, now_ms: u64, judge: Judge<'_>| {
        book.look(9, now_ms, &|key| counts.get(key).copied(), &|key| flows.get(key).copied(), judge).outcomes
    };
    assert_eq!(look(&mut world.book, START + 1_000, &|_| None), []);
    let [record] = &look(&mut world.book, START + 6_000, &|_| None)[..] else { panic!("one record") };
    assert_eq!((record.key, &record.decided), (key(2), &Decided::default()));
    let by_port = Decided { by: Some(Decider::Port), rules: None };
    assert_eq!(look(&mut world.book, START + 11_000, &|_| Some(by_port.clone())), []);
    let nobody = |_: &Asked| -> Option<Decided> { panic!("it is decided") };
    let [record] = &look(&mut world.book, START + 90_000, &nobody)[..] else { panic!("one record") };
    assert_eq!((record.key, &record.decided), (key(1), &by_port));
}

#[test]
fn an_agent_that_begins_goes_on_with_what_is_counted() {
    let mut world = World::default();
    world.begin(key(1), START, None);
    world.passes(key(1), START + 900, 7);
    let counts: Vec<_> = world.counts.iter().map(|(key, count)| (*key, *count)).collect();
    world.book = Book::default();
    world.book.adopt(counts, START + 1_000);
    // The ring still has its beginning.
    let start = LogStart { count: world.counts[&key(1)], former: FlowCount::default(), key: key(1) };
    let nobody = |_: &Asked| -> Option<Decided> { panic!("nothing is to be decided") };
    assert_eq!(world.book.begin(&start, START + 1_000, &nobody), []);
    set(&mut world, key(1), State::Closing);
    let (_, record) = only(world.looks(START + 2_000, START + 20_000));
    assert_eq!((record.ended, record.count.packets_in), (Some(Ended::Closed), 7));
}

#[test]
fn no_step_looks_at_more_than_it_may() {
    let mut world = World::default();
    for port in 0..3_000 {
        world.begin(key(port), START, None);
    }
    world.counts.clear();
    assert_eq!(world.look(START + 1_000).len(), 1_000);
    assert_eq!(world.look(START + 1_000).len(), 1_000);
}
