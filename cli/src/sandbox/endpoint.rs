//! Ports made real: bound by the administrator, attached by the host's agent.

use super::Sandbox;
use super::netns::Netns;
use crate::client::{Api, Port};
use anyhow::{Context, Result, bail};
use mizar_wire::local::{AttachKind, Attached};
use std::net::IpAddr;
use uuid::Uuid;

/// Name of the interface inside a container.
pub const IFNAME: &str = "eth0";

/// What a port is attached as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A namespace with a veth, configured.
    Container,
    /// A tap in the host's namespace, for a virtual machine.
    Tap,
    /// An interface in the host's own namespace.
    Host,
}

/// An attached port.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The port.
    pub port: Uuid,
    /// Its name.
    pub name: String,
    /// The host that it is on.
    pub host: String,
    /// Where its traffic starts: the container's namespace, or the host's.
    pub netns: Netns,
    /// Its interface there.
    pub ifname: String,
    /// As the agent made it.
    pub attached: Attached,
}

impl Endpoint {
    /// Its first address.
    pub fn address(&self) -> Result<IpAddr> {
        let first = self.attached.addresses.first();
        first.map(ipnet::IpNet::addr).with_context(|| format!("port {} has no address", self.name))
    }
}

impl Sandbox {
    /// Binds `port` to `host` and attaches it there; repeating it changes nothing. A port that was
    /// attached elsewhere moves: its namespace stays, its interface is made anew.
    pub fn attach(&self, admin: &Api, port: &Port, host: &str, kind: Kind) -> Result<Endpoint> {
        self.host(host)?;
        let former = admin.port(port.id)?.host;
        if former != host {
            admin.bind_port(port.id, host)?;
        }
        if !former.is_empty() && former != host && self.host(&former).is_ok() {
            self.agent(&former).detach(port.id)?;
        }
        self.attach_bound(port, host, kind)
    }

    /// Attaches a port that is bound to `host` already.
    pub fn attach_bound(&self, port: &Port, host: &str, kind: Kind) -> Result<Endpoint> {
        let (netns, ifname, kind) = match kind {
            Kind::Container => {
                let netns = Netns::named(self.layout.port_netns(port.id));
                netns.create()?;
                let path = netns.path().to_str().context("paths of namespaces are text")?.to_owned();
                (netns, IFNAME.to_owned(), AttachKind::Container { netns: path, ifname: IFNAME.into() })
            }
            Kind::Tap => (self.host_netns(host), tap_name(port.id), AttachKind::Tap),
            Kind::Host => {
                let ifname = format!("mz{}", &port.id.to_string()[..8]);
                (self.host_netns(host), ifname.clone(), AttachKind::Host { ifname })
            }
        };
        let attached = self
            .agent(host)
            .attach(port.id, kind)
            .with_context(|| format!("cannot attach port {} on {host}", port.name))?;
        Ok(Endpoint { port: port.id, name: port.name.clone(), host: host.into(), netns, ifname, attached })
    }

    /// Detaches a port where it is bound, unbinds it, and removes its namespace.
    pub fn detach(&self, admin: &Api, port: &Port) -> Result<()> {
        let bound = admin.port(port.id)?.host;
        if !bound.is_empty() && self.host(&bound).is_ok() {
            self.agent(&bound).detach(port.id)?;
            admin.bind_port(port.id, "")?;
        }
        Netns::named(self.layout.port_netns(port.id)).delete()
    }

    /// The namespace of an attached container port.
    pub fn container(&self, port: &Port) -> Result<Netns> {
        let netns = Netns::named(self.layout.port_netns(port.id));
        if !netns.exists() {
            bail!("PORT: {} is not attached as a container: `./dev attach {} --host HOST`", port.name, port.id);
        }
        Ok(netns)
    }
}

/// OpenStack's name of a port's tap.
fn tap_name(port: Uuid) -> String {
    format!("tap{}", &port.to_string()[..11])
}
