//! What placement decides on: hosts, networks, subnets, the roles and maps that are stored.

use super::{Error, slot, unsigned};
use crate::feed::Cursor;
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::{Body, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Microseconds since the Unix epoch as the database's clock says.
pub(super) fn since_epoch(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).cast_unsigned())
}

statement! {
    ReadClock {} -> BigInt
    { "SELECT (extract(epoch FROM now()) * 1000000)::bigint" }
}

/// The database's clock, as time since the Unix epoch.
pub async fn clock(conn: &mut AsyncPgConnection) -> Result<Duration, Error> {
    Ok(since_epoch(ReadClock {}.get_result(conn).await?))
}

/// A host with its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Zone.
    pub az: String,
    /// Rack.
    pub rack: String,
    /// Label: yes, no or prefer.
    pub transit: String,
    /// Weight.
    pub weight: u32,
    /// When it was last heard of.
    pub seen: Option<Duration>,
    /// What it has acknowledged. One of another epoch, or one that cannot be read, acknowledges
    /// nothing.
    pub cursor: Option<Cursor>,
    /// Entries that it could not put in force.
    pub refused: Vec<Refused>,
    /// Its loss was believed, and it was not heard of since.
    pub lost: bool,
    /// An operator says that it is gone.
    pub gone: bool,
}

/// An entry that a host could not put in force: what of [`mizar_wire::sync::Failure`] placement
/// needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Refused {
    /// Its scope's number.
    pub scope: i64,
    /// Its kind's number.
    pub kind: i16,
    /// Its key in hexadecimal.
    pub key: String,
}

statement! {
    ReadHosts {} -> HostColumns
    {
        "SELECT h.number, h.name, h.az, h.rack, h.transit, h.weight, \
         (extract(epoch FROM s.seen_at) * 1000000)::bigint, CASE WHEN s.epoch = (SELECT feed_epoch()) THEN s.cursor END, \
         CASE WHEN s.failures <> '[]' THEN s.failures END, \
         coalesce(h.lost_since >= s.seen_at, h.lost_since IS NOT NULL), coalesce(h.gone_until > now(), false) \
         FROM hosts h LEFT JOIN host_state s ON s.host = h.number ORDER BY h.number"
    }
}

type HostColumns =
    (Integer, Text, Text, Text, Text, Integer, Nullable<BigInt>, Nullable<Text>, Nullable<Jsonb>, Bool, Bool);

type HostTuple =
    (i32, String, String, String, String, i32, Option<i64>, Option<String>, Option<serde_json::Value>, bool, bool);

/// All hosts, by number.
pub async fn hosts(conn: &mut AsyncPgConnection) -> Result<Vec<HostState>, Error> {
    let rows: Vec<HostTuple> = ReadHosts {}.load(conn).await?;
    let corrupt = |host: i32| Error::Corrupt { table: "host_state", column: "failures", value: host.to_string() };
    let row = |(number, name, az, rack, transit, weight, seen, cursor, failures, lost, gone): HostTuple| {
        let refused = failures.map(serde_json::from_value).transpose();
        Ok(HostState {
            number: unsigned("hosts", "number", number)?,
            name,
            az,
            rack,
            transit,
            weight: unsigned("hosts", "weight", weight)?,
            seen: seen.map(since_epoch),
            cursor: cursor.and_then(|text| text.parse().ok()),
            refused: refused.map_err(|_| corrupt(number))?.unwrap_or_default(),
            lost,
            gone,
        })
    };
    rows.into_iter().map(row).collect()
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkState {
    /// Its id.
    pub id: Uuid,
    /// Its VNI.
    pub vni: u32,
}

/// A subnet with how full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetState {
    /// Its id.
    pub id: Uuid,
    /// Its number.
    pub number: u32,
    /// Its network's VNI.
    pub vni: u32,
    /// Addresses in use.
    pub ports: u64,
}

statement! {
    ReadNetworks {} -> (SqlUuid, Integer)
    { "SELECT id, vni FROM networks" }
}

statement! {
    ReadSomeNetworks { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer)
    { "SELECT id, vni FROM networks WHERE id = ANY(" ids ")" }
}

statement! {
    ReadSubnets {} -> (SqlUuid, Integer, Integer, BigInt)
    {
        "SELECT s.id, s.number, n.vni, coalesce(p.ports, 0) FROM subnets s JOIN networks n ON n.id = s.network_id \
         LEFT JOIN (SELECT subnet_id, count(*) AS ports FROM port_ips GROUP BY subnet_id) p ON p.subnet_id = s.id"
    }
}

