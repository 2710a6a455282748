//! What routers and floating IPs ask of networks and ports, and the ports that they make.
//!
//! Locks are taken in one order: a floating IP's row, routers' rows, networks, ports. A command on
//! a port has its port's row when it frees the floating IPs of it; where that meets a command on
//! such a floating IP, PostgreSQL breaks the tie and the loser runs again.

use super::network::NetworkRow;
use super::port::{self, Port, PortRow};
use super::{Failure, ObjectKind, network, port_commands};
use crate::ledger::Ledger;
use crate::listing::{self, Visibility};
use crate::schema::{ports, router_interfaces};
use crate::sharing;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Cidr, Inet, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_domain::id::{PortId, ProjectId};
use mizar_domain::ipam::FixedIpRequest;
use mizar_domain::port::{CreatePort, UpdatePort, VnicType};
use mizar_domain::port_extras::PortExtras;
use mizar_domain::text::{Name, Tags};
use uuid::Uuid;

/// `device_owner` of a router's port on a subnet.
pub const INTERFACE: &str = "network:router_interface";

/// `device_owner` of a router's port on its outside.
pub const GATEWAY: &str = "network:router_gateway";

/// `device_owner` of the port that holds a floating address.
pub const FLOATING: &str = "network:floatingip";

/// The outside's ports belong to no project: tenants do not see them, and no quota counts them.
pub const NOBODY: Uuid = Uuid::nil();

/// An address of a router, and the subnet that it reaches thereby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The router's port.
    pub port: Uuid,
    /// Its network.
    pub network: Uuid,
    /// The subnet.
    pub subnet: Uuid,
    /// The address.
    pub address: IpNet,
    /// The subnet's range.
    pub cidr: IpNet,
}

statement! {
    SelectLinks { ports: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, SqlUuid, SqlUuid, Inet, Cidr)
    {
        "SELECT i.port_id, i.network_id, i.subnet_id, i.address, s.cidr FROM port_ips i \
         JOIN subnets s ON s.id = i.subnet_id WHERE i.port_id = ANY(" ports ") ORDER BY i.port_id, i.position"
    }
}

statement! {
    /// The router through which a port's address is reached from an external network: the one
    /// that is its subnet's gateway, if there are several.
    Reach {
        port: Uuid as SqlUuid,
        address: IpNet as Inet,
        network: Uuid as SqlUuid,
        router: Option<Uuid> as Nullable<SqlUuid>,
        any: bool as Bool,
    } -> SqlUuid
    {
        "SELECT r.id FROM port_ips a JOIN port_ips g ON g.subnet_id = a.subnet_id \
         JOIN router_interfaces i ON i.port_id = g.port_id JOIN routers r ON r.id = i.router_id \
         JOIN subnets s ON s.id = a.subnet_id WHERE a.port_id = " port " AND a.address = " address
        " AND r.gateway_network_id = " network " AND (r.id = " router " OR " any
        ") ORDER BY (g.address IS NOT DISTINCT FROM s.gateway_ip) DESC, r.id LIMIT 1"
    }
}

statement! {
    HoldRouter { router: Uuid as SqlUuid } -> SqlUuid
    { "SELECT id FROM routers WHERE id = " router " FOR SHARE" }
}

statement! {
    HoldPort { port: Uuid as SqlUuid } -> SqlUuid
    { "SELECT id FROM ports WHERE id = " port " FOR KEY SHARE" }
}

statement! {
    /// Whether floating IPs go through a router, to a subnet if one is named.
    HasFloating { router: Uuid as SqlUuid, subnet: Option<Uuid> as Nullable<SqlUuid>, any: bool as Bool } -> Bool
    {
        "SELECT EXISTS (SELECT FROM floatingips f JOIN port_ips i ON i.port_id = f.port_id \
         AND i.address = f.fixed_ip_address WHERE f.router_id = " router " AND (i.subnet_id = " subnet " OR " any "))"
    }
}

