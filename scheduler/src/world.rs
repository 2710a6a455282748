//! What the leader knows: the stored state, kept between rounds and refreshed in parts.
//!
//! A full refresh reads everything and is what correctness rests on; between two, what commands
//! changed is read by its ids, and roles after each write. Nobody but the leader writes roles and
//! maps, so that part cannot grow old.

use mizar_db::Connection;
use mizar_db::placement::Error;
use mizar_db::placement::changes::Changes;
use mizar_db::placement::state::{self, HostState, NetworkState, Phase, RoleState, SubnetState};
use mizar_wire::{Body, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything that decisions rest on.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The database's clock at the last look at hosts.
    pub now: Duration,
    /// By number.
    pub hosts: BTreeMap<u32, HostState>,
    /// By VNI.
    pub networks: BTreeMap<u32, NetworkState>,
    /// By number.
    pub subnets: BTreeMap<u32, SubnetState>,
    /// Live roles.
    pub roles: BTreeMap<Scope, Vec<RoleState>>,
    /// Stored shard maps and divider sets: by scope and key.
    pub maps: BTreeMap<(Scope, Vec<u8>), Option<Body>>,
    /// Who receives the maps of roles that drain.
    pub receivers: BTreeMap<Scope, BTreeSet<u32>>,
}

/// The scope in which the map stands that lists the roles of a scope.
pub fn map_scope(roles: Scope) -> Scope {
    match roles {
        Scope::Subnet(number) => Scope::Senders(number),
        Scope::Dividers(vni) => Scope::Network(vni),
        other => other,
    }
}

impl World {
    /// Reads everything but hosts.
    pub async fn refresh(&mut self, conn: &mut Connection) -> Result<(), Error> {
        let networks = state::networks(conn, None).await?;
        let subnets = state::subnets(conn, None).await?;
        let roles = state::roles(conn, None).await?;
        let maps = state::maps(conn).await?;
        self.networks = networks.into_iter().map(|n| (n.vni, n)).collect();
        self.subnets = subnets.into_iter().map(|s| (s.number, s)).collect();
        self.maps = maps.into_iter().map(|m| ((m.scope, m.key), m.body)).collect();
        self.roles = BTreeMap::new();
        self.take_roles(roles);
        Ok(())
    }

    /// Reads what changed. Objects that are gone are left to the next full refresh, unless they
    /// were known.
    pub async fn refresh_some(&mut self, conn: &mut Connection, changes: &Changes) -> Result<(), Error> {
        let networks: Vec<_> = changes.networks.iter().copied().collect();
        let subnets: Vec<_> = changes.subnets.iter().copied().collect();
        let (mut found_networks, mut found_subnets) = (Vec::new(), Vec::new());
        if !networks.is_empty() {
            found_networks = state::networks(conn, Some(&networks)).await?;
        }
        if !subnets.is_empty() {
            found_subnets = state::subnets(conn, Some(&subnets)).await?;
        }
        self.networks.retain(|_, n| !changes.networks.contains(&n.id));
        self.subnets.retain(|_, s| !changes.subnets.contains(&s.id));
        self.networks.extend(found_networks.into_iter().map(|n| (n.vni, n)));
        self.subnets.extend(found_subnets.into_iter().map(|s| (s.number, s)));
        Ok(())
    }

    /// Reads hosts, their leases and cursors.
    pub async fn refresh_hosts(&mut self, conn: &mut Connection) -> Result<(), Error> {
        let hosts = state::hosts(conn).await?;
        self.now = state::clock(conn).await?;
        self.hosts = hosts.into_iter().map(|h| (h.number, h)).collect();
        Ok(())
    }

    /// Reads the roles of scopes that were just written.
    pub async fn refresh_roles(&mut self, conn: &mut Connection, scopes: &[Scope]) -> Result<(), Error> {
        let roles = state::roles(conn, Some(scopes)).await?;
        for scope in scopes {
            self.roles.remove(scope);
        }
        self.take_roles(roles);
        Ok(())
    }

    fn take_roles(&mut self, roles: Vec<RoleState>) {
        for role in roles {
            self.roles.entry(role.key.scope).or_default().push(role);
        }
    }

    /// Reads who receives the maps of roles that drain.
    pub async fn refresh_receivers(&mut self, conn: &mut Connection) -> Result<(), Error> {
        let scopes: BTreeSet<Scope> = self.unsettled(Phase::Draining).map(|role| map_scope(role.key.scope)).collect();
        self.receivers = match scopes.is_empty() {
            true => BTreeMap::new(),
            false => state::receivers(conn, &scopes.into_iter().collect::<Vec<_>>()).await?,
        };
        Ok(())
    }

    /// Roles in a phase.
    pub fn unsettled(&self, phase: Phase) -> impl Iterator<Item = &RoleState> {
        self.roles.values().flatten().filter(move |role| role.phase == phase)
    }

    /// Whether some role waits for an acknowledgement or for time to pass.
    pub fn is_unsettled(&self) -> bool {
        self.roles.values().flatten().any(|role| role.phase != Phase::Active)
    }
}
