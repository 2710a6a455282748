//! From what is known to what is to be written: pure, one decision over the whole.
//!
//! The planner of `mizar-placement` says who should hold what; [`phases`](crate::phases) says how
//! far to go in this round; here both meet the rows. What comes out is one change for each
//! network, empty ones left out, so that a settled world yields nothing.

use crate::config::Settings;
use crate::phases::{self, Unit};
use crate::remains::remains;
use crate::view::View;
use crate::world::World;
use mizar_compile::{Object, Write, create};
use mizar_db::placement::roles::{NetworkChange, Remains};
use mizar_db::placement::state::{Phase, Role, RoleState, SubnetState};
use mizar_domain::model;
use mizar_placement::failure::Verdict;
use mizar_placement::{Demand, DemandKey, Host, Rules, pairs, plan, shards};
use mizar_wire::{Body, Scope};
use std::collections::BTreeMap;

/// What a role costs beside its entries, in entries: its scope, its maps, its share of every
/// snapshot. Without it a thousand empty subnets would all count for nothing.
const ROLE_COST: u64 = 32;

/// Holders decided on last, by unit. Rows alone cannot tell a holder that stays from one that is
/// listed until its replacement is ready.
pub type Desired = BTreeMap<Unit, Vec<u32>>;

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// By network.
    pub changes: Vec<NetworkChange>,
    /// Left by networks and subnets that are gone.
    pub remains: Option<Remains>,
    /// Holders decided on.
    pub desired: Desired,
    /// There are demands, and no host may hold anything.
    pub nobody: bool,
}

/// A unit with its rows.
struct Held {
    unit: Unit,
    rows: Vec<RoleState>,
    demand: Demand,
}

/// A subnet as it is to be cut.
struct Cut<'a> {
    subnet: &'a SubnetState,
    log2: u8,
    units: Vec<Held>,
    split: BTreeMap<mizar_db::placement::state::RoleKey, mizar_db::placement::roles::RoleChange>,
}

/// Decides on everything.
pub fn decide(world: &World, verdict: &Verdict, settings: &Settings, before: &Desired) -> Decision {
    let view = View { world, verdict, settings };
    let hosts = view.hosts();
    let cuts: Vec<Cut> = world.subnets.values().map(|subnet| cut(&view, subnet, before)).collect();
    // A divider holds each subnet and each shard of its map.
    let mut entries: BTreeMap<u32, u64> = BTreeMap::new();
    for cut in &cuts {
        *entries.entry(cut.subnet.vni).or_default() += 1 + cut.units.len() as u64;
    }
    let held = |vni: &u32| (*vni, dividing(&view, *vni, entries.get(vni).copied().unwrap_or(0), before));
    let dividers: BTreeMap<u32, Held> = world.networks.keys().map(held).collect();

    let units = || cuts.iter().flat_map(|cut| &cut.units).chain(dividers.values());
    let demands: Vec<Demand> = units().map(|held| held.demand.clone()).collect();
    let rules = Rules { frozen: verdict.mass_failure(), ..Rules::default() };
    let holders = plan(&hosts, &demands, rules);
    let desired: Desired = units().map(|held| held.unit).zip(holders).collect();

    let mut changes: BTreeMap<u32, NetworkChange> = world
        .networks
        .values()
        .map(|n| (n.vni, NetworkChange { network: n.id, vni: n.vni, ..NetworkChange::default() }))
        .collect();
    for cut in &cuts {
        let Some(change) = changes.get_mut(&cut.subnet.vni) else { continue };
        bounce(&view, cut, &desired, change);
    }
    for (vni, held) in &dividers {
        let Some(change) = changes.get_mut(vni) else { continue };
        divide(&view, &hosts, held, &desired, change);
    }
    Decision {
        changes: changes.into_values().filter(|c| !c.roles.is_empty() || !c.writes.is_empty()).collect(),
        remains: remains(world),
        nobody: !demands.is_empty() && !hosts.iter().any(Host::eligible),
        desired,
    }
}

/// Holders as decided last, or as stored: pending and active ones.
fn holders(unit: Unit, rows: &[RoleState], before: &Desired) -> Vec<u32> {
    match before.get(&unit) {
        Some(holders) => holders.clone(),
        None => rows.iter().filter(|r| r.phase != Phase::Draining).map(|r| r.key.host).collect(),
    }
}

