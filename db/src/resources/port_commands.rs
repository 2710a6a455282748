//! Ports: create, update, delete.

use super::address::{FixedIpRow, Wanted, assign};
use super::network::{Hold, NetworkRow};
use super::port::{Port, PortRow, join, stored_pairs};
use super::port_extras::Extras;
use super::port_insert::NewPort;
use super::subnet::SubnetRow;
use super::{
    Failure, ObjectKind, inet, l3, label_policy, network, port_binding, port_insert, security_group, violated,
};
use crate::entries;
use crate::ledger::Ledger;
use crate::listing::Visibility;
use crate::schema::{hosts, port_ips, ports, subnets};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_compile::Object;
use mizar_domain::id::NetworkId;
use mizar_domain::ipam::{self, Space, Want};
use mizar_domain::mac::Mac;
use mizar_domain::port::{
    Binding, CreatePort, HostFacts, PortError, Status, UpdatePort, VnicType, check_groups, check_mac, check_pairs,
    is_filtered, new_groups,
};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// What Nova reads about a bound interface: anti-spoofing is the data plane's work.
pub(super) fn vif_details(binding: &Binding) -> Value {
    match binding {
        Binding::Bound(_) => json!({"port_filter": true, "connectivity": "l3"}),
        Binding::Unbound | Binding::Failed(_) => json!({}),
    }
}

/// A locked network, with what its subnets have to give.
struct Surroundings {
    network: NetworkRow,
    spaces: Vec<Space>,
}

/// The subnets of networks, in the order in which automatic addresses are looked for.
async fn subnets_of(mut conn: &AsyncPgConnection, networks: &[Uuid]) -> QueryResult<Vec<SubnetRow>> {
    let all = subnets::table.order((subnets::created_at, subnets::id)).select(SubnetRow::as_select()).into_boxed();
    let wanted = match networks {
        // The usual one, and a plan that PostgreSQL keeps.
        [one] => all.filter(subnets::network_id.eq(*one)),
        many => all.filter(subnets::network_id.eq_any(many.to_vec())),
    };
    wanted.load(&mut conn).await
}

fn surrounded(
    networks: BTreeMap<Uuid, NetworkRow>,
    subnets: Vec<SubnetRow>,
) -> Result<BTreeMap<Uuid, Surroundings>, Failure> {
    let mut all: BTreeMap<Uuid, Surroundings> =
        networks.into_iter().map(|(id, network)| (id, Surroundings { network, spaces: Vec::new() })).collect();
    for row in subnets {
        if let Some(around) = all.get_mut(&row.network_id) {
            around.spaces.push(row.space()?);
        }
    }
    Ok(all)
}

/// What is around the ports of one network.
async fn surroundings(conn: &AsyncPgConnection, network: NetworkRow) -> Result<Surroundings, Failure> {
    let spaces = subnets_of(conn, &[network.id]).await?.iter().map(SubnetRow::space).collect::<Result<_, _>>()?;
    Ok(Surroundings { network, spaces })
}

pub(super) async fn host_facts(
    mut conn: &AsyncPgConnection,
    names: BTreeSet<&str>,
) -> QueryResult<BTreeMap<String, HostFacts>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(String, i32, i32)> = hosts::table
        .filter(hosts::name.eq_any(names))
        .select((hosts::name, hosts::number, hosts::mtu))
        .load(&mut conn)
        .await?;
    let facts = |number: i32, mtu: i32| HostFacts { number: number.cast_unsigned(), mtu: mtu.cast_unsigned() };
    Ok(rows.into_iter().map(|(name, number, mtu)| (name, facts(number, mtu))).collect())
}

/// Whether the network is somebody else's, shared with the caller.
fn is_foreign(view: Visibility, network: &NetworkRow) -> bool {
    matches!(view, Visibility::Project(project) if project != network.project_id)
}

