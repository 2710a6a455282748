//! Traffic between namespaces: what the demo and the tests try.
//!
//! Both ends are sockets of this process, opened inside the namespaces, so that an exchange can
//! say with whom it spoke: a listener answers with a banner of its own, and a connection that
//! reaches another tenant's listener at the same address is told from one that reaches its own.
//! ICMP is left to `ping`, whose judgement is independent of ours.

use super::netns::Netns;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What `ping` saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pings {
    /// Requests.
    pub sent: u64,
    /// Answers.
    pub received: u64,
    /// Answers that came twice.
    pub duplicates: u64,
    /// Requests at the end that had no answer yet when a stream was stopped.
    pub open: u64,
    /// ICMP errors that came instead, each once.
    pub errors: Vec<String>,
    /// Average round trip.
    pub rtt: Option<Duration>,
}

impl Pings {
    /// Every request was answered once.
    pub fn all_answered(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0
    }

    /// Every request of a stream was answered once, but for the last ones: `ping` ends at once when
    /// it is told to, and on a busy machine it may have answers to read by then.
    pub fn nothing_lost(&self) -> bool {
        const READING: u64 = 100;
        self.received > 0 && self.received + self.open == self.sent && self.open <= READING && self.duplicates == 0
    }

    /// As [`Self::parse`], of a stream that shows every answer.
    fn parse_stream(text: &str) -> Result<Self> {
        let mut pings = Self::parse(text)?;
        // The number in a packet has 16 bits.
        let mut highest = 0u64;
        for line in text.lines() {
            let number = line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
            let (Some(number), true) = (number, line.contains("bytes from")) else { continue };
            let near = (highest & !0xffff) | number;
            highest = highest.max(if near + 0x8000 < highest { near + 0x1_0000 } else { near });
        }
        pings.open = pings.sent.saturating_sub(highest);
        Ok(pings)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut pings = Self::default();
        let mut complete = false;
        for line in text.lines() {
            if let Some((sent, rest)) = line.split_once(" packets transmitted, ") {
                pings.sent = sent.trim().parse()?;
                for part in rest.split(", ") {
                    let mut words = part.split(' ');
                    let number = words.next().unwrap_or_default();
                    match words.next() {
                        Some("received") => (pings.received, complete) = (number.parse()?, true),
                        Some(word) if word.starts_with('+') => {}
                        _ if part.ends_with(" duplicates") => {
                            pings.duplicates = number.trim_start_matches('+').parse()?;
                        }
                        _ => {}
                    }
                }
            } else if let Some(times) = line.strip_prefix("rtt min/avg/max/mdev = ") {
                let average = times.split('/').nth(1).and_then(|ms| ms.parse::<f64>().ok());
                pings.rtt = average.map(|ms| Duration::from_secs_f64(ms / 1e3));
            } else if let Some((_, error)) = line.strip_prefix("From ").and_then(|l| l.split_once(' '))
                && line.contains("icmp_seq")
            {
                let error = error.split_once(' ').map_or(error, |(_, what)| what).to_owned();
                if !pings.errors.contains(&error) {
                    pings.errors.push(error);
                }
            }
        }
        ensure!(complete, "ping said: {}", text.trim());
        Ok(pings)
    }
}

/// How to ping.
#[derive(Clone, Debug)]
pub struct PingOptions {
    /// Requests.
    pub count: u32,
    /// Between them.
    pub interval: Duration,
    /// Payload bytes.
    pub size: u32,
    /// Wait for the last answer.
    pub patience: Duration,
    /// Further arguments.
    pub more: Vec<String>,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self { count: 3, interval: Duration::from_millis(20), size: 56, patience: Duration::from_secs(3), more: vec![] }
    }
}