statement! {
    ReadSomeSubnets { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Integer, BigInt)
    {
        "SELECT s.id, s.number, n.vni, (SELECT count(*) FROM port_ips p WHERE p.subnet_id = s.id) \
         FROM subnets s JOIN networks n ON n.id = s.network_id WHERE s.id = ANY(" ids ")"
    }
}

/// Networks: all, or those of the ids that are there.
pub async fn networks(conn: &mut AsyncPgConnection, ids: Option<&[Uuid]>) -> Result<Vec<NetworkState>, Error> {
    let rows: Vec<(Uuid, i32)> = match ids {
        None => ReadNetworks {}.load(conn).await?,
        Some(ids) => ReadSomeNetworks { ids: ids.to_vec() }.load(conn).await?,
    };
    rows.into_iter().map(|(id, vni)| Ok(NetworkState { id, vni: unsigned("networks", "vni", vni)? })).collect()
}

/// Subnets: all, or those of the ids that are there.
pub async fn subnets(conn: &mut AsyncPgConnection, ids: Option<&[Uuid]>) -> Result<Vec<SubnetState>, Error> {
    let rows: Vec<(Uuid, i32, i32, i64)> = match ids {
        None => ReadSubnets {}.load(conn).await?,
        Some(ids) => ReadSomeSubnets { ids: ids.to_vec() }.load(conn).await?,
    };
    let row = |(id, number, vni, ports): (Uuid, i32, i32, i64)| {
        Ok(SubnetState {
            id,
            number: unsigned("subnets", "number", number)?,
            vni: unsigned("networks", "vni", vni)?,
            ports: ports.max(0).cast_unsigned(),
        })
    };
    rows.into_iter().map(row).collect()
}

/// What a subscription is for. Role 1, a host's own scopes, is not the scheduler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum Role {
    /// Holds addresses of a range of a subnet's slots.
    Bouncer = 2,
    /// Holds the subnets of a network.
    Divider = 3,
}

/// How far a role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum Phase {
    /// Being programmed: receives entries, is not listed.
    Pending = 1,
    /// Listed in the senders' maps.
    Active = 2,
    /// No longer listed, still forwards.
    Draining = 3,
}

/// The key of a role: one host, one range of one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleKey {
    /// [`Scope::Subnet`] or [`Scope::Dividers`].
    pub scope: Scope,
    /// First slot.
    pub lo: u16,
    /// The holder.
    pub host: u32,
    /// Which.
    pub role: Role,
}

/// A stored role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleState {
    /// Its key.
    pub key: RoleKey,
    /// Last slot.
    pub hi: u16,
    /// How far it is.
    pub phase: Phase,
    /// The transaction that wrote it.
    pub xid: i64,
    /// When its phase began.
    pub changed: Duration,
}

statement! {
    ReadRoles {} -> (Integer, BigInt, SmallInt, SmallInt, SmallInt, SmallInt, BigInt, BigInt)
    {
        "SELECT host, scope, lo, hi, role, state, xid, (extract(epoch FROM changed_at) * 1000000)::bigint \
         FROM subscriptions WHERE NOT deleted AND role IN (2, 3)"
    }
}

statement! {
    ReadSomeRoles { scopes: Vec<i64> as Array<BigInt> }
        -> (Integer, BigInt, SmallInt, SmallInt, SmallInt, SmallInt, BigInt, BigInt)
    {
        "SELECT host, scope, lo, hi, role, state, xid, (extract(epoch FROM changed_at) * 1000000)::bigint \
         FROM subscriptions WHERE NOT deleted AND role IN (2, 3) AND scope = ANY(" scopes ")"
    }
}

type RoleTuple = (i32, i64, i16, i16, i16, i16, i64, i64);

/// Live roles: all, or those of the scopes.
pub async fn roles(conn: &mut AsyncPgConnection, scopes: Option<&[Scope]>) -> Result<Vec<RoleState>, Error> {
    let rows: Vec<RoleTuple> = match scopes {
        None => ReadRoles {}.load(conn).await?,
        Some(scopes) => {
            let scopes = scopes.iter().map(|s| s.to_i64()).collect();
            ReadSomeRoles { scopes }.load(conn).await?
        }
    };
    rows.into_iter().map(role).collect()
}

