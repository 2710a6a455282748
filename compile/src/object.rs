//! One function per object.

use crate::Compiled;
use mizar_domain::model::{self, mapped, slot};
use mizar_wire::{Body, Scope, body};
use std::net::IpAddr;
use uuid::Uuid;

pub(crate) fn number_key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub(crate) fn id_key(id: impl Into<Uuid>) -> Vec<u8> {
    id.into().as_bytes().to_vec()
}

fn address_key(id: impl Into<Uuid>, address: IpAddr) -> Vec<u8> {
    let mut key = id_key(id);
    key.extend(mapped(address));
    key
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn host(host: &model::Host) -> Compiled {
    let model::Host { number, name, underlay } = host;
    let mut out = Compiled::default();
    let body = body::Host { number: *number, name: name.clone(), underlay: *underlay };
    out.put(Scope::Cluster, 0, number_key(*number), Body::Host(body));
    out
}

pub(crate) fn cluster_key(key: &model::ClusterKey) -> Compiled {
    let model::ClusterKey { id, key, signs } = key;
    let mut out = Compiled::default();
    let body = body::ClusterKey { id: *id, key: hex(key), signs: *signs };
    out.put(Scope::Cluster, 0, number_key(u32::from(*id)), Body::ClusterKey(body));
    out
}

/// The dividers of a network need to know that they are, and everything its senders know.
pub(crate) fn network(network: &model::Network) -> Compiled {
    let model::Network { id, vni, mtu } = *network;
    let mut out = Compiled::default();
    out.put(Scope::Network(vni), 0, id_key(id), Body::Network(body::Network { id: id.uuid(), vni, mtu }));
    out.put(Scope::Dividers(vni), 0, id_key(id), Body::DividerRole(body::DividerRole { vni }));
    out.include(Scope::Dividers(vni), Scope::Network(vni));
    out
}

/// Dividers send to every subnet's bouncers; bouncers of one name each other as siblings. Both
/// need its shard map. A bouncer also needs the network's subnets: an address is known to be of
/// this subnet, and so its sibling found, by its route, also on a host without a port of it.
pub(crate) fn subnet(subnet: &model::Subnet) -> Compiled {
    let model::Subnet { id, number, vni, cidr, gateway, dhcp, dns, routes } = subnet;
    let mut out = Compiled::default();
    let body = body::Subnet {
        id: id.uuid(),
        number: *number,
        vni: *vni,
        cidr: *cidr,
        gateway: *gateway,
        dhcp: *dhcp,
        dns: dns.clone(),
        routes: routes
            .iter()
            .map(|route| body::HostRoute { destination: route.destination, nexthop: route.nexthop })
            .collect(),
    };
    out.put(Scope::Network(*vni), 0, id_key(*id), Body::Subnet(body));
    out.include(Scope::Dividers(*vni), Scope::Senders(*number));
    out.include(Scope::Subnet(*number), Scope::Senders(*number));
    out.include(Scope::Subnet(*number), Scope::Network(*vni));
    out
}

/// A bound port is an entry of its host, and one of the bouncers of each address. While packets
/// may still be on their way to the host that it left, that host is told where it went.
///
/// The bounce entries name the host by number, so a changed underlay address rewrites one entry
/// of the cluster, not one per port. Likewise they name security groups, whose rules reach the
/// bouncers by an include of the slot and the host by one of its own: a rule changes one entry,
/// and whoever makes a port meanwhile does not have to know.
pub(crate) fn port(port: &model::BoundPort) -> Compiled {
    let model::BoundPort {
        id,
        number,
        generation,
        name,
        vni,
        mac,
        fixed_ips,
        pairs,
        port_security,
        admin_up,
        set,
        dhcp_options,
        host,
        moved_from,
    } = port;
    let (number, generation, vni) = (*number, *generation, *vni);
    let set = set.as_ref().map(crate::policy::set_body);
    let groups: &[u32] = set.as_ref().map_or(&[], |set| &set.groups);
    let project = set.as_ref().and_then(|set| Some(set.labels.as_ref()?.project));
    let mut out = Compiled::default();
    if let Some(host) = *host {
        let body = body::Port {
            id: id.uuid(),
            number,
            generation,
            name: name.clone(),
            vni,
            mac: mac.to_string(),
            fixed_ips: fixed_ips.iter().map(|ip| body::FixedIp { address: ip.address, subnet: ip.subnet }).collect(),
            pairs: pairs
                .iter()
                .map(|pair| body::AddressPair { cidr: pair.cidr, mac: pair.mac.map(|mac| mac.to_string()) })
                .collect(),
            port_security: *port_security,
            admin_up: *admin_up,
            set: set.clone(),
            dhcp_options: dhcp_options
                .iter()
                .map(|option| body::DhcpOption { code: option.code, value: hex(&option.value) })
                .collect(),
        };
        out.put(Scope::Host(host), 0, id_key(*id), Body::Port(body));
        out.include(Scope::Host(host), Scope::Network(vni));
        for group in groups {
            out.include(Scope::Host(host), Scope::Member(*group));
        }
        if let Some(project) = project {
            out.include(Scope::Host(host), Scope::LabelEgress(project));
        }
        for &model::FixedIp { subnet, address } in fixed_ips {
            let slot = slot(subnet, address);
            let body = body::Bounce { vni, address, subnet, host, port: number, generation, set: set.clone() };
            out.put(Scope::Subnet(subnet), slot, address_key(*id, address), Body::Bounce(body));
            out.include(Scope::Host(host), Scope::Senders(subnet));
            for group in groups {
                out.include_at(Scope::Subnet(subnet), slot, Scope::Group(*group));
            }
            if let Some(project) = project {
                out.include_at(Scope::Subnet(subnet), slot, Scope::LabelIngress(project));
            }
        }
    }
    if let Some(former) = moved_from.filter(|former| Some(*former) != *host) {
        let body = body::MovedPort {
            number,
            generation,
            vni,
            addresses: fixed_ips.iter().map(|ip| ip.address).collect(),
            host: host.unwrap_or(0),
        };
        out.put(Scope::Host(former), 0, id_key(*id), Body::MovedPort(body));
    }
    out
}

pub(crate) fn shard_map(map: &model::ShardMap) -> Compiled {
    let model::ShardMap { id, subnet, log2, shards } = map;
    let mut out = Compiled::default();
    let body = body::ShardMap { subnet: *subnet, log2: *log2, shards: shards.clone() };
    out.put(Scope::Senders(*subnet), 0, id_key(*id), Body::ShardMap(body));
    out
}

pub(crate) fn divider_set(set: &model::DividerSet) -> Compiled {
    let model::DividerSet { id, vni, pairs } = set;
    let mut out = Compiled::default();
    let body = body::DividerSet { vni: *vni, pairs: pairs.clone() };
    out.put(Scope::Network(*vni), 0, id_key(*id), Body::DividerSet(body));
    out
}
