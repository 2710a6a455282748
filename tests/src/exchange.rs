//! What two endpoints try with each other.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::traffic::{PingOptions, Pings, TcpServer, ping, tcp_exchange, udp_exchange};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
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

/// What a server of the web sends: more than a window of segments, and there in every checkout.
const PAGE: &str = "Cargo.lock";

/// A process that ends with the test, whatever becomes of it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HTTP from `from` to `to`, by programs that know nothing of this project: Python's.
pub fn http(from: &Endpoint, to: &Endpoint) -> Result<()> {
    let (root, address) = (mizar::devel::root(), to.address()?.to_string());
    let mut server = to.netns.command("python3")?;
    server.args(["-u", "-m", "http.server", &PORT.to_string(), "--bind", &address, "--directory"]).arg(&root);
    let server = server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Ended(server.spawn().context("cannot run python3")?);
    // It listens by the time it says so.
    let mut said = String::new();
    BufReader::new(server.0.stdout.take().expect("piped above")).read_line(&mut said)?;
    ensure!(said.starts_with("Serving HTTP"), "Python's server at {} said `{said}`", place(to));
    let fetch = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=15).read())";
    let mut client = from.netns.command("python3")?;
    // A proxy of the machine's is none of the endpoint's.
    client.env("no_proxy", "*").args(["-c", fetch, &format!("http://{address}:{PORT}/{PAGE}")]);
    let got = client.stdin(Stdio::null()).output()?;
    let what = || format!("HTTP from {} to {}", place(from), place(to));
    ensure!(got.status.success(), "{}: {}", what(), String::from_utf8_lossy(&got.stderr).trim());
    ensure!(got.stdout == std::fs::read(root.join(PAGE))?, "{}: another page of {} bytes", what(), got.stdout.len());
    Ok(())
}
