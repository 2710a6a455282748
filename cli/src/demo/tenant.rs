//! What a tenant of the demo has: a network with two subnets, a port of each on every host, and
//! one port at an address that the other tenant has not.

use crate::client::{Api, Network, Port, PortRequest, Subnet};
use crate::sandbox::Sandbox;
use crate::sandbox::endpoint::{Endpoint, Kind};
use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// Both tenants' network.
const NETWORK: &str = "demo";

/// A tenant with its attached ports.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub endpoints: Vec<Endpoint>,
}

/// A port of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `a1`, `b3`, `own`.
    pub label: String,
    /// 0 or 1.
    pub subnet: usize,
    /// Its address.
    pub address: Ipv4Addr,
    /// Index of its host.
    pub host: usize,
}

/// The tenants' subnets, the same for both.
pub fn cidrs() -> [Ipv4Net; 2] {
    [1, 2].map(|n| Ipv4Net::new_assert(Ipv4Addr::new(10, 0, n, 0), 24))
}

/// Ports of a tenant over `hosts` hosts: one of each subnet per host; a second of the first
/// subnet on the first host; and its own, on the last host, at an address that no other `index`
/// has.
pub fn places(hosts: usize, index: u8) -> Vec<Place> {
    let place = |label: String, subnet: usize, last: u8, host: usize| Place {
        label,
        subnet,
        address: Ipv4Addr::new(10, 0, if subnet == 0 { 1 } else { 2 }, last),
        host,
    };
    let mut places = Vec::new();
    for host in 0..hosts {
        let last = 11 + u8::try_from(host).expect("a sandbox has at most 200 hosts");
        places.push(place(format!("a{}", host + 1), 0, last, host));
        places.push(place(format!("b{}", host + 1), 1, last, host));
    }
    places.push(place("a1-too".into(), 0, 10, 0));
    places.push(place("own".into(), 0, 240 + index, hosts - 1));
    places
}

impl Tenant {
    /// Makes what is missing of it and attaches every port.
    pub fn ensure(sandbox: &Sandbox, admin: &Api, name: &str) -> Result<Self> {
        let api = sandbox.tenant(name)?;
        let network = ensure_network(&api)?;
        let subnets = ensure_subnets(&api, &network)?;
        let existing = api.ports_of(network.id)?;
        let index = super::TENANTS.iter().position(|t| *t == name).context("not a tenant of the demo")?;
        let places = places(sandbox.hosts().len(), u8::try_from(index)?);
        let attach = |place: &Place| -> Result<Endpoint> {
            let port_name = format!("{name}-{}", place.label);
            let port = match existing.iter().find(|port| port.name == port_name) {
                Some(port) => port.clone(),
                None => api.create_port(&PortRequest {
                    name: &port_name,
                    network: network.id,
                    subnet: subnets[place.subnet].id,
                    address: Some(IpAddr::V4(place.address)),
                })?,
            };
            sandbox.attach(admin, &port, &sandbox.hosts()[place.host].name, Kind::Container)
        };
        Ok(Self { name: name.to_owned(), endpoints: in_parallel(&places, attach)? })
    }

    /// Its endpoint at a place of the plan.
    pub fn endpoint(&self, label: &str) -> Option<&Endpoint> {
        let wanted = format!("{}-{label}", self.name);
        self.endpoints.iter().find(|endpoint| endpoint.name == wanted)
    }
}

fn ensure_network(api: &Api) -> Result<Network> {
    match api.networks_named(NETWORK)?.into_iter().next() {
        Some(network) => Ok(network),
        None => api.create_network(NETWORK),
    }
}

fn ensure_subnets(api: &Api, network: &Network) -> Result<Vec<Subnet>> {
    let existing = api.subnets_of(network.id)?;
    cidrs()
        .iter()
        .zip(["a", "b"])
        .map(|(cidr, name)| match existing.iter().find(|subnet| subnet.name == name) {
            Some(subnet) => Ok(subnet.clone()),
            None => api.create_subnet(network.id, name, IpNet::V4(*cidr)),
        })
        .collect()
}

/// Does `work` on all items, eight at a time, and returns the results in order or the first error.
pub fn in_parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> Result<O> + Sync) -> Result<Vec<O>> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match items.get(at) {
                Some(item) => done.push((at, work(item))),
                None => return done,
            }
        }
    };
    let mut all = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8.min(items.len())).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// The port of an endpoint as the API's type, for calls that want one.
pub fn port_of(api: &Api, endpoint: &Endpoint) -> Result<Port> {
    api.port(endpoint.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tenants_share_every_address_but_their_own() {
        let addresses = |index| places(4, index).into_iter().map(|p| p.address).collect::<BTreeSet<_>>();
        let (red, blue) = (addresses(0), addresses(1));
        assert_eq!(red.len(), 10, "no address twice in one network");
        assert_eq!(red.symmetric_difference(&blue).count(), 2);
    }

    #[test]
    fn every_host_carries_a_port_of_each_subnet() {
        for host in 0..7 {
            let here: BTreeSet<_> = places(7, 0).into_iter().filter(|p| p.host == host).map(|p| p.subnet).collect();
            assert_eq!(here, BTreeSet::from([0, 1]));
        }
    }

    #[test]
    fn results_of_parallel_work_keep_their_order() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            in_parallel(&items, |i| Ok(i * 2)).expect("no error"),
            items.iter().map(|i| i * 2).collect::<Vec<_>>()
        );
        assert!(in_parallel(&items, |i| if *i == 50 { Err(anyhow::anyhow!("no")) } else { Ok(()) }).is_err());
    }
}
