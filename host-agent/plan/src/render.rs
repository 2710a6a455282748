//! One entry to the map entries that it claims.

use crate::table::{Key, Prefix, Value, address};
use mizar_abi::maps::{
    Addr, Bounce, Cfg, Ep, EpKind, Moved, Route, RouteKind, Shard, ShardKey, UNFILTERED, VniAddress, addr_flag, ep_flag,
};
use mizar_wire::body::{self, Body};
use std::net::{IpAddr, Ipv4Addr};

/// What only this host knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The host's number.
    pub number: u32,
    /// Its underlay address.
    pub underlay: Ipv4Addr,
    /// Interface index of its uplink.
    pub uplink: u32,
    /// MTU of its uplink.
    pub mtu: u32,
    /// Whether XDP can send out of the uplink what came in there.
    pub xdp_tx: bool,
    /// Seconds that the kernel's TAI clock is ahead of UTC.
    pub tai_offset: i32,
}

/// An interface that exists on this host for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Index of the host's end.
    pub ifindex: u32,
    /// Index of the inner end if that is in the host's own namespace, else 0.
    pub inner_ifindex: u32,
    /// How packets are delivered.
    pub kind: EpKind,
}

/// A map entry that an entry of the feed wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Claim {
    pub key: Key,
    pub value: Value,
    /// Among claims of one key the highest is in force.
    pub rank: u64,
}

impl Claim {
    pub fn new(key: Key, value: Value) -> Self {
        Self { key, value, rank: 0 }
    }
}

/// What an entry may look up while it is rendered.
pub(crate) trait Context {
    fn network(&self, vni: u32) -> Option<&body::Network>;
    fn subnet(&self, number: u32) -> Option<&body::Subnet>;
    fn shard_map(&self, subnet: u32) -> Option<&body::ShardMap>;
    fn has_dividers(&self, vni: u32) -> bool;
    fn is_divider(&self, vni: u32) -> bool;
    fn wiring(&self, port: u32) -> Option<&Wiring>;
    /// The largest inner packet that the uplink takes.
    fn most(&self) -> u32;
}

/// Renders an entry. `Err` says for people why it cannot be in force now.
pub(crate) fn render(body: &Body, context: &impl Context) -> Result<Vec<Claim>, String> {
    match body {
        Body::Host(host) => Ok(vec![Claim::new(Key::Host(host.number), Value::Host(host.underlay.octets()))]),
        Body::ClusterKey(key) => parse_key(&key.key).map(|_| Vec::new()),
        Body::Network(network) => check_vni(network.vni).map(|()| Vec::new()),
        Body::DividerRole(role) => check_vni(role.vni).map(|()| Vec::new()),
        Body::Subnet(subnet) => route(subnet, context),
        Body::DividerSet(set) => dividers(set),
        Body::Port(port) => endpoint(port, context),
        Body::Bounce(bounce) => bounced(bounce),
        Body::ShardMap(map) => shards(map),
        Body::MovedPort(moved) => moved_port(moved),
        // Rendered together, for each set of groups that is in use here.
        Body::Group(_)
        | Body::Member(_)
        | Body::GroupSet(_)
        | Body::AddressGroup(_)
        | Body::LabelIngress(_)
        | Body::LabelEgress(_)
        | Body::LabelGeneration(_) => Ok(Vec::new()),
    }
}

fn check_vni(vni: u32) -> Result<(), String> {
    if vni == 0 || vni >= 1 << 24 { Err(format!("vni {vni} is not in 1 to 2^24 - 1")) } else { Ok(()) }
}

fn check_subnet(number: u32) -> Result<(), String> {
    if number >= 1 << 31 { Err(format!("subnet number {number} is not below 2^31")) } else { Ok(()) }
}

/// An IPv4 address for a field that holds nothing else; 0.0.0.0 otherwise.
fn v4(ip: Option<IpAddr>) -> [u8; 4] {
    match ip {
        Some(IpAddr::V4(ip)) => ip.octets(),
        _ => [0; 4],
    }
}

