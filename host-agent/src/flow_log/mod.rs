//! The flow log: one record for each flow that ended, and one a minute for those that go on (docs/adr/0014).
//!
//! Programs decide which flows are logged, count their packets in FLOW_COUNT, and say so once, in a ring of their own.
//! From there on the log asks, at its own pace: [`book`] knows the flows that are counted and, from what the maps say of
//! them, when each has ended; [`writer`] is where records go, of whom each port has a [`share`] of the [`file`]s, [`line`]
//! what they look like there, [`recent`] what the API is told. A step does so much and no more, and holds what the agent's
//! work needs for so long and no longer; a disk that is slow leaves records in the ring, where those that find no
//! place are counted as lost. So nothing here keeps a packet waiting, whatever tenants do.

pub mod book;
pub mod file;
pub mod line;
mod naming;
pub mod recent;
mod share;
mod writer;

use crate::clock::{self, Wall};
use crate::core::{Shared, chain};
use crate::dataplane::counts::{Counts, raw_start};
use aya::maps::{MapData, RingBuf};
use book::{Asked, Book, Decided, Outcome};
use file::Files;
use line::Line;
use mizar_abi::maps::LogStart;
use mizar_abi::reason::Drop;
use mizar_abi::unmapped;
use mizar_packet::policy::{Question, received, sent};
use mizar_plan::{Judged, Planner};
use mizar_wire::body::Body;
use mizar_wire::log::{Decider, Direction, Logged};
use mizar_wire::trace::RULES;
use mizar_wire::{EntryKey, Scope};
use naming::Naming;
use recent::Recent;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use uuid::Uuid;
use writer::Writer;

/// Records of the ring that one step reads.
const BATCH: usize = 1_024;
/// Flows that it looks at.
const LOOKS: usize = 256;
/// For so long it looks for their rules, all of them together: at some tens of microseconds for a flow, where its port has a
/// thousand. Nobody else plans or answers meanwhile.
const NAMING: Duration = Duration::from_millis(5);
/// From one step to the next: with these, what bounds the log's work.
const PACE: Duration = Duration::from_millis(50);
/// From one step to the next where nothing is counted.
const IDLE: Duration = Duration::from_secs(60);

/// Writes the log.
pub struct Logger {
    core: Shared,
    counts: Counts,
    host: String,
    book: Book,
    writer: Writer,
    recent: Recent,
    /// Lost flows that the programs have counted, as far as the writer knows.
    lost: u64,
    failing: bool,
}

impl Logger {
    /// Goes on where the last one ended: flows that are counted already, and the last records.
    pub fn new(core: Shared, counts: Counts, files: Files, recent: Recent) -> Self {
        let host = core.lock().identity().host.clone();
        let mut book = Book::default();
        book.adopt(counts.all(), now_ms());
        let (lost, writer) = (counts.lost(), Writer::new(host.clone(), files));
        Self { core, counts, host, book, writer, recent, lost, failing: false }
    }

    /// Reads the ring for ever.
    pub async fn run(mut self, ring: RingBuf<MapData>) -> io::Result<()> {
        // SAFETY: the ring owns its file descriptor, and keeps it as long as it lives.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let mut ring = registered.map_err(io::Error::from)?;
        loop {
            let due = [self.book.due_ms().map(Duration::from_millis), self.writer.due()].into_iter().flatten().min();
            let wait = due.map_or(IDLE, |due| due.saturating_sub(since_boot()));
            let mut starts = Vec::new();
            if let Ok(ready) = tokio::time::timeout(wait, ring.readable_mut()).await {
                let mut ready = ready?;
                while starts.len() < BATCH
                    && let Some(item) = ready.get_inner_mut().next()
                {
                    starts.extend(raw_start(&item));
                }
                if starts.len() < BATCH {
                    ready.clear_ready();
                }
            }
            // Where it may wait for the disk.
            let step = move || {
                self.step(&starts);
                self
            };
            self = tokio::task::spawn_blocking(step).await.map_err(io::Error::other)?;
            tokio::time::sleep(PACE).await;
        }
    }

