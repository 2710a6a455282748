//! UDP between endpoints: packets are counted, and never sent twice.

use super::host::Namespace;
use super::{until, world};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is not back after so long is lost: a loaded machine is slower than one would think.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket of an endpoint.
pub fn socket(inside: &Namespace, number: u32, port: u16) -> UdpSocket {
    let at = SocketAddr::new(world::address(number), port);
    let socket = inside.run(move || UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A UDP echo of an endpoint; ends when nobody has asked for half a minute.
pub fn echo(inside: &Namespace, number: u32) {
    let socket = socket(inside, number, 7);
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            if socket.send_to(&bytes[..len], from).is_err() {
                break;
            }
        }
    });
}

pub fn client(inside: &Namespace, number: u32) -> UdpSocket {
    socket(inside, number, 0)
}

/// Sends once, without a retry: returns whether it came back.
pub fn ping(socket: &UdpSocket, to: u32, text: &str) -> bool {
    socket.send_to(text.as_bytes(), SocketAddr::new(world::address(to), 7)).unwrap();
    let mut bytes = [0; 100];
    socket.recv(&mut bytes).is_ok_and(|len| &bytes[..len] == text.as_bytes())
}

/// A stream to one who need not say anything, of a packet each millisecond, whoever refuses it.
pub struct Pushing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pushing {
    pub fn start(from: UdpSocket, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        let push = move || {
            while !theirs.load(Ordering::Relaxed) {
                // What was refused is told by an error of the next packet.
                let _ = from.send_to(b"news", to);
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Self { stop, thread: std::thread::spawn(push) }
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    arrived: AtomicUsize,
    lost: Mutex<Vec<usize>>,
}

/// Traffic that goes on until the test ends it.
pub struct Traffic {
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl Traffic {
    fn start(work: impl FnOnce(&Progress) + Send + 'static) -> Self {
        let progress = Arc::new(Progress::default());
        let theirs = progress.clone();
        let traffic = Self { progress, thread: std::thread::spawn(move || work(&theirs)) };
        traffic.goes_on();
        traffic
    }

    /// One ping after the other, to an endpoint that echoes. One in a hundred begins a new flow: far
    /// fewer than a port may begin in a second.
    pub fn pings(from: Arc<Namespace>, number: u32, to: u32) -> Self {
        let steady = client(&from, number);
        Self::start(move |progress| {
            for n in 0.. {
                if progress.stop.load(Ordering::Relaxed) {
                    return;
                }
                let fresh = (n % 100 == 99).then(|| client(&from, number));
                if ping(fresh.as_ref().unwrap_or(&steady), to, &format!("ping {n}")) {
                    progress.arrived.fetch_add(1, Ordering::Relaxed);
                } else {
                    progress.lost.lock().unwrap().push(n);
                }
            }
        })
    }

    /// A stream that nobody answers, of a packet each millisecond.
    pub fn stream(from: &Namespace, number: u32, into: &Namespace, to: u32) -> Self {
        let (source, sink) = (client(from, number), socket(into, to, 9));
        sink.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self::start(move |progress| {
            let (sent, mut seen) = std::thread::scope(|threads| {
                let sender = threads.spawn(|| {
                    let mut sent = 0_usize;
                    while !progress.stop.load(Ordering::Relaxed) {
                        source.send_to(&sent.to_be_bytes(), SocketAddr::new(world::address(to), 9)).unwrap();
                        sent += 1;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    sent
                });
                let (mut seen, mut bytes) = (Vec::new(), [0; 8]);
                loop {
                    match sink.recv(&mut bytes) {
                        Ok(_) => {
                            seen.push(usize::from_be_bytes(bytes));
                            progress.arrived.fetch_add(1, Ordering::Relaxed);
                        }
                        // Nothing comes any more.
                        Err(_) if sender.is_finished() => break,
                        Err(_) => {}
                    }
                }
                (sender.join().unwrap(), seen)
            });
            seen.sort_unstable();
            progress.lost.lock().unwrap().extend((0..sent).filter(|n| seen.binary_search(n).is_err()));
        })
    }

    /// Waits until it was seen to go on.
    pub fn goes_on(&self) {
        let before = self.progress.arrived.load(Ordering::Relaxed);
        until("traffic goes on", || (self.progress.arrived.load(Ordering::Relaxed) > before + 100).then_some(()));
    }

    /// Ends it. Everything that was sent must have arrived.
    pub fn end(self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let lost = self.progress.lost.lock().unwrap();
        let arrived = self.progress.arrived.load(Ordering::Relaxed);
        assert!(lost.is_empty(), "{} lost, {arrived} arrived: {lost:?}", lost.len());
    }
}
