//! Guests that configure themselves: a virtual machine's tap, and a container, both by DHCP; and
//! what `./dev attach` makes for those who type it.

use anyhow::{Context, Result, ensure};
use mizar::client::Port;
use mizar::sandbox::endpoint::{IFNAME, Kind};
use mizar::sandbox::netns::{Netns, run};
use mizar::sandbox::traffic::{PingOptions, ping};
use mizar_tests::bed::{Bed, PATIENCE};
use mizar_tests::exchange::common;
use mizar_tests::guest::{Guest, dhclient, mtu};
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{At, Net, Tenant, at};
use mizar_tests::{bed, harness};
use serde_json::json;
use std::process::{Command, ExitCode};
use std::time::Duration;

const SCENARIOS: &[Scenario] = &[
    ("a_guest_on_a_tap_comes_up_by_dhcp_and_talks", tap),
    ("a_container_that_asks_by_dhcp_is_given_its_own_address", container),
    ("a_subnet_without_dhcp_answers_nobody", without_dhcp),
    ("dev_attach_makes_a_tap_that_carries_a_guest", attach_tap),
    ("dev_attach_makes_an_interface_of_the_host_itself", attach_host),
];

/// Enough for several questions of a client that nobody answers.
const UNANSWERED: Duration = Duration::from_secs(8);

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
    let lease = dhclient(guest.netns(), "eth0", PATIENCE)?;
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
    let lease = dhclient(&a.netns, IFNAME, PATIENCE)?;
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
    ensure!(dhclient(guest.netns(), "eth0", UNANSWERED).is_err(), "a lease was given");
    Ok(())
}

/// Runs a verb of `./dev` as the script does after it has built everything.
fn dev(bed: &Bed, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(bed.sandbox.binaries().path("mizar")?);
    run(command.arg("dev").args(arguments).env("MIZAR_SANDBOX", bed.sandbox.layout().name()))
}

/// What `./dev attach` says that it made: the port's end of the wire, and the namespace it is in.
fn attach(bed: &Bed, port: &Port, kind: &str) -> Result<(String, Netns)> {
    let said = dev(bed, &["attach", &port.id.to_string(), "--host", bed.host(0), "--kind", kind])?;
    let made = || said.lines().next()?.split_once(": ")?.1.split_once(" in namespace ");
    let (ifname, rest) = made().with_context(|| format!("it said: {said}"))?;
    let (netns, rest) = rest.split_once(", ").with_context(|| format!("it said: {said}"))?;
    for part in [format!("MAC {}", port.mac_address), "MTU 1398".into(), format!("addresses {}/24", port.address()?)] {
        ensure!(rest.contains(&part), "it did not say `{part}`: {said}");
    }
    ensure!(said.contains("ACTIVE after"), "it did not wait: {said}");
    ensure!(bed.admin.port(port.id)?.status == "ACTIVE", "the port is not ACTIVE");
    Ok((ifname.to_owned(), Netns::named(netns)))
}

/// Detaches it, and wants its interface gone and the port free for another host.
fn detach(bed: &Bed, port: &Port, ifname: &str, netns: &Netns) -> Result<()> {
    dev(bed, &["detach", &port.id.to_string()])?;
    ensure!(netns.ip(&format!("link show {ifname}\n")).is_err(), "{ifname} is left");
    ensure!(bed.admin.port(port.id)?.host.is_empty(), "the port is still bound");
    Ok(())
}

fn attach_tap(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [near, far] = tenant.endpoints(&net, [at(0, 1), at(1, 2)])?;
    let port = tenant.port(&net, 0, None)?;
    let (tap, netns) = attach(bed, &port, "tap")?;
    ensure!(netns == bed.sandbox.host_netns(bed.host(0)), "the tap is not in the host's namespace");
    bed.settle()?;
    let guest = Guest::at_tap(&tap, &netns, &port.mac_address)?;
    dhclient(guest.netns(), "eth0", PATIENCE)?;
    for to in [&near, &far] {
        let out = ping(guest.netns(), to.address()?, &PingOptions::default())?;
        ensure!(out.all_answered(), "from the guest to {}: {out:?}", to.name);
        let back = ping(&to.netns, port.address()?, &PingOptions::default())?;
        ensure!(back.all_answered(), "from {} to the guest: {back:?}", to.name);
    }
    drop(guest);
    detach(bed, &port, &tap, &netns)
}

fn attach_host(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [local, near, far] = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(1, 2)])?;
    let port = tenant.port(&net, 0, None)?;
    let (ifname, netns) = attach(bed, &port, "host")?;
    ensure!(netns == bed.sandbox.host_netns(bed.host(0)), "the interface is not in the host's namespace");
    bed.settle()?;
    let own = PingOptions { more: vec!["-I".into(), port.address()?.to_string()], ..PingOptions::default() };
    for to in [&local, &near, &far] {
        let out = ping(&netns, to.address()?, &own)?;
        ensure!(out.all_answered(), "from the host to {}: {out:?}", to.name);
        let back = ping(&to.netns, port.address()?, &PingOptions::default())?;
        ensure!(back.all_answered(), "from {} to the host: {back:?}", to.name);
    }
    detach(bed, &port, &ifname, &netns)
}

fn main() -> ExitCode {
    harness::run("tguests", bed::settings(), &[SCENARIOS])
}