/// Who puts a port on somebody else's shared network takes what the network gives, and keeps it.
fn check_foreign(rules: [(bool, &'static str); 5]) -> Result<(), Failure> {
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, rule)) => Err(Failure::Forbidden(rule)),
        None => Ok(()),
    }
}

fn check_foreign_create(command: &CreatePort) -> Result<(), Failure> {
    let names_address = command.fixed_ips.iter().flatten().any(|request| request.address.is_some());
    check_foreign([
        (command.mac.is_some(), "create_port:mac_address"),
        (names_address, "create_port:fixed_ips:ip_address"),
        (!command.pairs.is_empty(), "create_port:allowed_address_pairs"),
        (command.port_security.is_some(), "create_port:port_security_enabled"),
        (command.device_owner.as_str().starts_with("network:"), "create_port:device_owner"),
    ])
}

/// The same of a change; what the port has already may be said again.
fn check_foreign_update(held: &Port, command: &UpdatePort) -> Result<(), Failure> {
    let leases = held.leases();
    let is_new = |address| leases.iter().all(|lease| lease.address != address);
    let names_address = command.fixed_ips.iter().flatten().any(|request| request.address.is_some_and(is_new));
    let row = &held.row;
    let owner = command.device_owner.as_ref().map(|owner| owner.as_str()).filter(|owner| *owner != row.device_owner);
    check_foreign([
        (command.mac.is_some_and(|mac| mac != row.mac()), "update_port:mac_address"),
        (names_address, "update_port:fixed_ips:ip_address"),
        (command.pairs.as_ref().is_some_and(|pairs| !pairs.is_empty()), "update_port:allowed_address_pairs"),
        (command.port_security.is_some_and(|on| on != row.port_security_enabled), "update_port:port_security_enabled"),
        (owner.is_some_and(|owner| owner.starts_with("network:")), "update_port:device_owner"),
    ])
}

/// Makes ports: all or none. The ledger gets the default groups that are made on the way.
pub async fn create(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    view: Visibility,
    commands: &[CreatePort],
) -> Result<Vec<Port>, Failure> {
    let mut ids: Vec<Uuid> = commands.iter().map(|command| command.network.uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let hosts = commands.iter().filter_map(|command| command.host.as_deref()).collect();
    let without_groups = commands.iter().filter(|command| command.security_groups.is_none());
    let projects = without_groups.map(|command| command.project.uuid()).collect();
    let (held, mut networks, subnets, hosts, defaults) = {
        // In one round trip, and in this order: what is read after the lock is read as it was left before it.
        let conn = &*conn;
        let (held, networks) = network::lock_beside(conn, view, &ids, Hold::Shared);
        futures::try_join!(
            held,
            networks,
            subnets_of(conn, &ids),
            host_facts(conn, hosts),
            security_group::defaults(conn, &projects)
        )?
    };
    networks.retain(|id, _| held.contains(id));
    let around = surrounded(networks, subnets)?;

    let mut new = Vec::with_capacity(commands.len());
    let mut wanted = Vec::with_capacity(commands.len());
    let mut joining = Vec::with_capacity(commands.len());
    for command in commands {
        let Some(around) = around.get(&command.network.uuid()) else {
            return Err(network::refusal(conn, view, command.network, "create_port").await);
        };
        if is_foreign(view, &around.network) {
            check_foreign_create(command)?;
        }
        let owner = command.device_owner.as_str();
        let spaces = open_to(owner, &around.spaces);
        let wants = ipam::resolve(command.network, &spaces, owner, command.fixed_ips.as_deref(), &[])
            .map_err(PortError::from)?;
        wanted.push(Wanted { port: command.id.uuid(), network: command.network, spaces: &around.spaces, wants });
        let row = new_port(command, &around.network, &hosts)?;
        let groups = new_groups(command, row.port_security_enabled)?;
        let filtered = is_filtered(row.port_security_enabled, &row.device_owner);
        joining.push(security_group::Joining { project: row.project_id, groups, filtered, labels: None });
        new.push(row);
    }
    let labelled = new.iter_mut().zip(&mut joining).map(|(row, joining)| (row.project_id, &mut row.extras, joining));
    label_policy::name_labels(conn, labelled.map(|(project, extras, joining)| (project, extras, &mut joining.labels)))
        .await?;
    let mut groups: Vec<(Uuid, Uuid, i32)> = Vec::new();
    let chosen = security_group::choose(conn, ledger, &joining, defaults).await?;
    for (port, chosen) in new.iter_mut().zip(chosen) {
        port.group_set = chosen.set;
        groups.extend(chosen.groups.into_iter().map(|(group, number)| (port.id, group, number)));
    }
    let (rows, addresses) = port_insert::store(conn, commands, new, &wanted, &groups).await?;
    let domains = around.iter().map(|(id, around)| (*id, around.network.dns_domain.clone())).collect();
    let mut made = join(rows, addresses, groups, &domains);

    let mut writes = Vec::new();
    for port in &mut made {
        if let Some(around) = around.get(&port.row.network_id) {
            port.attached.network_qos_policy = around.network.qos_policy_id;
            let model = port.model(around.network.vni, &around.spaces)?;
            writes.extend(mizar_compile::create(Object::Port(&model)));
        }
    }
    entries::apply(conn, &writes).await?;
    Ok(made)
}

/// The address of the gateway is for the router's interface, and for no other port.
fn open_to<'s>(device_owner: &str, spaces: &'s [Space]) -> Cow<'s, [Space]> {
    if device_owner == l3::INTERFACE {
        spaces.iter().map(|space| Space { gateway: None, ..space.clone() }).collect()
    } else {
        Cow::Borrowed(spaces)
    }
}

