//! A small cloud of loaded hosts: networks, subnets, roles and ports as the agent would write them
//! into the maps, and frames carried from host to host.

use crate::{
    frame::{Ip, assert_outer_is_sound, is_encapsulated, split},
    host::{Host, NEXT, Outcome, REDIRECT, SHOT, XDP_PASS, XDP_REDIRECT, XDP_TX},
    links,
};
use anyhow::{Context, Result, ensure};
use aya::EbpfLoader;
use mizar_abi::{
    hash::{shard_of, slot},
    mapped,
    maps::{
        Addr, Bounce, Cfg, Ep, EpKind, FlowKey, Moved, Route, RouteKind, Shard, ShardKey, UNFILTERED, VniAddress,
        addr_flag,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of hosts begin at 1, as in the database.
pub type HostNumber = u32;

/// A subnet and its roles.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its number.
    pub number: u32,
    /// VNI of its network.
    pub vni: u32,
    /// `[a, b, c, 0]/24`.
    pub cidr: [u8; 4],
    /// Pairs of bouncers; a power of two of them. 0 = no second one.
    pub bouncers: Vec<[HostNumber; 2]>,
}

/// A port, bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Number.
    pub ep_id: u32,
    /// VNI of its network.
    pub vni: u32,
    /// Number of its subnet.
    pub subnet: u32,
    /// Where it is.
    pub host: HostNumber,
    /// Address.
    pub address: [u8; 4],
    /// MAC.
    pub mac: [u8; 6],
    /// Interface.
    pub ifindex: u32,
    /// Generation of the binding.
    pub generation: u32,
    /// Its set of groups.
    pub set: u32,
}

impl Port {
    /// The key of a flow as this port sees it.
    pub fn flow(&self, proto: u8, lport: u16, remote: [u8; 4], rport: u16) -> FlowKey {
        FlowKey {
            vni_proto: self.vni << 8 | u32::from(proto),
            local: mapped(self.address),
            remote: mapped(remote),
            lport,
            rport,
        }
    }

    /// A packet of this port, ready to be sent.
    pub fn frame(&self, ip: Ip) -> Vec<u8> {
        Ip { mac: self.mac, ..ip }.frame()
    }
}

/// Where a frame ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At the endpoint with this MAC on this host.
    Delivered {
        /// The host.
        host: HostNumber,
        /// The endpoint's port number.
        ep_id: u32,
        /// What it got.
        frame: Vec<u8>,
    },
    /// Dropped by this host.
    Dropped(HostNumber),
    /// This host left it to its stack.
    Passed(HostNumber),
    /// Sent to an address that is no host of ours.
    Elsewhere([u8; 4]),
}

/// The way of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Hosts, the sender's first.
    pub hosts: Vec<HostNumber>,
    /// Frames on the underlay, in order.
    pub wire: Vec<Vec<u8>>,
    /// The end.
    pub end: End,
}

/// The cloud.
pub struct World {
    hosts: Vec<Host>,
    ports: BTreeMap<u32, Port>,
    subnets: BTreeMap<u32, Subnet>,
    dividers: BTreeMap<u32, Vec<[HostNumber; 2]>>,
    next_interface: BTreeMap<HostNumber, u32>,
    /// Is the XDP program in front of the uplink's tcx program?
    pub xdp: bool,
    /// Sets whose groups are stateless, when their rules are written.
    pub stateless: BTreeSet<u32>,
}

/// The cluster key of all tests.
pub const KEY: [u8; 16] = *b"a key of 16 byte";

/// Underlay address of a host.
pub const fn underlay(host: HostNumber) -> [u8; 4] {
    [172, 16, 0, host as u8]
}

/// A port's own MAC.
pub const fn mac_of(ep_id: u32) -> [u8; 6] {
    let [a, b, c, d] = ep_id.to_be_bytes();
    [0xfa, 0x16, a, b, c, d]
}

