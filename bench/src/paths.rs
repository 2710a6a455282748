//! The peers: two hosts on one underlay bridge, a container on each, joined by what is measured.
//!
//! ```text
//! c1 [e0] -- [v0] h1: bridge or nothing -- [u0] -- u: bridge -- [u0] h2 -- [v0] -- [e0] c2
//! ```
//! All in namespaces of the bench's own prefix; the machine's network is not touched.

use crate::{
    figures::PORTS,
    shell::{run, run_in, run_with},
};
use anyhow::{Context, Result};

/// Two namespaces between which traffic can be measured.
#[derive(Clone, Debug)]
pub struct Path {
    /// As the table calls it.
    pub name: &'static str,
    /// Namespace of the client, and its interface.
    pub client: (String, String),
    /// Namespace of the server, and its address.
    pub server: (String, String),
}

/// What joins the two containers of a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Bridges only: the container's frames cross the underlay as they are.
    Bridge,
    /// The same, and each host lets in to its container only what it has rules for and what comes back.
    Filtered,
    /// The kernel's VXLAN device on a bridge.
    Vxlan,
}

/// A peer's namespaces; removed with this value.
pub struct Peer {
    prefix: &'static str,
    /// Where to measure.
    pub path: Path,
}

/// What a group with rules for the servers of the bench says of a container, in the words of nftables:
/// everything may go out, these may come in, and what belongs to a connection passes.
///
/// In the table of IPv4, which what is bridged passes with `bridge-nf-call-iptables`: tracking in the table
/// of bridges is a part that many kernels are built without.
fn filter(container: &str) -> String {
    let ports: Vec<String> = PORTS.iter().map(u16::to_string).collect();
    format!(
        "table ip bench {{
            chain forward {{
                type filter hook forward priority 0; policy drop;
                ct state established,related accept
                ip saddr {container} ct state new accept
                ip daddr {container} ct state new tcp dport {{ {} }} accept
                ip daddr {container} ct state new icmp type echo-request accept
            }}
        }}
",
        ports.join(", ")
    )
}

const ROLES: [&str; 5] = ["u", "h1", "h2", "c1", "c2"];

impl Peer {
    /// Makes the topology.
    pub fn make(join: Join) -> Result<Self> {
        let (prefix, name, mtu) = match join {
            Join::Bridge => ("mzb-b", "veth+bridge, no overlay", 1500),
            Join::Filtered => ("mzb-f", "veth+bridge, nftables conntrack", 1500),
            Join::Vxlan => ("mzb-x", "kernel VXLAN+bridge", 1450),
        };
        let ns = |role: &str| format!("{prefix}-{role}");
        let peer = Self {
            prefix,
            path: Path { name, client: (ns("c1"), "e0".into()), server: (ns("c2"), "10.77.0.2".into()) },
        };
        peer.remove();
        for role in ROLES {
            run(&format!("ip netns add {}", ns(role)))?;
            run(&format!("ip -n {} link set lo up", ns(role)))?;
        }
        let u = ns("u");
        run(&format!("ip -n {u} link add br0 type bridge"))?;
        run(&format!("ip -n {u} link set br0 up"))?;
        for i in 1..=2 {
            let (h, c) = (ns(&format!("h{i}")), ns(&format!("c{i}")));
            run(&format!("ip link add u0 netns {h} mtu 1500 type veth peer name p{i} netns {u}"))?;
            run(&format!("ip -n {u} link set p{i} master br0 up"))?;
            run(&format!("ip -n {h} link set u0 up"))?;
            run(&format!("ip link add v0 netns {h} mtu {mtu} type veth peer name e0 netns {c}"))?;
            run(&format!("ip -n {h} link set v0 up"))?;
            run(&format!("ip -n {c} link set e0 up mtu {mtu}"))?;
            run(&format!("ip -n {c} addr add 10.77.0.{i}/24 dev e0"))?;
            run(&format!("ip -n {h} link add br0 type bridge"))?;
            run(&format!("ip -n {h} link set br0 up"))?;
            run(&format!("ip -n {h} link set v0 master br0"))?;
            match join {
                Join::Bridge => {
                    run(&format!("ip -n {h} link set u0 master br0"))?;
                }
                Join::Filtered => {
                    run(&format!("ip -n {h} link set u0 master br0"))?;
                    run_with(&format!("ip netns exec {h} tee /proc/sys/net/bridge/bridge-nf-call-iptables"), "1\n")
                        .context("bridges do not pass their packets to nftables: is br_netfilter loaded?")?;
                    run_with(&format!("ip netns exec {h} nft -f -"), &filter(&format!("10.77.0.{i}")))
                        .context("nftables is missing, or the kernel's part of it: run ./dev setup")?;
                }
                Join::Vxlan => {
                    run(&format!("ip -n {h} addr add 172.31.0.{i}/24 dev u0"))?;
                    let remote = format!("172.31.0.{}", 3 - i);
                    run(&format!(
                        "ip -n {h} link add vx0 mtu {mtu} type vxlan id 5 local 172.31.0.{i} remote {remote} dstport 4789"
                    ))?;
                    run(&format!("ip -n {h} link set vx0 master br0 up"))?;
                }
            }
        }
        run_in(&peer.path.client.0, "ping -c 3 -i 0.2 -W 2 10.77.0.2")?;
        Ok(peer)
    }

    fn remove(&self) {
        for role in ROLES {
            // Absent unless an earlier run was ended by force.
            let _ = run(&format!("ip netns del {}-{role}", self.prefix));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.remove();
    }
}
