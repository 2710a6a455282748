//! Asks bouncers about flows that were allowed by rules which have changed since.
//!
//! The programs judge again in place what this host can judge by itself: what its endpoints send, and
//! what they get if it is a bouncer of their addresses. Of other flows that the other side opened,
//! the bouncers know; they are asked here. The answer goes to the programs, not to the agent: they
//! note it in the flow, or end it. A flow goes on for a second without one; the next question goes to
//! the other replica after 50 ms.

use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use mizar_abi::GENEVE_PORT;
use mizar_abi::maps::{Cfg, FlowKey};
use mizar_plan::{Key, Value};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Between two questions about a flow.
const RETRY: Duration = Duration::from_millis(50);
/// Questions about a flow: then it is over time, and the next packet of it raises an event.
const MOST: usize = 24;
/// Flows by which events wait here at most; what is lost is raised again.
pub const QUEUE: usize = 4_096;

/// Who asks.
pub struct Confirmer {
    core: Shared,
    runtime: Runtime,
    underlay: UdpSocket,
    pending: Pending,
}

/// Flows in doubt, and how often was asked about them.
#[derive(Default)]
struct Pending(BTreeMap<FlowKey, usize>);

impl Pending {
    /// Rules changed: about these flows is asked from the beginning.
    fn begin(&mut self, flows: impl IntoIterator<Item = FlowKey>) {
        self.0.extend(flows.into_iter().map(|flow| (flow, 0)));
    }

    /// A program names a flow. It does so for every packet; the questions go on as they would.
    fn name(&mut self, flow: FlowKey) {
        self.0.entry(flow).or_insert(0);
    }

    /// Asks about those about which nobody asked yet, or `again` about all; one of which `ask` says
    /// no, or about which was asked often enough, is no longer in doubt.
    fn round(&mut self, again: bool, mut ask: impl FnMut(&FlowKey, usize) -> bool) {
        self.0.retain(|flow, times| {
            if !again && *times > 0 {
                return true;
            }
            *times += 1;
            *times <= MOST && ask(flow, *times)
        });
    }
}

impl Confirmer {
    /// Over these.
    pub fn new(core: Shared, runtime: Runtime, underlay: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((underlay, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { core, runtime, underlay: socket, pending: Pending::default() })
    }

    /// Asks about every flow in doubt whenever `changed` says that rules did, and about those that
    /// the programs name.
    pub async fn run(mut self, changed: Arc<Notify>, mut named: mpsc::Receiver<FlowKey>) -> io::Result<()> {
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (mut survey, mut again) = (false, false);
            let idle = self.pending.0.is_empty();
            tokio::select! {
                () = changed.notified() => survey = true,
                flow = named.recv() => match flow {
                    Some(flow) => self.pending.name(flow),
                    None => return Ok(()),
                },
                _ = retry.tick(), if !idle => again = true,
            }
            while let Ok(flow) = named.try_recv() {
                self.pending.name(flow);
            }
            // A table of 100,000 flows is as many system calls.
            let work = move || {
                if survey {
                    self.pending.begin(self.runtime.doubtful_flows());
                }
                self.round(again);
                self
            };
            self = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
            // Other flows' first questions postpone nobody's second.
            if idle || again {
                retry.reset();
            }
        }
    }

    /// Asks, and forgets the flows that have their verdict.
    fn round(&mut self, again: bool) {
        let cfg = match self.core.lock().store().planner.value(&Key::Cfg) {
            Some(Value::Cfg(cfg)) => cfg,
            _ => return self.pending.0.clear(),
        };
        let (runtime, underlay) = (&self.runtime, &self.underlay);
        self.pending.round(again, |flow, times| ask(runtime, underlay, &cfg, flow, times));
    }
}

/// Which of so many replicas is asked: another each time, and the first differs from flow to flow.
fn turn(key: &FlowKey, times: usize, of: usize) -> usize {
    (times + usize::from(key.lport ^ key.rport)) % of.max(1)
}

/// Asks about a flow; false if there is nothing to ask.
fn ask(runtime: &Runtime, underlay: &UdpSocket, cfg: &Cfg, key: &FlowKey, times: usize) -> bool {
    let Some((flow, ep)) = runtime.doubtful(key) else { return false };
    let bouncers = runtime.bouncers(ep.vni, &key.local);
    if bouncers.contains(&cfg.host) {
        // The programs ask their own tables.
        return false;
    }
    let Some(bouncer) = bouncers.get(turn(key, times, bouncers.len())) else { return true };
    let Some(question) = control::ask(cfg, key, &flow, &ep, *bouncer) else { return true };
    let to = SocketAddrV4::new((*bouncer).into(), GENEVE_PORT);
    if let Err(error) = underlay.send_to(&question, to) {
        tracing::debug!(%to, error = chain(&error), "a question about a flow could not be sent");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(lport: u16) -> FlowKey {
        FlowKey { lport, ..FlowKey::default() }
    }

    /// The questions of one round: about whom, and which of two replicas.
    fn asked(pending: &mut Pending, again: bool) -> Vec<(u16, usize)> {
        let mut asked = Vec::new();
        pending.round(again, |flow, times| {
            asked.push((flow.lport, turn(flow, times, 2)));
            true
        });
        asked
    }

    #[test]
    fn the_next_question_goes_to_the_other_replica_though_the_flow_is_named_again() {
        let mut pending = Pending::default();
        pending.name(flow(2));
        assert_eq!(asked(&mut pending, false), [(2, 1)]);
        pending.name(flow(2));
        assert_eq!(asked(&mut pending, false), [], "it waits for its turn");
        assert_eq!(asked(&mut pending, true), [(2, 0)]);
    }

    #[test]
    fn a_flow_that_is_named_costs_others_no_question() {
        let mut pending = Pending::default();
        pending.name(flow(2));
        for other in 3..100 {
            pending.name(flow(other));
            asked(&mut pending, false);
        }
        assert_eq!(pending.0[&flow(2)], 1);
    }

    #[test]
    fn after_so_many_questions_there_are_no_more_and_new_rules_begin_anew() {
        let mut pending = Pending::default();
        pending.begin([flow(2)]);
        for _ in 0..MOST {
            assert_eq!(asked(&mut pending, true).len(), 1);
        }
        assert_eq!(asked(&mut pending, true), []);
        assert!(pending.0.is_empty());
        pending.begin([flow(2)]);
        assert_eq!(asked(&mut pending, false).len(), 1);
    }
}