impl World {
    /// `hosts` hosts without anything. Must be called on the test's own thread, which moves into
    /// a network namespace of its own.
    pub fn new(hosts: u32) -> Result<Self> {
        Self::new_with(hosts, |_| {})
    }

    /// The same, the object loaded with settings.
    pub fn new_with(hosts: u32, settings: impl Fn(&mut EbpfLoader<'_>)) -> Result<Self> {
        links::private_namespace()?;
        let hosts = (1..=hosts)
            .map(|number| {
                let cfg = Cfg {
                    host: underlay(number),
                    number,
                    uplink: *links::IFINDEXES.end(),
                    underlay_mtu: 1500,
                    tai_offset: links::tai_offset(),
                    key_ids: [1, 0],
                    keys: [KEY, [0; 16]],
                    ..Cfg::default()
                };
                Host::load_with(cfg, &settings)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut world = Self {
            hosts,
            ports: BTreeMap::new(),
            subnets: BTreeMap::new(),
            dividers: BTreeMap::new(),
            next_interface: BTreeMap::new(),
            xdp: false,
            stateless: BTreeSet::new(),
        };
        for me in 0..world.hosts.len() {
            for other in 1..=world.hosts.len() as u32 {
                world.hosts[me].put("HOSTS", other, underlay(other))?;
            }
        }
        Ok(world)
    }

    /// Number of the last host.
    pub fn hosts(&self) -> HostNumber {
        self.hosts.len() as HostNumber
    }

    /// A host.
    pub fn host(&mut self, number: HostNumber) -> &mut Host {
        &mut self.hosts[number as usize - 1]
    }

    /// Makes a subnet.
    pub fn subnet(&mut self, vni: u32, number: u32, cidr: [u8; 4], bouncers: &[[HostNumber; 2]]) -> Result<()> {
        assert!(bouncers.len().is_power_of_two());
        self.subnets.insert(number, Subnet { number, vni, cidr, bouncers: bouncers.to_vec() });
        self.write_routes()
    }

    /// Names a network's dividers.
    pub fn dividers(&mut self, vni: u32, pairs: &[[HostNumber; 2]]) -> Result<()> {
        self.dividers.insert(vni, pairs.to_vec());
        self.write_routes()
    }

    /// Makes a port without port security in a subnet and binds it.
    pub fn port(&mut self, host: HostNumber, ep_id: u32, subnet: u32, last: u8) -> Result<Port> {
        self.port_of(UNFILTERED, host, ep_id, subnet, last)
    }

    /// The same for one with this set of groups.
    pub fn port_of(&mut self, set: u32, host: HostNumber, ep_id: u32, subnet: u32, last: u8) -> Result<Port> {
        let subnet = self.subnets[&subnet].clone();
        let mut address = subnet.cidr;
        address[3] = last;
        let port = Port {
            ep_id,
            vni: subnet.vni,
            subnet: subnet.number,
            host,
            address,
            mac: mac_of(ep_id),
            ifindex: 0,
            generation: 1,
            set,
        };
        let port = self.wire(port)?;
        self.announce(&port)?;
        Ok(port)
    }

    /// The port's host learns of it.
    fn wire(&mut self, mut port: Port) -> Result<Port> {
        let next = self.next_interface.entry(port.host).or_insert(*links::IFINDEXES.start());
        ensure!(*next < *links::IFINDEXES.end(), "too many ports on host {}", port.host);
        port.ifindex = *next;
        *next += 1;
        let mut gateway = self.subnets[&port.subnet].cidr;
        gateway[3] = 1;
        let ep = Ep {
            vni: port.vni,
            ifindex: port.ifindex,
            set: port.set,
            generation: port.generation,
            mtu: 1398,
            mac: port.mac,
            kind: EpKind::Veth as u8,
            gateway,
            ..Ep::default()
        };
        let host = self.host(port.host);
        host.put("IFACE", port.ifindex, port.ep_id)?;
        host.put("EP", port.ep_id, ep)?;
        let owner = Addr { ep_id: port.ep_id, flags: addr_flag::OWN };
        host.put_prefix("ADDR", VniAddress::BITS, VniAddress::new(port.vni, mapped(port.address)), owner)?;
        self.ports.insert(port.ep_id, port);
        self.write_routes()?;
        Ok(port)
    }

    /// The port's host forgets it.
    pub fn unwire(&mut self, port: &Port) -> Result<()> {
        let key = VniAddress::new(port.vni, mapped(port.address));
        let host = self.host(port.host);
        host.remove::<u32, u32>("IFACE", port.ifindex)?;
        host.remove::<u32, Ep>("EP", port.ep_id)?;
        host.remove_prefix::<_, Addr>("ADDR", VniAddress::BITS, key)
    }

    /// The port's bouncers learn where it is.
    pub fn announce(&mut self, port: &Port) -> Result<()> {
        let entry = Bounce { host: port.host, ep_id: port.ep_id, set: port.set, generation: port.generation };
        for bouncer in self.bouncers_of(port.subnet, port.address) {
            self.tell(bouncer, port, entry)?;
        }
        Ok(())
    }

    /// One bouncer learns where a port is.
    pub fn tell(&mut self, bouncer: HostNumber, port: &Port, entry: Bounce) -> Result<()> {
        self.host(bouncer).put("BOUNCE", VniAddress::new(port.vni, mapped(port.address)), entry)
    }

    /// The bouncers forget it.
    pub fn withdraw(&mut self, port: &Port) -> Result<()> {
        for bouncer in self.bouncers_of(port.subnet, port.address) {
            self.host(bouncer)
                .remove::<VniAddress, Bounce>("BOUNCE", VniAddress::new(port.vni, mapped(port.address)))?;
        }
        Ok(())
    }

    /// Hosts that hold an address of a subnet.
    pub fn bouncers_of(&self, subnet: u32, address: [u8; 4]) -> Vec<HostNumber> {
        let subnet = &self.subnets[&subnet];
        let log2 = subnet.bouncers.len().ilog2() as u8;
        let shard = shard_of(slot(subnet.number, &mapped(address)), log2);
        subnet.bouncers[usize::from(shard)].iter().copied().filter(|h| *h != 0).collect()
    }

    /// Binds a port to another host. The old host keeps MOVED; bouncers are told by `announce`.
    pub fn migrate(&mut self, port: &Port, to: HostNumber) -> Result<Port> {
        self.unwire(port)?;
        let moved = Moved { host: to, ep_id: port.ep_id, generation: port.generation + 1, until: u32::MAX };
        self.host(port.host).put("MOVED", VniAddress::new(port.vni, mapped(port.address)), moved)?;
        self.wire(Port { host: to, generation: port.generation + 1, ..*port })
    }

    /// Writes ROUTE and SHARD of every host from what it has and is.
    fn write_routes(&mut self) -> Result<()> {
        let subnets: Vec<Subnet> = self.subnets.values().cloned().collect();
        for number in 1..=self.hosts.len() as u32 {
            for subnet in &subnets {
                let vni = subnet.vni;
                let is_divider = self.dividers.get(&vni).is_some_and(|p| p.iter().flatten().any(|h| *h == number));
                let is_bouncer = subnet.bouncers.iter().flatten().any(|h| *h == number);
                let on = |p: &&Port| p.host == number && p.vni == vni;
                let has_own = self.ports.values().filter(on).any(|p| p.subnet == subnet.number);
                let mut gateway = subnet.cidr;
                gateway[3] = 1;
                let to_bouncers = is_divider || is_bouncer || has_own;
                let route = Route {
                    kind: if to_bouncers { RouteKind::Bouncers } else { RouteKind::Dividers } as u32,
                    subnet: subnet.number,
                    shards: if to_bouncers { subnet.number } else { ShardKey::dividers(vni) },
                    log2: if to_bouncers { subnet.bouncers.len().ilog2() } else { 0 },
                    gateway,
                    out_vni: vni,
                    reserved: 0,
                };
                let pairs = if to_bouncers {
                    subnet.bouncers.clone()
                } else {
                    self.dividers.get(&vni).cloned().unwrap_or_default()
                };
                let held = if to_bouncers { 0 } else { pairs.len() as u32 };
                if !to_bouncers && !self.ports.values().any(|p| on(&p)) {
                    continue;
                }
                let host = self.host(number);
                host.put_prefix("ROUTE", 32 + 96 + 24, VniAddress::new(vni, mapped(subnet.cidr)), route)?;
                for (i, hosts) in pairs.into_iter().enumerate() {
                    let key = ShardKey { set: route.shards, shard: i as u32 };
                    host.put("SHARD", key, Shard { hosts, pairs: held })?;
                }
            }
        }
        Ok(())
    }

    /// Sends a frame from a port and follows it.
    pub fn send(&mut self, from: &Port, frame: &[u8]) -> Result<Journey> {
        self.send_segmented(from, frame, 0)
    }

    /// The same for a packet that the kernel will segment.
    pub fn send_segmented(&mut self, from: &Port, frame: &[u8], gso_size: u32) -> Result<Journey> {
        let outcome = self.host(from.host).run("endpoint_egress", frame, from.ifindex, gso_size)?;
        let journey = Journey { hosts: vec![from.host], wire: Vec::new(), end: End::Dropped(from.host) };
        self.follow(outcome, journey, gso_size)
    }

    /// Puts a frame on the underlay towards a host.
    pub fn arrive(&mut self, host: HostNumber, frame: &[u8]) -> Result<Journey> {
        let journey = Journey { hosts: vec![host], wire: Vec::new(), end: End::Dropped(host) };
        let outcome = self.receive(host, frame, 0)?;
        self.follow(outcome, journey, 0)
    }

    fn receive(&mut self, host: HostNumber, frame: &[u8], gso_size: u32) -> Result<Outcome> {
        let uplink = self.host(host).cfg.uplink;
        if self.xdp {
            let outcome = self.host(host).run(crate::host::XDP, frame, 0, 0)?;
            match outcome.verdict {
                XDP_TX | XDP_REDIRECT => return Ok(Outcome { verdict: REDIRECT, ..outcome }),
                XDP_PASS => ensure!(outcome.frame == frame, "XDP passed a packet on that it had changed"),
                other => return Ok(Outcome { verdict: if other == 1 { SHOT } else { other }, ..outcome }),
            }
        }
        self.host(host).run("uplink_tcx", frame, uplink, gso_size)
    }

    fn follow(&mut self, mut outcome: Outcome, mut journey: Journey, gso_size: u32) -> Result<Journey> {
        loop {
            let here = *journey.hosts.last().context("a journey begins somewhere")?;
            journey.end = match outcome.verdict {
                SHOT => End::Dropped(here),
                NEXT => End::Passed(here),
                REDIRECT if is_encapsulated(&outcome.frame) => {
                    if gso_size == 0 {
                        assert_outer_is_sound(&outcome.frame);
                    }
                    let (to, _) = split(&outcome.frame);
                    ensure!(to != underlay(here), "host {here} sent a frame to itself");
                    ensure!(journey.hosts.len() < 16, "a loop: {:?}", journey.hosts);
                    journey.wire.push(outcome.frame.clone());
                    let next = u32::from(to[3]);
                    if to[..3] != [172, 16, 0] || !(1..=self.hosts.len() as u32).contains(&next) {
                        journey.end = End::Elsewhere(to);
                        return Ok(journey);
                    }
                    journey.hosts.push(next);
                    outcome = self.receive(next, &outcome.frame, gso_size)?;
                    continue;
                }
                REDIRECT => {
                    let mac: [u8; 6] = outcome.frame[..6].try_into()?;
                    let port = self.ports.values().find(|p| p.mac == mac).context("a frame for no port's MAC")?;
                    ensure!(port.host == here, "host {here} gave a frame to a port of host {}", port.host);
                    End::Delivered { host: here, ep_id: port.ep_id, frame: outcome.frame }
                }
                other => anyhow::bail!("verdict {other} on host {here}"),
            };
            return Ok(journey);
        }
    }

    /// Counters and drops of all hosts, those that are not 0.
    pub fn counts(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for host in &self.hosts {
            let number = host.cfg.number;
            for (name, value) in host.counters()? {
                counts.insert(format!("h{number} {name}"), value);
            }
            for ((ep_id, name), value) in host.drops()? {
                counts.insert(format!("h{number} p{ep_id} dropped {name}"), value);
            }
        }
        for host in &mut self.hosts {
            host.forget_counts()?;
        }
        Ok(counts)
    }

    /// Sends a frame that must reach the other port, and returns the hosts on its way.
    pub fn deliver(&mut self, from: &Port, to: &Port, ip: Ip) -> Vec<HostNumber> {
        let frame = from.frame(ip);
        let journey = self.send(from, &frame).expect("the programs run");
        match &journey.end {
            End::Delivered { ep_id, frame: got, .. } if *ep_id == to.ep_id => {
                assert_eq!(got[34..], frame[34..], "what is above IPv4 is untouched");
                assert_eq!(got[6..12], mizar_abi::VIRTUAL_MAC);
            }
            _ => panic!("not delivered: {journey:?}; {:?}", self.counts()),
        }
        journey.hosts
    }

    /// Sends what must not arrive, and says where it was.
    pub fn assert_refused(&mut self, from: &Port, ip: Ip) -> Vec<HostNumber> {
        let journey = self.send(from, &from.frame(ip)).expect("the programs run");
        assert!(matches!(journey.end, End::Dropped(_)), "{journey:?}");
        journey.hosts
    }

    /// A TCP handshake and a little data, all of which must arrive; afterwards both ways must be
    /// direct. Returns the way of the first packet.
    pub fn connect(&mut self, from: &Port, to: &Port, sport: u16) -> Vec<HostNumber> {
        let (a, b) = (from.address, to.address);
        let first = self.deliver(from, to, Ip::tcp(a, b, sport, 80, 2));
        self.deliver(to, from, Ip::tcp(b, a, 80, sport, 0x12));
        self.deliver(from, to, Ip::tcp(a, b, sport, 80, 0x10));
        self.assert_direct(from, to, sport);
        first
    }

    /// Both ways of a connection are direct: no transit, no option.
    pub fn assert_direct(&mut self, from: &Port, to: &Port, sport: u16) {
        let (a, b) = (from.address, to.address);
        for _ in 0..3 {
            for (x, y, ip) in [(from, to, Ip::tcp(a, b, sport, 80, 0x18)), (to, from, Ip::tcp(b, a, 80, sport, 0x18))] {
                let hosts = self.deliver(x, y, ip);
                let expected = if x.host == y.host { vec![x.host] } else { vec![x.host, y.host] };
                assert_eq!(hosts, expected, "a direct packet takes no way round");
            }
        }
        self.counts().expect("counts");
        for (x, y, ip) in [(from, to, Ip::tcp(a, b, sport, 80, 0x18)), (to, from, Ip::tcp(b, a, 80, sport, 0x18))] {
            self.deliver(x, y, ip);
        }
        let counts = self.counts().expect("counts");
        let plain = ["direct_out", "direct_in", "local"];
        assert!(counts.keys().all(|k| plain.iter().any(|p| k.ends_with(p))), "only direct packets: {counts:?}");
    }

    /// Asserts that exactly these counts moved since the last call.
    pub fn assert_counts(&mut self, expected: &[(&str, u64)]) {
        let counts = self.counts().expect("counts");
        let expected: BTreeMap<String, u64> = expected.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        assert_eq!(counts, expected);
    }
}
