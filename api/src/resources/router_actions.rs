//! What is done to a router beside its attributes: interfaces and single routes.

use super::l3::bad_request;
use super::port_attached;
use super::routers::{Router, Routes, charge_routes, check_routes, column_of, refuse_overlap, routes_of};
use crate::frame::caller::Access;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::Item;
use crate::frame::resource::Tx;
use crate::frame::stored::Stored as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mizar_db::listing;
use mizar_db::resources::l3::{self, INTERFACE, Link, Wish};
use mizar_db::resources::port::{Port, PortRow};
use mizar_db::resources::subnet::SubnetRow;
use mizar_domain::ipam::FixedIpRequest;
use mizar_domain::model::HostRoute;
use serde_json::{Value, json};
use std::net::IpAddr;
use uuid::Uuid;

type Run<'t> = BoxFuture<'t, Result<Value, Fault>>;

fn interface_of(router: &Router, port: Uuid, network: Uuid, subnets: &[Uuid]) -> Value {
    let project = router.project_id.simple().to_string();
    json!({"id": router.id, "project_id": project, "tenant_id": project, "port_id": port, "network_id": network,
        "subnet_id": subnets.first(), "subnet_ids": subnets})
}

/// All addresses of a router.
async fn all_links(tx: &mut Tx<'_>, router: &Router) -> Result<Vec<Link>, Fault> {
    let mut ports = l3::interfaces(tx.conn, router.id).await?;
    ports.extend(router.gateway_port_id);
    Ok(l3::links(tx.conn, &ports).await?)
}

/// `add_router_interface`.
pub(crate) fn add_interface<'t>(tx: &'t mut Tx<'_>, router: Item<Router>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let (subnet, port): (Option<Uuid>, Option<Uuid>) = (body.optional("subnet_id")?, body.optional("port_id")?);
        let router = router.row;
        let links = all_links(tx, &router).await?;
        let port = match (subnet, port) {
            (None, None) => return Err(bad_request("Either subnet_id or port_id must be specified")),
            (Some(_), Some(_)) => return Err(bad_request("Cannot specify both subnet-id and port-id")),
            (Some(subnet), None) => by_subnet(tx, &router, &links, subnet).await?,
            (None, Some(port)) => by_port(tx, &router, &links, port).await?,
        };
        l3::attach(tx.conn, port.row.id, router.id).await?;
        Router::store(tx.conn, &router).await?;
        let subnets: Vec<Uuid> = port.fixed_ips.iter().map(|ip| ip.subnet_id).collect();
        Ok(interface_of(&router, port.row.id, port.row.network_id, &subnets))
    }
    .boxed()
}

/// A new port that has the address of the subnet's gateway.
async fn by_subnet(tx: &mut Tx<'_>, router: &Router, links: &[Link], id: Uuid) -> Result<Port, Fault> {
    let found: Option<SubnetRow> = listing::find(tx.conn, tx.context.view, None, id).await?;
    let subnet = found.ok_or_else(|| Fault::not_found("SubnetNotFound", format!("Subnet {id} could not be found.")))?;
    let caller = &tx.context.caller;
    if caller.project() != Some(subnet.project_id) && !caller.has(Access::Admin) {
        let message = "Cannot add interface to router because subnet";
        return Err(bad_request(format!("{message} {id} is not owned by project making the request")));
    }
    let Some(IpAddr::V4(gateway)) = subnet.gateway_ip.map(|gateway| gateway.addr()) else {
        return Err(bad_request("Subnet for router interface must have a gateway IP"));
    };
    refuse_overlap(links, id, subnet.cidr)?;
    let fixed_ips = Some(vec![FixedIpRequest { subnet: Some(id.into()), address: Some(gateway) }]);
    let (project, network) = (router.project_id, subnet.network_id);
    let port = l3::make_port(
        tx.conn,
        &mut tx.ledger,
        Wish { project, network, fixed_ips, device: router.id, owner: INTERFACE },
    )
    .await?;
    tx.charge(project, "port", 1);
    let sent = json!({"network_id": network, "device_owner": INTERFACE, "device_id": router.id});
    tx.record("create", "port", port.row.id, Some(project), sent);
    Ok(port)
}

