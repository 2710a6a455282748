//! The flows that are counted, and when each of them has ended. Time is since boot, and an argument, as is what the
//! maps say.

use mizar_abi::maps::{Flow, FlowCount, FlowKey, LogStart, State, flow_flag, revoked};
use mizar_packet::flow::{Now, is_live};
use mizar_wire::log::{Decider, Direction, Ended, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A flow is looked at first after so long: by then it is known who opened it, and most that are refused are.
const FIRST_MS: u64 = 1_000;
/// And then again and again.
const AGAIN_MS: u64 = 5_000;
/// A flow that is in use has not ended: only one of which nothing passed for so long is looked for in the flow tables.
const QUIET_MS: u32 = 2_000;
/// A flow that was refused is over once it was not tried for so long: who tries again with growing pauses gets one record.
const REFUSED_MS: u32 = 10_000;
/// A flow that goes on gets a record after so long.
const INTERIM_MS: u64 = 60_000;
/// Flows at most. Those in the map are less; others are of a flood, and gone with the next look.
const MOST: usize = 65_536;

/// What is asked of whoever knows the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The flow.
    pub key: FlowKey,
    /// Its port.
    pub ep_id: u32,
    /// Who opened it.
    pub direction: Direction,
    /// Set of groups of the other side, as far as it has shown one.
    pub identity: u32,
    /// [`FlowCount::refused`]
    pub refused: u8,
}

/// Whose rules decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// See [`mizar_wire::log::Logged::decided_by`].
    pub by: Option<Decider>,
    /// The rules.
    pub rules: Option<Vec<Uuid>>,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The flow.
    pub key: FlowKey,
    /// What passed of it.
    pub count: FlowCount,
    /// Who opened it.
    pub direction: Direction,
    /// May it pass?
    pub verdict: Verdict,
    /// Who said so.
    pub decided: Decided,
    /// `None`: it goes on.
    pub ended: Option<Ended>,
}

/// What comes of looking at flows.
#[derive(Debug, Default)]
pub struct Look {
    /// Records.
    pub outcomes: Vec<Outcome>,
    /// Flows whose counts nobody needs any more.
    pub gone: Vec<FlowKey>,
}

/// A flow that is counted.
#[derive(Clone, Debug)]
struct Open {
    /// As it was looked at last.
    count: FlowCount,
    /// Tries of the same flow that were refused, together.
    before: Option<FlowCount>,
    /// [`flow_flag`] of who opened it.
    opened: u8,
    /// Was the first packet one for the port?
    inbound: bool,
    identity: u32,
    /// Who let it pass.
    decided: Option<Decided>,
    /// When its last record was written, or else it began, and how many packets that was.
    written: (u64, u64),
    look_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    open: BTreeMap<FlowKey, Open>,
    due: BTreeSet<(u64, FlowKey)>,
    lost: u64,
}

/// `None`: not now.
type Judge<'a> = &'a dyn Fn(&Asked) -> Option<Decided>;

/// Milliseconds since a moment whose lower 32 bits these are.
pub fn idle_ms(now_ms: u64, last_ms: u32) -> u32 {
    let age = (now_ms as u32).wrapping_sub(last_ms);
    // Another processor may have written a moment later than `now_ms` was read.
    if age > u32::MAX / 2 { 0 } else { age }
}

const fn packets(count: &FlowCount) -> u64 {
    count.packets_out + count.packets_in
}

/// Was it refused from the beginning?
const fn is_denied(count: &FlowCount) -> bool {
    count.refused != 0 && count.revoked != revoked::ALLOWED
}

/// With what it means that something came back of a flow that was refused: it had been let in; or it was let in after
/// all, if whoever refused it may not have heard of the port's groups then.
const fn settled(count: FlowCount) -> FlowCount {
    if count.refused == 0 || count.inbound != 0 || count.packets_in == 0 {
        count
    } else if count.revoked == revoked::DOUBTFUL {
        FlowCount { refused: 0, revoked: 0, ..count }
    } else {
        FlowCount { revoked: revoked::ALLOWED, ..count }
    }
}

