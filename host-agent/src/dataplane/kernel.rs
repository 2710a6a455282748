//! [`Dataplane`] of the kernel.
//!
//! At every start the programs of the agent's object are loaded over the pinned maps, and the
//! pinned links are turned to them; nothing is ever detached in between. So a restart is also an
//! upgrade, and neither loses a packet. While the agent is away the pins keep everything going.
//!
//! An agent of another ABI cannot use the maps that it finds. It makes its own beside them, and the
//! links go on with the former programs and maps until its own hold what is desired
//! ([`Dataplane::engage`]). Flows are not among that: a direct packet that has none goes back to
//! its sender's host, which asks for the way again, and an endpoint's own asks at once. So the
//! links may be turned one after the other, and the agent may die between two of them.

use super::raw::{Plain, Raw};
use super::{Dataplane, Guard, Pins, PlaneError};
use crate::config::TransitHook;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, lpm_trie};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, tc::SchedClassifierLink};
use aya::{Ebpf, EbpfLoader};
use mizar_abi::maps::{self, ep_flag, name};
use mizar_plan::{Cidr, Key, Prefix, Rule, Table, Value};
use std::collections::BTreeSet;
use std::mem::size_of;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The program at endpoints.
const ENDPOINT: &str = "endpoint_egress";
/// The program at the uplink.
const UPLINK_TCX: &str = "uplink_tcx";
/// The transit role in front of it.
const UPLINK_XDP: &str = "uplink_xdp";

/// Maps of the object and the sizes of their keys and values, as this agent knows them.
const MAPS: [(&str, usize, usize); 24] = [
    (name::CFG, 4, size_of::<maps::Cfg>()),
    (name::HOSTS, 4, 4),
    (name::IFACE, 4, 4),
    (name::EP, 4, size_of::<maps::Ep>()),
    (name::ADDR, 4 + size_of::<maps::VniAddress>(), size_of::<maps::Addr>()),
    (name::FLOW_EST, size_of::<maps::FlowKey>(), size_of::<maps::Flow>()),
    (name::FLOW_NEW, size_of::<maps::FlowKey>(), size_of::<maps::Flow>()),
    (name::FRAG, size_of::<maps::FragKey>(), size_of::<maps::Head>()),
    (name::MOVED, size_of::<maps::VniAddress>(), size_of::<maps::Moved>()),
    (name::ROUTE, 4 + size_of::<maps::VniAddress>(), size_of::<maps::Route>()),
    (name::SHARD, size_of::<maps::ShardKey>(), size_of::<maps::Shard>()),
    (name::DEAD, 4, 1),
    (name::BOUNCE, size_of::<maps::VniAddress>(), size_of::<maps::Bounce>()),
    (name::POLICY, 4 + size_of::<maps::PolicyKey>(), size_of::<maps::Verdict>()),
    (name::CIDR, 4 + size_of::<maps::PolicyAddress>(), 4),
    (name::EPOCHS, 4, size_of::<maps::Epoch>()),
    (name::BUCKET, 4, size_of::<maps::Bucket>()),
    (name::PENDING, 4, size_of::<maps::Pending>()),
    (name::DROPS, size_of::<maps::DropKey>(), size_of::<maps::DropCount>()),
    (name::COUNTERS, 4, 8),
    (name::EVENTS, 0, 0),
    (name::FLOW_COUNT, size_of::<maps::FlowKey>(), size_of::<maps::FlowCount>()),
    (name::FLOW_LOG, 0, 0),
    (name::WATCH, 4, size_of::<maps::Watch>()),
];

/// What the data plane is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interface towards the underlay.
    pub uplink: String,
    /// Its index.
    pub uplink_ifindex: u32,
    /// Whether the uplink is a veth.
    pub uplink_is_veth: bool,
    /// Where the transit role runs.
    pub transit_hook: TransitHook,
    /// Size of the table of established flows.
    pub flow_entries: u32,
    /// One flow in so many is logged; 0: none.
    pub flow_log_sample: u32,
    /// Flows of one port, direction and verdict that are logged in a second, in the long run; ten times as many at once.
    pub flow_log_rate: u32,
}

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;
type Trie<K, V> = LpmTrie<MapData, Raw<K>, Raw<V>>;