fn cut<'a>(view: &View<'a>, subnet: &'a SubnetState, before: &Desired) -> Cut<'a> {
    let scope = Scope::Subnet(subnet.number);
    let stored = view.world.roles.get(&scope).map_or(&[][..], Vec::as_slice);
    let of_rows = stored.iter().filter_map(|r| shards::log2_of_range(r.key.lo, r.hi)).max();
    let of_map = match view.world.maps.get(&(Scope::Senders(subnet.number), subnet.id.as_bytes().to_vec())) {
        Some(Some(Body::ShardMap(map))) => Some(map.log2),
        _ => None,
    };
    let current = of_rows.max(of_map).unwrap_or(0);
    let log2 = shards::log2(subnet.ports, view.settings.shard_ports, current);
    let (rows, split) = phases::split(stored, log2);
    let mut by_range: BTreeMap<u16, Vec<RoleState>> = BTreeMap::new();
    for row in rows {
        by_range.entry(row.key.lo).or_default().push(row);
    }
    // Addresses spread evenly over slots: the hash is uniform.
    let load = ROLE_COST + subnet.ports.div_ceil(1 << log2);
    let units = shards::ranges(log2).map(|(lo, hi)| {
        let unit = Unit { scope, lo, hi, role: Role::Bouncer };
        let rows = by_range.remove(&lo).unwrap_or_default();
        let holders = holders(unit, &rows, before);
        let key = DemandKey::Shard { subnet: subnet.number, lo };
        Held { unit, demand: Demand { key, load, replicas: 2, holders }, rows }
    });
    Cut { subnet, log2, units: units.collect(), split }
}

fn dividing(view: &View<'_>, vni: u32, entries: u64, before: &Desired) -> Held {
    let scope = Scope::Dividers(vni);
    let unit = Unit { scope, lo: 0, hi: mizar_domain::model::SLOTS - 1, role: Role::Divider };
    let rows = view.world.roles.get(&scope).cloned().unwrap_or_default();
    let (load, holders) = (ROLE_COST + entries, holders(unit, &rows, before));
    Held {
        unit,
        demand: Demand { key: DemandKey::Dividers { vni }, load, replicas: view.settings.dividers, holders },
        rows,
    }
}

fn bounce(view: &View<'_>, cut: &Cut<'_>, desired: &Desired, change: &mut NetworkChange) {
    let mut roles = cut.split.clone();
    let mut listed = Vec::with_capacity(cut.units.len());
    for held in &cut.units {
        let step = phases::step(held.unit, &desired[&held.unit], &held.rows, view);
        roles.extend(step.changes);
        let host = |n: usize| step.listed.get(n).copied().unwrap_or(0);
        listed.push([host(0), host(1)]);
    }
    let id = cut.subnet.id;
    let map = model::ShardMap { id: id.into(), subnet: cut.subnet.number, log2: cut.log2, shards: listed };
    let empty = map.shards.iter().all(|pair| *pair == [0, 0]);
    let writes = difference(view.world, Object::ShardMap(&map), empty);
    if !roles.is_empty() || !writes.is_empty() {
        change.subnets.push(id);
        change.roles.extend(roles);
        change.writes.extend(writes);
    }
}

fn divide(view: &View<'_>, hosts: &[Host], held: &Held, desired: &Desired, change: &mut NetworkChange) {
    let step = phases::step(held.unit, &desired[&held.unit], &held.rows, view);
    let set = model::DividerSet { id: change.network.into(), vni: change.vni, pairs: pairs::pair(hosts, &step.listed) };
    change.roles.extend(step.changes);
    change.writes.extend(difference(view.world, Object::DividerSet(&set), set.pairs.is_empty()));
}

/// What brings the stored entries of an object to what it compiles to. A map that names nobody is
/// written only over one that does.
fn difference(world: &World, object: Object<'_>, empty: bool) -> Vec<Write> {
    let mut writes = create(object);
    writes.retain(|write| match write {
        Write::Put(entry) => match world.maps.get(&(entry.key.scope, entry.key.key.clone())) {
            Some(stored) => stored.as_ref() != Some(&entry.body),
            None => !empty,
        },
        Write::Remove(_) | Write::Include(_) => true,
    });
    writes
}