/// Pings from `netns`.
pub fn ping(netns: &Netns, to: IpAddr, options: &PingOptions) -> Result<Pings> {
    let mut command = netns.command("ping")?;
    command
        .arg("-n")
        .args(["-c", &options.count.to_string()])
        .args(["-i", &options.interval.as_secs_f64().to_string()])
        .args(["-s", &options.size.to_string()])
        .args(["-W", &options.patience.as_secs_f64().to_string()])
        .args(&options.more)
        .arg(to.to_string());
    let output = command.stdin(Stdio::null()).output().context("cannot run ping (package iputils-ping)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Pings::parse(&text)
}

/// A `ping` that runs until it is asked for its result.
#[derive(Debug)]
pub struct PingStream {
    child: Child,
    reader: Option<JoinHandle<std::io::Result<String>>>,
}

impl PingStream {
    /// Starts pinging every `interval`.
    pub fn start(netns: &Netns, to: IpAddr, interval: Duration) -> Result<Self> {
        let mut child = netns
            .command("ping")?
            .args(["-n", "-W", "1", "-i", &interval.as_secs_f64().to_string()])
            .arg(to.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run ping (package iputils-ping)")?;
        let mut output = child.stdout.take().expect("piped above");
        // It would stop at a full pipe.
        let read = move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        };
        Ok(Self { child, reader: Some(std::thread::spawn(read)) })
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<Pings> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        let reader = self.reader.take().expect("taken only here");
        Pings::parse_stream(&reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    }
}

impl Drop for PingStream {
    fn drop(&mut self) {
        // After `stop` both fail, which is right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP server in a namespace that says who it is, then echoes.
#[derive(Debug)]
pub struct TcpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl TcpServer {
    /// Listens; each connection gets `banner` and a line end, then its own bytes back.
    pub fn start(netns: &Netns, address: SocketAddr, banner: &str) -> Result<Self> {
        let listener =
            netns.enter(|| TcpListener::bind(address))?.with_context(|| format!("cannot listen at {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, banner) = (stop.clone(), format!("{banner}\n"));
        let thread = std::thread::spawn(move || accept(&listener, &banner, &stopped));
        Ok(Self { stop, thread: Some(thread), address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server has printed itself; a panic in drop would hide the test's.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, banner: &str, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || echo(stream, banner, stop));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => return,
            }
        }
    });
}

fn echo(mut stream: TcpStream, banner: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let set_up = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_millis(100))))
        .and_then(|()| stream.write_all(banner.as_bytes()));
    if set_up.is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// Connects from a namespace.
pub fn connect(netns: &Netns, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let stream = netns.enter(|| TcpStream::connect_timeout(&to, patience))??;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// The line with which the server introduces itself.
pub fn read_banner(stream: &mut TcpStream) -> Result<String> {
    let mut banner = Vec::new();
    let mut byte = [0];
    while banner.len() < 256 {
        stream.read_exact(&mut byte).context("no banner")?;
        if byte[0] == b'\n' {
            return Ok(String::from_utf8(banner)?);
        }
        banner.push(byte[0]);
    }
    bail!("the banner does not end");
}

/// One TCP exchange from `netns`: connects, reads the banner, sends `size` bytes and wants the
/// same back. The banner says who answered.
pub fn tcp_exchange(netns: &Netns, to: SocketAddr, size: usize, patience: Duration) -> Result<String> {
    let mut stream = connect(netns, to, patience)?;
    let banner = read_banner(&mut stream)?;
    let sent: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
    let mut writer = stream.try_clone()?;
    let received = std::thread::scope(|scope| {
        let writing = scope.spawn(|| writer.write_all(&sent));
        let mut received = vec![0; size];
        let read = stream.read_exact(&mut received);
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        read.map(|()| received)
    })
    .context("the exchange broke off")?;
    ensure!(received == sent, "other bytes came back than were sent");
    Ok(banner)
}

/// One UDP exchange: a request from `from`, echoed with the banner by a socket at `to` in `server`.
pub fn udp_exchange(from: &Netns, server: &Netns, to: SocketAddr, patience: Duration) -> Result<()> {
    let listening = server.enter(|| UdpSocket::bind(to))??;
    listening.set_read_timeout(Some(patience))?;
    let client = from.enter(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0))?;
        socket.connect(to)?;
        Ok(socket)
    })??;
    client.set_read_timeout(Some(patience))?;
    let mut buffer = [0; 64];
    client.send(b"request")?;
    let (length, peer) = listening.recv_from(&mut buffer).context("the request did not arrive")?;
    ensure!(&buffer[..length] == b"request", "another request arrived than was sent");
    listening.send_to(b"answer", peer)?;
    let length = client.recv(&mut buffer).context("the answer did not arrive")?;
    ensure!(&buffer[..length] == b"answer", "another answer arrived than was sent");
    Ok(())
}

/// A long TCP connection that keeps exchanging numbered messages.
#[derive(Debug)]
pub struct TcpStreaming {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU64>,
    thread: JoinHandle<Result<Streamed>>,
}

/// What a long connection went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The longest time that one message took.
    pub longest: Duration,
    /// Segments that were sent again and had not arrived before: the kernel's count, without those
    /// that it repeated only because an acknowledgement was late.
    pub lost: u32,
}

