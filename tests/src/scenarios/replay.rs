//! Signed packets taken from the wire and sent again. A tag names its receiver, network and
//! endpoints, and holds for five seconds (DATAPLANE, rule 21).
//!
//! What is left to who can listen on the underlay: the very same packet, to the very same host,
//! within those seconds. It is delivered twice then, as any wire may do, and teaches nothing new.

use crate::bed::Bed;
use crate::exchange::common;
use crate::harness::Scenario;
use crate::tenant::{At, at};
use crate::wire::{Frame, Wire};
use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::{Endpoint, Kind as Attachment};
use mizar_abi::option::{Kind, STAMP_WINDOW};
use mizar_abi::reason::{Counter, Drop};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("an_admission_sent_again_elsewhere_or_later_is_dropped_and_counted", admitted),
    ("a_return_sent_again_elsewhere_or_later_is_dropped_and_counted", returned),
];

/// Port that nobody but this test uses.
const PORT: u16 = 7117;
/// How often each packet is sent again.
const TIMES: u64 = 3;

fn v4(address: IpAddr) -> Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(anyhow::anyhow!("{address} is not IPv4")),
    }
}

/// A socket on an endpoint that counts what arrives.
struct Listener {
    socket: UdpSocket,
    seen: BTreeMap<Vec<u8>, u64>,
}

impl Listener {
    fn on(endpoint: &Endpoint) -> Result<Self> {
        let socket = endpoint.netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, seen: BTreeMap::new() })
    }

    /// How often each text came so far.
    fn seen(&mut self) -> &BTreeMap<Vec<u8>, u64> {
        let mut text = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut text) {
            *self.seen.entry(text[..length].to_vec()).or_default() += 1;
        }
        &self.seen
    }
}

fn sender(from: &Endpoint, to: &Endpoint) -> Result<UdpSocket> {
    let to = SocketAddr::new(to.address()?, PORT);
    let socket = from.netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends `frame` to a host and wants every copy dropped there for `reason`.
fn refused(bed: &Bed, host: usize, frame: &Frame, reason: Drop, what: &str) -> Result<()> {
    let wire = Wire::of(&bed.sandbox, &bed.sandbox.hosts()[host])?;
    let before = bed.drops(host, reason)?;
    for _ in 0..TIMES {
        wire.send(frame)?;
    }
    bed.wait(&format!("{what}: counted as {}", reason.name()), || Ok(bed.drops(host, reason)? >= before + TIMES))
}

/// Waits until a packet's stamp is over.
fn outlive(bed: &Bed, frame: &Frame) -> Result<()> {
    let over = Duration::from_secs(u64::from(frame.stamp() + STAMP_WINDOW + 1));
    bed.wait("the packet's stamp outlived", || Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? > over))
}

fn admitted(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2])?;
    let (red, blue) = (bed.tenant()?, bed.tenant()?);
    let (net, other) = (red.network(&["10.1.0.0/24"])?, blue.network(&["10.1.0.0/24"])?);
    let place = |host, address| At { address: Some(address), ..at(0, host) };
    let [a, b, c] = red.endpoints(&net, [place(0, "10.1.0.10"), place(1, "10.1.0.11"), place(1, "10.1.0.12")])?;
    let [namesake] = blue.endpoints(&other, [place(1, "10.1.0.11")])?;
    let mut listeners = [Listener::on(&b)?, Listener::on(&c)?, Listener::on(&namesake)?];
    let wire = Wire::of(&bed.sandbox, &bed.sandbox.hosts()[1])?;
    sender(&a, &b)?.send(b"once and never again")?;
    let frame = wire.next(Instant::now() + crate::bed::PATIENCE, |frame| {
        frame.kind() == Some(Kind::Admitted) && frame.carries(b"once and never again")
    })?;
    let genuine = BTreeMap::from([(b"once and never again".to_vec(), 1)]);
    bed.wait("the genuine packet delivered", || Ok(*listeners[0].seen() == genuine))?;

    let elsewhere = bed.sandbox.hosts()[2].underlay;
    refused(bed, 2, &frame.to(elsewhere), Drop::BadTag, "to another host")?;
    refused(bed, 1, &frame.for_endpoint(v4(c.address()?)?), Drop::BadTag, "to another endpoint")?;
    refused(bed, 1, &frame.in_network(vni(bed, &namesake)?), Drop::BadTag, "in another network")?;
    outlive(bed, &frame)?;
    refused(bed, 1, &frame, Drop::BadStamp, "after its time")?;
    refused(bed, 1, &frame.stamped(frame.stamp() + STAMP_WINDOW + 1), Drop::BadTag, "with another stamp")?;
    // Whatever was sent before it has arrived by now, if it ever will.
    common(&a, &b)?;
    for (listener, expected) in listeners.iter_mut().zip([genuine, BTreeMap::new(), BTreeMap::new()]) {
        ensure!(*listener.seen() == expected, "delivered: {:?}", listener.seen());
    }
    Ok(())
}