    fn step(&mut self, starts: &[LogStart]) {
        let now = now_ms();
        let (core, counts) = (&self.core, &self.counts);
        let naming = Naming::new(NAMING, &since_boot);
        let judge = |asked: &Asked| naming.hold(|| core.lock(), |core| decide(&core.store().planner, asked));
        let mut outcomes: Vec<Outcome> = starts.iter().flat_map(|start| self.book.begin(start, now, &judge)).collect();
        let look = self.book.look(LOOKS, now, &|key| counts.count(key), &|key| counts.flow(key), &judge);
        outcomes.extend(look.outcomes);
        for key in &look.gone {
            if let Err(error) = self.counts.forget(key) {
                tracing::error!(error = chain(&error), "the counts of a flow could not be removed");
            }
        }
        let records = outcomes.len() as u64;
        match self.write(&outcomes) {
            Ok(()) => {
                self.recent.written(records);
                // Nothing may have been tried: what is missing waits for its second.
                if self.writer.due().is_none() && std::mem::take(&mut self.failing) {
                    tracing::info!("the flow log is written again");
                }
            }
            Err(error) => {
                self.recent.unwritten(records);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the flow log could not be written; it is tried again with the next records");
                }
            }
        }
    }

    fn write(&mut self, outcomes: &[Outcome]) -> io::Result<()> {
        let wall = Wall::now();
        let mut lines = Vec::new();
        for outcome in outcomes {
            let logged = logged(outcome, &wall);
            let (port_id, network_id) = self.names(outcome);
            lines.push((logged.port, Line::of(&logged, &self.host, port_id, network_id).text()));
            self.recent.add(logged);
        }
        let lost = self.counts.lost();
        // The counter begins anew with the maps.
        self.writer.miss(self.book.take_lost() + lost.saturating_sub(self.lost));
        self.lost = lost;
        self.writer.write(lines, since_boot(), wall.unix_ms(clock::boot_ns()))
    }

    /// Of the port, if it is here, and of its network.
    fn names(&self, outcome: &Outcome) -> (Option<Uuid>, Option<Uuid>) {
        let core = self.core.lock();
        let planner = &core.store().planner;
        let port = planner.port_by_number(outcome.count.ep_id).map(|port| port.id);
        let vni = outcome.key.vni_proto >> 8;
        let scope = Scope::Network(vni);
        let network = planner.keys_in(scope, 0, u16::MAX).find_map(|key: &EntryKey| match planner.entry(key) {
            Some(Body::Network(network)) => Some(network.id),
            _ => None,
        });
        (port, network)
    }
}

fn now_ms() -> u64 {
    clock::boot_ns() / 1_000_000
}

fn since_boot() -> Duration {
    Duration::from_nanos(clock::boot_ns())
}

/// Whose rules said so, and which.
fn decide(planner: &Planner, asked: &Asked) -> Decided {
    let nobody = Decided { by: None, rules: None };
    let port = planner.port_by_number(asked.ep_id);
    let rules = |Question { policy, identity, remote, proto, port }: Question| {
        let remote = Ipv4Addr::from(unmapped(&remote).unwrap_or_default());
        let mut rules = planner.rules_about(&Judged { policy, identity, remote, protocol: proto, port });
        rules.truncate(RULES);
        rules
    };
    let set = port.and_then(|port| port.set.as_ref()).map(|set| set.number);
    match (asked.direction, set, asked.refused) {
        // A bouncer judges for a port elsewhere.
        (Direction::Ingress, None, refused) if refused != 0 || port.is_none() => {
            Decided { by: Some(Decider::Bouncer), rules: (refused != 0).then(Vec::new) }
        }
        (_, None, 0) => nobody,
        (Direction::Ingress, Some(_), refused) if refused != 0 => {
            Decided { by: Some(Decider::Bouncer), rules: Some(Vec::new()) }
        }
        // Most hosts do not have these rules: bouncers do.
        (Direction::Ingress, Some(set), _) => {
            let rules = rules(received(&asked.key, set, asked.identity));
            Decided { by: Some(Decider::Bouncer), rules: (!rules.is_empty()).then_some(rules) }
        }
        (Direction::Ingress, None, _) => nobody,
        (Direction::Egress, _, refused) if refused == Drop::Unreachable as u8 => nobody,
        // The port is gone.
        (Direction::Egress, None, _) if port.is_none() => nobody,
        // Who may send anything is refused by the other side.
        (Direction::Egress, None, _) => Decided { by: Some(Decider::Peer), rules: None },
        (Direction::Egress, Some(set), refused) => {
            let rules = rules(sent(&asked.key, set, asked.identity));
            match (refused, rules.is_empty()) {
                // Its rules let it out, so it is not they that refused it.
                (1.., false) => Decided { by: Some(Decider::Peer), rules: None },
                (1.., true) => Decided { by: Some(Decider::Port), rules: Some(rules) },
                (0, false) => Decided { by: Some(Decider::Port), rules: Some(rules) },
                // An answer whose flow the host forgot, or rules that have changed since.
                (0, true) => nobody,
            }
        }
    }
}

/// As people write it.
fn address(bytes: mizar_abi::Address) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// The record.
fn logged(outcome: &Outcome, wall: &Wall) -> Logged {
    let Outcome { key, count, direction, verdict, decided, ended } = outcome;
    let (local, remote) = ((address(key.local), key.lport), (address(key.remote), key.rport));
    let (from, to, judged) = match direction {
        Direction::Egress => (local, remote, sent(key, 0, 0).port),
        Direction::Ingress => (remote, local, received(key, 0, 0).port),
    };
    let boot_ns = clock::boot_ns();
    let age_ms = book::idle_ms(boot_ns / 1_000_000, count.last_ms);
    let reason = Drop::from_number(u32::from(count.refused)).filter(|_| count.refused != 0);
    let start_ms = wall.unix_ms(count.started_ns);
    Logged {
        port: count.ep_id,
        start_ms,
        end_ms: wall.unix_ms(boot_ns.saturating_sub(u64::from(age_ms) * 1_000_000)).max(start_ms),
        direction: *direction,
        source: from.0,
        destination: to.0,
        protocol: key.vni_proto as u8,
        source_port: from.1,
        destination_port: to.1,
        judged,
        verdict: *verdict,
        reason: reason.map(|reason| reason.name().to_owned()),
        decided_by: decided.by,
        rules: decided.rules.clone(),
        packets_out: count.packets_out,
        bytes_out: count.bytes_out,
        packets_in: count.packets_in,
        bytes_in: count.bytes_in,
        ended: *ended,
    }
}