impl TcpStreaming {
    /// Connects from `netns` to an echoing [`TcpServer`] and starts.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let mut stream = connect(netns, to, Duration::from_secs(20))?;
        read_banner(&mut stream)?;
        let stop = Arc::new(AtomicBool::new(false));
        let exchanged = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (stop.clone(), exchanged.clone());
        let thread = std::thread::spawn(move || exchange_until(&mut stream, &stopped, &counter));
        Ok(Self { stop, exchanged, thread })
    }

    /// Messages that came back so far.
    pub fn exchanged(&self) -> u64 {
        self.exchanged.load(Ordering::Relaxed)
    }

    /// Ends it; what it went through, or why it broke.
    pub fn stop(self) -> Result<Streamed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn exchange_until(stream: &mut TcpStream, stop: &AtomicBool, counter: &AtomicU64) -> Result<Streamed> {
    let mut longest = Duration::ZERO;
    let mut message = vec![0; 4096];
    let mut answer = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let number = counter.load(Ordering::Relaxed);
        message[..8].copy_from_slice(&number.to_be_bytes());
        let start = Instant::now();
        stream.write_all(&message).with_context(|| format!("message {number} could not be sent"))?;
        stream.read_exact(&mut answer).with_context(|| format!("message {number} did not come back"))?;
        ensure!(answer == message, "message {number} came back changed");
        longest = longest.max(start.elapsed());
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(Streamed { longest, lost: lost_segments(stream)? })
}

fn lost_segments(stream: &TcpStream) -> Result<u32> {
    // Of the kernel's `struct tcp_info`, which only ever grows: `tcpi_total_retrans` and
    // `tcpi_dsack_dups` (repeated, and acknowledged as seen before).
    const TOTAL_RETRANS: usize = 100;
    const DSACK_DUPS: usize = 216;
    let mut info = [0u8; 224];
    let mut length = u32::try_from(info.len())?;
    // SAFETY: the kernel writes at most `length` bytes of the buffer.
    let done = unsafe {
        let (buffer, length) = (info.as_mut_ptr().cast(), &raw mut length);
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, buffer, length)
    };
    if done < 0 {
        return Err(std::io::Error::last_os_error()).context("the kernel tells nothing about the connection");
    }
    ensure!(length as usize > DSACK_DUPS, "this kernel does not count repetitions that were not needed");
    let at = |offset: usize| u32::from_ne_bytes([info[offset], info[offset + 1], info[offset + 2], info[offset + 3]]);
    Ok(at(TOTAL_RETRANS).saturating_sub(at(DSACK_DUPS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_of_ping_is_read() {
        let text = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\n--- 10.0.0.2 ping statistics ---\n\
                    3 packets transmitted, 3 received, 0% packet loss, time 41ms\n\
                    rtt min/avg/max/mdev = 0.024/0.050/0.095/0.031 ms\n";
        let pings = Pings::parse(text).expect("as ping prints it");
        assert!(pings.all_answered());
        assert_eq!(pings.rtt, Some(Duration::from_micros(50)));
    }

    #[test]
    fn a_loss_in_a_stream_is_told_from_what_was_under_way_at_its_end() {
        let stream = |answers: &[u16], sent: u64| {
            let lines: String =
                answers.iter().map(|n| format!("64 bytes from 10.0.0.2: icmp_seq={n} ttl=64 time=0.02 ms\n")).collect();
            let end = format!("{sent} packets transmitted, {} received, 0% packet loss, time 41ms\n", answers.len());
            Pings::parse_stream(&(lines + &end)).expect("as ping prints it")
        };
        assert!(stream(&[1, 2, 3], 3).nothing_lost());
        assert!(stream(&[1, 3, 2], 5).nothing_lost(), "the last two are under way");
        assert!(!stream(&[1, 3], 3).nothing_lost(), "the second is lost");
        assert!(!stream(&[1, 2, 3], 200).nothing_lost(), "answers ended long before the stream");
        assert!(!stream(&[], 3).nothing_lost());
        let wrapped: Vec<u16> = (1..=70_000u32).map(|n| n as u16).collect();
        assert!(stream(&wrapped, 70_001).nothing_lost());
        assert!(!stream(&wrapped, 70_200).nothing_lost());
    }

    #[test]
    fn losses_errors_and_duplicates_are_read() {
        let text = "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable\n\
                    From 10.0.0.1 icmp_seq=2 Destination Host Unreachable\n\
                    4 packets transmitted, 1 received, +1 duplicates, +2 errors, 75% packet loss, time 41ms\n";
        let pings = Pings::parse(text).expect("as ping prints it");
        assert_eq!((pings.sent, pings.received, pings.duplicates), (4, 1, 1));
        assert_eq!(pings.errors, ["Destination Host Unreachable"]);
        assert!(!pings.all_answered());
    }

    #[test]
    fn a_ping_that_never_started_is_an_error_with_its_words() {
        let error = Pings::parse("ping: connect: Network is unreachable\n").expect_err("no statistics");
        assert!(error.to_string().contains("Network is unreachable"));
    }
}