/// Opens a pinned map.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, map: &'static str) -> Result<T, PlaneError> {
    let opened = MapData::from_pin(pins.map(map)).and_then(Map::from_map_data).and_then(T::try_from);
    opened.map_err(|source| PlaneError::Map { map, source })
}

/// How many entries a pinned map takes.
pub(super) fn size(pins: &Pins, map: &'static str) -> Result<usize, PlaneError> {
    let info = MapInfo::from_pin(pins.map(map)).map_err(|source| PlaneError::Map { map, source })?;
    Ok(info.max_entries() as usize)
}

/// Loaded programs and open maps.
pub struct Kernel {
    pins: Pins,
    endpoint: Arc<Endpoint>,
    hook: &'static str,
    waiting: Option<Waiting>,
    cfg: Array<MapData, Raw<maps::Cfg>>,
    hosts: Hash<u32, [u8; 4]>,
    shard: Hash<maps::ShardKey, maps::Shard>,
    bounce: Hash<maps::VniAddress, maps::Bounce>,
    route: Trie<maps::VniAddress, maps::Route>,
    moved: Hash<maps::VniAddress, maps::Moved>,
    ep: Hash<u32, maps::Ep>,
    iface: Hash<u32, u32>,
    addr: Trie<maps::VniAddress, maps::Addr>,
    policy: Trie<maps::PolicyKey, maps::Verdict>,
    cidr: Trie<maps::PolicyAddress, u32>,
    epochs: Hash<u32, maps::Epoch>,
}

/// Loaded programs that are not on the uplink yet.
struct Waiting {
    object: Ebpf,
    settings: Settings,
    /// Whether the hook is of our choosing: then one that fails is not the end.
    may_fall_back: bool,
}

/// The pinned program of endpoints.
struct Endpoint {
    pins: Pins,
    /// Interfaces whose link was made or turned by this process.
    bound: Mutex<BTreeSet<u32>>,
}