/// The subnet's route: to its bouncers where this host has their map (its own subnets, or all of
/// the network's if it is a divider), else to the network's dividers. Until one of the two is
/// known the destination is unreachable, which is no problem to report: the scheduler may not
/// have placed it yet.
fn route(subnet: &body::Subnet, context: &impl Context) -> Result<Vec<Claim>, String> {
    check_vni(subnet.vni)?;
    check_subnet(subnet.number)?;
    let (kind, shards, log2) = if let Some(map) = context.shard_map(subnet.number) {
        check_shards(map)?;
        (RouteKind::Bouncers, subnet.number, u32::from(map.log2))
    } else if !context.is_divider(subnet.vni) && context.has_dividers(subnet.vni) {
        (RouteKind::Dividers, ShardKey::dividers(subnet.vni), 0)
    } else {
        return Ok(Vec::new());
    };
    let value = Route {
        kind: kind as u32,
        subnet: subnet.number,
        shards,
        log2,
        gateway: v4(subnet.gateway),
        out_vni: subnet.vni,
        reserved: 0,
    };
    Ok(vec![Claim::new(Key::Route(Prefix::of(subnet.vni, &subnet.cidr)), Value::Route(value))])
}

fn check_shards(map: &body::ShardMap) -> Result<(), String> {
    check_subnet(map.subnet)?;
    if map.log2 > 12 || map.shards.len() != 1 << map.log2 {
        return Err(format!("shard map has {} shards for log2 {}, at most 12", map.shards.len(), map.log2));
    }
    Ok(())
}

fn shards(map: &body::ShardMap) -> Result<Vec<Claim>, String> {
    check_shards(map)?;
    let claim = |(shard, hosts): (u32, &[u32; 2])| {
        Claim::new(Key::Shard(ShardKey { set: map.subnet, shard }), Value::Shard(Shard { hosts: *hosts, pairs: 0 }))
    };
    Ok((0..).zip(&map.shards).map(claim).collect())
}

fn dividers(set: &body::DividerSet) -> Result<Vec<Claim>, String> {
    check_vni(set.vni)?;
    let pairs = u32::try_from(set.pairs.len()).map_err(|_| "divider set has too many pairs".to_owned())?;
    let claim = |(shard, hosts): (u32, &[u32; 2])| {
        let key = ShardKey { set: ShardKey::dividers(set.vni), shard };
        Claim::new(Key::Shard(key), Value::Shard(Shard { hosts: *hosts, pairs }))
    };
    Ok((0..).zip(&set.pairs).map(claim).collect())
}

/// The policy of a port as the maps name it.
fn policy(set: Option<&body::GroupSet>) -> u32 {
    set.map_or(UNFILTERED, |set| set.number)
}

fn bounced(bounce: &body::Bounce) -> Result<Vec<Claim>, String> {
    check_vni(bounce.vni)?;
    let set = policy(bounce.set.as_ref());
    let value = Bounce { host: bounce.host, ep_id: bounce.port, set, generation: bounce.generation };
    // An address that one port gave up and another took is known by two entries until the first
    // one's removal arrives: the bound one counts, and of two bound ones the younger port's.
    let rank = u64::from(bounce.host != 0) << 32 | u64::from(bounce.port);
    Ok(vec![Claim {
        key: Key::Bounce(VniAddress::new(bounce.vni, address(bounce.address))),
        value: Value::Bounce(value),
        rank,
    }])
}

fn moved_port(moved: &body::MovedPort) -> Result<Vec<Claim>, String> {
    check_vni(moved.vni)?;
    // The entry is removed from the feed when its time is over; a deadline of its own in the map
    // would end it while the API is away, when nothing else can have changed either.
    let value = Moved { host: moved.host, ep_id: moved.number, generation: moved.generation, until: u32::MAX };
    let claim = |ip: &IpAddr| Claim {
        key: Key::Moved(VniAddress::new(moved.vni, address(*ip))),
        value: Value::Moved(value),
        rank: u64::from(moved.number),
    };
    Ok(moved.addresses.iter().map(claim).collect())
}