fn role((host, scope, lo, hi, role, state, xid, changed): RoleTuple) -> Result<RoleState, Error> {
    let corrupt = |column, value: i64| Error::Corrupt { table: "subscriptions", column, value: value.to_string() };
    Ok(RoleState {
        key: RoleKey {
            scope: Scope::from_i64(scope).ok_or_else(|| corrupt("scope", scope))?,
            lo: slot("subscriptions", "lo", lo)?,
            host: unsigned("subscriptions", "host", host)?,
            role: match role {
                2 => Role::Bouncer,
                3 => Role::Divider,
                other => return Err(corrupt("role", other.into())),
            },
        },
        hi: slot("subscriptions", "hi", hi)?,
        phase: match state {
            1 => Phase::Pending,
            2 => Phase::Active,
            3 => Phase::Draining,
            other => return Err(corrupt("state", other.into())),
        },
        xid,
        changed: since_epoch(changed),
    })
}

/// A shard map or divider set as stored: `None` if the stored bytes are none.
#[derive(Clone, Debug, PartialEq)]
pub struct MapState {
    /// [`Scope::Senders`] or [`Scope::Network`].
    pub scope: Scope,
    /// Id of the subnet or network.
    pub key: Vec<u8>,
    /// What senders read.
    pub body: Option<Body>,
}

statement! {
    /// Both arms are ranges of the primary key; scopes of senders hold nothing but shard maps.
    ReadMaps { shard: i16 as SmallInt, divider: i16 as SmallInt } -> (BigInt, SmallInt, Binary, Binary)
    {
        "SELECT scope, kind, key, body FROM entries WHERE NOT deleted AND \
         scope >= 6::bigint << 32 AND scope < 7::bigint << 32 AND kind = " shard
        " UNION ALL SELECT scope, kind, key, body FROM entries WHERE NOT deleted AND \
         scope >= 3::bigint << 32 AND scope < 4::bigint << 32 AND kind = " divider
    ""
    }
}

/// All stored shard maps and divider sets.
pub async fn maps(conn: &mut AsyncPgConnection) -> Result<Vec<MapState>, Error> {
    let statement = ReadMaps { shard: Kind::ShardMap as i16, divider: Kind::DividerSet as i16 };
    let rows: Vec<(i64, i16, Vec<u8>, Vec<u8>)> = statement.load(conn).await?;
    let row = |(scope, kind, key, body): (i64, i16, Vec<u8>, Vec<u8>)| {
        let corrupt = || Error::Corrupt { table: "entries", column: "scope", value: scope.to_string() };
        let kind = if kind == Kind::ShardMap as i16 { Kind::ShardMap } else { Kind::DividerSet };
        let body = serde_json::from_slice(&body).ok().and_then(|value| Body::from_value(kind, value).ok());
        Ok(MapState { scope: Scope::from_i64(scope).ok_or_else(corrupt)?, key, body })
    };
    rows.into_iter().map(row).collect()
}

statement! {
    ReadReceivers { scopes: Vec<i64> as Array<BigInt> } -> (BigInt, Integer)
    {
        "WITH RECURSIVE reach (target, scope) AS (SELECT t, t FROM unnest(" scopes ") t UNION \
         SELECT r.target, i.scope FROM reach r JOIN includes i ON i.target = r.scope AND NOT i.deleted) \
         SELECT DISTINCT r.target, s.host FROM reach r JOIN subscriptions s ON s.scope = r.scope AND NOT s.deleted"
    }
}

/// Which hosts receive each scope, through whatever includes.
pub async fn receivers(
    conn: &mut AsyncPgConnection,
    scopes: &[Scope],
) -> Result<BTreeMap<Scope, BTreeSet<u32>>, Error> {
    let statement = ReadReceivers { scopes: scopes.iter().map(|s| s.to_i64()).collect() };
    let rows: Vec<(i64, i32)> = statement.load(conn).await?;
    let mut receivers: BTreeMap<Scope, BTreeSet<u32>> = BTreeMap::new();
    for (scope, host) in rows {
        let corrupt = || Error::Corrupt { table: "includes", column: "target", value: scope.to_string() };
        let scope = Scope::from_i64(scope).ok_or_else(corrupt)?;
        receivers.entry(scope).or_default().insert(unsigned("subscriptions", "host", host)?);
    }
    Ok(receivers)
}
