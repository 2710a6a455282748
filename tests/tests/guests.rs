//! Guests that configure themselves: a virtual machine's tap, and a container, both by DHCP.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::{IFNAME, Kind};
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::guest::{Guest, dhclient, mtu};
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{At, Net, Tenant, at};
use mizar_tests::{bed, harness};
use serde_json::json;
use std::process::ExitCode;

const SCENARIOS: &[Scenario] = &[
    ("a_guest_on_a_tap_comes_up_by_dhcp_and_talks", tap),
    ("a_container_that_asks_by_dhcp_is_given_its_own_address", container),
    ("a_subnet_without_dhcp_answers_nobody", without_dhcp),
];

fn subnet_with_everything(tenant: &Tenant<'_>, bed: &Bed) -> Result<Net> {
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let change = json!({"subnet": {
        "dns_nameservers": ["192.0.2.53", "192.0.2.54"],
        "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "10.1.0.9"}],
    }});
    tenant.api.put(&format!("/v2.0/subnets/{}", net.subnets[0].id), Some(&change))?;
    bed.settle()?;
    Ok(net)
}

fn tap(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = subnet_with_everything(&tenant, bed)?;
    let [tap, near, far] = tenant.endpoints(&net, [At { kind: Kind::Tap, ..at(0, 0) }, at(0, 1), at(1, 1)])?;
    let guest = Guest::plug(&tap)?;
    let lease = dhclient(guest.netns(), "eth0")?;
    let want = |name: &str, value: &str| {
        ensure!(lease.option(name) == Some(value), "{name} is not {value}: {lease:?}");
        Ok(())
    };
    want("new_ip_address", &tap.address()?.to_string())?;
    want("new_subnet_mask", "255.255.255.0")?;
    want("new_routers", "10.1.0.1")?;
    want("new_domain_name_servers", "192.0.2.53 192.0.2.54")?;
    want("new_interface_mtu", "1398")?;
    let routes = lease.option("new_rfc3442_classless_static_routes").context("no classless routes")?;
    ensure!(routes.contains("24 198 51 100 10 1 0 9"), "the subnet's route is missing: {routes}");
    ensure!(mtu(guest.netns(), "eth0")? == 1398, "the client did not set the MTU");
    let inside = guest.endpoint(&tap);
    common(&inside, &near)?;
    common(&inside, &far)
}

fn container(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = subnet_with_everything(&tenant, bed)?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    a.netns.ip(&format!("address flush dev {IFNAME}\n"))?;
    let lease = dhclient(&a.netns, IFNAME)?;
    let given = lease.option("new_ip_address").context("no address")?;
    ensure!(given == a.address()?.to_string(), "{given} was given instead of {}", a.address()?);
    common(&a, &b)
}

fn without_dhcp(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let change = json!({"subnet": {"enable_dhcp": false}});
    tenant.api.put(&format!("/v2.0/subnets/{}", net.subnets[0].id), Some(&change))?;
    let [tap] = tenant.endpoints(&net, [At { kind: Kind::Tap, ..at(0, 0) }])?;
    let guest = Guest::plug(&tap)?;
    ensure!(dhclient(guest.netns(), "eth0").is_err(), "a lease was given");
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tguests", bed::settings(), &[SCENARIOS])
}