/// The bodies that writes leave behind, by scope and key.
pub fn written(writes: &[Write]) -> impl Iterator<Item = ((Scope, Vec<u8>), Option<Body>)> + '_ {
    writes.iter().filter_map(|write| match write {
        Write::Put(entry) => Some(((entry.key.scope, entry.key.key.clone()), Some(entry.body.clone()))),
        Write::Remove(key) => Some(((key.scope, key.key.clone()), None)),
        Write::Include(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_db::placement::state::{HostState, NetworkState, Refused, RoleKey};
    use mizar_wire::Kind;
    use std::time::{Duration, Instant};
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(1);

    fn world(hosts: u32, networks: u32, ports: u64) -> World {
        let host = |number: u32| HostState {
            number,
            name: format!("h{number}"),
            az: "az".into(),
            rack: format!("r{}", number % 8),
            transit: "yes".into(),
            weight: 1,
            seen: Some(Duration::from_secs(1000)),
            cursor: "100:100:".parse().ok(),
            refused: Vec::new(),
            lost: false,
            gone: false,
        };
        let id = |n: u32| Uuid::from_u128(n.into());
        World {
            now: Duration::from_secs(1000),
            hosts: (1..=hosts).map(|n| (n, host(n))).collect(),
            networks: (1..=networks).map(|vni| (vni, NetworkState { id: id(vni), vni })).collect(),
            subnets: (1..=networks).map(|n| (n, SubnetState { id: id(n), number: n, vni: n, ports })).collect(),
            ..World::default()
        }
    }

    fn look(world: &World, before: &Desired) -> Decision {
        decide(world, &Verdict::default(), &Settings::default(), before)
    }

    /// Takes the changes over as if they had been written and acknowledged.
    fn write(world: &mut World, decision: Decision) -> Desired {
        for change in decision.changes {
            for (key, change) in change.roles {
                let rows = world.roles.entry(key.scope).or_default();
                rows.retain(|row| row.key != key);
                rows.extend(change.map(|(hi, phase)| RoleState { key, hi, phase, xid: 50, changed: Duration::ZERO }));
            }
            world.maps.extend(written(&change.writes));
        }
        decision.desired
    }

    fn settle(world: &mut World, mut before: Desired) -> Desired {
        for _ in 0..10 {
            let decision = look(world, &before);
            if decision.changes.is_empty() {
                return before;
            }
            before = write(world, decision);
        }
        panic!("ten rounds did not settle it");
    }

    #[test]
    fn a_settled_world_yields_nothing_also_to_a_leader_that_remembers_nothing() {
        let mut world = world(8, 5, 300);
        settle(&mut world, Desired::new());
        let fresh = look(&world, &Desired::new());
        assert!(fresh.changes.is_empty(), "{:?}", fresh.changes);
        assert_eq!(fresh.remains, None);
    }

    #[test]
    fn only_the_network_that_changed_is_written() {
        let mut world = world(8, 5, 240);
        let before = settle(&mut world, Desired::new());
        world.subnets.get_mut(&3).expect("it is there").ports = 260;
        let decision = look(&world, &before);
        assert_eq!(decision.changes.iter().map(|c| c.vni).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_subnet_is_never_merged_even_if_its_roles_were_lost() {
        let mut world = world(8, 1, 600);
        settle(&mut world, Desired::new());
        world.subnets.get_mut(&1).expect("it is there").ports = 0;
        world.roles.clear();
        settle(&mut world, Desired::new());
        assert_eq!(world.roles[&Scope::Subnet(1)].len(), 8, "four shards of two holders");
    }

    #[test]
    fn roles_and_maps_without_an_owner_are_buried() {
        let mut world = world(4, 2, 0);
        settle(&mut world, Desired::new());
        world.subnets.remove(&2);
        world.networks.remove(&2);
        let remains = look(&world, &Desired::new()).remains.expect("what is left of subnet and network 2");
        assert_eq!(remains.scopes, [Scope::Dividers(2), Scope::Subnet(2), Scope::Senders(2)]);
        let gone: Vec<Kind> = remains
            .writes
            .iter()
            .filter_map(|w| if let Write::Remove(key) = w { Some(key.kind) } else { None })
            .collect();
        assert_eq!(gone, [Kind::DividerSet, Kind::ShardMap]);
    }

    #[test]
    fn the_map_of_a_former_network_with_the_same_vni_is_buried_alone() {
        let mut world = world(4, 1, 0);
        settle(&mut world, Desired::new());
        let other = (Scope::Network(1), Uuid::from_u128(77).as_bytes().to_vec());
        world.maps.insert(other.clone(), None);
        let remains = look(&world, &Desired::new()).remains.expect("the former network's");
        assert_eq!((remains.scopes.len(), remains.writes.len(), remains.ids), (0, 1, vec![Uuid::from_u128(77)]));
    }

    #[test]
    fn a_map_that_was_damaged_is_written_again() {
        let mut world = world(4, 1, 0);
        let before = settle(&mut world, Desired::new());
        *world.maps.get_mut(&(Scope::Senders(1), ID.as_bytes().to_vec())).expect("a shard map") = None;
        let decision = look(&world, &before);
        assert_eq!(decision.changes.iter().map(|c| (c.roles.len(), c.writes.len())).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn a_role_that_its_host_never_acknowledges_stays_pending() {
        let mut world = world(2, 1, 0);
        let key = RoleKey { scope: Scope::Subnet(1), lo: 0, host: 1, role: Role::Bouncer };
        let late = RoleState { key, hi: 4095, phase: Phase::Pending, xid: 100, changed: Duration::ZERO };
        world.roles.insert(Scope::Subnet(1), vec![late]);
        let before = settle(&mut world, Desired::new());
        let phase = world.roles[&Scope::Subnet(1)].iter().find(|r| r.key == key).map(|r| r.phase);
        assert!(before.values().any(|holders| holders.contains(&1)));
        assert_eq!(phase, Some(Phase::Pending));
    }

    /// Two hosts, all roles pending and seen; `refused` is what host 1 could not put in force.
    /// Returns who is active after that: subnet's shards by first slot, dividers.
    fn active_with(log2: u8, refused: Refused) -> Vec<(Scope, u16, u32)> {
        let mut world = world(2, 1, 250 << log2);
        world.hosts.get_mut(&1).expect("host 1").refused = vec![refused];
        settle(&mut world, Desired::new());
        let active = world.roles.values().flatten().filter(|r| r.phase == Phase::Active);
        let mut active: Vec<_> = active.map(|r| (r.key.scope, r.key.lo, r.key.host)).collect();
        active.sort_unstable();
        active
    }

    #[test]
    fn a_host_that_refused_an_entry_of_a_role_does_not_become_active() {
        let refused = |scope: Scope, kind: Kind, key: &str| Refused {
            scope: scope.to_i64(),
            kind: kind as i16,
            key: key.to_owned(),
        };
        let (divide, bounce) = (Scope::Dividers(1), Scope::Subnet(1));
        let both = |scope| [(scope, 0, 1), (scope, 0, 2)];
        let other = |scope| [(scope, 0, 2)];
        let subnets = active_with(0, refused(Scope::Network(1), Kind::Subnet, "01"));
        assert_eq!(subnets, [&other(divide)[..], &other(bounce)].concat());
        let maps = active_with(0, refused(Scope::Senders(1), Kind::ShardMap, "01"));
        assert_eq!(maps, [&other(divide)[..], &other(bounce)].concat());
        let role = active_with(0, refused(divide, Kind::DividerRole, "01"));
        assert_eq!(role, [&other(divide)[..], &both(bounce)].concat());
        let elsewhere = active_with(0, refused(Scope::Subnet(2), Kind::Bounce, "01"));
        assert_eq!(elsewhere, [&both(divide)[..], &both(bounce)].concat());
        let own_port = active_with(0, refused(Scope::Host(1), Kind::Port, "01"));
        assert_eq!(own_port, [&both(divide)[..], &both(bounce)].concat());
    }

    #[test]
    fn an_address_that_was_refused_holds_up_its_own_shard_alone() {
        let address = std::net::IpAddr::from([10, 0, 0, 7]);
        let hex: String = model::mapped(address).iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("{}{hex}", ID.simple());
        let entry = Refused { scope: Scope::Subnet(1).to_i64(), kind: Kind::Bounce as i16, key };
        let shard = model::slot(1, address) & 2048;
        let held: Vec<(u16, u32)> = active_with(1, entry)
            .into_iter()
            .filter(|(scope, ..)| *scope == Scope::Subnet(1))
            .map(|(_, lo, host)| (lo, host))
            .collect();
        let expected = [(0, 1), (0, 2), (2048, 1), (2048, 2)].into_iter().filter(|held| *held != (shard, 1));
        assert_eq!(held, expected.collect::<Vec<_>>());
    }

    /// No benchmark: what is quadratic does not end within the deadline.
    #[test]
    fn thousands_of_networks_are_decided_on() {
        let mut world = world(200, 3000, 100);
        let before = settle(&mut world, Desired::new());
        let started = Instant::now();
        assert!(look(&world, &before).changes.is_empty());
        let took = started.elapsed();
        println!("decided on 3,000 networks and subnets on 200 hosts in {took:?}");
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}
