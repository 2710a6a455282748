//! New flows without end from one endpoint to another, and when each of their packets arrived.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between packets; each opens a flow, or goes on with the steady ones.
const INTERVAL: Duration = Duration::from_millis(5);
/// Every so many packets begin a flow that goes on sending.
const STEADY_EVERY: u64 = 8;
/// For so long.
const STEADY_FOR: Duration = Duration::from_millis(600);

/// Flows under way.
#[derive(Debug)]
pub struct Flows {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<Vec<Sent>>>,
    receiver: JoinHandle<Result<BTreeMap<u64, Instant>>>,
}

/// A flow's first packet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    at: Instant,
    /// How much later than it should have been.
    late: Duration,
    steady: bool,
}

/// What became of them.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// First packets that never arrived.
    pub vanished: usize,
    /// From the first of these to the first after which all arrived.
    pub black_hole: Duration,
    /// The longest that a flow which goes on sending took to arrive.
    pub slowest: Duration,
    /// The sender's own worst delay.
    pub latest: Duration,
}

impl Flows {
    /// Starts sending; `to` answers, as most do: that a path works is learnt from answers.
    pub fn start(from: &Endpoint, at: &Endpoint, to: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let server = at.netns.enter(|| UdpSocket::bind(to))??;
        server.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stopped = stop.clone();
        let receiver = std::thread::spawn(move || receive(&server, &stopped));
        let (stopped, netns) = (stop.clone(), from.netns.clone());
        let sender = std::thread::spawn(move || netns.enter(|| send(to, &stopped))?);
        Ok(Self { stop, sender, receiver })
    }

    /// Ends them and judges those that began since shortly before `since`.
    pub fn stop(self, since: Instant) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let arrived = self.receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        judge(&sent, &arrived, since)
    }
}

fn receive(server: &UdpSocket, stop: &AtomicBool) -> Result<BTreeMap<u64, Instant>> {
    let mut arrived = BTreeMap::new();
    let mut number = [0; 8];
    loop {
        match server.recv_from(&mut number) {
            Ok((_, peer)) => {
                arrived.entry(u64::from_be_bytes(number)).or_insert_with(Instant::now);
                server.send_to(&number, peer)?;
            }
            // What was sent before the end has arrived by now if ever: it takes microseconds.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(arrived);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn send(to: SocketAddr, stop: &AtomicBool) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    let mut steady: Vec<(Instant, u64, UdpSocket)> = Vec::new();
    let start = Instant::now();
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = start + INTERVAL * u32::try_from(number).context("not sent for months")?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        steady.retain(|(since, _, _)| at.duration_since(*since) < STEADY_FOR);
        for (_, number, socket) in &steady {
            socket.send(&number.to_be_bytes())?;
        }
        // A socket of its own is a flow of its own.
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0))?;
        socket.connect(to)?;
        socket.send(&number.to_be_bytes())?;
        let is_steady = number % STEADY_EVERY == 0;
        if is_steady {
            steady.push((at, number, socket));
        }
        sent.push(Sent { number, at, late: at.saturating_duration_since(due), steady: is_steady });
    }
    Ok(sent)
}

fn judge(sent: &[Sent], arrived: &BTreeMap<u64, Instant>, since: Instant) -> Result<Seen> {
    // A packet under way at that moment may be the first to vanish.
    let since = since - INTERVAL;
    let (first, steady): (Vec<&Sent>, Vec<&Sent>) = sent.iter().partition(|sent| !sent.steady);
    let early = first.iter().filter(|sent| sent.at < since && !arrived.contains_key(&sent.number)).count();
    ensure!(early == 0, "{early} packets vanished before anything was lost");
    let later: Vec<_> = first.iter().filter(|sent| sent.at >= since).collect();
    let lost: Vec<_> = (0..later.len()).filter(|index| !arrived.contains_key(&later[*index].number)).collect();
    let black_hole = match (lost.first(), lost.last()) {
        (Some(begin), Some(end)) => {
            let after = later.get(end + 1).context("packets vanish to the end")?;
            after.at.duration_since(later[*begin].at)
        }
        _ => Duration::ZERO,
    };
    let end = sent.last().context("nothing was sent")?.at;
    let mut slowest = Duration::ZERO;
    for flow in steady.iter().filter(|flow| flow.at >= since && end.duration_since(flow.at) > STEADY_FOR / 2) {
        let at = arrived.get(&flow.number).context("a flow that went on sending never arrived")?;
        slowest = slowest.max(at.duration_since(flow.at));
    }
    let latest = sent.iter().map(|sent| sent.late).max().unwrap_or_default();
    Ok(Seen { vanished: lost.len(), black_hole, slowest, latest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_black_hole_reaches_from_the_first_loss_to_the_first_safe_packet() {
        let start = Instant::now();
        let at = |n: u64| start + INTERVAL * u32::try_from(n).expect("small");
        let sent: Vec<_> = (0..200)
            .map(|number| Sent { number, at: at(number), late: Duration::ZERO, steady: number % 8 == 0 })
            .collect();
        let mut arrived: BTreeMap<_, _> = sent.iter().map(|s| (s.number, s.at)).collect();
        for lost in [101, 103, 111] {
            arrived.remove(&lost);
        }
        arrived.insert(104, at(110));
        let seen = judge(&sent, &arrived, at(100)).expect("all is well");
        assert_eq!((seen.vanished, seen.black_hole, seen.slowest), (3, INTERVAL * 12, INTERVAL * 6));
        assert!(judge(&sent, &arrived, at(105)).is_err(), "losses before the moment are an error");
        arrived.remove(&199);
        assert!(judge(&sent, &arrived, at(100)).is_err(), "it never ended");
    }
}
