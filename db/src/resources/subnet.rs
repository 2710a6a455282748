//! Subnets.

use super::network::{Hold, NetworkRow};
use super::{Failure, ObjectKind, inet, ipv4, network, violated};
use crate::entries;
use crate::listing::{Listed, Visibility, listed_by};
use crate::schema::{port_ips, subnets};
use crate::sharing::{on_own_network, shared_with};
use chrono::{DateTime, Utc};
use diesel::dsl::{exists, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_compile::Object;
use mizar_domain::cidr::Cidr;
use mizar_domain::id::{PortId, SubnetId};
use mizar_domain::ipam::Space;
use mizar_domain::model::{self, HostRoute};
use mizar_domain::pool::Pool;
use mizar_domain::subnet::{CreateSubnet, DeleteSubnetError, Layout, ServiceType, SubnetError, UpdateSubnet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// A subnet as stored.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = subnets, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct SubnetRow {
    pub id: Uuid,
    pub project_id: Uuid,
    pub network_id: Uuid,
    pub number: i32,
    pub name: String,
    pub description: String,
    pub ip_version: i16,
    pub cidr: IpNet,
    pub gateway_ip: Option<IpNet>,
    pub enable_dhcp: bool,
    pub dns_nameservers: Vec<IpNet>,
    pub host_routes: Value,
    pub allocation_pools: Value,
    pub subnetpool_id: Option<Uuid>,
    pub service_types: Vec<String>,
    pub dns_publish_fixed_ip: bool,
    pub tags: Vec<String>,
    pub revision_number: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// An element of `host_routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRoute {
    destination: IpNet,
    nexthop: IpAddr,
}

/// An element of `allocation_pools`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPool {
    start: Ipv4Addr,
    end: Ipv4Addr,
}

impl Listed for SubnetRow {
    listed_by!(subnets: project_id);

    /// Own, or of a network that is one's own or shared.
    fn visible_to(view: Visibility) -> Self::Rows {
        let all = subnets::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(project) => {
                let own = subnets::project_id.eq(project).nullable();
                let own = own.or(on_own_network::<subnets::table>("subnets.network_id", project));
                all.filter(own.or(shared_with::<subnets::table>("subnets.network_id", network::NETWORK, project)))
            }
            Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }
}

impl SubnetRow {
    fn corrupt(&self, column: &'static str) -> Failure {
        Failure::Corrupt { kind: ObjectKind::Subnet, id: self.id, column }
    }

    /// Its ranges and services, as the domain sees them.
    pub fn layout(&self) -> Result<Layout, Failure> {
        let IpNet::V4(cidr) = self.cidr else { return Err(self.corrupt("cidr")) };
        let gateway = match self.gateway_ip {
            Some(gateway) => Some(ipv4(gateway).ok_or_else(|| self.corrupt("gateway_ip"))?),
            None => None,
        };
        let pools: Vec<StoredPool> =
            serde_json::from_value(self.allocation_pools.clone()).map_err(|_| self.corrupt("allocation_pools"))?;
        let routes: Vec<StoredRoute> =
            serde_json::from_value(self.host_routes.clone()).map_err(|_| self.corrupt("host_routes"))?;
        Ok(Layout {
            cidr: Cidr::stored(cidr),
            gateway,
            pools: pools.into_iter().map(|pool| Pool { start: pool.start, end: pool.end }).collect(),
            dhcp: self.enable_dhcp,
            dns: self.dns_nameservers.iter().map(IpNet::addr).collect(),
            routes: routes
                .into_iter()
                .map(|route| HostRoute { destination: route.destination, nexthop: route.nexthop })
                .collect(),
        })
    }

    /// What its entries are compiled from.
    pub fn model(&self, network: &NetworkRow) -> Result<model::Subnet, Failure> {
        let Layout { cidr, gateway, pools: _, dhcp, dns, routes } = self.layout()?;
        Ok(model::Subnet {
            id: self.id.into(),
            number: self.number.cast_unsigned(),
            vni: network.vni.cast_unsigned(),
            cidr: cidr.net().into(),
            gateway: gateway.map(IpAddr::V4),
            dhcp,
            dns,
            routes,
        })
    }