fn new_port(
    command: &CreatePort,
    network: &NetworkRow,
    hosts: &BTreeMap<String, HostFacts>,
) -> Result<NewPort, Failure> {
    let mac = command.mac.map(check_mac).transpose()?.unwrap_or_else(Mac::random);
    let port_security = command.port_security.unwrap_or(network.port_security_enabled);
    check_pairs(&command.pairs, Some(mac), port_security)?;
    let host = command.host.as_deref();
    let facts = host.and_then(|name| hosts.get(name));
    let binding = Binding::decide(host, facts, command.vnic_type, network.mtu.cast_unsigned());
    Ok(NewPort {
        id: command.id.uuid(),
        project_id: command.project.uuid(),
        network_id: command.network.uuid(),
        name: command.name.as_str().to_owned(),
        description: command.description.as_str().to_owned(),
        mac: mac.0,
        admin_state_up: command.admin_up,
        device_id: command.device_id.as_str().to_owned(),
        device_owner: command.device_owner.as_str().to_owned(),
        port_security_enabled: port_security,
        address_pairs: stored_pairs(&command.pairs),
        status: binding.status(command.admin_up).as_str(),
        status_reason: binding.reason(),
        host: binding.host().map(u32::cast_signed),
        generation: i32::from(binding.host().is_some()),
        host_name: host.unwrap_or_default().to_owned(),
        vnic_type: command.vnic_type.as_str(),
        vif_type: binding.vif_type(),
        vif_details: vif_details(&binding),
        profile: command.profile.clone(),
        extras: Extras(command.extras.clone()),
        group_set: None,
        tags: command.tags.clone().into_vec(),
    })
}

/// Locks a port's network with other commands on ports, and its row alone. `None` if there is no
/// such port.
pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<NetworkRow>> {
    let network = network::lock_of_port(conn, id).await?;
    let locked: Option<Uuid> = ports::table.find(id).select(ports::id).for_update().first(conn).await.optional()?;
    Ok(network.filter(|_| locked.is_some()))
}

