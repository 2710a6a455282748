//! Asks bouncers about flows that were allowed by rules which have changed since.
//!
//! The programs judge again in place what this host can judge by itself: what its endpoints send, and
//! what they get if it is a bouncer of their addresses. Of other flows that the other side opened,
//! the bouncers know; they are asked here. The answer goes to the programs, not to the agent: they
//! note it in the flow, or end it. A flow goes on for a second without one; the next question goes to
//! the other replica, first after 50 ms, later after 200.
//!
//! Whoever has many flows costs nobody else his second: ports take turns, what was never asked about comes
//! before what was, and between rounds of so many questions is heard what came meanwhile.
//!
//! Flows are found by looking through all of them when this host's rules changed, and by the events with which
//! programs name them when others did; where these are more than programs can raise, by looking again
//! ([`crate::bursts`]).

use crate::bursts::Bursts;
use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use mizar_abi::GENEVE_PORT;
use mizar_abi::maps::{Cfg, FlowKey};
use mizar_plan::{Key, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// The clock of questions.
const TICK: Duration = Duration::from_millis(50);
/// Ticks from a question about a flow to the next. After the last one it is over time, and its next
/// packet raises an event.
const PATIENCE: [u64; 8] = [1, 1, 2, 2, 4, 4, 4, 4];
/// Questions in a round: each is a few system calls.
const ROUND: usize = 1_000;
/// Flows by which events wait here at most; what is lost is raised again.
pub const QUEUE: usize = 4_096;

/// A port and a flow of it.
pub type Named = (u32, FlowKey);

/// Who asks.
pub struct Confirmer {
    core: Shared,
    runtime: Runtime,
    underlay: UdpSocket,
    pending: Pending,
    bursts: Bursts,
}

/// Flows to look through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survey {
    /// None.
    No,
    /// All: rules changed.
    Rules,
    /// All, for programs could not name those that are in doubt.
    Unnamed,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The flow is in doubt no longer.
    Needless,
    /// It is on its way, or could not have been.
    Sent,
    /// Nothing more can be sent now.
    Congested,
}

/// Flows in doubt.
#[derive(Debug, Default)]
struct Pending {
    ports: BTreeMap<u32, Doubts>,
    /// The port that had its turn last.
    last: u32,
    tick: u64,
}

/// Those of one port.
#[derive(Debug, Default)]
struct Doubts {
    /// By the tick from which on to ask; 0: nobody has asked yet.
    queue: BTreeSet<(u64, FlowKey)>,
    /// How often was asked, and that tick.
    flows: BTreeMap<FlowKey, (usize, u64)>,
}

impl Doubts {
    fn schedule(&mut self, flow: FlowKey, times: usize, due: u64) {
        self.forget(&flow);
        self.flows.insert(flow, (times, due));
        self.queue.insert((due, flow));
    }

    fn forget(&mut self, flow: &FlowKey) {
        if let Some((_, due)) = self.flows.remove(flow) {
            self.queue.remove(&(due, *flow));
        }
    }

    /// The flow whose turn it is, of those due by then, and how often was asked about it.
    fn next(&self, by: u64) -> Option<(FlowKey, usize)> {
        let (due, flow) = self.queue.first()?;
        let (times, _) = self.flows.get(flow)?;
        (*due <= by).then_some((*flow, *times))
    }
}

impl Pending {
    /// Rules changed: about these flows is asked from the beginning.
    fn begin(&mut self, flows: impl IntoIterator<Item = Named>) {
        for (port, flow) in flows {
            self.ports.entry(port).or_default().schedule(flow, 0, 0);
        }
    }