/// Of one flow, the later part as it is.
fn together(before: &FlowCount, after: FlowCount) -> FlowCount {
    FlowCount {
        packets_out: before.packets_out + after.packets_out,
        bytes_out: before.bytes_out + after.bytes_out,
        packets_in: before.packets_in + after.packets_in,
        bytes_in: before.bytes_in + after.bytes_in,
        started_ns: before.started_ns,
        ..after
    }
}

impl Open {
    fn new(count: FlowCount, now_ms: u64) -> Self {
        let inbound = count.inbound != 0;
        let opened = if inbound { flow_flag::R_INIT } else { flow_flag::I_INIT };
        let look_ms = now_ms + FIRST_MS;
        Self { count, before: None, opened, inbound, identity: 0, decided: None, written: (now_ms, 0), look_ms }
    }

    fn direction(&self) -> Direction {
        const BOTH: u8 = flow_flag::I_INIT | flow_flag::R_INIT;
        match self.opened & BOTH {
            flow_flag::I_INIT => Direction::Egress,
            flow_flag::R_INIT => Direction::Ingress,
            // Both have, or it is not known.
            _ if self.inbound => Direction::Ingress,
            _ => Direction::Egress,
        }
    }

    fn asked(&self, key: &FlowKey, count: &FlowCount) -> Asked {
        let refused = count.refused;
        let identity = if refused == 0 { self.identity } else { count.peer_identity };
        Asked { key: *key, ep_id: count.ep_id, direction: self.direction(), identity, refused }
    }

    fn outcome(&self, key: &FlowKey, count: FlowCount, ended: Option<Ended>, judge: Judge<'_>) -> Outcome {
        // Who let it pass is known from then, for rules change; who refused it is of now.
        let then = self.decided.clone().filter(|_| count.refused == 0);
        Outcome {
            key: *key,
            direction: self.direction(),
            verdict: if is_denied(&count) { Verdict::Deny } else { Verdict::Accept },
            decided: then.or_else(|| judge(&self.asked(key, &count))).unwrap_or_default(),
            count,
            ended,
        }
    }

    /// Its last records: one, but that tries that were refused are apart from the flow that was let in at last.
    fn finish(mut self, key: &FlowKey, ended: Ended, judge: Judge<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if let Some(before) = self.before.take() {
            if is_denied(&self.count) {
                self.count = together(&before, self.count);
            } else {
                outcomes.push(self.outcome(key, before, Some(Ended::Denied), judge));
            }
        }
        let ended = match self.count.refused {
            0 => ended,
            _ if is_denied(&self.count) => Ended::Denied,
            _ => Ended::Revoked,
        };
        outcomes.push(self.outcome(key, self.count, Some(ended), judge));
        outcomes
    }

    /// Notes what the flow's entry says, if that is there: of a flow that was refused, it is not for long.
    fn note(&mut self, flow: &Flow) {
        const OPENED: u8 = flow_flag::I_INIT | flow_flag::R_INIT;
        if flow.ep_id == self.count.ep_id && flow.flags & OPENED != 0 {
            self.opened = flow.flags & OPENED;
            self.identity = flow.peer_identity;
        }
    }
}

/// Has a flow ended of which nothing passed for some seconds, by its entry?
fn ended(flow: Option<&Flow>, key: &FlowKey, now_ms: u64) -> Option<Ended> {
    let now = Now::from_ns(now_ms * 1_000_000);
    match flow {
        None => Some(Ended::TimedOut),
        Some(flow) if flow.state == State::Closing as u8 => Some(Ended::Closed),
        Some(flow) if !is_live(flow, key.vni_proto as u8, &now) => Some(Ended::TimedOut),
        Some(flow) if flow.flags & flow_flag::LOGGED == 0 => Some(Ended::Replaced),
        Some(_) => None,
    }
}

impl Book {
    /// When the next flow is to be looked at.
    pub fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Flows that found no place here since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn insert(&mut self, key: FlowKey, open: Open) {
        self.due.insert((open.look_ms, key));
        self.open.insert(key, open);
    }

