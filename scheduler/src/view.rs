//! What is known of hosts when a decision is made, put together from what is stored, what was
//! judged and the settings.

use crate::config::Settings;
use crate::phases::Knowledge;
use crate::world::{World, map_scope};
use mizar_db::placement::state::{Refused, RoleState};
use mizar_domain::model;
use mizar_placement::failure::Verdict;
use mizar_placement::{Host, Transit};
use mizar_wire::{Kind, Scope};
use std::net::IpAddr;

/// What one decision rests on.
pub struct View<'a> {
    /// What is stored.
    pub world: &'a World,
    /// Who lives.
    pub verdict: &'a Verdict,
    /// The rules.
    pub settings: &'a Settings,
}

impl Knowledge for View<'_> {
    fn lives(&self, host: u32) -> bool {
        self.world.hosts.contains_key(&host) && !self.verdict.lost.contains(&host)
    }

    fn acknowledged(&self, role: &RoleState) -> bool {
        self.has_seen(role.key.host, role.xid) && !self.refuses(role)
    }

    /// The map without the holder was written with the row's present phase, so whoever has seen
    /// one has seen the other. Waits for senders with a live lease only (CONTROLPLANE C4).
    fn drained(&self, role: &RoleState) -> bool {
        if self.verdict.mass_failure() || self.world.now < role.changed + self.settings.drain {
            return false;
        }
        let senders = self.world.receivers.get(&map_scope(role.key.scope));
        senders.into_iter().flatten().all(|host| !self.lives(*host) || self.has_seen(*host, role.xid))
    }
}

impl View<'_> {
    /// Whether the host could not put something in force that the role consists of: then it would
    /// lose packets, however much it has seen. Of a subnet that is what its slots hold.
    fn refuses(&self, role: &RoleState) -> bool {
        let refused = self.world.hosts.get(&role.key.host).map_or(&[][..], |host| host.refused.as_slice());
        refused.iter().any(|entry| match (role.key.scope, Scope::from_i64(entry.scope)) {
            (own, Some(other)) if own == other => {
                slot_of(entry).is_none_or(|slot| (role.key.lo..=role.hi).contains(&slot))
            }
            (Scope::Subnet(number), Some(Scope::Senders(other))) => number == other,
            (Scope::Subnet(number), Some(Scope::Network(vni))) => self.vni_of(number) == Some(vni),
            (Scope::Dividers(vni), Some(Scope::Network(other))) => vni == other,
            (Scope::Dividers(vni), Some(Scope::Senders(number))) => self.vni_of(number) == Some(vni),
            _ => false,
        })
    }

    fn vni_of(&self, subnet: u32) -> Option<u32> {
        self.world.subnets.get(&subnet).map(|s| s.vni)
    }

    fn has_seen(&self, host: u32, xid: i64) -> bool {
        self.world.hosts.get(&host).and_then(|h| h.cursor.as_ref()).is_some_and(|cursor| cursor.sees(xid))
    }

    /// Hosts as placement sees them.
    pub fn hosts(&self) -> Vec<Host> {
        let host = |h: &mizar_db::placement::state::HostState| Host {
            number: h.number,
            az: h.az.clone(),
            rack: h.rack.clone(),
            // The column admits the three only; what a later version may add holds nothing here.
            transit: h.transit.parse().unwrap_or(Transit::No),
            weight: h.weight,
            live: self.lives(h.number) && !self.verdict.doubted.contains(&h.number),
        };
        self.world.hosts.values().map(host).collect()
    }
}

/// The slot of a bounce entry, by its key: the port's id and the address, mapped into IPv6.
fn slot_of(entry: &Refused) -> Option<u16> {
    let Some(Scope::Subnet(number)) = Scope::from_i64(entry.scope) else { return None };
    if entry.kind != Kind::Bounce as i16 || entry.key.len() != 64 {
        return None;
    }
    let address = u128::from_str_radix(entry.key.get(32..)?, 16).ok()?;
    Some(model::slot(number, IpAddr::from(address.to_be_bytes())))
}
