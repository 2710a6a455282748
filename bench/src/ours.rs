//! The paths through Mizar: real sandboxes of two hosts, a container on each.

use crate::{
    bed::{Bed, settings},
    machine,
    paths::Path,
    report::table,
    shell::{run, run_in},
};
use anyhow::Result;
use mizar::{
    client::{Network, PortRequest, Subnet},
    sandbox::{
        endpoint::{Endpoint, Kind},
        provisioning::{self, Sample, percentile},
        services::Service,
        settings::Settings,
    },
};
use serde_json::{Value, json};
use std::time::Duration;

/// Addresses of the subnet.
pub const CIDR: &str = "10.66.0.0/16";

/// A sandbox that ends with this value.
pub struct Ours {
    /// The sandbox.
    pub bed: Bed,
    network: Network,
    subnet: Subnet,
}

impl Ours {
    /// Starts a sandbox with one network and a large subnet.
    pub fn up(name: &str, hosts: usize, transit_hook: &str) -> Result<Self> {
        let bed = Bed::up(name, Settings { transit_hook: transit_hook.into(), ..settings(hosts) })?;
        let network = bed.admin.create_network("bench")?;
        let subnet = bed.admin.create_subnet(network.id, "bench", CIDR.parse()?)?;
        Ok(Self { bed, network, subnet })
    }

    fn container(&self, name: &str, host: usize, attributes: &Value) -> Result<Endpoint> {
        let (admin, sandbox) = (&self.bed.admin, &self.bed.sandbox);
        let host = &sandbox.hosts()[host].name;
        let request = PortRequest { name, network: self.network.id, subnet: self.subnet.id, address: None };
        let port = admin.create_port(&request)?;
        if !attributes.is_null() {
            admin.put(&format!("/v2.0/ports/{}", port.id), Some(&json!({"port": attributes})))?;
        }
        let endpoint = sandbox.attach(admin, &port, host, Kind::Container)?;
        admin.wait_active(port.id, Duration::from_secs(20))?;
        Ok(endpoint)
    }

    /// Lets the kernel put segments of a flow together where they come in, as it does for tunnel
    /// devices: NAPI on the uplink, which a veth has with GRO on and a sender that segments; and a
    /// tunnel device's socket, whose hook knows how to compare the packets. The one of GENEVE is
    /// not in every kernel; that of VXLAN compares the same bytes where there are no options.
    pub fn aggregate(&self) -> Result<()> {
        let layout = self.bed.sandbox.layout();
        for (i, host) in self.bed.sandbox.hosts().iter().enumerate() {
            let ns = layout.host_netns(&host.name);
            run(&format!("ip -n {ns} link add mzgro type vxlan external dstport 6081"))?;
            run(&format!("ip -n {ns} link set mzgro up"))?;
            run_in(&ns, "ethtool -K uplink gro on")?;
            run_in(&layout.underlay_netns(), &format!("ethtool -K up{} tso off", i + 1))?;
        }
        Ok(())
    }

    /// A container on each of the first two hosts, whose ports have these attributes beside the usual
    /// ones.
    pub fn pair(&self, name: &'static str, attributes: &Value) -> Result<Path> {
        let client = self.container(&format!("client, {name}"), 0, attributes)?;
        let server = self.container(&format!("server, {name}"), 1, attributes)?;
        let path = Path {
            name,
            client: (client.netns.name().to_owned(), client.ifname.clone()),
            server: (server.netns.name().to_owned(), server.address()?.to_string()),
        };
        run_in(&path.client.0, &format!("ping -c 3 -i 0.2 -W 2 {}", path.server.1))?;
        Ok(path)
    }

    /// Stops the control plane: what is measured is the data plane, which goes on without it, and
    /// nothing polls meanwhile.
    pub fn stop_control(&self) -> Result<()> {
        [Service::Scheduler, Service::Api, Service::Postgres]
            .iter()
            .try_for_each(|service| self.bed.sandbox.stop(service))
    }

    /// A pair of usual ports, and no control plane any more.
    pub fn path(&self, name: &'static str) -> Result<Path> {
        let path = self.pair(name, &Value::Null)?;
        self.stop_control()?;
        Ok(path)
    }
}

/// From the request for a port to ACTIVE, `count` times, one after the other.
pub fn provisioning(count: usize) -> Result<()> {
    let ours = Ours::up("bench", 4, "auto")?;
    // The first ports also wait for the placement of a new subnet's bouncers.
    provisioning::measure(&ours.bed.sandbox, &ours.bed.admin, ours.network.id, ours.subnet.id, 4)?;
    let samples = provisioning::measure(&ours.bed.sandbox, &ours.bed.admin, ours.network.id, ours.subnet.id, count)?;
    let row = |what: &str, of: fn(&Sample) -> Duration| {
        let ms = |percent| format!("{:.1}", percentile(&samples, percent, of).as_secs_f64() * 1e3);
        vec![what.to_owned(), ms(50), ms(90), ms(99), ms(100)]
    };
    println!("{}", machine::describe());
    table(
        &format!("Port create to ACTIVE, {count} ports, 4 hosts, ms"),
        &["step", "p50", "p90", "p99", "max"],
        &[
            row("create (API, database)", |s| s.create),
            row("feed (the attach call waits)", |s| s.feed),
            row("wiring (the rest of the call)", |s| s.wiring),
            row("acknowledged by bouncers", |s| s.active),
            row("all", Sample::total),
        ],
    );
    Ok(())
}
