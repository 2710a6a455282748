//! Streams of numbered datagrams, and who of them arrived when.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::{endpoint::Endpoint, process::wait_until};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Between two datagrams of a stream.
const INTERVAL: Duration = Duration::from_millis(1);
/// Every so many datagrams one is answered: that a path works is learnt from answers.
const ANSWERED: u64 = 16;
/// A reader that sees nothing for so long looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(300);
/// Room for seconds of all streams: what is counted is the network's loss, not a socket's.
const BUFFER: usize = 16 << 20;
/// Bytes of payload.
const LENGTH: usize = 64;

/// What is known of a stream while it runs.
#[derive(Debug)]
struct Progress {
    start: Instant,
    sent: AtomicU64,
    arrived: AtomicU64,
    /// Nanoseconds since `start`.
    last: AtomicU64,
}

/// A stream to be: who sends, and where to.
pub struct Plan<'a> {
    /// In the table.
    pub name: String,
    /// The sender.
    pub from: &'a Endpoint,
    /// Port of the server.
    pub port: u16,
}

/// Streams under way to one server.
pub struct Traffic {
    names: Vec<String>,
    streams: Arc<Vec<Progress>>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
    /// Nothing is sent any more.
    ended: Arc<AtomicBool>,
    receivers: Vec<JoinHandle<Result<Vec<Numbers>>>>,
}

/// Which numbers of a stream arrived, and how many did more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    seen: Vec<bool>,
    again: usize,
}

impl Numbers {
    fn insert(&mut self, number: u64) {
        // A number of 64 bits that is none of ours would be an allocation of as much.
        let Ok(at) = usize::try_from(number & u64::from(u32::MAX)) else { return };
        if at >= self.seen.len() {
            self.seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.seen[at], true) {
            self.again += 1;
        }
    }

    fn missing(&self, from: u64, to: u64) -> usize {
        (from..to).filter(|at| !self.seen.get(*at as usize).copied().unwrap_or_default()).count()
    }
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// Its name.
    pub name: String,
    /// Since it was counted.
    pub sent: u64,
    /// Of these.
    pub lost: usize,
    /// Arrived more than once.
    pub again: usize,
}

impl Traffic {
    /// Starts all of them.
    pub fn start(server: &Endpoint, plans: &[Plan<'_>]) -> Result<Self> {
        let start = Instant::now();
        let fresh = || Progress { start, sent: AtomicU64::new(0), arrived: AtomicU64::new(0), last: AtomicU64::new(0) };
        let streams: Arc<Vec<Progress>> = Arc::new(plans.iter().map(|_| fresh()).collect());
        let address = server.address()?;
        let mut ports: Vec<u16> = plans.iter().map(|plan| plan.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let ended = Arc::new(AtomicBool::new(false));
        let mut receivers = Vec::new();
        for port in ports {
            let socket = server.netns.enter(|| UdpSocket::bind((address, port)))??;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("a larger buffer")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let (ended, streams) = (ended.clone(), streams.clone());
            receivers.push(std::thread::spawn(move || receive(&socket, &streams, &ended)));
        }
        let mut sockets = Vec::new();
        for plan in plans {
            // Not connected: errors about datagrams that nobody wants are not for their sender.
            let socket = plan.from.netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
            sockets.push((socket, SocketAddr::new(address, plan.port)));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, progress) = (stop.clone(), streams.clone());
        let sender = std::thread::spawn(move || send(&sockets, &progress, &stopped));
        Ok(Self {
            names: plans.iter().map(|plan| plan.name.clone()).collect(),
            streams,
            stop,
            sender,
            ended,
            receivers,
        })
    }

    /// How many datagrams of a stream were sent.
    pub fn sent(&self, stream: usize) -> u64 {
        self.streams[stream].sent.load(Ordering::Relaxed)
    }

    /// How many of them arrived.
    pub fn arrived(&self, stream: usize) -> u64 {
        self.streams[stream].arrived.load(Ordering::Acquire)
    }

    /// When the last one did.
    pub fn last(&self, stream: usize) -> Instant {
        let progress = &self.streams[stream];
        progress.start + Duration::from_nanos(progress.last.load(Ordering::Acquire))
    }

    /// Waits until `count` more have arrived; how long that took.
    pub fn flows(&self, stream: usize, count: u64, patience: Duration) -> Result<Duration> {
        let before = self.arrived(stream);
        let waited = wait_until(patience, || self.arrived(stream) >= before + count);
        let name = &self.names[stream];
        waited.with_context(|| format!("{name}: not {count} datagrams within {} s", patience.as_secs()))
    }

    /// Ends all; those from `counted[i]` on of each stream named there are judged.
    pub fn stop(self, counted: &[(usize, u64)]) -> Result<Vec<Stayed>> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut arrived = vec![Numbers::default(); self.names.len()];
        self.ended.store(true, Ordering::Relaxed);
        for receiver in self.receivers {
            let seen = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            for (all, here) in arrived.iter_mut().zip(seen) {
                if !here.seen.is_empty() {
                    *all = here;
                }
            }
        }
        let judged = counted.iter().map(|(stream, from)| {
            let to = self.streams[*stream].sent.load(Ordering::Relaxed);
            Stayed {
                name: self.names[*stream].clone(),
                sent: to.saturating_sub(*from),
                lost: arrived[*stream].missing(*from, to),
                again: arrived[*stream].again,
            }
        });
        Ok(judged.collect())
    }
}

/// Keeps to its times: what a busy machine delayed is sent at once.
fn send(sockets: &[(UdpSocket, SocketAddr)], streams: &[Progress], stop: &AtomicBool) -> Result<()> {
    let mut next = Instant::now();
    let mut datagram = [0; LENGTH];
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        for (stream, ((socket, to), progress)) in sockets.iter().zip(streams).enumerate() {
            datagram[8] = u8::try_from(stream)?;
            socket.send_to(&datagram, to).context("a datagram cannot be sent")?;
            progress.sent.store(number + 1, Ordering::Relaxed);
        }
        next += INTERVAL;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Until it is told to end and nothing comes any more.
fn receive(socket: &UdpSocket, streams: &[Progress], ended: &AtomicBool) -> Result<Vec<Numbers>> {
    let mut numbers = vec![Numbers::default(); streams.len()];
    let mut datagram = [0; LENGTH];
    loop {
        match socket.recv_from(&mut datagram) {
            Ok((length, peer)) => {
                let now = Instant::now();
                ensure!(length == LENGTH, "a datagram of {length} bytes from {peer} is none of ours");
                let number = u64::from_be_bytes(datagram[..8].try_into()?);
                let stream = usize::from(datagram[8]);
                let progress = streams.get(stream).context("a datagram of no stream")?;
                numbers[stream].insert(number);
                let since = u64::try_from((now - progress.start).as_nanos())?;
                progress.last.store(since, Ordering::Release);
                progress.arrived.fetch_add(1, Ordering::Release);
                if number % ANSWERED == 0 {
                    socket.send_to(&datagram, peer).context("an answer cannot be sent")?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if ended.load(Ordering::Relaxed) {
                    return Ok(numbers);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_counted_and_what_came_twice() {
        let mut numbers = Numbers::default();
        for number in [0, 1, 3, 4, 4, 9] {
            numbers.insert(number);
        }
        assert_eq!(numbers.missing(0, 5), 1);
        assert_eq!(numbers.missing(3, 5), 0);
        // The last of all may be what was lost.
        assert_eq!(numbers.missing(9, 12), 2);
        assert_eq!(numbers.again, 1);
    }
}
