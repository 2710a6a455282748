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
    /// Flows in doubt, and how often was asked about them.
    asked: BTreeMap<FlowKey, usize>,
}

impl Confirmer {
    /// Over these.
    pub fn new(core: Shared, runtime: Runtime, underlay: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((underlay, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { core, runtime, underlay: socket, asked: BTreeMap::new() })
    }

    /// Asks about every flow in doubt whenever `changed` says that rules did, and about those that
    /// the programs name.
    pub async fn run(mut self, changed: Arc<Notify>, mut named: mpsc::Receiver<FlowKey>) -> io::Result<()> {
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut survey = false;
            tokio::select! {
                () = changed.notified() => survey = true,
                flow = named.recv() => match flow {
                    Some(flow) => drop(self.asked.insert(flow, 0)),
                    None => return Ok(()),
                },
                _ = retry.tick(), if !self.asked.is_empty() => {}
            }
            while let Ok(flow) = named.try_recv() {
                self.asked.insert(flow, 0);
            }
            // A table of 100,000 flows is as many system calls.
            let work = move || {
                if survey {
                    let doubtful = self.runtime.doubtful_flows();
                    self.asked.extend(doubtful.into_iter().map(|flow| (flow, 0)));
                }
                self.round();
                self
            };
            self = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
            retry.reset();
        }
    }

    /// Asks about each flow once, and forgets those that have their verdict.
    fn round(&mut self) {
        let cfg = match self.core.lock().store().planner.value(&Key::Cfg) {
            Some(Value::Cfg(cfg)) => cfg,
            _ => return self.asked.clear(),
        };
        let (runtime, underlay) = (&self.runtime, &self.underlay);
        self.asked.retain(|flow, times| {
            *times += 1;
            *times <= MOST && ask(runtime, underlay, &cfg, flow, *times)
        });
    }
}

/// Asks about a flow; false if there is nothing to ask.
fn ask(runtime: &Runtime, underlay: &UdpSocket, cfg: &Cfg, key: &FlowKey, times: usize) -> bool {
    let Some((flow, ep)) = runtime.doubtful(key) else { return false };
    let bouncers = runtime.bouncers(ep.vni, &key.local);
    if bouncers.contains(&cfg.host) {
        // The programs ask their own tables.
        return false;
    }
    // The first one asked differs from flow to flow.
    let turn = times + usize::from(key.lport ^ key.rport);
    let Some(bouncer) = bouncers.get(turn % bouncers.len().max(1)) else { return true };
    let Some(question) = control::ask(cfg, key, &flow, &ep, *bouncer) else { return true };
    let to = SocketAddrV4::new((*bouncer).into(), GENEVE_PORT);
    if let Err(error) = underlay.send_to(&question, to) {
        tracing::debug!(%to, error = chain(&error), "a question about a flow could not be sent");
    }
    true
}
