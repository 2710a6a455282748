//! A tenant of a scenario, with networks, subnets and attached ports.

use crate::bed::{Bed, PATIENCE};
use crate::command::Cli;
use anyhow::{Context, Result};
use ipnet::IpNet;
use mizar::client::{Api, Network, Port, PortRequest, Subnet};
use mizar::sandbox::endpoint::{Endpoint, Kind};
use mizar::sandbox::netns::Netns;
use mizar::sandbox::secrets::Secrets;
use std::net::IpAddr;

/// A project with one user.
pub struct Tenant<'a> {
    bed: &'a Bed,
    name: String,
    /// The user's client.
    pub api: Api,
}

/// A network with its subnets.
#[derive(Clone, Debug)]
pub struct Net {
    /// The network.
    pub network: Network,
    /// In the order in which they were asked for.
    pub subnets: Vec<Subnet>,
}

/// Where a port is wanted.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Index of the subnet.
    pub subnet: usize,
    /// Index of the host.
    pub host: usize,
    /// Its address, if it matters.
    pub address: Option<&'a str>,
    /// As what it is attached.
    pub kind: Kind,
}

/// A container in `subnet` on `host`.
pub fn at(subnet: usize, host: usize) -> At<'static> {
    At { subnet, host, address: None, kind: Kind::Container }
}

impl<'a> Tenant<'a> {
    pub(crate) fn create(bed: &'a Bed, index: u32) -> Result<Self> {
        let name = name(index);
        let password = Secrets::load(bed.sandbox.layout())?.of(&name)?;
        bed.admin.ensure_tenant(&name, &password)?;
        Self::reopen(bed, index)
    }

    pub(crate) fn reopen(bed: &'a Bed, index: u32) -> Result<Self> {
        let name = name(index);
        Ok(Self { bed, api: bed.sandbox.tenant(&name)?, name })
    }

    /// The real command, as its user signs in.
    pub fn cli(&self) -> Result<Cli> {
        Cli::of(self.bed, &self.name)
    }

    /// Deletes all that it has, itself included. Interfaces are not detached: that they go with
    /// their ports is part of what is tested.
    pub(crate) fn remove(self) -> Result<()> {
        for network in self.api.networks()? {
            let ports = self.api.ports_of(network.id)?;
            self.api.delete_network_whole(network.id)?;
            for port in ports {
                Netns::named(self.bed.sandbox.layout().port_netns(port.id)).delete()?;
            }
        }
        // The default group is the project's for as long as there is one.
        for (path, collection) in [
            ("security-groups", "security_groups"),
            ("address-groups", "address_groups"),
            ("label-policies", "label_policies"),
        ] {
            let all = self.api.get(&format!("/v2.0/{path}?fields=id&fields=name"))?;
            for one in all[collection].as_array().into_iter().flatten().filter(|one| one["name"] != "default") {
                let id = one["id"].as_str().context("no id in the answer")?;
                self.api.delete(&format!("/v2.0/{path}/{id}"))?;
            }
        }
        self.bed.admin.delete_tenant(&self.name)
    }

    /// A network with subnets, settled.
    pub fn network(&self, cidrs: &[&str]) -> Result<Net> {
        let network = self.api.create_network("net")?;
        let subnets = cidrs
            .iter()
            .enumerate()
            .map(|(index, cidr)| self.api.create_subnet(network.id, &format!("subnet{index}"), cidr.parse::<IpNet>()?))
            .collect::<Result<_>>()?;
        self.bed.settle()?;
        Ok(Net { network, subnets })
    }

    /// Makes a port.
    pub fn port(&self, net: &Net, subnet: usize, address: Option<&str>) -> Result<Port> {
        self.api.create_port(&PortRequest {
            name: &format!("{}-{subnet}", self.name),
            network: net.network.id,
            subnet: net.subnets[subnet].id,
            address: address.map(str::parse::<IpAddr>).transpose()?,
        })
    }

    /// Makes a port, attaches it, and waits until it is ACTIVE.
    pub fn endpoint(&self, net: &Net, at: At<'_>) -> Result<Endpoint> {
        let port = self.port(net, at.subnet, at.address)?;
        let endpoint = self.bed.sandbox.attach(&self.bed.admin, &port, self.bed.host(at.host), at.kind)?;
        self.api.wait_active(port.id, PATIENCE)?;
        Ok(endpoint)
    }

    /// Several at once; all know of each other's places when this returns.
    pub fn endpoints<const N: usize>(&self, net: &Net, places: [At<'_>; N]) -> Result<[Endpoint; N]> {
        let made = mizar::demo::tenant::in_parallel(&places, |at| self.endpoint(net, *at))?;
        self.bed.settle()?;
        made.try_into().ok().context("as many endpoints as places")
    }

    /// Deletes a port, and its namespace.
    pub fn delete_port(&self, endpoint: &Endpoint) -> Result<()> {
        self.api.delete(&format!("/v2.0/ports/{}", endpoint.port))?;
        Netns::named(self.bed.sandbox.layout().port_netns(endpoint.port)).delete()
    }
}

fn name(index: u32) -> String {
    format!("tenant{index}")
}