impl Endpoint {
    fn bound(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard for Endpoint {
    fn bind(&self, ifname: &str, ifindex: u32) -> Result<(), PlaneError> {
        if self.bound().contains(&ifindex) {
            return Ok(());
        }
        // Opened each time, so that nobody waits for another's grace period.
        let pin = self.pins.program(ENDPOINT);
        let mut program = SchedClassifier::from_pin(pin).map_err(PlaneError::program(ENDPOINT))?;
        bind(&self.pins.endpoint(ifindex), &mut program, ifname, ENDPOINT)?;
        self.bound().insert(ifindex);
        Ok(())
    }
}

impl Kernel {
    /// Loads the object's programs over pinned maps, or makes the maps. The programs are on the
    /// uplink at once, unless there are maps of another ABI: then after [`Dataplane::engage`].
    pub fn load(pins: Pins, object: &[u8], settings: &Settings) -> Result<Self, PlaneError> {
        let takes_over = pins.has_other_abis()?;
        if takes_over {
            // Flows of an earlier attempt, which nobody kept since, would send packets straight to
            // hosts that forgot them, and their return to an uplink that does not know them yet.
            for map in [name::FLOW_EST, name::FLOW_NEW] {
                Pins::remove(&pins.map(map))?;
            }
        }
        check_pinned(&pins, settings.flow_entries)?;
        let mut loader = EbpfLoader::new();
        let paths: Vec<_> = MAPS.iter().map(|(map, ..)| (*map, pins.map(map))).collect();
        for (map, path) in &paths {
            loader.map_pin_path(map, path.as_path());
        }
        loader.map_max_entries(name::FLOW_EST, settings.flow_entries);
        let burst = settings.flow_log_rate.saturating_mul(10);
        loader.override_global("FLOW_LOG_SAMPLE", &settings.flow_log_sample, true);
        loader.override_global("FLOW_LOG_RATE", &settings.flow_log_rate, true);
        loader.override_global("FLOW_LOG_BURST", &burst, true);
        let mut object = loader.load(object).map_err(PlaneError::program("object"))?;
        for program in [ENDPOINT, UPLINK_TCX] {
            classifier(&mut object, program)?.load().map_err(PlaneError::program(program))?;
        }
        let pin = pins.program(ENDPOINT);
        Pins::remove(&pin)?;
        classifier(&mut object, ENDPOINT)?.pin(&pin).map_err(PlaneError::program(ENDPOINT))?;
        let may_fall_back = settings.transit_hook == TransitHook::Auto;
        let mut settings = settings.clone();
        if takes_over {
            tracing::info!("maps of another ABI forward until these are filled");
            settings.transit_hook = inherited(&pins, &settings);
        }
        let mut kernel = Self {
            endpoint: Arc::new(Endpoint { pins: pins.clone(), bound: Mutex::default() }),
            hook: if settings.transit_hook == TransitHook::Xdp { "xdp" } else { "tcx" },
            waiting: Some(Waiting { object, settings, may_fall_back }),
            cfg: open(&pins, name::CFG)?,
            hosts: open(&pins, name::HOSTS)?,
            shard: open(&pins, name::SHARD)?,
            bounce: open(&pins, name::BOUNCE)?,
            route: open(&pins, name::ROUTE)?,
            moved: open(&pins, name::MOVED)?,
            ep: open(&pins, name::EP)?,
            iface: open(&pins, name::IFACE)?,
            addr: open(&pins, name::ADDR)?,
            policy: open(&pins, name::POLICY)?,
            cidr: open(&pins, name::CIDR)?,
            epochs: open(&pins, name::EPOCHS)?,
            pins,
        };
        if !takes_over {
            kernel.turn_uplink()?;
        }
        Ok(kernel)
    }

    /// Puts the programs on the uplink, and takes them off a former one.
    fn turn_uplink(&mut self) -> Result<(), PlaneError> {
        let Some(Waiting { object, settings, may_fall_back }) = &mut self.waiting else { return Ok(()) };
        let pin = self.pins.uplink("tcx", settings.uplink_ifindex);
        bind(&pin, classifier(object, UPLINK_TCX)?, &settings.uplink, UPLINK_TCX)?;
        self.pins.remove_other_uplinks("tcx", Some(settings.uplink_ifindex))?;
        self.hook = transit(&self.pins, object, settings, *may_fall_back)?;
        // The object, some megabytes of instructions and type information, goes here.
        self.waiting = None;
        Ok(())
    }

    /// The programs count from the moment that a policy changed: an endpoint whose set is another
    /// now than the map has, from now. Whether a packet of it is waited for is not planned, and stays.
    fn put_endpoint(&mut self, port: u32, ep: maps::Ep) -> Result<(), MapError> {
        let now = crate::clock::now().ms;
        let before = self.ep.get(&Raw(port), 0).ok().map(|Raw(before)| before);
        let set_since_ms = before.filter(|b| b.set == ep.set).map_or(now, |b| b.set_since_ms);
        let flags = ep.flags | before.map_or(0, |b| b.flags & ep_flag::WATCHED);
        self.ep.insert(Raw(port), Raw(maps::Ep { set_since_ms, flags, ..ep }), 0)
    }

    /// The same of a set whose generation is another.
    fn put_epoch(&mut self, set: u32, epoch: maps::Epoch) -> Result<(), MapError> {
        let now = crate::clock::now().ms;
        let before = self.epochs.get(&Raw(set), 0).ok().map(|Raw(before)| before);
        let since_ms = before.filter(|b| b.n == epoch.n).map_or(now, |b| b.since_ms);
        self.epochs.insert(Raw(set), Raw(maps::Epoch { since_ms, ..epoch }), 0)
    }

    /// Where the transit role runs: `xdp` or `tcx`.
    pub fn hook(&self) -> &'static str {
        self.hook
    }
}

/// Pinned maps must be what this agent would make. Only the number of flows may differ: the
/// table keeps its size until its pin is removed, for it cannot grow in place.
fn check_pinned(pins: &Pins, flow_entries: u32) -> Result<(), PlaneError> {
    for (map, key, value) in MAPS {
        let path = pins.map(map);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|source| PlaneError::Map { map, source })?;
        let (pinned_key, pinned_value) = (info.key_size() as usize, info.value_size() as usize);
        if (pinned_key, pinned_value) != (key, value) {
            return Err(PlaneError::Unfit(format!(
                "pinned map {map} has keys of {pinned_key} and values of {pinned_value} bytes, not {key} and {value}: \
                 it is of another build of the same ABI; remove {} and start again",
                path.display()
            )));
        }
        if map == name::FLOW_EST && info.max_entries() != flow_entries {
            tracing::warn!(pinned = info.max_entries(), wanted = flow_entries, "the flow table keeps its size");
        }
    }
    Ok(())
}