statement! {
    IsOutside { network: Uuid as SqlUuid, again: Uuid as SqlUuid } -> Bool
    {
        "SELECT EXISTS (SELECT FROM routers WHERE gateway_network_id = " network
        ") OR EXISTS (SELECT FROM floatingips WHERE floating_network_id = " again ")"
    }
}

statement! {
    /// The same, and no other policy makes it external.
    IsOutsideBy { network: Uuid as SqlUuid, again: Uuid as SqlUuid, object: Uuid as SqlUuid, policy: Uuid as SqlUuid }
    -> Bool
    {
        "SELECT (EXISTS (SELECT FROM routers WHERE gateway_network_id = " network
        ") OR EXISTS (SELECT FROM floatingips WHERE floating_network_id = " again
        ")) AND NOT EXISTS (SELECT FROM rbac_policies WHERE object_type = 'network' AND object_id = " object
        " AND action = 'access_as_external' AND id <> " policy ")"
    }
}

statement! {
    /// Whether other projects than the owner have their outside on a network that no policy shows them.
    IsOutsideOfStrangers {
        network: Uuid as SqlUuid,
        again: Uuid as SqlUuid,
        owner: Uuid as SqlUuid,
        object: Uuid as SqlUuid,
    } -> Bool
    {
        "SELECT EXISTS (SELECT FROM (SELECT project_id FROM routers WHERE gateway_network_id = " network
        " UNION ALL SELECT project_id FROM floatingips WHERE floating_network_id = " again
        ") u WHERE u.project_id <> " owner " AND NOT EXISTS (SELECT FROM rbac_policies o WHERE o.object_type = 'network' \
         AND o.object_id = " object " AND (o.target_project IS NULL OR o.target_project = u.project_id)))"
    }
}

statement! {
    IsOwned { port: Uuid as SqlUuid } -> Bool
    {
        "SELECT EXISTS (SELECT FROM ports p WHERE p.id = " port
        " AND (EXISTS (SELECT FROM router_interfaces i WHERE i.port_id = p.id) \
         OR EXISTS (SELECT FROM routers r WHERE r.gateway_port_id = p.id) \
         OR EXISTS (SELECT FROM floatingips f WHERE f.floating_port_id = p.id)))"
    }
}

statement! {
    Dissociate { port: Uuid as SqlUuid, kept: Vec<IpNet> as Array<Inet> } -> (SqlUuid, SqlUuid)
    {
        "UPDATE floatingips SET port_id = NULL, fixed_ip_address = NULL, router_id = NULL, status = 'DOWN', \
         revision_number = revision_number + 1, updated_at = now() WHERE port_id = " port
        " AND fixed_ip_address <> ALL(" kept ") RETURNING id, project_id"
    }
}

statement! {
    IsInterface { port: Uuid as SqlUuid, router: Uuid as SqlUuid } -> Bool
    { "SELECT EXISTS (SELECT FROM router_interfaces WHERE port_id = " port " AND router_id = " router ")" }
}

/// The addresses of a router's ports.
pub async fn links(conn: &mut AsyncPgConnection, ports: &[Uuid]) -> QueryResult<Vec<Link>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, Uuid, Uuid, IpNet, IpNet)> = SelectLinks { ports: ports.to_vec() }.load(conn).await?;
    let link = |(port, network, subnet, address, cidr)| Link { port, network, subnet, address, cidr };
    Ok(rows.into_iter().map(link).collect())
}

/// The ports by which a router is on subnets.
pub async fn interfaces(conn: &mut AsyncPgConnection, router: Uuid) -> QueryResult<Vec<Uuid>> {
    let of_router = router_interfaces::table.filter(router_interfaces::router_id.eq(router));
    of_router.select(router_interfaces::port_id).order(router_interfaces::port_id).load(conn).await
}

