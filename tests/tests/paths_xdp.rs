//! Every place of bouncer and divider, with transit in XDP; ports and roles that come and go there.

use anyhow::{Result, ensure};
use mizar::sandbox::settings::Settings;
use mizar_abi::reason::Counter;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::scenarios::{direct, errors, lifecycle, paths, role_changes};
use mizar_tests::tenant::at;
use mizar_tests::{bed, harness};
use std::process::ExitCode;

const OWN: &[Scenario] = &[("transit_is_done_in_xdp", in_xdp)];

fn in_xdp(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2])?;
    let before = bed.counter(2, Counter::TransitXdp)?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    ensure!(bed.counter(2, Counter::TransitXdp)? > before, "the bouncer forwarded nothing in XDP");
    Ok(())
}

fn main() -> ExitCode {
    let settings = Settings { transit_hook: "xdp".into(), ..bed::settings() };
    let all =
        [OWN, paths::SCENARIOS, direct::SCENARIOS, lifecycle::SCENARIOS, role_changes::SCENARIOS, errors::SCENARIOS];
    harness::run("tpathsx", settings, &all)
}
