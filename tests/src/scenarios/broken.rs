//! What `mizar doctor` and `mizar support-bundle` say of a deployment of which a part is missing.

use crate::bed::Bed;
use crate::command::Cli;
use crate::harness::Scenario;
use anyhow::{Context, Result, ensure};
use mizar::sandbox::netns::run;
use mizar::sandbox::services::Service;
use mizar::sandbox::topology::UPLINK;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("doctor_and_bundle_say_what_to_do_while_the_api_is_away", api_away),
    ("doctor_names_the_hosts_whose_underlay_is_too_small_for_the_networks", small_underlay),
];

fn api_away(bed: &Bed) -> Result<()> {
    let admin = Cli::of(bed, "admin")?;
    let bundle = bed.sandbox.layout().dir().join("bundle-of-a-broken-one.tar.gz");
    bed.sandbox.kill(&Service::Api)?;
    let said = admin.raw("doctor --cloud").and_then(|cloud| {
        Ok((cloud, admin.raw(&format!("support-bundle --to {}", bundle.display()))?, admin.raw("host list")?))
    });
    bed.sandbox.start(&Service::Api)?;
    let (cloud, bundled, list) = said?;
    ensure!(
        cloud.code == 1 && cloud.out.contains("nobody serves at") && cloud.out.contains("-> is mizar-api running?"),
        "{}{}",
        cloud.out,
        cloud.error
    );
    ensure!(bundled.code == 0 && bundled.out.contains("without hosts.json: "), "{}{}", bundled.out, bundled.error);
    std::fs::remove_file(&bundle)?;
    ensure!(list.code == 8 && list.error.contains("hint: `mizar doctor --cloud`"), "{}", list.error);
    bed.wait("it is well again", || Ok(admin.raw("doctor --cloud")?.code == 0))
}

fn small_underlay(bed: &Bed) -> Result<()> {
    let (tenant, admin) = (bed.tenant()?, Cli::of(bed, "admin")?);
    tenant.network(&["10.5.0.0/24"])?;
    bed.wait("everything is well", || Ok(admin.raw("doctor --cloud")?.code == 0))?;
    let (name, agent) = (bed.host(0), Service::Agent(bed.host(0).to_owned()));
    let carry = |mtu: &str| -> Result<()> {
        let mut command = bed.sandbox.host_netns(name).command("ip")?;
        run(command.args(["link", "set", UPLINK, "mtu", mtu])).context("the uplink's MTU")?;
        bed.sandbox.stop(&agent)?;
        bed.sandbox.start(&agent)
    };
    let look = || {
        bed.wait("the small host is named", || {
            let said = admin.raw("doctor --cloud")?;
            Ok(said.code == 1 && said.out.contains(&format!("too small are {name} 1400")))
        })
    };
    let changed = carry("1400").and_then(|()| look());
    carry("1500")?;
    changed?;
    bed.wait("it is well again", || Ok(admin.raw("doctor --cloud")?.code == 0))
}