/// A port that is there.
async fn by_port(tx: &mut Tx<'_>, router: &Router, links: &[Link], id: Uuid) -> Result<Port, Fault> {
    let seen: Option<PortRow> = listing::find(tx.conn, tx.context.view, None, id).await?;
    let seen = seen.ok_or_else(|| Fault::not_found("PortNotFound", format!("Port {id} could not be found.")))?;
    let caller = &tx.context.caller;
    if caller.project() != Some(seen.project_id) && !caller.has(Access::Admin) {
        return Err(Fault::forbidden("add_router_interface:port_id"));
    }
    let port = l3::held(tx.conn, id).await?;
    if !port.row.device_id.is_empty() {
        let (network, device) = (port.row.network_id, &port.row.device_id);
        let message = format!(
            "Unable to complete operation on port {id} for network {network}. Port already has an attached device \
             {device}."
        );
        return Err(Fault::conflict("PortInUse", message));
    }
    port_attached::refuse_if_in_trunk(&port)?;
    match port.fixed_ips.as_slice() {
        [] => return Err(bad_request("Router port must have at least one fixed IP")),
        [_] => {}
        _ => return Err(bad_request("Cannot have multiple IPv4 subnets on router port")),
    }
    for link in l3::links(tx.conn, &[id]).await? {
        refuse_overlap(links, link.subnet, link.cidr)?;
    }
    let port = l3::change_port(tx.conn, id, &l3::given_to(router.id)).await?;
    let sent = json!({"device_owner": INTERFACE, "device_id": router.id});
    tx.record("update", "port", id, Some(port.row.project_id), sent);
    Ok(port)
}

/// `remove_router_interface`.
pub(crate) fn remove_interface<'t>(tx: &'t mut Tx<'_>, router: Item<Router>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let (subnet, port): (Option<Uuid>, Option<Uuid>) = (body.optional("subnet_id")?, body.optional("port_id")?);
        let router = router.row;
        let ports = l3::interfaces(tx.conn, router.id).await?;
        let links = l3::links(tx.conn, &ports).await?;
        let link = match (port, subnet) {
            (None, None) => return Err(bad_request("Either subnet_id or port_id must be specified")),
            (Some(port), subnet) => {
                let message = || format!("Router {} does not have an interface with id {port}", router.id);
                let found = links.iter().find(|link| link.port == port);
                let link = found.ok_or_else(|| Fault::not_found("RouterInterfaceNotFound", message()))?;
                if let Some(subnet) = subnet.filter(|subnet| *subnet != link.subnet) {
                    let message = format!("Subnet on port {port} does not match the requested subnet {subnet}.");
                    return Err(Fault::conflict("SubnetMismatchForPort", message));
                }
                link
            }
            (None, Some(subnet)) => {
                let message = || format!("Router {} has no interface on subnet {subnet}", router.id);
                let found = links.iter().find(|link| link.subnet == subnet);
                found.ok_or_else(|| Fault::not_found("RouterInterfaceNotFoundForSubnet", message()))?
            }
        };
        refuse_in_use(tx, &router, link, &links).await?;
        l3::detach(tx.conn, link.port).await?;
        let gone = l3::drop_port(tx.conn, link.port).await?;
        tx.charge(gone.project_id, "port", -1);
        tx.record("delete", "port", gone.id, Some(gone.project_id), json!({}));
        Router::store(tx.conn, &router).await?;
        Ok(interface_of(&router, link.port, link.network, &[link.subnet]))
    }
    .boxed()
}

/// Routes and floating IPs keep the interface that they need.
async fn refuse_in_use(tx: &mut Tx<'_>, router: &Router, link: &Link, links: &[Link]) -> Result<(), Fault> {
    let message = |by: &str| {
        format!(
            "Router interface for subnet {} on router {} cannot be deleted, as it is required by one or more {by}.",
            link.subnet, router.id
        )
    };
    if l3::has_floating(tx.conn, router.id, Some(link.subnet)).await? {
        return Err(Fault::conflict("RouterInterfaceInUseByFloatingIP", message("floating IPs")));
    }
    let elsewhere = |hop: IpAddr| links.iter().any(|other| other.port != link.port && other.cidr.contains(&hop));
    let needs = |route: &HostRoute| link.cidr.contains(&route.nexthop) && !elsewhere(route.nexthop);
    if routes_of(router)?.iter().any(needs) {
        return Err(Fault::conflict("RouterInterfaceInUseByRoute", message("routes")));
    }
    Ok(())
}

/// `add_extraroutes`.
pub(super) fn add_routes<'t>(tx: &'t mut Tx<'_>, router: Item<Router>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let Routes(more) = body.required("routes")?;
        let old = router.row;
        let mut routes = routes_of(&old)?;
        routes.extend(more.into_iter().filter(|route| !routes.contains(route)).collect::<Vec<_>>());
        change_routes(tx, old, &routes).await
    }
    .boxed()
}

/// `remove_extraroutes`.
pub(super) fn remove_routes<'t>(tx: &'t mut Tx<'_>, router: Item<Router>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let Routes(fewer) = body.required("routes")?;
        let old = router.row;
        let mut routes = routes_of(&old)?;
        routes.retain(|route| !fewer.contains(route));
        change_routes(tx, old, &routes).await
    }
    .boxed()
}

async fn change_routes(tx: &mut Tx<'_>, old: Router, routes: &[HostRoute]) -> Result<Value, Fault> {
    let new = Router { routes: column_of(routes), ..old.clone() };
    if new.routes != old.routes {
        let links = all_links(tx, &new).await?;
        check_routes(&new, &links)?;
        charge_routes(tx, &old, &new);
        Router::store(tx.conn, &new).await?;
    }
    Ok(Value::Null)
}
