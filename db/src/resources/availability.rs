//! How many addresses networks have, and how many are used.

use crate::schema::subnets;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use serde_json::Value;
use uuid::Uuid;

/// A subnet and the use of its addresses.
#[derive(Clone, Debug, PartialEq, Queryable)]
pub struct SubnetUse {
    /// Its network.
    pub network_id: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// 4 or 6.
    pub ip_version: i16,
    /// `[{start, end}]`.
    pub pools: Value,
    /// Addresses that ports have, inside of the pools and outside.
    pub used: i64,
    /// Those inside of the pools.
    pub used_of_pools: i64,
}

/// The subnets of networks, of these IP versions (none: of all), by network and id.
pub async fn of(conn: &mut AsyncPgConnection, networks: &[Uuid], versions: &[i16]) -> QueryResult<Vec<SubnetUse>> {
    let used = diesel::dsl::sql::<BigInt>("(SELECT count(*) FROM port_ips taken WHERE taken.subnet_id = subnets.id)");
    let of_pools = diesel::dsl::sql::<BigInt>(
        "(SELECT count(*) FROM jsonb_to_recordset(subnets.allocation_pools) pool (start inet, \"end\" inet) \
         JOIN port_ips taken ON taken.address BETWEEN pool.start AND pool.\"end\" WHERE taken.subnet_id = subnets.id)",
    );
    let rows = subnets::table.filter(subnets::network_id.eq_any(networks)).select((
        subnets::network_id,
        subnets::id,
        subnets::name,
        subnets::cidr,
        subnets::ip_version,
        subnets::allocation_pools,
        used,
        of_pools,
    ));
    let rows = rows.order((subnets::network_id, subnets::id)).into_boxed();
    let rows = if versions.is_empty() { rows } else { rows.filter(subnets::ip_version.eq_any(versions)) };
    rows.load(conn).await
}
