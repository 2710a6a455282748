//! An agent of another ABI takes over under traffic, and dies at any point of it.

mod common;

use common::api::Api;
use common::host::{Host, Namespace, object};
use common::traffic::{Traffic, echo};
use common::{until, world};
use mizar_agent::config::TransitHook;
use mizar_agent::dataplane::kernel::{Kernel, Settings};
use mizar_agent::dataplane::{Dataplane as _, Pins};
use mizar_agent::sync::source::SourceError;
use mizar_plan::Table;
use std::path::PathBuf;
use std::sync::Arc;

const ABI: u32 = mizar_abi::ABI;

/// The layouts are the same, but no agent knows: it opens nothing of another number.
const OTHER: u32 = ABI + 1;

/// Directories of maps.
fn pinned(host: &Host) -> Vec<String> {
    let root = host.bpffs();
    host.namespace.run(move || {
        let names = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut abis: Vec<String> = names.filter(|name| name.starts_with("abi-")).collect();
        abis.sort();
        abis
    })
}

/// The kernel's number of a pinned map.
fn map_id(host: &Host, abi: u32) -> u32 {
    let path = host.bpffs().join(format!("abi-{abi}/CFG"));
    host.namespace.run(move || aya::maps::MapInfo::from_pin(path).unwrap().id())
}

/// The takeover is complete: no link and no pin holds the former maps.
fn assert_gone(host: &Host, abi: u32, former_map: u32) {
    assert_eq!(pinned(host), [format!("abi-{abi}")]);
    until("the former maps are freed", || {
        let mut ids = aya::maps::loaded_maps().filter_map(|info| info.ok().map(|info| info.id()));
        (!ids.any(|id| id == former_map)).then_some(())
    });
}

/// Where an agent of another ABI dies.
#[derive(Clone, Copy, Debug)]
enum Gap {
    Loaded,
    HalfFilled,
    Filled,
    EndpointTurned,
    UplinkTurned,
}

/// What is left of a takeover that dies there: whoever is killed only closes what it had open.
fn die(host: &Host, from: u32, to: u32, gap: Gap) {
    let settings = Settings {
        uplink: "up0".into(),
        uplink_ifindex: host.namespace.ifindex("up0"),
        uplink_is_veth: true,
        transit_hook: host.transit_hook,
        flow_entries: 4096,
        flow_log_sample: 1,
        flow_log_rate: 50,
    };
    let (root, endpoint) = (host.bpffs(), host.namespace.ifindex("tap00000005-00"));
    host.namespace.run(move || {
        let object = std::fs::read(object()).unwrap();
        let load = |abi| Kernel::load(Pins::open(&root, abi).unwrap(), &object, &settings).unwrap();
        let mut new = load(to);
        let old = load(from);
        if matches!(gap, Gap::Loaded) {
            return;
        }
        let content: Vec<_> = Table::ALL.iter().flat_map(|table| old.dump(*table).unwrap()).collect();
        assert!(content.len() > 8, "{content:?}");
        let half = if matches!(gap, Gap::HalfFilled) { content.len() / 2 } else { content.len() };
        content[..half].iter().for_each(|(key, value)| new.put(key, value).unwrap());
        if matches!(gap, Gap::EndpointTurned | Gap::UplinkTurned) {
            new.guard().bind("tap00000005-00", endpoint).unwrap();
        }
        if matches!(gap, Gap::UplinkTurned) {
            let (former, kept) = (root.join(format!("abi-{from}")), root.join("kept"));
            keep(&former, &kept);
            new.engage().unwrap();
            std::fs::rename(kept, former).unwrap();
        }
    });
}