/// Changes a port that the caller has locked.
pub async fn update(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    network: NetworkRow,
    old: Port,
    command: &UpdatePort,
) -> Result<Port, Failure> {
    let around = surroundings(conn, network).await?;
    if is_foreign(view, &around.network) {
        check_foreign_update(&old, command)?;
    }
    let was = old.model(around.network.vni, &around.spaces)?;
    let mut row = changed(&old.row, command)?;
    check_groups(command, old.security_groups.len(), row.port_security_enabled)?;
    let now = database_now(conn).await?;
    rebind(conn, &around.network, &old.row, &mut row, command, now).await?;
    row.revision_number += 1;
    row.updated_at = now;

    let fixed_ips = match &command.fixed_ips {
        None => old.fixed_ips.clone(),
        Some(requests) => {
            let leases = old.leases();
            let network = NetworkId::from(around.network.id);
            let wants = ipam::resolve(network, &around.spaces, &row.device_owner, Some(requests), &leases)
                .map_err(PortError::from)?;
            if wants.iter().any(|want| !matches!(want, Want::Held(_))) && row.host.is_some() && row.admin_state_up {
                // Its new addresses are not at their bouncers yet.
                row.status = Status::Build.as_str().to_owned();
            }
            let wanted = Wanted { port: row.id, network, spaces: &around.spaces, wants };
            exchange(conn, &old, wanted).await?
        }
    };
    let filtered = is_filtered(row.port_security_enabled, &row.device_owner);
    let mut labels = None;
    row.extras.0.label_set = None;
    label_policy::name_labels(conn, std::iter::once((row.project_id, &mut row.extras, &mut labels))).await?;
    let groups = security_group::exchange(conn, &old, command.security_groups.as_deref(), filtered, labels).await?;
    row.group_set = groups.set;
    let updated = diesel::update(ports::table.find(row.id)).set(&row).execute(conn).await;
    updated.map_err(|error| match violated(&error) {
        Some("ports_mac") => PortError::MacInUse { network: row.network_id.into(), mac: row.mac() }.into(),
        _ => Failure::from(error),
    })?;
    if row.host_name != old.row.host_name {
        port_binding::arrived(conn, &row).await?;
    }
    let network_domain = row.domain_of(Some(&around.network.dns_domain));
    let (security_groups, group_numbers) = (groups.ids(), groups.numbers());
    let port = Port { row, fixed_ips, security_groups, group_numbers, network_domain, attached: old.attached };
    let is = port.model(around.network.vni, &around.spaces)?;
    entries::apply(conn, &mizar_compile::update(Object::Port(&was), Object::Port(&is))).await?;
    Ok(port)
}

/// Times of rows are the database's, whatever the clocks of the replicas say.
async fn database_now(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    diesel::select(diesel::dsl::now.into_sql::<diesel::sql_types::Timestamptz>()).get_result(conn).await
}

/// The attributes that need no look elsewhere.
fn changed(before: &PortRow, command: &UpdatePort) -> Result<PortRow, Failure> {
    let mut row = before.clone();
    let texts = [
        (&mut row.name, &command.name),
        (&mut row.description, &command.description),
        (&mut row.device_id, &command.device_id),
        (&mut row.device_owner, &command.device_owner),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            text.as_str().clone_into(column);
        }
    }
    if let Some(mac) = command.mac {
        let mac = check_mac(mac)?;
        if mac != before.mac() && before.host.is_some() {
            return Err(PortError::MacOfBoundPort(before.id.into()).into());
        }
        row.mac = mac.0;
    }
    row.port_security_enabled = command.port_security.unwrap_or(row.port_security_enabled);
    if let Some(pairs) = &command.pairs {
        row.address_pairs = stored_pairs(pairs);
    }
    check_pairs(&row.pairs()?, Some(row.mac()), row.port_security_enabled)?;
    if let Some(vnic_type) = command.vnic_type {
        vnic_type.as_str().clone_into(&mut row.vnic_type);
    }
    if let Some(profile) = &command.profile {
        row.profile = profile.clone();
    }
    if let Some(extras) = &command.extras {
        row.extras = Extras(extras.clone());
    }
    row.admin_state_up = command.admin_up.unwrap_or(row.admin_state_up);
    if row.admin_state_up != before.admin_state_up && row.host.is_some() {
        let status = if row.admin_state_up { Status::Build } else { Status::Down };
        status.as_str().clone_into(&mut row.status);
    }
    Ok(row)
}