    /// What it has to give to ports.
    pub fn space(&self) -> Result<Space, Failure> {
        let Layout { cidr, gateway, pools, .. } = self.layout()?;
        let service_types = self.service_types.clone();
        Ok(Space { subnet: self.id.into(), number: self.number.cast_unsigned(), cidr, gateway, pools, service_types })
    }
}

/// The columns that a layout fills.
struct Columns {
    gateway_ip: Option<IpNet>,
    dns_nameservers: Vec<IpNet>,
    host_routes: Value,
    allocation_pools: Value,
}

impl Columns {
    fn of(layout: &Layout) -> Self {
        let route = |route: &HostRoute| serde_json::json!({"destination": route.destination, "nexthop": route.nexthop});
        let pool = |pool: &Pool| serde_json::json!({"start": pool.start, "end": pool.end});
        Self {
            gateway_ip: layout.gateway.map(|gateway| inet(gateway.into())),
            dns_nameservers: layout.dns.iter().copied().map(inet).collect(),
            host_routes: layout.routes.iter().map(route).collect(),
            allocation_pools: layout.pools.iter().map(pool).collect(),
        }
    }
}

/// Makes subnets. The caller must own the networks, not just see them.
pub async fn create(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    commands: &[CreateSubnet],
) -> Result<Vec<SubnetRow>, Failure> {
    let ids: Vec<Uuid> = commands.iter().map(|command| command.network.uuid()).collect();
    let networks = network::lock(conn, view, &ids, Hold::Alone).await?;
    let mut made = Vec::with_capacity(commands.len());
    let mut writes = Vec::new();
    for command in commands {
        let Some(network) = networks.get(&command.network.uuid()) else {
            return Err(network::refusal(conn, view, command.network, "create_subnet").await);
        };
        check_affinity(conn, command).await?;
        let row = insert(conn, command).await?;
        writes.extend(mizar_compile::create(Object::Subnet(&row.model(network)?)));
        made.push(row);
    }
    let mut touched: Vec<Uuid> = ids;
    touched.sort_unstable();
    touched.dedup();
    for id in touched {
        network::touch(conn, id).await?;
    }
    entries::apply(conn, &writes).await?;
    Ok(made)
}

/// All subnets of a network are of one pool, or none is of any: routers tell address scopes apart
/// by network.
async fn check_affinity(conn: &mut AsyncPgConnection, command: &CreateSubnet) -> Result<(), Failure> {
    let of_network = subnets::table.filter(subnets::network_id.eq(command.network.uuid()));
    let others = of_network.filter(subnets::subnetpool_id.is_distinct_from(command.extras.pool));
    if diesel::select(exists(others)).get_result::<bool>(conn).await? {
        return Err(SubnetError::PoolAffinity.into());
    }
    Ok(())
}

fn texts(service_types: &[ServiceType]) -> Vec<&str> {
    service_types.iter().map(ServiceType::as_str).collect()
}

async fn insert(conn: &mut AsyncPgConnection, command: &CreateSubnet) -> Result<SubnetRow, Failure> {
    let layout = command.layout()?;
    let columns = Columns::of(&layout);
    let inserted = diesel::insert_into(subnets::table)
        .values((
            subnets::id.eq(command.id.uuid()),
            subnets::project_id.eq(command.project.uuid()),
            subnets::network_id.eq(command.network.uuid()),
            subnets::name.eq(command.name.as_str()),
            subnets::description.eq(command.description.as_str()),
            subnets::ip_version.eq(4),
            subnets::cidr.eq(IpNet::V4(layout.cidr.net())),
            subnets::gateway_ip.eq(columns.gateway_ip),
            subnets::enable_dhcp.eq(layout.dhcp),
            subnets::dns_nameservers.eq(columns.dns_nameservers),
            subnets::host_routes.eq(columns.host_routes),
            subnets::allocation_pools.eq(columns.allocation_pools),
            subnets::subnetpool_id.eq(command.extras.pool),
            subnets::service_types.eq(texts(&command.extras.service_types)),
            subnets::dns_publish_fixed_ip.eq(command.extras.publish_dns),
            subnets::tags.eq(command.tags.clone().into_vec()),
        ))
        .returning(SubnetRow::as_returning())
        .get_result(conn)
        .await;
    inserted.map_err(|error| {
        if violated(&error) == Some("subnets_overlap") {
            SubnetError::Overlap { cidr: command.cidr, network: command.network }.into()
        } else {
            error.into()
        }
    })
}