    fn remove(&mut self, key: &FlowKey) -> Option<Open> {
        let open = self.open.remove(key)?;
        self.due.remove(&(open.look_ms, *key));
        Some(open)
    }

    /// Flows that somebody began to count earlier.
    pub fn adopt(&mut self, counts: impl IntoIterator<Item = (FlowKey, FlowCount)>, now_ms: u64) {
        for (key, count) in counts.into_iter().take(MOST) {
            self.remove(&key);
            self.insert(key, Open::new(settled(count), now_ms));
        }
    }

    /// A flow is counted from now on. What was of the same key has ended.
    pub fn begin(&mut self, start: &LogStart, now_ms: u64, judge: Judge<'_>) -> Vec<Outcome> {
        let LogStart { count, former, key } = *start;
        let mut open = Open::new(count, now_ms);
        let mut outcomes = Vec::new();
        match self.remove(&key) {
            // It was adopted, and its beginning read after that.
            Some(known) if known.count.started_ns == count.started_ns => open = known,
            Some(mut known) => {
                if former.started_ns == known.count.started_ns {
                    known.count = settled(former);
                }
                if is_denied(&known.count) {
                    // Perhaps it is let in this time.
                    let before = known.before.take();
                    open.written = known.written;
                    open.before = Some(before.map_or(known.count, |before| together(&before, known.count)));
                } else {
                    // Counts that made place and began again have no former ones: it is the same flow.
                    let is_same = former.started_ns == 0;
                    if is_same {
                        (open.opened, open.inbound) = (known.opened, known.inbound);
                        open.decided = known.decided.clone();
                    }
                    let ended = if is_same { Ended::Evicted } else { Ended::Replaced };
                    outcomes = known.finish(&key, ended, judge);
                }
            }
            None if self.open.len() >= MOST => {
                self.lost += 1;
                return outcomes;
            }
            None => {}
        }
        self.insert(key, open);
        outcomes
    }

    /// Looks at so many of the flows whose turn it is.
    pub fn look(
        &mut self,
        most: usize,
        now_ms: u64,
        count: &dyn Fn(&FlowKey) -> Option<FlowCount>,
        flow: &dyn Fn(&FlowKey) -> Option<Flow>,
        judge: Judge<'_>,
    ) -> Look {
        let mut look = Look::default();
        let turn: Vec<FlowKey> =
            self.due.iter().take_while(|(at, _)| *at <= now_ms).take(most).map(|(_, key)| *key).collect();
        for key in turn {
            let Some(mut open) = self.remove(&key) else { continue };
            open.look_ms = now_ms + AGAIN_MS;
            let seen = match count(&key) {
                None => {
                    look.outcomes.extend(open.finish(&key, Ended::Evicted, judge));
                    continue;
                }
                // Another has begun, as the ring will say.
                Some(seen) if seen.started_ns != open.count.started_ns => {
                    self.insert(key, open);
                    continue;
                }
                Some(seen) => settled(seen),
            };
            open.count = seen;
            let idle = idle_ms(now_ms, seen.last_ms);
            let entry = if open.decided.is_none() || idle >= QUIET_MS { flow(&key) } else { None };
            if let Some(entry) = &entry {
                open.note(entry);
            }
            if open.decided.is_none() && seen.refused == 0 {
                open.decided = judge(&open.asked(&key, &seen));
            }
            let over = if seen.refused != 0 {
                (idle >= REFUSED_MS).then_some(Ended::Denied)
            } else if idle >= QUIET_MS {
                ended(entry.as_ref(), &key, now_ms)
            } else {
                None
            };
            if let Some(over) = over {
                look.gone.push(key);
                look.outcomes.extend(open.finish(&key, over, judge));
                continue;
            }
            let all = packets(&seen) + open.before.as_ref().map_or(0, packets);
            if now_ms.saturating_sub(open.written.0) >= INTERIM_MS && all != open.written.1 {
                let so_far = match &open.before {
                    Some(before) if is_denied(&seen) => together(before, seen),
                    _ => seen,
                };
                look.outcomes.push(open.outcome(&key, so_far, None, judge));
                open.written = (now_ms, all);
            }
            self.insert(key, open);
        }
        look
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