/// Those of them on one network.
pub async fn interfaces_on(conn: &mut AsyncPgConnection, router: Uuid, network: Uuid) -> QueryResult<Vec<Uuid>> {
    let there = ports::table.filter(ports::network_id.eq(network)).select(ports::id);
    let of_router = router_interfaces::table.filter(router_interfaces::router_id.eq(router));
    let on_it = of_router.filter(router_interfaces::port_id.eq_any(there));
    on_it.select(router_interfaces::port_id).order(router_interfaces::port_id).load(conn).await
}

/// Whether a port is an interface of a router.
pub async fn is_interface(conn: &mut AsyncPgConnection, port: Uuid, router: Uuid) -> QueryResult<bool> {
    IsInterface { port, router }.get_result(conn).await
}

/// Makes a port an interface.
pub async fn attach(conn: &mut AsyncPgConnection, port: Uuid, router: Uuid) -> QueryResult<()> {
    let row = (router_interfaces::port_id.eq(port), router_interfaces::router_id.eq(router));
    diesel::insert_into(router_interfaces::table).values(row).execute(conn).await.map(|_| ())
}

/// It is one no more.
pub async fn detach(conn: &mut AsyncPgConnection, port: Uuid) -> QueryResult<()> {
    diesel::delete(router_interfaces::table.find(port)).execute(conn).await.map(|_| ())
}

/// Whether routers or floating IPs have a network as their outside.
pub async fn is_outside(conn: &mut AsyncPgConnection, network: Uuid) -> QueryResult<bool> {
    IsOutside { network, again: network }.get_result(conn).await
}

/// The same, if without this policy it is external no more.
pub async fn is_outside_by(conn: &mut AsyncPgConnection, network: Uuid, policy: Uuid) -> QueryResult<bool> {
    IsOutsideBy { network, again: network, object: network, policy }.get_result(conn).await
}

/// Whether projects have their outside on a network that neither is theirs nor shared with them.
pub async fn is_outside_of_strangers(conn: &mut AsyncPgConnection, network: Uuid, owner: Uuid) -> QueryResult<bool> {
    IsOutsideOfStrangers { network, again: network, owner, object: network }.get_result(conn).await
}

/// Whether a port is a router's or a floating IP's.
pub async fn is_owned(conn: &mut AsyncPgConnection, port: &PortRow) -> QueryResult<bool> {
    // Only these have the device owners, and nobody changes it while they have the port.
    if ![INTERFACE, GATEWAY, FLOATING].contains(&port.device_owner.as_str()) {
        return Ok(false);
    }
    IsOwned { port: port.id }.get_result(conn).await
}

/// Whether floating IPs go through a router, to a subnet if one is named.
pub async fn has_floating(conn: &mut AsyncPgConnection, router: Uuid, subnet: Option<Uuid>) -> QueryResult<bool> {
    HasFloating { router, subnet, any: subnet.is_none() }.get_result(conn).await
}

/// Frees the floating IPs of a port whose addresses are not among those that it keeps; which, and whose.
pub async fn dissociate(conn: &mut AsyncPgConnection, port: Uuid, kept: Vec<IpNet>) -> QueryResult<Vec<(Uuid, Uuid)>> {
    Dissociate { port, kept }.load(conn).await
}

/// The router through which a port's address is reached from an external network. It and the port stay as they are until
/// the end of the transaction.
pub async fn reach(
    conn: &mut AsyncPgConnection,
    port: Uuid,
    address: IpNet,
    network: Uuid,
) -> QueryResult<Option<Uuid>> {
    let first = Reach { port, address, network, router: None, any: true };
    let Some(router) = first.get_result::<Uuid>(conn).await.optional()? else { return Ok(None) };
    HoldRouter { router }.get_result::<Uuid>(conn).await.optional()?;
    HoldPort { port }.get_result::<Uuid>(conn).await.optional()?;
    Reach { port, address, network, router: Some(router), any: false }.get_result(conn).await.optional()
}