fn endpoint(port: &body::Port, context: &impl Context) -> Result<Vec<Claim>, String> {
    check_vni(port.vni)?;
    if port.number == 0 {
        return Err("port number 0 is reserved".to_owned());
    }
    let mac = parse_mac(&port.mac)?;
    let network = context.network(port.vni).ok_or_else(|| format!("waits for the network of VNI {}", port.vni))?;
    let mut gateway = [0; 4];
    for fixed in &port.fixed_ips {
        let subnet = context.subnet(fixed.subnet).ok_or_else(|| format!("waits for subnet number {}", fixed.subnet))?;
        if gateway == [0; 4] {
            gateway = v4(subnet.gateway);
        }
    }
    let pair_macs: Result<Vec<_>, String> =
        port.pairs.iter().map(|pair| pair.mac.as_deref().map_or(Ok(mac), parse_mac)).collect();
    pair_macs.map_err(|e| format!("address pair: {e}"))?;
    let Some(wiring) = context.wiring(port.number) else {
        return Ok(Vec::new());
    };

    let mut flags = 0;
    if !port.port_security {
        flags |= ep_flag::ANY_SOURCE;
    }
    if !port.admin_up {
        flags |= ep_flag::DOWN;
    }
    let ep = Ep {
        vni: port.vni,
        ifindex: wiring.ifindex,
        inner_ifindex: wiring.inner_ifindex,
        set: policy(port.set.as_ref()),
        generation: port.generation,
        mtu: network.mtu.min(context.most()),
        mac,
        kind: wiring.kind as u8,
        flags,
        gateway,
        ..Ep::default()
    };
    let mut claims = vec![
        Claim::new(Key::Ep(port.number), Value::Ep(ep)),
        Claim::new(Key::Iface(wiring.ifindex), Value::Iface(port.number)),
    ];
    // An address of a port's own counts before another port's allowed pair.
    let own = |fixed: &body::FixedIp| Claim {
        key: Key::Addr(Prefix::single(port.vni, fixed.address)),
        value: Value::Addr(Addr { ep_id: port.number, flags: addr_flag::OWN }),
        rank: 1 << 32 | u64::from(port.number),
    };
    let pair = |pair: &body::AddressPair| Claim {
        key: Key::Addr(Prefix::of(port.vni, &pair.cidr)),
        value: Value::Addr(Addr { ep_id: port.number, flags: addr_flag::PAIR }),
        rank: u64::from(port.number),
    };
    claims.extend(port.fixed_ips.iter().map(own));
    for claim in port.pairs.iter().map(pair) {
        if !claims.iter().any(|c| c.key == claim.key) {
            claims.push(claim);
        }
    }
    Ok(claims)
}

/// The host's configuration and the cluster's keys.
///
/// A key stays in its place while it is held, for the programs read while the agent writes: ids
/// rise by one, so that their parity is their place. Of more than two keys the signing one and
/// its successor are kept, else its predecessor. Without a signing key `sign` names an empty
/// place: this host verifies, but signs nothing.
pub(crate) fn configuration<'a>(facts: &Facts, keys: impl Iterator<Item = &'a body::ClusterKey>) -> Cfg {
    let mut known: Vec<(u8, [u8; 16], bool)> =
        keys.filter(|k| k.id != 0).filter_map(|k| Some((k.id, parse_key(&k.key).ok()?, k.signs))).collect();
    known.sort_unstable();
    known.dedup_by_key(|k| k.0);
    // Distance on the circle of 255 ids; the larger half is behind.
    let ahead = |from: u8, to: u8| (u32::from(to) + 255 - u32::from(from)) % 255;
    let signing =
        known.iter().filter(|k| k.2).max_by_key(|k| (known.iter().filter(|o| ahead(o.0, k.0) < 128).count(), k.0));
    let mut cfg = Cfg {
        host: facts.underlay.octets(),
        number: facts.number,
        uplink: facts.uplink,
        underlay_mtu: facts.mtu,
        xdp_tx: u8::from(facts.xdp_tx),
        tai_offset: facts.tai_offset,
        ..Cfg::default()
    };
    match signing {
        Some(&(id, key, _)) => {
            let place = usize::from(id % 2);
            (cfg.key_ids[place], cfg.keys[place], cfg.sign) = (id, key, place as u8);
            let other = known.iter().filter(|k| k.0 != id).min_by_key(|k| {
                let distance = ahead(id, k.0);
                if distance < 128 { (0, distance) } else { (1, 255 - distance) }
            });
            if let Some(&(id, key, _)) = other {
                (cfg.key_ids[1 - place], cfg.keys[1 - place]) = (id, key);
            }
        }
        None => {
            if let Some(&(id, key, _)) = known.last() {
                let place = usize::from(id % 2);
                (cfg.key_ids[place], cfg.keys[place], cfg.sign) = (id, key, 1 - place as u8);
            }
        }
    }
    cfg
}