    /// A program names a flow. It does so for every packet; the questions go on as they would.
    fn name(&mut self, (port, flow): Named) {
        let doubts = self.ports.entry(port).or_default();
        if !doubts.flows.contains_key(&flow) {
            doubts.schedule(flow, 0, 0);
        }
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Is there a flow about which nobody has asked yet?
    fn is_behind(&self) -> bool {
        self.ports.values().any(|doubts| doubts.next(0).is_some())
    }

    /// Asks about those whose time it is, port by port, one flow at a time.
    fn round(&mut self, mut ask: impl FnMut(&FlowKey, usize) -> Asked) {
        let mut left = ROUND;
        for by in [0, self.tick] {
            let after = self.ports.range(self.last.saturating_add(1)..);
            let mut turns: VecDeque<u32> = after.chain(self.ports.range(..=self.last)).map(|(port, _)| *port).collect();
            while left > 0
                && let Some(port) = turns.pop_front()
            {
                let Some(doubts) = self.ports.get_mut(&port) else { continue };
                let Some((flow, times)) = doubts.next(by) else { continue };
                let patience = PATIENCE.get(times);
                match patience.map_or(Asked::Needless, |_| ask(&flow, times + 1)) {
                    Asked::Needless => doubts.forget(&flow),
                    Asked::Sent => doubts.schedule(flow, times + 1, self.tick + patience.copied().unwrap_or(1)),
                    Asked::Congested => return,
                }
                left -= 1;
                self.last = port;
                turns.push_back(port);
            }
        }
        self.ports.retain(|_, doubts| !doubts.flows.is_empty());
    }
}

impl Confirmer {
    /// Over these.
    pub fn new(core: Shared, runtime: Runtime, underlay: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((underlay, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { core, runtime, underlay: socket, pending: Pending::default(), bursts: Bursts::default() })
    }

    /// Asks about every flow in doubt whenever `changed` says that rules did, and about those that
    /// the programs name.
    pub async fn run(mut self, changed: Arc<Notify>, mut named: mpsc::Receiver<Named>) -> io::Result<()> {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut congested = false;
        loop {
            let (idle, behind) = (self.pending.is_empty(), self.pending.is_behind() && !congested);
            let due = self.bursts.due();
            let look = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => self.bursts.changed(Instant::now()),
                () = look => {}
                flow = named.recv() => match flow {
                    Some(flow) => self.name(flow),
                    None => return Ok(()),
                },
                _ = clock.tick(), if !idle => self.pending.tick += 1,
                () = std::future::ready(()), if behind => {}
            }
            let mut queued = 0;
            while let Ok(flow) = named.try_recv() {
                self.name(flow);
                queued += 1;
            }
            if queued >= QUEUE / 2 {
                self.bursts.lost(Instant::now());
            }
            let survey = match self.bursts.due() {
                Some(due) if due <= Instant::now() && self.bursts.is_of_change() => Survey::Rules,
                Some(due) if due <= Instant::now() => Survey::Unnamed,
                _ => Survey::No,
            };
            let work = move || {
                if survey != Survey::No {
                    let from = Instant::now();
                    let flows = self.runtime.doubtful_flows();
                    self.bursts.looked(from, Instant::now());
                    match survey {
                        Survey::Unnamed => flows.into_iter().for_each(|flow| self.pending.name(flow)),
                        Survey::Rules | Survey::No => self.pending.begin(flows),
                    }
                }
                let congested = self.round();
                (self, congested)
            };
            (self, congested) = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
            if idle {
                clock.reset();
            }
        }
    }

    /// A program names a flow.
    fn name(&mut self, flow: Named) {
        self.bursts.named(flow.0, Instant::now());
        self.pending.name(flow);
    }

