//! `kill -9` of each process during traffic: no packet of an established flow is lost, and what
//! changed meanwhile arrives after.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::{Endpoint, Kind};
use mizar::sandbox::services::Service;
use mizar::sandbox::traffic::{PingStream, TcpServer, TcpStreaming};
use mizar_tests::bed::{Bed, PATIENCE};
use mizar_tests::exchange::{PORT, common};
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{Net, Tenant, at};
use mizar_tests::{bed, harness};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const SCENARIOS: &[Scenario] = &[
    ("the_agent_of_the_sender_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Agent(bed.host(0).into()))),
    ("the_agent_of_the_receiver_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Agent(bed.host(1).into()))),
    ("the_agent_of_the_bouncer_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Agent(bed.host(2).into()))),
    ("the_api_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Api)),
    ("the_scheduler_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Scheduler)),
    ("the_database_dies_and_nothing_is_lost", |bed| dies(bed, &Service::Postgres)),
    ("everything_dies_and_nothing_is_lost", everything),
    ("a_port_made_while_its_agent_is_dead_is_wired_after", made_while_dead),
    ("a_port_deleted_while_its_agent_is_dead_is_gone_after", deleted_while_dead),
    ("a_subnet_made_while_the_scheduler_is_dead_is_served_after", subnet_while_dead),
    ("what_hosts_do_while_the_api_is_dead_is_told_after", done_while_dead),
];

/// Two flows, within and across subnets, that go on while something dies.
struct Flows {
    pings: [PingStream; 2],
    long: TcpStreaming,
    _server: TcpServer,
}

fn flows(bed: &Bed, ends: &[Endpoint; 3]) -> Result<Flows> {
    let [a, b, c] = ends;
    let server = TcpServer::start(&b.netns, SocketAddr::new(b.address()?, PORT), "long")?;
    let interval = Duration::from_millis(5);
    let flows = Flows {
        pings: [
            PingStream::start(&a.netns, b.address()?, interval)?,
            PingStream::start(&a.netns, c.address()?, interval)?,
        ],
        long: TcpStreaming::start(&a.netns, server.address())?,
        _server: server,
    };
    bed.wait("established flows", || Ok(flows.long.exchanged() > 100))?;
    Ok(flows)
}

impl Flows {
    fn lost_nothing(self) -> Result<()> {
        for pings in self.pings {
            let pings = pings.stop()?;
            ensure!(pings.nothing_lost(), "pings were lost: {pings:?}");
        }
        let long = self.long.stop().context("the long connection")?;
        ensure!(long.lost == 0, "segments of the long connection were lost: {long:?}");
        Ok(())
    }

    fn go_on(&self, bed: &Bed) -> Result<()> {
        let seen = self.long.exchanged();
        bed.wait("more exchanges", || Ok(self.long.exchanged() > seen + 200))
    }
}

fn start<'a>(bed: &'a Bed) -> Result<(Tenant<'a>, Net, [Endpoint; 3])> {
    bed.transit_on(&[2])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let ends = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(1, 1)])?;
    common(&ends[0], &ends[1])?;
    Ok((tenant, net, ends))
}

fn dies(bed: &Bed, service: &Service) -> Result<()> {
    let (tenant, net, ends) = start(bed)?;
    let flows = flows(bed, &ends)?;
    bed.sandbox.kill(service)?;
    flows.go_on(bed)?;
    bed.sandbox.start(service)?;
    flows.go_on(bed)?;
    // That the service came back shows by a change that needs all of them.
    let d = api_again(bed, || tenant.endpoint(&net, at(0, 3)))?;
    bed.settle()?;
    common(&ends[0], &d)?;
    flows.lost_nothing()
}

/// The first call after a restart of the database may meet connections that died with it.
fn api_again<T>(bed: &Bed, call: impl Fn() -> Result<T>) -> Result<T> {
    bed.wait("the API serving again", || Ok(bed.admin.hosts().is_ok()))?;
    call()
}

fn everything(bed: &Bed) -> Result<()> {
    let (tenant, net, ends) = start(bed)?;
    let flows = flows(bed, &ends)?;
    let services = bed.sandbox.services();
    for service in services.iter().rev() {
        bed.sandbox.kill(service)?;
    }
    flows.go_on(bed)?;
    for service in &services {
        bed.sandbox.start(service)?;
    }
    flows.go_on(bed)?;
    let d = api_again(bed, || tenant.endpoint(&net, at(1, 3)))?;
    bed.settle()?;
    common(&ends[0], &d)?;
    flows.lost_nothing()
}

fn made_while_dead(bed: &Bed) -> Result<()> {
    let (tenant, net, ends) = start(bed)?;
    let agent = Service::Agent(bed.host(1).into());
    bed.sandbox.kill(&agent)?;
    let port = tenant.port(&net, 0, None)?;
    bed.admin.bind_port(port.id, bed.host(1))?;
    ensure!(tenant.api.port(port.id)?.status != "ACTIVE", "ACTIVE without an agent");
    bed.sandbox.start(&agent)?;
    let port = tenant.api.port(port.id)?;
    let late = bed.sandbox.attach_bound(&port, bed.host(1), Kind::Container)?;
    tenant.api.wait_active(port.id, PATIENCE)?;
    bed.settle()?;
    common(&ends[0], &late)
}

fn deleted_while_dead(bed: &Bed) -> Result<()> {
    let (tenant, _, ends) = start(bed)?;
    let [a, b, c] = &ends;
    common(a, c)?;
    let agent = Service::Agent(bed.host(1).into());
    let before = bed.sandbox.agent(bed.host(1)).status()?.ports.len();
    bed.sandbox.kill(&agent)?;
    tenant.delete_port(b)?;
    bed.sandbox.start(&agent)?;
    bed.wait("the deleted port gone from its host", || {
        Ok(bed.sandbox.agent(bed.host(1)).status()?.ports.len() + 1 == before)
    })?;
    common(a, c)
}

/// A new subnet has no bouncers until the scheduler places them.
fn subnet_while_dead(bed: &Bed) -> Result<()> {
    let (tenant, mut net, ends) = start(bed)?;
    bed.sandbox.kill(&Service::Scheduler)?;
    net.subnets.push(tenant.api.create_subnet(net.network.id, "late", "10.3.0.0/24".parse()?)?);
    let port = tenant.port(&net, 2, None)?;
    bed.admin.bind_port(port.id, bed.host(3))?;
    let roles = bed.admin.get(&format!("/v2.0/mizar/roles?subnet_id={}", port.fixed_ips[0].subnet_id))?;
    ensure!(roles["roles"] == json!([]), "placed without a scheduler: {roles}");
    bed.sandbox.start(&Service::Scheduler)?;
    bed.settle()?;
    let late = bed.sandbox.attach_bound(&port, bed.host(3), Kind::Container)?;
    tenant.api.wait_active(port.id, PATIENCE)?;
    bed.settle()?;
    common(&ends[0], &late)
}

/// Nobody can ask anything of a dead API; but orchestrators detach and attach at hosts.
fn done_while_dead(bed: &Bed) -> Result<()> {
    let (tenant, _, ends) = start(bed)?;
    let [a, b, c] = &ends;
    let port = tenant.api.port(b.port)?;
    let status = || -> Result<String> { Ok(tenant.api.port(port.id)?.status) };
    bed.sandbox.kill(&Service::Api)?;
    bed.sandbox.agent(&b.host).detach(port.id)?;
    bed.sandbox.start(&Service::Api)?;
    api_again(bed, || Ok(()))?;
    bed.wait("the detached port DOWN", || Ok(status()? == "DOWN"))?;
    bed.sandbox.kill(&Service::Api)?;
    let again = bed.sandbox.attach_bound(&port, &b.host, Kind::Container)?;
    // It is in force before anybody is told.
    common(&again, c)?;
    bed.sandbox.start(&Service::Api)?;
    api_again(bed, || tenant.api.wait_active(port.id, PATIENCE))?;
    common(a, &again)
}

fn main() -> ExitCode {
    harness::run("tcrash", bed::settings(), &[SCENARIOS])
}