fn classifier<'a>(object: &'a mut Ebpf, program: &str) -> Result<&'a mut SchedClassifier, PlaneError> {
    let found = object.program_mut(program);
    let found = found.ok_or_else(|| PlaneError::Unfit(format!("the object has no program {program}")))?;
    found.try_into().map_err(PlaneError::program(program))
}

/// Turns the pinned link to this program; without one, or with one whose interface is gone, makes
/// it and pins it.
fn bind(pin: &Path, program: &mut SchedClassifier, ifname: &str, what: &str) -> Result<(), PlaneError> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(PlaneError::program(what))?;
        match program.attach_to_link(link) {
            Ok(id) => return program.take_link(id).map(drop).map_err(PlaneError::program(what)),
            Err(error) => tracing::info!(interface = ifname, %error, "the former link is dead"),
        }
        Pins::remove(pin)?;
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(ifname, TcAttachType::Ingress, order).map_err(PlaneError::program(what))?;
    let link = program.take_link(id).map_err(PlaneError::program(what))?;
    let link = FdLink::try_from(link).map_err(PlaneError::program(what))?;
    link.pin(pin).map(drop).map_err(PlaneError::program(what))
}

/// Where the transit role will run after a takeover, which the API hears before the links are
/// turned. What the predecessor found out about the uplink holds.
fn inherited(pins: &Pins, settings: &Settings) -> TransitHook {
    match settings.transit_hook {
        TransitHook::Auto if pins.uplink("xdp", settings.uplink_ifindex).exists() => TransitHook::Xdp,
        TransitHook::Auto => TransitHook::Tcx,
        given => given,
    }
}

/// Puts the transit role where it is wanted, and says where it runs.
fn transit(
    pins: &Pins,
    object: &mut Ebpf,
    settings: &Settings,
    may_fall_back: bool,
) -> Result<&'static str, PlaneError> {
    let pin = pins.uplink("xdp", settings.uplink_ifindex);
    let wanted = match settings.transit_hook {
        TransitHook::Tcx => false,
        TransitHook::Xdp => true,
        TransitHook::Auto => !settings.uplink_is_veth,
    };
    if !wanted {
        pins.remove_other_uplinks("xdp", None)?;
        return Ok("tcx");
    }
    match forward(&settings.uplink).and_then(|()| bind_xdp(&pin, object, &settings.uplink)) {
        Ok(()) => {
            pins.remove_other_uplinks("xdp", Some(settings.uplink_ifindex))?;
            Ok("xdp")
        }
        Err(error) if may_fall_back => {
            tracing::warn!(error = crate::core::chain(&error), "no XDP on the uplink: transit runs in tcx");
            pins.remove_other_uplinks("xdp", None)?;
            Ok("tcx")
        }
        Err(error) => Err(error),
    }
}

/// Lets the kernel answer look-ups of routes from XDP for packets that come in here: it does only
/// where it would forward them itself.
fn forward(ifname: &str) -> Result<(), PlaneError> {
    let path = Path::new("/proc/sys/net/ipv4/conf").join(ifname).join("forwarding");
    let now = std::fs::read_to_string(&path).map_err(PlaneError::io(&path))?;
    if now.trim() == "1" { Ok(()) } else { std::fs::write(&path, "1").map_err(PlaneError::io(&path)) }
}

