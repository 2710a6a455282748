//! Roles that come and go under traffic, hosts that are lost, and what operators are told.

use anyhow::{Context as _, Result, ensure};
use mizar::sandbox::services::Service;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::scenarios::role_changes;
use mizar_tests::tenant::at;
use mizar_tests::{bed, harness};
use std::process::ExitCode;

const SCENARIOS: &[Scenario] = &[
    ("roles_of_a_host_whose_lease_is_lost_are_replaced", lost_host),
    ("operators_are_told_how_each_process_is_and_what_it_counts", operators),
];

/// Its data plane goes on without its agent, so that nothing is lost meanwhile; but what is new
/// must find another bouncer.
fn lost_host(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    let lost = bed.host(2);
    ensure!(bed.admin.roles()?.iter().any(|role| role.host == lost), "{lost} has no role to lose");
    bed.sandbox.kill(&Service::Agent(lost.into()))?;
    bed.transit_on(&[0, 2, 3])?;
    bed.wait("the roles of the lost host replaced", || {
        let roles = bed.admin.roles()?;
        let active = |host: &str| roles.iter().any(|role| role.host == host && role.state == "active");
        Ok(!active(lost) && active(bed.host(0)) && active(bed.host(3)))
    })?;
    common(&a, &b)?;
    let c = tenant.endpoint(&net, at(0, 3))?;
    common(&a, &c)
}

/// The number of a metric on the page of a service.
fn metric(bed: &Bed, service: &Service, name: &str) -> Result<f64> {
    let (status, page) = bed.sandbox.ask_operators(service, "/metrics")?;
    ensure!(status == 200 && page.ends_with("# EOF\n"), "{}: {status} {page}", service.name());
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("{}: no {name} in {page}", service.name()))
}

fn operators(bed: &Bed) -> Result<()> {
    let agent = Service::Agent(bed.host(0).into());
    for service in [&Service::Api, &Service::Scheduler, &agent] {
        for path in ["/healthz", "/readyz"] {
            bed.wait("a process that is well", || Ok(bed.sandbox.ask_operators(service, path)?.0 == 200))?;
        }
        ensure!(metric(bed, service, "process_resident_memory_bytes")? > 1e6, "{} has no memory", service.name());
    }
    ensure!(metric(bed, &Service::Scheduler, "mizar_scheduler_leading")? == 1.0, "nobody leads");
    ensure!(metric(bed, &agent, "mizar_agent_ports")? == 0.0, "it has ports");
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    ensure!(metric(bed, &agent, "mizar_agent_ports")? == 1.0, "it has no port");
    // Maps are counted now and then, not for each question.
    let entries = || Ok(metric(bed, &agent, r#"mizar_agent_map_entries{map="EP"}"#)? == 1.0);
    bed.wait("its map to have a port", entries)?;
    let created = r#"mizar_api_requests_total{method="POST",route="/v2.0/ports",status="201"}"#;
    ensure!(metric(bed, &Service::Api, created)? >= 2.0, "the API has counted no port");
    // What is dead says nothing; its successor does.
    bed.sandbox.kill(&Service::Scheduler)?;
    ensure!(bed.sandbox.ask_operators(&Service::Scheduler, "/healthz").is_err(), "a dead scheduler answers");
    bed.sandbox.start(&Service::Scheduler)?;
    bed.wait("the next scheduler to lead", || {
        // It may not listen yet.
        Ok(metric(bed, &Service::Scheduler, "mizar_scheduler_leading").is_ok_and(|leading| leading == 1.0))
    })?;
    common(&a, &b)
}

fn main() -> ExitCode {
    // Not far above the agents' long poll, to see a lease end soon, and far enough for a busy machine.
    let settings = Settings { lease_s: 16, ..bed::settings() };
    harness::run("troles", settings, &[role_changes::SCENARIOS, SCENARIOS])
}