/// The pins of a directory, a second time.
fn keep(dir: &PathBuf, kept: &PathBuf) {
    std::fs::create_dir(kept).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::hard_link(entry.path(), kept.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_agent_of_another_abi_takes_over_without_a_lost_packet() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    host.until_wired(2);
    let traffic = Traffic::pings(Arc::new(five), 5, 6);
    for abi in [OTHER, ABI] {
        let (former, was) = (map_id(&host, host.abi), host.status().maps);
        host.kill();
        host.abi = abi;
        host.start();
        assert_gone(&host, abi, former);
        traffic.goes_on();
        let is = host.status().maps;
        for table in Table::ALL {
            assert_eq!(is[table.name()], was[table.name()], "{}", table.name());
        }
    }
    traffic.end();
}

/// Two hosts that bounce for each other, an endpoint on each, and traffic between them every way.
fn pair(hook: TransitHook) -> (Host, Host, [Arc<Namespace>; 2], [Traffic; 3]) {
    const FAR: u32 = 8;
    let apis = [Api::new(), Api::of(FAR)];
    for api in &apis {
        api.put(world::cloud());
        api.put(world::bouncers([world::HOST, FAR]));
        // Both bounce for both.
        api.put(world::port(5, 1).split_off(1));
        api.put(world::port_on(FAR, 6, 1).split_off(1));
    }
    let [near_api, far_api] = apis;
    near_api.put(world::port(5, 1));
    far_api.put(world::port_on(FAR, 6, 1));
    let mut near = Host::new(near_api);
    let mut far = near.opposite(far_api, [192, 0, 2, 8].into());
    (near.transit_hook, far.transit_hook) = (hook, hook);
    near.start();
    far.start();
    let (five, six) = (Arc::new(Namespace::new()), Arc::new(Namespace::new()));
    near.container(world::port_id(5), &five);
    far.container(world::port_id(6), &six);
    echo(&six, 6);
    let pings = Traffic::pings(five.clone(), 5, 6);
    let (out, back) = (Traffic::stream(&five, 5, &six, 6), Traffic::stream(&six, 6, &five, 5));
    (near, far, [five, six], [pings, out, back])
}

#[test]
fn between_hosts_too_no_packet_is_lost_by_a_takeover_whatever_way_it_goes() {
    for hook in [TransitHook::Tcx, TransitHook::Xdp] {
        let (mut near, mut far, _guests, traffic) = pair(hook);
        for host in [&mut near, &mut far] {
            let former = map_id(host, ABI);
            host.kill();
            host.abi = OTHER;
            host.start();
            assert_eq!(host.status().transit_hook, if hook == TransitHook::Xdp { "xdp" } else { "tcx" });
            assert_gone(host, OTHER, former);
            traffic.iter().for_each(Traffic::goes_on);
        }
        traffic.into_iter().for_each(Traffic::end);
    }
}

#[test]
fn a_takeover_that_dies_at_any_point_loses_nothing_and_either_agent_can_go_on() {
    let (mut host, _far, _guests, traffic) = pair(TransitHook::Xdp);
    for gap in [Gap::Loaded, Gap::HalfFilled, Gap::Filled, Gap::EndpointTurned, Gap::UplinkTurned] {
        for onward in [true, false] {
            let (from, to) = if host.abi == ABI { (ABI, OTHER) } else { (OTHER, ABI) };
            host.kill();
            die(&host, from, to, gap);
            traffic.iter().for_each(Traffic::goes_on);
            assert_eq!(pinned(&host).len(), 2, "{gap:?}");
            let abandoned = map_id(&host, if onward { from } else { to });
            host.abi = if onward { to } else { from };
            host.start();
            assert_gone(&host, host.abi, abandoned);
            traffic.iter().for_each(Traffic::goes_on);
        }
    }
    traffic.into_iter().for_each(Traffic::end);
}

#[test]
fn without_a_ledger_the_former_maps_forward_until_a_snapshot_fills_the_new_ones() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    host.until_wired(2);
    let traffic = Traffic::pings(Arc::new(five), 5, 6);
    let former = map_id(&host, ABI);
    host.kill();
    std::fs::write(host.ledger(), "nonsense").unwrap();
    host.api.state().outage = Some(|| SourceError::Unreachable("the cable is cut".into()));
    host.abi = OTHER;
    host.start();
    traffic.goes_on();
    assert_eq!(pinned(&host).len(), 2);
    assert_eq!(host.status().maps["EP"], 0, "nobody knows yet what to fill them with");
    host.api.state().outage = None;
    until("the snapshot is in force", || (pinned(&host).len() == 1).then_some(()));
    assert_gone(&host, OTHER, former);
    traffic.goes_on();
    traffic.end();
}