/// The number in the packets of the port's network.
fn vni(bed: &Bed, endpoint: &Endpoint) -> Result<u32> {
    let sql =
        format!("SELECT n.vni FROM networks n JOIN ports p ON p.network_id = n.id WHERE p.id = '{}'", endpoint.port);
    Ok(mizar::sandbox::postgres::query(&bed.sandbox.database_url(), &sql)?.trim().parse()?)
}

/// Sends until it arrives straight at the peer's host.
fn direct(bed: &Bed, peer: usize, say: &mut impl FnMut() -> Result<Vec<u8>>) -> Result<()> {
    bed.wait("the flow direct", || {
        let before = bed.counter(peer, Counter::DirectIn)?;
        say()?;
        Ok(bed.counter(peer, Counter::DirectIn)? > before)
    })
}

/// A port moves, and its former host turns the sender's packets around: such a packet is taken.
fn returned(bed: &Bed) -> Result<()> {
    bed.transit_on(&[3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let mut listener = Listener::on(&b)?;
    let socket = sender(&a, &b)?;
    let mut sent = 0u32;
    let mut say = || -> Result<Vec<u8>> {
        sent += 1;
        let text = format!("message {sent:06}").into_bytes();
        socket.send(&text)?;
        Ok(text)
    };
    direct(bed, 1, &mut say)?;
    let wire = Wire::of(&bed.sandbox, &bed.sandbox.hosts()[0])?;
    let port = bed.admin.port(b.port)?;
    let moved = bed.sandbox.attach(&bed.admin, &port, bed.host(2), Attachment::Container)?;
    bed.admin.wait_active(port.id, crate::bed::PATIENCE)?;
    bed.settle()?;
    let text = say()?;
    let frame = wire
        .next(Instant::now() + crate::bed::PATIENCE, |frame| {
            frame.kind() == Some(Kind::Return) && frame.receiver() == bed.sandbox.hosts()[0].underlay
        })
        .context("the former host turned no packet around")?;
    // Until the new host's acknowledgement, returns of the former peer are good: more packets may
    // have been on their way there.
    direct(bed, 2, &mut say)?;
    bed.wait("the returned packet at the new place", || Ok(listener.seen().contains_key(&text)))?;
    let b = moved;
    common(&a, &b)?;
    let genuine = listener.seen().clone();

    refused(bed, 0, &frame, Drop::BadCookie, "from a host that is the peer no longer")?;
    let peer = bed.sandbox.hosts()[2].underlay;
    refused(bed, 0, &frame.from(peer), Drop::BadCookie, "as if from the peer")?;
    let elsewhere = bed.sandbox.hosts()[1].underlay;
    refused(bed, 1, &frame.to(elsewhere), Drop::BadTag, "to another host")?;
    outlive(bed, &frame)?;
    refused(bed, 0, &frame, Drop::BadStamp, "after its time")?;
    common(&a, &b)?;
    ensure!(*listener.seen() == genuine, "delivered: {:?}, before: {genuine:?}", listener.seen());
    Ok(())
}