/// Six bytes in colon notation.
pub fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte =
            part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| format!("{text:?} is no MAC address"))?;
    }
    if parts.next().is_some() { Err(format!("{text:?} is no MAC address")) } else { Ok(mac) }
}

fn parse_key(text: &str) -> Result<[u8; 16], String> {
    // The text is a secret: the error does not repeat it.
    let malformed = || "cluster key is not 32 hexadecimal digits".to_owned();
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(malformed());
    }
    let mut key = [0; 16];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).map_err(|_| malformed())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts =
        Facts { number: 7, underlay: Ipv4Addr::new(10, 0, 0, 7), uplink: 2, mtu: 1500, xdp_tx: true, tai_offset: 37 };

    fn key(id: u8, signs: bool) -> body::ClusterKey {
        body::ClusterKey { id, key: format!("{:032x}", id), signs }
    }

    #[test]
    fn rotation_leaves_the_signing_key_in_its_place() {
        let before = configuration(&FACTS, [key(4, false), key(5, true)].iter());
        let during = configuration(&FACTS, [key(4, false), key(5, true), key(6, false)].iter());
        let after = configuration(&FACTS, [key(5, false), key(6, true)].iter());
        assert_eq!((before.key_ids, before.sign), ([4, 5], 1));
        assert_eq!((during.key_ids, during.sign), ([6, 5], 1));
        assert_eq!((after.key_ids, after.sign), ([6, 5], 0));
        assert_eq!(after.keys, during.keys);
    }

    #[test]
    fn ids_wrap_from_255_to_1() {
        let cfg = configuration(&FACTS, [key(254, false), key(255, true), key(1, false)].iter());
        assert_eq!((cfg.key_ids, cfg.sign), ([1, 255], 1));
        let cfg = configuration(&FACTS, [key(255, true), key(1, true)].iter());
        assert_eq!((cfg.key_ids[usize::from(cfg.sign)], cfg.key_ids), (1, [255, 1]));
    }

    #[test]
    fn a_host_without_a_signing_key_signs_nothing_but_verifies() {
        let cfg = configuration(&FACTS, [key(3, false)].iter());
        assert_eq!(cfg.key_ids[usize::from(cfg.sign)], 0);
        assert!(cfg.key_ids.contains(&3));
        let none = configuration(&FACTS, [].iter());
        assert_eq!(none.key_ids, [0, 0]);
        assert_eq!(
            (none.number, none.host, none.uplink, none.underlay_mtu, none.tai_offset),
            (7, [10, 0, 0, 7], 2, 1500, 37)
        );
        let veth = configuration(&Facts { xdp_tx: false, ..FACTS }, [].iter());
        assert_eq!((none.xdp_tx, veth.xdp_tx), (1, 0));
    }

    #[test]
    fn macs_are_six_pairs_of_digits_and_nothing_else() {
        assert_eq!(parse_mac("fa:16:3e:00:0a:ff"), Ok([0xfa, 0x16, 0x3e, 0, 0x0a, 0xff]));
        for bad in
            ["", "fa:16:3e:00:0a", "fa:16:3e:00:0a:ff:00", "fa:16:3e:0:0a:ff", "fa:16:3e:+1:0a:ff", "fa-16-3e-00-0a-ff"]
        {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
