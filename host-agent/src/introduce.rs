//! Tells the hosts of other sides when a port here is in other groups.
//!
//! Who may be sent what, and who may go on sending, was decided by the groups that the port had. A port that
//! speaks shows its new ones by itself, but one that only listens does not; so an acknowledgement without a
//! packet goes to the host of every peer of its flows. There the programs decide again, or ask. Peers on
//! this host see it in the maps.
//!
//! Bouncers hear of the port's new groups at different moments, and are not asked about somebody whom
//! they do not know: that is why this waits as long as the programs do.

use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use mizar_abi::GENEVE_PORT;
use mizar_packet::policy::SETTLE_MS;
use mizar_plan::{Key, Value};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Ports that got other groups, and when.
pub type Introduction = (Instant, BTreeSet<u32>);

/// Some milliseconds later than the programs, whose clock may be behind by a tick.
const SETTLE: Duration = Duration::from_millis(SETTLE_MS as u64 + 20);

/// Who tells.
pub struct Introducer {
    core: Shared,
    runtime: Runtime,
    underlay: UdpSocket,
}

impl Introducer {
    /// Over these.
    pub fn new(core: Shared, runtime: Runtime, underlay: Ipv4Addr) -> io::Result<Self> {
        Ok(Self { core, runtime, underlay: UdpSocket::bind((underlay, 0))? })
    }

    /// Introduces ports for ever.
    pub async fn run(mut self, mut regrouped: mpsc::UnboundedReceiver<Introduction>) -> io::Result<()> {
        let mut next = None;
        loop {
            let Some((at, mut ports)) = (match next.take() {
                Some(introduction) => Some(introduction),
                None => regrouped.recv().await,
            }) else {
                return Ok(());
            };
            tokio::time::sleep_until((at + SETTLE).into()).await;
            // One walk through the flows for all whose time has come.
            while let Ok((at, more)) = regrouped.try_recv() {
                if at.elapsed() < SETTLE {
                    next = Some((at, more));
                    break;
                }
                ports.extend(more);
            }
            let work = move || {
                self.introduce(&ports);
                self
            };
            self = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
        }
    }

    fn introduce(&self, ports: &BTreeSet<u32>) {
        let (cfg, endpoints) = {
            let core = self.core.lock();
            let planner = &core.store().planner;
            let Some(Value::Cfg(cfg)) = planner.value(&Key::Cfg) else { return };
            let endpoint = |port: &u32| match planner.value(&Key::Ep(*port)) {
                Some(Value::Ep(ep)) => Some((*port, ep)),
                _ => None,
            };
            (cfg, ports.iter().filter_map(endpoint).collect())
        };
        for (key, flow, ep) in self.runtime.peers(&endpoints, cfg.host) {
            let Some(introduction) = control::acknowledge(&cfg, &key, &flow, &ep) else { return };
            let to = SocketAddrV4::new(flow.peer_host.into(), GENEVE_PORT);
            if let Err(error) = self.underlay.send_to(&introduction, to) {
                tracing::debug!(%to, error = chain(&error), "an introduction could not be sent");
            }
        }
    }
}
