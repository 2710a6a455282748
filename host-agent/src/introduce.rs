//! Tells the hosts of other sides when a port here is in other groups.
//!
//! Who may be sent what, and who may go on sending, was decided by the groups that the port had. A port that
//! speaks shows its new ones by itself, but one that only listens does not; so an acknowledgement without a
//! packet goes to the host of every peer of its flows. There the programs decide again, or ask. Peers on
//! this host see it in the maps.
//!
//! Bouncers hear of the port's new groups at different moments, and are not asked about somebody whom
//! they do not know: that is why this waits as long as the programs do. Datagrams are lost, and nobody
//! acknowledges these: so all is said again, twice. And an agent may end between giving a port other groups
//! and telling of them; so the next one tells of all that got theirs lately.

use crate::clock;
use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use mizar_abi::GENEVE_PORT;
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
/// whose clock may be behind by a tick.
const TIMES: [Duration; 3] =
    [Duration::from_millis(SETTLE_MS as u64 + 20), Duration::from_secs(1), Duration::from_secs(3)];

/// Of ports that got other groups no longer ago than so, the former agent may not have told.
const LATELY: Duration = Duration::from_secs(60);

/// Ports to be told of: since when they have their groups, and how often it was done.
#[derive(Debug, Default)]
struct Agenda(BTreeMap<u32, (Instant, usize)>);

impl Agenda {
    /// These ports have other groups since then: what is known of them begins anew.
    fn add(&mut self, (since, ports): Introduction) {
        self.0.extend(ports.into_iter().map(|port| (port, (since, 0))));
    }

    /// When somebody is to be told of next.
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|(since, times)| *since + TIMES[*times]).min()
    }

    /// Those whose time has come by now.
    fn take(&mut self, now: Instant) -> BTreeSet<u32> {
        let mut due = BTreeSet::new();
        self.0.retain(|port, (since, times)| {
            if *since + TIMES[*times] <= now {
                due.insert(*port);
                // What is past already is not made up for.
                *times = TIMES.iter().filter(|after| *since + **after <= now).count();
            }
            *times < TIMES.len()
        });
        due
    }
}

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
        let mut agenda = Agenda::default();
        agenda.add((Instant::now(), self.runtime.regrouped(LATELY.as_millis() as u32, &clock::now())));
        loop {
            let next = agenda.next();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                more = regrouped.recv() => match more {
                    Some(more) => agenda.add(more),
                    None => return Ok(()),
                },
                () = due => {
                    // One walk through the flows for all whose time has come.
                    let ports = agenda.take(Instant::now());
                    let work = move || {
                        self.introduce(&ports);
                        self
                    };
                    self = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
                }
            }
        }
    }

    fn introduce(&self, ports: &BTreeSet<u32>) {
        let Some(Value::Cfg(cfg)) = self.core.lock().store().planner.value(&Key::Cfg) else { return };
        for (key, flow, ep) in self.runtime.peers(ports, cfg.host) {
            let Some(introduction) = control::acknowledge(&cfg, &key, &flow, &ep) else { return };
            let to = SocketAddrV4::new(flow.peer_host.into(), GENEVE_PORT);
            if let Err(error) = self.underlay.send_to(&introduction, to) {
                tracing::debug!(%to, error = chain(&error), "an introduction could not be sent");
            }
        }
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
    fn a_port_is_told_of_when_bouncers_may_know_it_and_twice_again() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add((start, BTreeSet::from([5, 6])));
        assert_eq!(told(&mut agenda, start, 600), [(520, vec![5, 6])]);
        // One of them gets other groups once more: nobody is told of those before their time.
        agenda.add((start + Duration::from_millis(700), BTreeSet::from([6])));
        let rest = told(&mut agenda, start, 10_000);
        let times = [(1_000, vec![5]), (1_220, vec![6]), (1_700, vec![6]), (3_000, vec![5]), (3_700, vec![6])];
        assert_eq!(rest, times);
        assert!(agenda.0.is_empty());
    }

    #[test]
    fn who_is_late_tells_once_of_what_is_past() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add((start, BTreeSet::from([5])));
        assert_eq!(agenda.take(start + Duration::from_secs(2)), BTreeSet::from([5]));
        assert_eq!(agenda.next(), Some(start + Duration::from_secs(3)));
        assert_eq!(agenda.take(start + Duration::from_secs(9)), BTreeSet::from([5]));
        assert_eq!(agenda.next(), None);
    }
}
