//! Roles that come and go under traffic: established flows lose nothing.

use crate::bed::Bed;
use crate::exchange::{PORT, common};
use crate::harness::Scenario;
use crate::tenant::at;
use anyhow::{Result, ensure};
use mizar::sandbox::traffic::{PingStream, TcpServer, TcpStreaming};
use std::net::SocketAddr;
use std::time::Duration;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("a_long_connection_in_a_subnet_outlives_every_change_of_roles", |bed| under_traffic(bed, &["10.1.0.0/24"], 0)),
    ("a_long_connection_across_subnets_outlives_every_change_of_roles", |bed| {
        under_traffic(bed, &["10.1.0.0/24", "10.2.0.0/24"], 1)
    }),
];

fn under_traffic(bed: &Bed, cidrs: &[&str], subnet: usize) -> Result<()> {
    bed.transit_on(&[2])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(cidrs)?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(subnet, 1)])?;
    let server = TcpServer::start(&b.netns, SocketAddr::new(b.address()?, PORT), "long")?;
    let long = TcpStreaming::start(&a.netns, server.address())?;
    let pings = PingStream::start(&a.netns, b.address()?, Duration::from_millis(5))?;
    bed.wait("an established connection", || Ok(long.exchanged() > 100))?;
    for transit in [&[2, 3][..], &[3], &[0, 3], &[0], &[1], &[0, 1, 2, 3], &[2]] {
        bed.transit_on(transit)?;
        bed.settle()?;
        let seen = long.exchanged();
        bed.wait("more exchanges after a change of roles", || Ok(long.exchanged() > seen + 100))?;
    }
    let long = long.stop()?;
    let pings = pings.stop()?;
    ensure!(pings.nothing_lost(), "pings were lost: {pings:?}");
    ensure!(long.lost == 0, "segments were lost: {long:?}");
    drop(server);
    common(&a, &b)
}
