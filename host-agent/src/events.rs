//! What the programs tell: DHCP questions, flows that nobody acknowledges, and flows that nobody
//! confirms.

use crate::confirm::Named;
use crate::control;
use crate::core::{Shared, chain};
use crate::dataplane::raw_event;
use crate::dataplane::runtime::Runtime;
use crate::dhcp::{self, Silence};
use crate::seeing::watch::Watches;
use aya::maps::{MapData, RingBuf};
use mizar_abi::GENEVE_PORT;
use mizar_abi::maps::{Event, EventKind};
use mizar_plan::{Key, Value};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Questions of one port and kind that are answered in a second: an endpoint must not keep the
/// agent busy, and one that floods DHCP must not lose the acknowledgements of its flows.
const PER_SECOND: u32 = 10;

/// Sends whole frames out of an interface.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// A socket that receives nothing.
    pub fn open() -> io::Result<Self> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Sends a frame, as if the interface's host had.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: frame and address outlive the call, and their sizes are theirs.
        let sent = unsafe {
            libc::sendto(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Counts questions of ports, by kind, in a second.
#[derive(Debug)]
struct Limit {
    second: Instant,
    counts: BTreeMap<(u32, u32), u32>,
}

impl Limit {
    fn allows(&mut self, port: u32, kind: u32) -> bool {
        if self.second.elapsed().as_secs() >= 1 {
            (self.second, self.counts) = (Instant::now(), BTreeMap::new());
        }
        let count = self.counts.entry((port, kind)).or_default();
        *count += 1;
        *count <= PER_SECOND
    }
}

/// Answers the programs' events.
pub struct Responder {
    core: Shared,
    runtime: Runtime,
    frames: FrameSocket,
    underlay: UdpSocket,
    /// Where flows go that nobody confirms.
    unconfirmed: mpsc::Sender<Named>,
    watches: Watches,
    limit: Limit,
}

impl Responder {
    /// Over these.
    pub fn new(
        core: Shared,
        runtime: Runtime,
        underlay: Ipv4Addr,
        unconfirmed: mpsc::Sender<Named>,
        watches: Watches,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((underlay, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            core,
            runtime,
            unconfirmed,
            watches,
            frames: FrameSocket::open()?,
            underlay: socket,
            limit: Limit { second: Instant::now(), counts: BTreeMap::new() },
        })
    }

    /// Reads the ring for ever.
    pub async fn run(mut self, ring: RingBuf<MapData>) -> io::Result<()> {
        // SAFETY: the ring owns its file descriptor, and keeps it as long as it lives.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let mut ring = registered.map_err(io::Error::from)?;
        loop {
            let mut ready = ring.readable_mut().await?;
            // A bounded batch: whoever floods the ring must not keep the agent from its other work.
            let mut left = 64;
            while left > 0
                && let Some(item) = ready.get_inner_mut().next()
            {
                left -= 1;
                if let Some(event) = raw_event(&item) {
                    self.handle(&event);
                }
            }
            if left > 0 {
                ready.clear_ready();
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    fn handle(&mut self, event: &Event) {
        if event.kind == EventKind::Unconfirmed as u32 {
            // A full queue loses it: the flow's next packet raises it again.
            let _ = self.unconfirmed.try_send((event.ep_id, event.flow));
            return;
        }
        if event.kind == EventKind::Traced as u32 {
            // Paced where they are raised, all together.
            return self.watches.heard(event);
        }
        if !self.limit.allows(event.ep_id, event.kind) {
            return;
        }
        match event.kind {
            kind if kind == EventKind::Dhcp as u32 => self.dhcp(event),
            kind if kind == EventKind::NeedAck as u32 => self.acknowledge(event),
            kind => tracing::debug!(kind, port = event.ep_id, reason = event.reason, "event"),
        }
    }

    fn dhcp(&self, event: &Event) {
        let frame = event.frame.get(..event.len as usize).unwrap_or_default();
        let (endpoint, ifindex) = {
            let core = self.core.lock();
            let planner = &core.store().planner;
            let Some(port) = planner.port_by_number(event.ep_id) else { return };
            let Some(wiring) = planner.wirings().get(&event.ep_id) else { return };
            (planner.endpoint(port.id), wiring.ifindex)
        };
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(reason) => return tracing::debug!(port = event.ep_id, reason, "DHCP question of an incomplete port"),
        };
        match dhcp::answer(&endpoint, frame) {
            Ok(answer) => match self.frames.send(ifindex, &answer) {
                Ok(()) => tracing::debug!(port = %endpoint.port, "DHCP question answered"),
                Err(error) => tracing::warn!(port = %endpoint.port, %error, "a DHCP answer could not be sent"),
            },
            Err(silence @ Silence::NoAnswer("DHCPDECLINE")) => {
                tracing::warn!(port = %endpoint.port, reason = %silence, "the endpoint declined its address");
            }
            Err(silence) => tracing::debug!(port = %endpoint.port, reason = %silence, "DHCP question not answered"),
        }
    }

    fn acknowledge(&self, event: &Event) {
        let (cfg, ep) = {
            let core = self.core.lock();
            let planner = &core.store().planner;
            match (planner.value(&Key::Cfg), planner.value(&Key::Ep(event.ep_id))) {
                (Some(Value::Cfg(cfg)), Some(Value::Ep(ep))) => (cfg, ep),
                _ => return,
            }
        };
        let Some(flow) = self.runtime.flow(&event.flow) else { return };
        let Some(ack) = control::acknowledge(&cfg, &event.flow, &flow, &ep) else { return };
        let to = SocketAddrV4::new(flow.peer_host.into(), GENEVE_PORT);
        if let Err(error) = self.underlay.send_to(&ack, to) {
            tracing::debug!(%to, %error, "an acknowledgement could not be sent");
        }
    }
}

/// Probes transit hosts for ever.
pub async fn probe(core: Shared, mut runtime: Runtime, underlay: Ipv4Addr) -> io::Result<()> {
    use crate::clock;
    use crate::probe::Prober;
    use std::time::Duration;
    const LOOK: Duration = Duration::from_millis(25);
    /// Shard maps change seldom, and reading them takes a system call an entry.
    const REFRESH: Duration = Duration::from_secs(1);
    /// A host that was just given its role and asked already may be lost as soon.
    const REFRESH_UNKNOWN: Duration = Duration::from_millis(50);

    let socket = UdpSocket::bind((underlay, 0))?;
    socket.set_nonblocking(true)?;
    let mut prober = Prober::default();
    let mut transit = runtime.transit_hosts();
    let mut refreshed = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut busy = true;
    loop {
        tick.tick().await;
        let pending = runtime.pending();
        let unknown = pending.iter().any(|(address, _)| !transit.contains_key(address));
        let old = if unknown { REFRESH_UNKNOWN } else { REFRESH };
        if refreshed.elapsed() >= old && (busy || !pending.is_empty()) {
            (transit, refreshed) = (runtime.transit_hosts(), Instant::now());
        } else if unknown || (pending.is_empty() && !busy) {
            // Nothing to judge, or nothing to judge by, yet.
            continue;
        }
        let dead = runtime.dead();
        let verdict = prober.judge(&clock::now(), &pending, &transit, &dead);
        busy = !pending.is_empty() || !dead.is_empty();
        for (number, dead) in verdict.turned {
            if dead {
                tracing::warn!(host = number, "a transit host does not answer; senders here avoid it");
            } else {
                tracing::info!(host = number, "a transit host is used again");
            }
            if let Err(error) = runtime.set_dead(number, dead) {
                tracing::error!(host = number, error = chain(&error), "a transit host's state could not be written");
            }
        }
        for address in verdict.forget {
            if let Err(error) = runtime.forget_pending(address) {
                tracing::error!(error = chain(&error), "a transit host could not be forgotten");
            }
        }
        if verdict.probe.is_empty() {
            continue;
        }
        let Some(Value::Cfg(cfg)) = core.lock().store().planner.value(&Key::Cfg) else { continue };
        for address in verdict.probe {
            let Some(datagram) = control::probe(&cfg, address, rand::random()) else { break };
            let to = SocketAddrV4::new(address.into(), GENEVE_PORT);
            // Unreachable is what a probe is to find out.
            if let Err(error) = socket.send_to(&datagram, to) {
                tracing::debug!(%to, %error, "a probe could not be sent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_leaves_other_kinds_and_ports_alone() {
        let mut limit = Limit { second: Instant::now(), counts: BTreeMap::new() };
        let (dhcp, ack) = (EventKind::Dhcp as u32, EventKind::NeedAck as u32);
        let answered = (0..50).filter(|_| limit.allows(5, dhcp)).count();
        assert_eq!(answered, PER_SECOND as usize);
        assert!(limit.allows(5, ack) && limit.allows(6, dhcp));
    }
}