fn bind_xdp(pin: &Path, object: &mut Ebpf, ifname: &str) -> Result<(), PlaneError> {
    let found = object.program_mut(UPLINK_XDP);
    let found = found.ok_or_else(|| PlaneError::Unfit(format!("the object has no program {UPLINK_XDP}")))?;
    let program: &mut Xdp = found.try_into().map_err(PlaneError::program(UPLINK_XDP))?;
    // It is, if this was tried before.
    if program.fd().is_err() {
        program.load().map_err(PlaneError::program(UPLINK_XDP))?;
    }
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(PlaneError::program(UPLINK_XDP))?;
        match program.attach_to_link(link) {
            Ok(id) => return program.take_link(id).map(drop).map_err(PlaneError::program(UPLINK_XDP)),
            Err(error) => tracing::info!(interface = ifname, %error, "the former link is dead"),
        }
        Pins::remove(pin)?;
    }
    let id = program.attach(ifname, XdpMode::Driver).map_err(PlaneError::program(UPLINK_XDP))?;
    let link = program.take_link(id).map_err(PlaneError::program(UPLINK_XDP))?;
    let link = FdLink::try_from(link).map_err(PlaneError::program(UPLINK_XDP))?;
    link.pin(pin).map(drop).map_err(PlaneError::program(UPLINK_XDP))
}

/// A key of a planned longest-prefix map.
trait Bits<K: Plain> {
    fn key(&self) -> lpm_trie::Key<Raw<K>>;
    fn of_key(key: lpm_trie::Key<Raw<K>>) -> Self;
}

macro_rules! bits { ($($planned:ident of $data:ty),* $(,)?) => { $(
    impl Bits<$data> for $planned {
        fn key(&self) -> lpm_trie::Key<Raw<$data>> {
            lpm_trie::Key::new(self.bits, Raw(self.at))
        }
        fn of_key(key: lpm_trie::Key<Raw<$data>>) -> Self {
            Self { bits: key.prefix_len(), at: key.data().0 }
        }
    }
)* }; }
bits!(Prefix of maps::VniAddress, Rule of maps::PolicyKey, Cidr of maps::PolicyAddress);

fn collect<K, V>(
    entries: impl Iterator<Item = Result<(K, V), MapError>>,
    decode: impl Fn(K, V) -> (Key, Value),
) -> Result<Vec<(Key, Value)>, MapError> {
    entries.map(|entry| entry.map(|(k, v)| decode(k, v))).collect()
}

