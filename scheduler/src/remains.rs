//! What deleted networks and subnets leave behind.

use crate::world::World;
use mizar_compile::Write;
use mizar_db::placement::roles::Remains;
use mizar_wire::entry::EntryKey;
use mizar_wire::{Kind, Scope};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Roles and maps whose network or subnet is gone.
pub fn remains(world: &World) -> Option<Remains> {
    let mut remains = Remains::default();
    let mut scopes = BTreeSet::new();
    for scope in world.roles.keys() {
        match scope {
            Scope::Subnet(number) if !world.subnets.contains_key(number) => {
                scopes.extend([*scope, Scope::Senders(*number)]);
            }
            Scope::Dividers(vni) if !world.networks.contains_key(vni) => drop(scopes.insert(*scope)),
            _ => {}
        }
    }
    let mut ids = BTreeSet::new();
    for (scope, key) in world.maps.keys() {
        let (owner, kind) = match scope {
            Scope::Senders(number) => (world.subnets.get(number).map(|s| s.id), Kind::ShardMap),
            Scope::Network(vni) => (world.networks.get(vni).map(|n| n.id), Kind::DividerSet),
            _ => continue,
        };
        let id = Uuid::from_slice(key).ok();
        if id.is_some() && id == owner {
            continue;
        }
        ids.extend(id);
        let key = EntryKey { scope: *scope, slot: 0, kind, key: key.clone() };
        remains.writes.push(Write::Remove(key));
    }
    remains.ids = ids.into_iter().collect();
    remains.scopes = scopes.into_iter().collect();
    (!remains.scopes.is_empty() || !remains.writes.is_empty()).then_some(remains)
}