/// Locks a network that the caller sees, with other commands on ports; and whether it is external.
pub async fn outside(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    id: Uuid,
) -> QueryResult<Option<(NetworkRow, bool)>> {
    // Who does not see a network does not lock it; and while he waits, it may be hidden from him.
    if listing::find::<NetworkRow>(conn, view, None, id).await?.is_none() {
        return Ok(None);
    }
    network::lock(conn, Visibility::All, &[id], network::Hold::Shared).await?;
    let Some(row) = listing::find::<NetworkRow>(conn, view, None, id).await? else { return Ok(None) };
    let external = sharing::external_among(conn, &[id]).await?.contains(&id);
    Ok(Some((row, external)))
}

/// A port for a router or a floating IP.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whose it is.
    pub project: Uuid,
    /// Where.
    pub network: Uuid,
    /// `None`: an automatic address.
    pub fixed_ips: Option<Vec<FixedIpRequest>>,
    /// The router or floating IP.
    pub device: Uuid,
    /// [`INTERFACE`], [`GATEWAY`] or [`FLOATING`].
    pub owner: &'static str,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("ids and device owners are short and without NUL")
}

/// Makes a port, bound to no host.
pub async fn make_port(conn: &mut AsyncPgConnection, ledger: &mut Ledger, wish: Wish) -> Result<Port, Failure> {
    let command = CreatePort {
        id: PortId::random(),
        project: ProjectId::from(wish.project),
        network: wish.network.into(),
        name: Name::default(),
        description: Name::default(),
        admin_up: true,
        mac: None,
        fixed_ips: wish.fixed_ips,
        device_id: name(&wish.device.to_string()),
        device_owner: name(wish.owner),
        pairs: Vec::new(),
        // It sends what it forwards.
        port_security: Some(false),
        security_groups: Some(Vec::new()),
        host: None,
        vnic_type: VnicType::default(),
        profile: serde_json::json!({}),
        tags: Tags::default(),
        extras: PortExtras::default(),
        qos_policy: None,
    };
    let mut made = port_commands::create(conn, ledger, Visibility::All, &[command]).await?;
    made.pop().ok_or_else(|| Failure::not_found(ObjectKind::Network, wish.network))
}

/// Locks a port and its network, and reads both, whoever sees them.
pub async fn hold(conn: &mut AsyncPgConnection, id: Uuid) -> Result<(NetworkRow, Port), Failure> {
    let missing = || Failure::not_found(ObjectKind::Port, id);
    let network = port_commands::lock(conn, id).await?.ok_or_else(missing)?;
    let row = ports::table.find(id).select(PortRow::as_select()).first(conn).await?;
    let port = port::complete(conn, vec![row]).await?.pop().ok_or_else(missing)?;
    Ok((network, port))
}

/// Locks a port and reads it, whoever sees it.
pub async fn held(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Port, Failure> {
    hold(conn, id).await.map(|(_, port)| port)
}

/// Changes a port, whoever owns it.
pub async fn change_port(conn: &mut AsyncPgConnection, id: Uuid, command: &UpdatePort) -> Result<Port, Failure> {
    let (network, old) = hold(conn, id).await?;
    port_commands::update(conn, Visibility::All, network, old, command).await
}

/// The change that gives a port to a router.
pub fn given_to(router: Uuid) -> UpdatePort {
    let (device_id, device_owner) = (Some(name(&router.to_string())), Some(name(INTERFACE)));
    UpdatePort { device_id, device_owner, ..UpdatePort::default() }
}

/// Deletes a port, whoever owns it; returns it.
pub async fn drop_port(conn: &mut AsyncPgConnection, id: Uuid) -> Result<PortRow, Failure> {
    let (network, port) = hold(conn, id).await?;
    port_commands::delete(conn, network, &port).await?;
    Ok(port.row)
}