/// A key that is not there is no failure.
pub(super) fn unless_absent(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

impl Dataplane for Kernel {
    fn dump(&self, table: Table) -> Result<Vec<(Key, Value)>, PlaneError> {
        let entries = match table {
            Table::Cfg => self.cfg.get(&0, 0).map(|Raw(cfg)| {
                // An array has no absent entries: zeros are its nothing.
                if cfg == maps::Cfg::default() { Vec::new() } else { vec![(Key::Cfg, Value::Cfg(cfg))] }
            }),
            Table::Hosts => collect(self.hosts.iter(), |k, v| (Key::Host(k.0), Value::Host(v.0))),
            Table::Shard => collect(self.shard.iter(), |k, v| (Key::Shard(k.0), Value::Shard(v.0))),
            Table::Bounce => collect(self.bounce.iter(), |k, v| (Key::Bounce(k.0), Value::Bounce(v.0))),
            Table::Policy => collect(self.policy.iter(), |k, v| (Key::Policy(Rule::of_key(k)), Value::Policy(v.0))),
            Table::Cidr => collect(self.cidr.iter(), |k, v| (Key::Cidr(Cidr::of_key(k)), Value::Cidr(v.0))),
            Table::Epochs => collect(self.epochs.iter(), |k, Raw(epoch)| {
                (Key::Epoch(k.0), Value::Epoch(maps::Epoch { since_ms: 0, ..epoch }))
            }),
            Table::Route => collect(self.route.iter(), |k, v| (Key::Route(Prefix::of_key(k)), Value::Route(v.0))),
            Table::Moved => collect(self.moved.iter(), |k, v| (Key::Moved(k.0), Value::Moved(v.0))),
            Table::Ep => collect(self.ep.iter(), |k, Raw(ep)| {
                let flags = ep.flags & !ep_flag::WATCHED;
                (Key::Ep(k.0), Value::Ep(maps::Ep { set_since_ms: 0, flags, ..ep }))
            }),
            Table::Iface => collect(self.iface.iter(), |k, v| (Key::Iface(k.0), Value::Iface(v.0))),
            Table::Addr => collect(self.addr.iter(), |k, v| (Key::Addr(Prefix::of_key(k)), Value::Addr(v.0))),
        };
        entries.map_err(|source| PlaneError::Map { map: table.name(), source })
    }

    fn put(&mut self, key: &Key, value: &Value) -> Result<(), PlaneError> {
        let done = match (key, value) {
            (Key::Cfg, Value::Cfg(v)) => self.cfg.set(0, Raw(*v), 0),
            (Key::Host(k), Value::Host(v)) => self.hosts.insert(Raw(*k), Raw(*v), 0),
            (Key::Shard(k), Value::Shard(v)) => self.shard.insert(Raw(*k), Raw(*v), 0),
            (Key::Bounce(k), Value::Bounce(v)) => self.bounce.insert(Raw(*k), Raw(*v), 0),
            (Key::Policy(k), Value::Policy(v)) => self.policy.insert(&k.key(), Raw(*v), 0),
            (Key::Cidr(k), Value::Cidr(v)) => self.cidr.insert(&k.key(), Raw(*v), 0),
            (Key::Epoch(k), Value::Epoch(v)) => self.put_epoch(*k, *v),
            (Key::Route(k), Value::Route(v)) => self.route.insert(&k.key(), Raw(*v), 0),
            (Key::Moved(k), Value::Moved(v)) => self.moved.insert(Raw(*k), Raw(*v), 0),
            (Key::Ep(k), Value::Ep(v)) => self.put_endpoint(*k, *v),
            (Key::Iface(k), Value::Iface(v)) => self.iface.insert(Raw(*k), Raw(*v), 0),
            (Key::Addr(k), Value::Addr(v)) => self.addr.insert(&k.key(), Raw(*v), 0),
            (key, value) => return Err(PlaneError::Unfit(format!("{value:?} is no value of {key:?}"))),
        };
        done.map_err(|source| PlaneError::Map { map: key.table().name(), source })
    }

    fn remove(&mut self, key: &Key) -> Result<(), PlaneError> {
        let done = match key {
            Key::Cfg => self.cfg.set(0, Raw(maps::Cfg::default()), 0),
            Key::Host(k) => self.hosts.remove(&Raw(*k)),
            Key::Shard(k) => self.shard.remove(&Raw(*k)),
            Key::Bounce(k) => self.bounce.remove(&Raw(*k)),
            Key::Policy(k) => self.policy.remove(&k.key()),
            Key::Cidr(k) => self.cidr.remove(&k.key()),
            Key::Epoch(k) => self.epochs.remove(&Raw(*k)),
            Key::Route(k) => self.route.remove(&k.key()),
            Key::Moved(k) => self.moved.remove(&Raw(*k)),
            Key::Ep(k) => self.ep.remove(&Raw(*k)),
            Key::Iface(k) => self.iface.remove(&Raw(*k)),
            Key::Addr(k) => self.addr.remove(&k.key()),
        };
        unless_absent(done).map_err(|source| PlaneError::Map { map: key.table().name(), source })
    }

    fn engage(&mut self) -> Result<(), PlaneError> {
        self.turn_uplink()?;
        self.pins.remove_other_abis()
    }

    fn guard(&self) -> Arc<dyn Guard> {
        self.endpoint.clone()
    }

    fn detach(&mut self, ifindex: u32) -> Result<(), PlaneError> {
        self.endpoint.bound().remove(&ifindex);
        Pins::remove(&self.pins.endpoint(ifindex))
    }

    fn detach_others(&mut self, ifindexes: &BTreeSet<u32>) -> Result<(), PlaneError> {
        for ifindex in self.pins.endpoints()? {
            if !ifindexes.contains(&ifindex) {
                self.detach(ifindex)?;
            }
        }
        Ok(())
    }
}