/// `binding:host_id`. Asking again for the host that has the port changes nothing; asking again
/// after a failure tries again, and so does asking for another kind of interface.
async fn rebind(
    conn: &mut AsyncPgConnection,
    network: &NetworkRow,
    before: &PortRow,
    row: &mut PortRow,
    command: &UpdatePort,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let other_kind = row.vnic_type != before.vnic_type;
    if command.host.is_keep() && !other_kind {
        return Ok(());
    }
    let named = Some(before.host_name.clone()).filter(|name| !name.is_empty());
    let host = command.host.clone().over(named);
    let host = host.as_deref();
    if before.host.is_some() && host == Some(before.host_name.as_str()) && !other_kind {
        return Ok(());
    }
    let corrupt = || Failure::Corrupt { kind: ObjectKind::Port, id: row.id, column: "vnic_type" };
    let vnic = VnicType::named(&row.vnic_type).ok_or_else(corrupt)?;
    let hosts = host_facts(conn, host.into_iter().collect()).await?;
    let facts = host.and_then(|name| hosts.get(name));
    let binding = Binding::decide(host, facts, vnic, network.mtu.cast_unsigned());
    host.unwrap_or_default().clone_into(&mut row.host_name);
    row.host = binding.host().map(u32::cast_signed);
    binding.vif_type().clone_into(&mut row.vif_type);
    row.vif_details = vif_details(&binding);
    binding.status(row.admin_state_up).as_str().clone_into(&mut row.status);
    row.status_reason = binding.reason();
    if row.host != before.host {
        row.generation += 1;
        row.wired_generation = None;
        row.wired_at = None;
        // Packets are still on their way to the host that it leaves, even if it is on none now.
        if before.host.is_some() {
            row.moved_from = before.host;
            row.moved_at = Some(now);
        }
        if row.moved_from == row.host {
            row.moved_from = None;
            row.moved_at = None;
        }
    }
    Ok(())
}

/// Replaces the addresses of a port: gives back what is not wanted any more, then takes the new.
async fn exchange(conn: &mut AsyncPgConnection, old: &Port, wanted: Wanted<'_>) -> Result<Vec<FixedIpRow>, Failure> {
    let mut kept = Vec::new();
    for (position, want) in (0i16..).zip(&wanted.wants) {
        if let Want::Held(lease) = want {
            let address = inet(IpAddr::V4(lease.address));
            let held = old.fixed_ips.iter().find(|row| row.subnet_id == lease.subnet.uuid() && row.address == address);
            kept.extend(held.map(|row| FixedIpRow { position, ..row.clone() }));
        }
    }
    let kept_addresses: Vec<_> = kept.iter().map(|row| row.address).collect();
    let of_port = port_ips::table.filter(port_ips::port_id.eq(wanted.port));
    diesel::delete(of_port.filter(port_ips::address.ne_all(kept_addresses))).execute(conn).await?;
    for row in &kept {
        let moved = port_ips::table.find((row.subnet_id, row.address)).filter(port_ips::position.ne(row.position));
        diesel::update(moved).set(port_ips::position.eq(row.position)).execute(conn).await?;
    }
    let mut all = assign(conn, std::slice::from_ref(&wanted)).await?;
    all.extend(kept);
    all.sort_by_key(|row| row.position);
    Ok(all)
}

/// Deletes a port that the caller has locked.
pub async fn delete(conn: &mut AsyncPgConnection, network: NetworkRow, port: &Port) -> Result<(), Failure> {
    let around = surroundings(conn, network).await?;
    let was = port.model(around.network.vni, &around.spaces)?;
    diesel::delete(ports::table.find(port.row.id)).execute(conn).await?;
    entries::apply(conn, &mizar_compile::delete(Object::Port(&was))).await?;
    Ok(())
}