    /// Asks, and forgets the flows that have their verdict. True if not all could be sent.
    fn round(&mut self) -> bool {
        let cfg = match self.core.lock().store().planner.value(&Key::Cfg) {
            Some(Value::Cfg(cfg)) => cfg,
            _ => {
                self.pending.ports.clear();
                return false;
            }
        };
        let (runtime, underlay) = (&self.runtime, &self.underlay);
        let mut congested = false;
        self.pending.round(|flow, times| {
            let asked = ask(runtime, underlay, &cfg, flow, times);
            congested = asked == Asked::Congested;
            asked
        });
        congested
    }
}

/// Which of so many replicas is asked: another each time, and the first differs from flow to flow.
fn turn(key: &FlowKey, times: usize, of: usize) -> usize {
    (times + usize::from(key.lport ^ key.rport)) % of.max(1)
}

/// Of the bouncers of an address those that can be asked; `None`: the programs of this host ask its own tables,
/// and that is all there is to know. Where its rules are not complete, others may allow what it does not.
fn askable(mut bouncers: Vec<[u8; 4]>, here: [u8; 4], complete: bool) -> Option<Vec<[u8; 4]>> {
    if bouncers.contains(&here) {
        if complete {
            return None;
        }
        bouncers.retain(|bouncer| *bouncer != here);
    }
    Some(bouncers)
}

/// Asks about a flow.
fn ask(runtime: &Runtime, underlay: &UdpSocket, cfg: &Cfg, key: &FlowKey, times: usize) -> Asked {
    let Some((flow, ep, force)) = runtime.doubtful(key) else { return Asked::Needless };
    let bouncers = runtime.bouncers(ep.vni, &key.local);
    let Some(bouncers) = askable(bouncers, cfg.host, force.is_complete()) else { return Asked::Needless };
    let Some(bouncer) = bouncers.get(turn(key, times, bouncers.len())) else { return Asked::Sent };
    let Some(question) = control::ask(cfg, key, &flow, &ep, *bouncer) else { return Asked::Sent };
    let to = SocketAddrV4::new((*bouncer).into(), GENEVE_PORT);
    match underlay.send_to(&question, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Asked::Congested,
        Err(error) => tracing::debug!(%to, error = chain(&error), "a question about a flow could not be sent"),
        Ok(_) => {}
    }
    Asked::Sent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(lport: u16) -> FlowKey {
        FlowKey { lport, ..FlowKey::default() }
    }

    /// The questions of one round: about whom, and which of two replicas.
    fn asked(pending: &mut Pending) -> Vec<(u16, usize)> {
        let mut asked = Vec::new();
        pending.round(|flow, times| {
            asked.push((flow.lport, turn(flow, times, 2)));
            Asked::Sent
        });
        asked
    }

    #[test]
    fn the_next_question_goes_to_the_other_replica_though_the_flow_is_named_again() {
        let mut pending = Pending::default();
        pending.name((1, flow(2)));
        assert_eq!(asked(&mut pending), [(2, 1)]);
        pending.name((1, flow(2)));
        assert_eq!(asked(&mut pending), [], "it waits for its turn");
        pending.tick += 1;
        assert_eq!(asked(&mut pending), [(2, 0)]);
    }

    #[test]
    fn after_so_many_questions_in_over_a_second_there_are_no_more_and_new_rules_begin_anew() {
        let mut pending = Pending::default();
        pending.begin([(1, flow(2))]);
        let mut times = 0;
        while !pending.is_empty() {
            times += asked(&mut pending).len();
            pending.tick += 1;
        }
        assert_eq!(times, PATIENCE.len());
        assert!(TICK * pending.tick as u32 >= Duration::from_secs(1), "{} ticks", pending.tick);
        pending.begin([(1, flow(2))]);
        assert_eq!(asked(&mut pending).len(), 1);
    }

    #[test]
    fn ports_take_turns_whatever_their_numbers() {
        let mut pending = Pending::default();
        pending.begin((0..5_000).map(|n| (1, flow(n))));
        pending.begin((6_000..6_003).map(|n| (2, flow(n))));
        let first = asked(&mut pending);
        assert_eq!(first.len(), ROUND);
        assert_eq!(first.iter().filter(|(lport, _)| *lport >= 6_000).count(), 3, "the small one is done");
        assert!(pending.is_behind());
    }

    #[test]
    fn what_was_never_asked_about_comes_before_what_was() {
        let mut pending = Pending::default();
        pending.begin((0..1_000).map(|n| (1, flow(n))));
        assert_eq!(asked(&mut pending).len(), ROUND);
        assert!(!pending.is_behind());
        pending.tick += 1;
        pending.begin((2_000..2_400).map(|n| (1, flow(n))));
        let second = asked(&mut pending);
        assert!(second[..400].iter().all(|(lport, _)| *lport >= 2_000));
        assert_eq!(second.len(), ROUND, "then those that wait the longest");
    }

    #[test]
    fn a_question_that_cannot_be_sent_was_not_asked() {
        let mut pending = Pending::default();
        pending.begin((0..10).map(|n| (1, flow(n))));
        let mut sent = 0;
        pending.round(|_, _| {
            sent += 1;
            if sent > 3 { Asked::Congested } else { Asked::Sent }
        });
        assert_eq!(asked(&mut pending).len(), 7);
    }

    #[test]
    fn a_host_that_is_a_bouncer_asks_the_other_only_while_it_misses_rules() {
        let (here, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        assert_eq!(askable(vec![here, other], here, true), None);
        assert_eq!(askable(vec![here, other], here, false), Some(vec![other]));
        assert_eq!(askable(vec![here], here, false), Some(vec![]));
        for complete in [true, false] {
            assert_eq!(askable(vec![other], here, complete), Some(vec![other]));
        }
    }

    #[test]
    fn a_flow_that_has_its_verdict_is_forgotten() {
        let mut pending = Pending::default();
        pending.name((1, flow(2)));
        pending.round(|_, _| Asked::Needless);
        assert!(pending.is_empty());
    }
}
