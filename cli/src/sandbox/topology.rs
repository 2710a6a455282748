//! The wires: an underlay namespace with a bridge, and a namespace per host with an uplink to it.
//!
//! ```text
//! mz-NAME-u:      br0 172.31.0.1/24 --- up1 up2 up3 ...     (the API's agent listener is here)
//! mz-NAME-host1:  uplink 172.31.0.11/24 -- up1
//! ```

use super::layout::{HostPlan, Layout, UNDERLAY_API, UNDERLAY_PREFIX};
use super::netns::{Netns, run};
use anyhow::{Context, Result};

/// Name of a host's interface to the underlay.
pub const UPLINK: &str = "uplink";

/// Makes what is missing. `xdp` says that hosts run XDP on their uplinks.
pub fn up(layout: &Layout, hosts: &[HostPlan], mtu: u32, xdp: bool) -> Result<()> {
    let underlay = Netns::named(layout.underlay_netns());
    if !underlay.exists() {
        underlay.create()?;
        underlay.ip(&format!(
            "link add br0 type bridge\n\
             link set br0 up mtu {mtu}\n\
             address add {UNDERLAY_API}/{UNDERLAY_PREFIX} dev br0\n"
        ))?;
    }
    for host in hosts {
        let namespace = Netns::named(layout.host_netns(&host.name));
        if !namespace.exists() {
            wire(&underlay, &namespace, host, mtu, xdp).with_context(|| format!("cannot wire {}", host.name))?;
        }
    }
    Ok(())
}

fn wire(underlay: &Netns, namespace: &Netns, host: &HostPlan, mtu: u32, xdp: bool) -> Result<()> {
    let bridge_end = bridge_end(host);
    namespace.create()?;
    namespace.ip(&format!(
        "link add {UPLINK} mtu {mtu} address 02:6d:00:00:00:{:02x} type veth peer name {bridge_end} mtu {mtu} netns {}\n\
         address add {}/{UNDERLAY_PREFIX} dev {UPLINK}\n\
         link set {UPLINK} up\n",
        host.index,
        underlay.name(),
        host.underlay,
    ))?;
    underlay.ip(&format!("link set {bridge_end} master br0 up\n"))?;
    if xdp {
        // What comes off a wire has its checksums; between veths they are left out, and a frame that
        // passed XDP no longer says so.
        run(namespace.command("ethtool")?.args(["-K", UPLINK, "tx", "off"]))
            .context("ethtool (package ethtool) failed")?;
    }
    // A frame that XDP sends out of a veth (XDP_TX) reaches the peer only if the peer has NAPI,
    // and GRO is what gives it one. Without it every bounced packet is lost, silently.
    run(underlay.command("ethtool")?.args(["-K", &bridge_end, "gro", "on"]))
        .context("ethtool (package ethtool) failed")?;
    Ok(())
}

/// The switch's end of a host's cable, in the underlay's namespace.
pub fn bridge_end(host: &HostPlan) -> String {
    format!("up{}", host.index)
}

/// MAC of a host's uplink.
pub const fn mac(host: &HostPlan) -> [u8; 6] {
    [0x02, 0x6d, 0, 0, 0, host.index]
}

/// Takes a host off the underlay, or puts it back: a pulled cable.
pub fn set_cable(layout: &Layout, host: &HostPlan, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    Netns::named(layout.underlay_netns()).ip(&format!("link set {} {state}\n", bridge_end(host)))
}
