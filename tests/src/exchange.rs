//! What two endpoints try with each other.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::traffic::{PingOptions, Pings, TcpServer, ping, tcp_exchange, udp_exchange};
use std::net::SocketAddr;
use std::time::Duration;

/// Port of servers.
pub const PORT: u16 = 7000;
/// More than a window of segments.
const BYTES: usize = 300_000;
const PATIENCE: Duration = Duration::from_secs(15);

/// Ping, TCP and UDP, both ways, nothing lost.
pub fn common(a: &Endpoint, b: &Endpoint) -> Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        let what = |how: &str| format!("{how} from {} to {}", place(from), place(to));
        one_way(from, to).with_context(|| what("exchange"))?;
    }
    Ok(())
}

fn place(endpoint: &Endpoint) -> String {
    let address = endpoint.address().map_or_else(|_| "no address".to_owned(), |a| a.to_string());
    format!("{address} on {}", endpoint.host)
}

fn one_way(from: &Endpoint, to: &Endpoint) -> Result<()> {
    let address = to.address()?;
    let pings = ping(&from.netns, address, &options(from)?)?;
    ensure!(pings.all_answered(), "{pings:?}");
    let server = TcpServer::start(&to.netns, SocketAddr::new(address, PORT), &to.port.to_string())?;
    let banner = tcp_exchange(&from.netns, server.address(), BYTES, PATIENCE).context("TCP")?;
    ensure!(banner == to.port.to_string(), "TCP: {banner} answered for {}", to.port);
    udp_exchange(&from.netns, &to.netns, SocketAddr::new(address, PORT), PATIENCE).context("UDP")
}

/// Pings from the endpoint's own interface: an endpoint in the host's namespace has others beside.
fn options(from: &Endpoint) -> Result<PingOptions> {
    Ok(PingOptions { more: vec!["-I".into(), from.address()?.to_string()], ..PingOptions::default() })
}

/// Some pings; how many came back is the caller's to judge.
pub fn pings(from: &Endpoint, to: &Endpoint, count: u32) -> Result<Pings> {
    ping(&from.netns, to.address()?, &PingOptions { count, ..options(from)? })
}

/// Nothing of `from` reaches `to`: no echo, and no connection even though a server listens.
pub fn no_way(from: &Endpoint, to: &Endpoint) -> Result<()> {
    let address = to.address()?;
    let server = TcpServer::start(&to.netns, SocketAddr::new(address, PORT), "must not be reached")?;
    let seen = ping(&from.netns, address, &PingOptions { patience: Duration::from_secs(1), ..options(from)? })?;
    ensure!(seen.received == 0, "{} was reached: {seen:?}", place(to));
    let reached = tcp_exchange(&from.netns, server.address(), 1, Duration::from_millis(700));
    ensure!(reached.is_err(), "{} was reached by TCP", place(to));
    Ok(())
}
