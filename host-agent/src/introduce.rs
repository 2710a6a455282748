//! Tells the hosts of other sides when a port here is in other groups.
//!
//! Who may be sent what, and who may go on sending, was decided by the groups that the port had. A port that
//! speaks shows its new ones by itself, but one that only listens does not; so an acknowledgement without a
//! packet goes to the host of every peer of its flows. There the programs decide again, or ask. Peers on
//! this host see it in the maps.
//!
//! Bouncers hear of the port's new groups at different moments, and are not asked about somebody whom
//! they do not know: that is why this waits as long as the programs do. Datagrams are lost, and nobody
//! acknowledges these: so all is said again, three times, the last time when none that the port's host signed
//! before can be said by somebody else. And an agent may end between giving a port other groups
//! and telling of them; so the next one tells of all that got theirs lately.
//!
//! Whoever gives a port other groups again and again costs the others nothing: flows are looked through not more
//! often than so, for all ports whose time has come, and ports take turns to be told of.

use crate::clock;
use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use mizar_abi::GENEVE_PORT;
use mizar_abi::maps::{Cfg, FlowKey};
use mizar_abi::option::STAMP_WINDOW;
use mizar_packet::policy::SETTLE_MS;
use mizar_plan::{Key, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Ports that got other groups, and when.
pub type Introduction = (Instant, BTreeSet<u32>);

/// How long after a port got other groups it is told of. First some milliseconds later than the programs wait,
/// whose clock may be behind by a tick; last when what was signed before it got them, by clocks that differ as
/// much as they may, counts no longer: said again by somebody else it would show the former groups.
const TIMES: [Duration; 4] = [
    Duration::from_millis(SETTLE_MS as u64 + 20),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(2 * STAMP_WINDOW as u64 + 1),
];

/// Of ports that got other groups no longer than so before the former agent last heard of anything it may not
/// have told: it hears before it gives a port other groups.
const LATELY: Duration = Duration::from_secs(60);

/// From one walk through the flows to the next.
const APART: Duration = Duration::from_millis(250);
/// From one round to the next.
const TICK: Duration = Duration::from_millis(50);
/// Introductions in a round: each is a few system calls.
const ROUND: usize = 1_000;

/// Ports to be told of: since when they have their groups, and how often it was done.
#[derive(Debug, Default)]
struct Agenda {
    ports: BTreeMap<u32, (Instant, usize)>,
    /// Not before that is looked again who they talk to.
    rest: Option<Instant>,
}

impl Agenda {
    /// These ports have other groups since then: what is known of them begins anew.
    fn add(&mut self, (since, ports): Introduction) {
        self.ports.extend(ports.into_iter().map(|port| (port, (since, 0))));
    }

    /// When somebody is to be told of next.
    fn next(&self) -> Option<Instant> {
        let next = self.ports.values().map(|(since, times)| *since + TIMES[*times]).min()?;
        Some(self.rest.map_or(next, |rest| next.max(rest)))
    }

    /// Those whose time has come by now.
    fn take(&mut self, now: Instant) -> BTreeSet<u32> {
        let mut due = BTreeSet::new();
        self.ports.retain(|port, (since, times)| {
            if *since + TIMES[*times] <= now {
                due.insert(*port);
                // What is past already is not made up for.
                *times = TIMES.iter().filter(|after| *since + **after <= now).count();
            }
            *times < TIMES.len()
        });
        self.rest = Some(now + APART);
        due
    }
}

/// Flows whose other sides are to be told, by port.
#[derive(Debug, Default)]
struct Turns {
    ports: BTreeMap<u32, Vec<FlowKey>>,
    /// The port that had its turn last.
    last: u32,
}

impl Turns {
    /// What was left of a port from the last time is among them, or gone. It comes first, as it would have: else who has more
    /// flows than can be told of from one time to the next would tell of the same ones again, and of the others at last.
    fn add(&mut self, flows: BTreeMap<u32, Vec<FlowKey>>) {
        for (port, mut all) in flows {
            if let Some(mut left) = self.ports.remove(&port) {
                let there: BTreeSet<FlowKey> = all.iter().copied().collect();
                left.retain(|flow| there.contains(flow));
                let first: BTreeSet<FlowKey> = left.iter().copied().collect();
                all.retain(|flow| !first.contains(flow));
                all.append(&mut left);
            }
            self.ports.insert(port, all);
        }
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The next flow: of another port each time.
    fn next(&mut self) -> Option<FlowKey> {
        let after = self.ports.range(self.last.saturating_add(1)..).next();
        let (port, _) = after.or_else(|| self.ports.first_key_value())?;
        self.last = *port;
        let flows = self.ports.get_mut(&self.last)?;
        let flow = flows.pop();
        if flows.is_empty() {
            self.ports.remove(&self.last);
        }
        flow
    }

    /// That one could not be told now.
    fn again(&mut self, flow: FlowKey) {
        self.ports.entry(self.last).or_default().push(flow);
    }
}

/// Who tells.
pub struct Introducer {
    core: Shared,
    runtime: Runtime,
    underlay: UdpSocket,
    turns: Turns,
    /// When the former agent last heard of anything.
    heard: Duration,
}

impl Introducer {
    /// Over these. The former agent last heard of anything so long ago.
    pub fn new(core: Shared, runtime: Runtime, underlay: Ipv4Addr, heard: Duration) -> io::Result<Self> {
        let underlay = UdpSocket::bind((underlay, 0))?;
        underlay.set_nonblocking(true)?;
        Ok(Self { core, runtime, underlay, turns: Turns::default(), heard })
    }

    /// Introduces ports for ever.
    pub async fn run(mut self, mut regrouped: mpsc::UnboundedReceiver<Introduction>) -> io::Result<()> {
        let mut agenda = Agenda::default();
        let lately = u32::try_from((LATELY + self.heard).as_millis()).unwrap_or(u32::MAX);
        agenda.add((Instant::now(), self.runtime.regrouped(lately, &clock::now())));
        let mut rounds = tokio::time::interval(TICK);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = agenda.next();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            let mut ports = BTreeSet::new();
            tokio::select! {
                more = regrouped.recv() => match more {
                    Some(more) => {
                        agenda.add(more);
                        continue;
                    }
                    None => return Ok(()),
                },
                // One walk through the flows for all whose time has come.
                () = due => ports = agenda.take(Instant::now()),
                _ = rounds.tick(), if !self.turns.is_empty() => {}
            }
            let idle = self.turns.is_empty();
            let work = move || {
                self.introduce(&ports);
                self
            };
            self = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
            if idle {
                rounds.reset();
            }
        }
    }

    /// Looks with whom these ports talk, and tells as many as may be told at once.
    fn introduce(&mut self, ports: &BTreeSet<u32>) {
        let Some(Value::Cfg(cfg)) = self.core.lock().store().planner.value(&Key::Cfg) else { return };
        if !ports.is_empty() {
            self.turns.add(self.runtime.peers(ports, cfg.host));
        }
        for _ in 0..ROUND {
            let Some(key) = self.turns.next() else { return };
            if !self.tell(&cfg, &key) {
                self.turns.again(key);
                return;
            }
        }
    }

    /// False: nothing more can be sent now.
    fn tell(&self, cfg: &Cfg, key: &FlowKey) -> bool {
        let Some((flow, ep)) = self.runtime.peer(key, cfg.host) else { return true };
        let Some(introduction) = control::acknowledge(cfg, key, &flow, &ep) else { return true };
        let to = SocketAddrV4::new(flow.peer_host.into(), GENEVE_PORT);
        match self.underlay.send_to(&introduction, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => tracing::debug!(%to, error = chain(&error), "an introduction could not be sent"),
            Ok(_) => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When ports are told of, in milliseconds, by a clock that goes as fast as it is looked at.
    fn told(agenda: &mut Agenda, start: Instant, until_ms: u64) -> Vec<(u128, Vec<u32>)> {
        let mut told = Vec::new();
        while let Some(next) = agenda.next().filter(|next| *next <= start + Duration::from_millis(until_ms)) {
            told.push(((next - start).as_millis(), agenda.take(next).into_iter().collect()));
        }
        told
    }

    #[test]
    fn a_port_is_told_of_when_bouncers_may_know_it_and_until_what_it_said_before_counts_no_more() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add((start, BTreeSet::from([5, 6])));
        assert_eq!(told(&mut agenda, start, 600), [(520, vec![5, 6])]);
        // One of them gets other groups once more: nobody is told of those before their time.
        agenda.add((start + Duration::from_millis(750), BTreeSet::from([6])));
        let rest = told(&mut agenda, start, 20_000);
        let times = [(1_000, vec![5]), (1_270, vec![6]), (1_750, vec![6]), (3_000, vec![5]), (3_750, vec![6])];
        assert_eq!(rest[..5], times);
        assert_eq!(rest[5..], [(11_000, vec![5]), (11_750, vec![6])]);
        assert!(agenda.ports.is_empty());
    }

    #[test]
    fn who_is_late_tells_once_of_what_is_past() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add((start, BTreeSet::from([5])));
        assert_eq!(agenda.take(start + Duration::from_secs(2)), BTreeSet::from([5]));
        assert_eq!(agenda.next(), Some(start + Duration::from_secs(3)));
        assert_eq!(agenda.take(start + Duration::from_secs(19)), BTreeSet::from([5]));
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn ports_that_get_other_groups_again_and_again_are_looked_at_together_now_and_then() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        for n in 0..100 {
            agenda.add((start + Duration::from_millis(n * 10), BTreeSet::from([n as u32])));
        }
        let walks = told(&mut agenda, start, 2_000);
        assert!(walks.len() <= 2_000 / 250, "{} walks", walks.len());
        let first: BTreeSet<u32> = walks.iter().flat_map(|(_, ports)| ports.clone()).collect();
        assert_eq!(first.len(), 100, "and nobody is forgotten");
    }

    #[test]
    fn ports_take_turns_however_many_others_they_talk_to() {
        let flow = |lport| FlowKey { lport, ..FlowKey::default() };
        let mut turns = Turns::default();
        turns.add(BTreeMap::from([(1, (0..1_000).map(flow).collect()), (7, vec![flow(5_001), flow(5_002)])]));
        let first: Vec<u16> = (0..5).filter_map(|_| turns.next()).map(|flow| flow.lport).collect();
        assert_eq!(first, [999, 5_002, 998, 5_001, 997]);
        turns.again(flow(997));
        assert_eq!(turns.next().map(|flow| flow.lport), Some(997), "it could not be told");
        // It is looked at anew before all were told.
        turns.add(BTreeMap::from([(1, vec![flow(3)])]));
        assert_eq!(std::iter::from_fn(|| turns.next()).map(|flow| flow.lport).collect::<Vec<_>>(), [3]);
        assert!(turns.is_empty());
    }

    #[test]
    fn whom_nobody_was_told_of_comes_first_when_flows_are_looked_through_again() {
        let flow = |lport| FlowKey { lport, ..FlowKey::default() };
        let walk = |from, to| BTreeMap::from([(1, (from..to).map(flow).collect::<Vec<_>>())]);
        let mut turns = Turns::default();
        let told = |turns: &mut Turns, many: usize| -> Vec<u16> {
            std::iter::from_fn(|| turns.next()).take(many).map(|flow| flow.lport).collect()
        };
        turns.add(walk(0, 10_000));
        assert_eq!(told(&mut turns, 4_000), (6_000..10_000).rev().collect::<Vec<_>>());
        // Meanwhile some have ended, and others begun, which need it least.
        turns.add(walk(1_000, 11_000));
        assert_eq!(told(&mut turns, 3_000), (3_000..6_000).rev().collect::<Vec<_>>());
        turns.add(walk(1_000, 11_000));
        assert_eq!(told(&mut turns, 2_000), (1_000..3_000).rev().collect::<Vec<_>>());
        let rest: BTreeSet<u16> = told(&mut turns, 10_000).into_iter().collect();
        assert_eq!(rest, (3_000..11_000).collect(), "each once more");
    }
}