/// Locks the network of a subnet ([`Hold::Alone`]); `None` if there is no such subnet.
pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<NetworkRow>> {
    let network: Option<Uuid> = subnets::table.find(id).select(subnets::network_id).first(conn).await.optional()?;
    let Some(network) = network else { return Ok(None) };
    Ok(network::lock(conn, Visibility::All, &[network], Hold::Alone).await?.remove(&network))
}

/// Changes a subnet whose network the caller has locked.
pub async fn update(
    conn: &mut AsyncPgConnection,
    network: &NetworkRow,
    old: SubnetRow,
    command: &UpdateSubnet,
) -> Result<SubnetRow, Failure> {
    let before = old.layout()?;
    let layout = command.layout(old.id.into(), before.clone())?;
    // The new one may be a port's, and the old one a router's.
    let changes = layout.gateway != before.gateway;
    for gateway in [layout.gateway, before.gateway].into_iter().flatten().filter(|_| changes) {
        let holder: Option<Uuid> = port_ips::table
            .filter(port_ips::subnet_id.eq(old.id))
            .filter(port_ips::address.eq(inet(gateway.into())))
            .select(port_ips::port_id)
            .first(conn)
            .await
            .optional()?;
        if let Some(port) = holder {
            return Err(SubnetError::GatewayInUse { gateway, port: PortId::from(port) }.into());
        }
    }
    let columns = Columns::of(&layout);
    let name = command.name.as_ref().map_or(old.name.as_str(), |name| name.as_str());
    let description = command.description.as_ref().map_or(old.description.as_str(), |text| text.as_str());
    let service_types = match &command.service_types {
        Some(service_types) => texts(service_types),
        None => old.service_types.iter().map(String::as_str).collect(),
    };
    let row: SubnetRow = diesel::update(subnets::table.find(old.id))
        .set((
            subnets::name.eq(name),
            subnets::description.eq(description),
            subnets::gateway_ip.eq(columns.gateway_ip),
            subnets::enable_dhcp.eq(layout.dhcp),
            subnets::dns_nameservers.eq(columns.dns_nameservers),
            subnets::host_routes.eq(columns.host_routes),
            subnets::allocation_pools.eq(columns.allocation_pools),
            subnets::service_types.eq(service_types),
            subnets::dns_publish_fixed_ip.eq(command.publish_dns.unwrap_or(old.dns_publish_fixed_ip)),
            subnets::revision_number.eq(subnets::revision_number + 1),
            subnets::updated_at.eq(now),
        ))
        .returning(SubnetRow::as_returning())
        .get_result(conn)
        .await?;
    network::touch(conn, row.network_id).await?;
    let (was, is) = (old.model(network)?, row.model(network)?);
    entries::apply(conn, &mizar_compile::update(Object::Subnet(&was), Object::Subnet(&is))).await?;
    Ok(row)
}

/// Deletes a subnet whose network the caller has locked.
pub async fn delete(conn: &mut AsyncPgConnection, network: &NetworkRow, subnet: &SubnetRow) -> Result<(), Failure> {
    let used = exists(port_ips::table.filter(port_ips::subnet_id.eq(subnet.id)));
    if diesel::select(used).get_result::<bool>(conn).await? {
        return Err(DeleteSubnetError::InUse(SubnetId::from(subnet.id)).into());
    }
    diesel::delete(subnets::table.find(subnet.id)).execute(conn).await?;
    network::touch(conn, network.id).await?;
    let writes = mizar_compile::delete(Object::Subnet(&subnet.model(network)?));
    entries::apply(conn, &writes).await?;
    Ok(())
}
