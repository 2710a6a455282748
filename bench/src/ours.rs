//! The paths through Mizar: real sandboxes of two hosts, a container on each.

use crate::{
    machine,
    paths::Path,
    report::table,
    shell::{run, run_in},
};
use anyhow::{Context, Result};
use mizar::{
    client::{Api, Network, PortRequest, Subnet},
    devel::root,
    sandbox::{
        self, Sandbox,
        endpoint::{Endpoint, Kind},
        layout::Layout,
        progress::Progress,
        provisioning::{self, Sample, percentile},
        services::{Service, built_bpf_object},
        settings::Settings,
    },
};
use std::time::Duration;

/// A sandbox that ends with this value.
pub struct Ours {
    sandbox: Sandbox,
    admin: Api,
    network: Network,
    subnet: Subnet,
}

impl Ours {
    /// Starts a sandbox with one network and a large subnet.
    pub fn up(name: &str, hosts: usize, transit_hook: &str) -> Result<Self> {
        let layout = Layout::of_checkout(&root(), name)?;
        sandbox::down(&layout, false, Progress::Silent).context("what an earlier run left cannot be removed")?;
        let settings = Settings {
            hosts,
            prefer_last: false,
            transit_hook: transit_hook.into(),
            bpf_object: built_bpf_object(&root()),
            ..Settings::default()
        };
        let made = Sandbox::up(layout.clone(), settings, Progress::Silent).and_then(|sandbox| {
            let admin = sandbox.admin()?;
            let network = admin.create_network("bench")?;
            let subnet = admin.create_subnet(network.id, "bench", "10.66.0.0/16".parse()?)?;
            Ok(Self { sandbox, admin, network, subnet })
        });
        if made.is_err() {
            sandbox::down(&layout, true, Progress::Silent)?;
        }
        made
    }

    fn container(&self, host: usize) -> Result<Endpoint> {
        let host = &self.sandbox.hosts()[host].name;
        let name = format!("on-{host}");
        let request = PortRequest { name: &name, network: self.network.id, subnet: self.subnet.id, address: None };
        let port = self.admin.create_port(&request)?;
        let endpoint = self.sandbox.attach(&self.admin, &port, host, Kind::Container)?;
        self.admin.wait_active(port.id, Duration::from_secs(20))?;
        Ok(endpoint)
    }

    /// Lets the kernel put segments of a flow together where they come in, as it does for tunnel
    /// devices: NAPI on the uplink, which a veth has with GRO on and a sender that segments; and a
    /// tunnel device's socket, whose hook knows how to compare the packets. The one of GENEVE is
    /// not in every kernel; that of VXLAN compares the same bytes where there are no options.
    pub fn aggregate(&self) -> Result<()> {
        let layout = self.sandbox.layout();
        for (i, host) in self.sandbox.hosts().iter().enumerate() {
            let ns = layout.host_netns(&host.name);
            run(&format!("ip -n {ns} link add mzgro type vxlan external dstport 6081"))?;
            run(&format!("ip -n {ns} link set mzgro up"))?;
            run_in(&ns, "ethtool -K uplink gro on")?;
            run_in(&layout.underlay_netns(), &format!("ethtool -K up{} tso off", i + 1))?;
        }
        Ok(())
    }

    /// A container on each of the first two hosts. Afterwards the control plane is stopped: what
    /// is measured is the data plane, which goes on without it, and nothing polls meanwhile.
    pub fn path(&self, name: &'static str) -> Result<Path> {
        let (client, server) = (self.container(0)?, self.container(1)?);
        let path = Path {
            name,
            client: (client.netns.name().to_owned(), client.ifname.clone()),
            server: (server.netns.name().to_owned(), server.address()?.to_string()),
        };
        run_in(&path.client.0, &format!("ping -c 3 -i 0.2 -W 2 {}", path.server.1))?;
        for service in [Service::Scheduler, Service::Api, Service::Postgres] {
            self.sandbox.stop(&service)?;
        }
        Ok(path)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Err(error) = sandbox::down(self.sandbox.layout(), false, Progress::Silent) {
            eprintln!("the sandbox of the bench is not gone, run ./dev down: {error:#}");
        }
    }
}

/// From the request for a port to ACTIVE, `count` times, one after the other.
pub fn provisioning(count: usize) -> Result<()> {
    let ours = Ours::up("bench", 4, "auto")?;
    // The first ports also wait for the placement of a new subnet's bouncers.
    provisioning::measure(&ours.sandbox, &ours.admin, ours.network.id, ours.subnet.id, 4)?;
    let samples = provisioning::measure(&ours.sandbox, &ours.admin, ours.network.id, ours.subnet.id, count)?;
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
            row("feed, wiring (attach call)", |s| s.attach),
            row("acknowledged by bouncers", |s| s.active),
            row("all", Sample::total),
        ],
    );
    Ok(())
}
