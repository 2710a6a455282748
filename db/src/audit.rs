//! Whether the entries are what the tables say: everything is compiled from nothing and compared
//! with what is stored (DESIGN section 3.6, CONTROLPLANE C9).
//!
//! [`audit`] reads in one snapshot and locks nothing: a command changes rows and entries in one
//! transaction, so no snapshot shows one without the other. [`repair`] runs later, when what was
//! found may be out of date: it compares again under the exclusive locks of the networks
//! concerned and writes only what is still wrong.
//!
//! Shard maps and divider sets are placement's decisions: whoever audits brings what they should
//! be, or leaves them out. Includes that nothing needs are no finding; the janitor takes them
//! back in its own time. Everything is held in memory, some 500 bytes an entry.

use crate::entries::{self, WHOLE_SCOPE, lock_networks};
use crate::resources::Failure;
use crate::resources::network::NetworkRow;
use crate::resources::port::{self, PortRow};
use crate::resources::subnet::SubnetRow;
use crate::schema::{cluster_keys, entries as entry, hosts, includes, networks, ports, subnets};
use diesel::prelude::*;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};
use ipnet::IpNet;
use mizar_compile::{Compiled, Object, Write, compile};
use mizar_domain::model;
use mizar_wire::entry::{Entry, EntryKey, Include};
use mizar_wire::{Body, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use uuid::Uuid;

/// Why the audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A statement failed.
    #[error("the audit cannot read")]
    Database(#[from] diesel::result::Error),
    /// A row cannot be understood.
    #[error("the audit cannot compile a row")]
    Row(#[from] Failure),
    /// A row of hosts or keys cannot be understood.
    #[error("column {column} of {table} holds what it should not")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where in it.
        column: &'static str,
    },
}

/// Something that is not as compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The entry should be there.
    Missing(Entry),
    /// Its body should be this one.
    Differs(Entry),
    /// No object has this entry.
    Left(EntryKey, Option<u32>),
    /// The include should be there.
    Unincluded(Include),
}

impl Finding {
    /// What sets it right.
    fn write(&self) -> Write {
        match self {
            Self::Missing(entry) | Self::Differs(entry) => Write::Put(entry.clone()),
            Self::Left(key, _) => Write::Remove(key.clone()),
            Self::Unincluded(include) => Write::Include(*include),
        }
    }

    fn vni(&self) -> Option<u32> {
        match self {
            Self::Missing(entry) | Self::Differs(entry) => vni_of(&entry.body),
            Self::Left(_, vni) => *vni,
            Self::Unincluded(include) => match (include.scope, include.target) {
                (_, Scope::Network(vni)) | (Scope::Dividers(vni), _) => Some(vni),
                _ => None,
            },
        }
    }
}

const fn vni_of(body: &Body) -> Option<u32> {
    match body {
        Body::Network(b) => Some(b.vni),
        Body::Subnet(b) => Some(b.vni),
        Body::DividerSet(b) => Some(b.vni),
        Body::DividerRole(b) => Some(b.vni),
        Body::Port(b) => Some(b.vni),
        Body::Bounce(b) => Some(b.vni),
        Body::MovedPort(b) => Some(b.vni),
        Body::Host(_) | Body::ClusterKey(_) | Body::ShardMap(_) => None,
    }
}

/// Everything that is wrong, as one snapshot has it. `placed` = what placement's entries should
/// be; `None` leaves them out.
pub async fn audit(conn: &mut AsyncPgConnection, placed: Option<&Compiled>) -> Result<Vec<Finding>, AuditError> {
    let sql = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
    AnsiTransactionManager::begin_transaction_sql(conn, sql).await?;
    let found = look(conn, placed).await;
    AnsiTransactionManager::rollback_transaction(conn).await?;
    found
}

/// Sets right what is still wrong, in the caller's transaction; returns what was. Findings that
/// no audit repeats under the locks are not touched.
pub async fn repair(
    conn: &mut AsyncPgConnection,
    findings: &[Finding],
    placed: Option<&Compiled>,
) -> Result<Vec<Finding>, AuditError> {
    let vnis: BTreeSet<u32> = findings.iter().filter_map(Finding::vni).collect();
    lock_networks(conn, &vnis.into_iter().collect::<Vec<_>>()).await?;
    // Registration updates these rows before it writes their entries.
    hosts::table.select(hosts::number).order(hosts::number).for_share().load::<i32>(conn).await?;
    let mut still = look(conn, placed).await?;
    still.retain(|finding| findings.contains(finding));
    entries::apply(conn, &still.iter().map(Finding::write).collect::<Vec<_>>()).await?;
    Ok(still)
}

async fn look(conn: &mut AsyncPgConnection, placed: Option<&Compiled>) -> Result<Vec<Finding>, AuditError> {
    let mut expected = compile_all(conn).await?;
    if let Some(placed) = placed {
        expected.extend(placed.clone());
    }
    let stored = stored(conn).await?;
    let ours = |kind: Kind| placed.is_some() || !matches!(kind, Kind::ShardMap | Kind::DividerSet);
    let mut findings = Vec::new();
    for (key, body) in &expected.entries {
        let entry = || Entry { key: key.clone(), body: body.clone() };
        match stored.entries.get(key) {
            Some(stored) if *stored == body.to_bytes() => {}
            Some(_) => findings.push(Finding::Differs(entry())),
            None => findings.push(Finding::Missing(entry())),
        }
    }
    for (key, bytes) in stored.entries.iter().filter(|(key, _)| ours(key.kind) && !expected.entries.contains_key(key)) {
        let body = serde_json::from_slice(bytes).ok().and_then(|value| Body::from_value(key.kind, value).ok());
        findings.push(Finding::Left(key.clone(), body.as_ref().and_then(vni_of)));
    }
    findings.extend(expected.includes.difference(&stored.includes).copied().map(Finding::Unincluded));
    Ok(findings)
}

/// All objects, compiled from nothing.
async fn compile_all(conn: &mut AsyncPgConnection) -> Result<Compiled, AuditError> {
    let mut all = Compiled::default();
    for (number, name, underlay) in
        hosts::table.select((hosts::number, hosts::name, hosts::underlay)).load::<(i32, String, IpNet)>(conn).await?
    {
        let IpAddr::V4(underlay) = underlay.addr() else {
            return Err(AuditError::Corrupt { table: "hosts", column: "underlay" });
        };
        all.extend(compile(Object::Host(&model::Host { number: number.cast_unsigned(), name, underlay })));
    }
    let keys = cluster_keys::table.select((cluster_keys::id, cluster_keys::key, cluster_keys::signs));
    for (id, key, signs) in keys.load::<(i16, Vec<u8>, bool)>(conn).await? {
        let corrupt = |column| AuditError::Corrupt { table: "cluster_keys", column };
        let id = id.try_into().map_err(|_| corrupt("id"))?;
        let key = key.try_into().map_err(|_| corrupt("key"))?;
        all.extend(compile(Object::ClusterKey(&model::ClusterKey { id, key, signs })));
    }
    let networks: Vec<NetworkRow> = networks::table.select(NetworkRow::as_select()).load(conn).await?;
    let networks: HashMap<Uuid, NetworkRow> = networks.into_iter().map(|row| (row.id, row)).collect();
    for network in networks.values() {
        all.extend(compile(Object::Network(&network.model())));
    }
    let mut spaces: HashMap<Uuid, Vec<_>> = HashMap::new();
    let rows: Vec<SubnetRow> = subnets::table.select(SubnetRow::as_select()).load(conn).await?;
    for row in rows {
        let Some(network) = networks.get(&row.network_id) else { continue };
        all.extend(compile(Object::Subnet(&row.model(network)?)));
        spaces.entry(row.network_id).or_default().push(row.space()?);
    }
    let rows: Vec<PortRow> = ports::table.select(PortRow::as_select()).load(conn).await?;
    for port in port::complete(conn, rows).await? {
        let Some(network) = networks.get(&port.row.network_id) else { continue };
        let spaces = spaces.get(&network.id).map_or(&[][..], Vec::as_slice);
        all.extend(compile(Object::Port(&port.model(network.vni, spaces)?)));
    }
    Ok(all)
}

struct Stored {
    entries: BTreeMap<EntryKey, Vec<u8>>,
    includes: BTreeSet<Include>,
}

/// Scope, slot, kind, key, body.
type EntryColumns = (i64, i16, i16, Vec<u8>, Vec<u8>);

/// Of kinds and scopes that this version knows: others are another version's.
async fn stored(conn: &mut AsyncPgConnection) -> Result<Stored, AuditError> {
    let rows: Vec<EntryColumns> = entry::table
        .filter(entry::deleted.eq(false))
        .select((entry::scope, entry::slot, entry::kind, entry::key, entry::body))
        .load(conn)
        .await?;
    let entries = rows.into_iter().filter_map(|(scope, slot, kind, key, body)| {
        let key =
            EntryKey { scope: Scope::from_i64(scope)?, slot: slot.cast_unsigned(), kind: Kind::from_i16(kind)?, key };
        Some((key, body))
    });
    let entries = entries.collect();
    let rows: Vec<(i64, i16, i64)> = includes::table
        .filter(includes::deleted.eq(false))
        .select((includes::scope, includes::slot, includes::target))
        .load(conn)
        .await?;
    let includes = rows.into_iter().filter_map(|(scope, slot, target)| {
        let slot = (slot != WHOLE_SCOPE).then_some(slot.cast_unsigned());
        Some(Include { scope: Scope::from_i64(scope)?, slot, target: Scope::from_i64(target)? })
    });
    Ok(Stored { entries, includes: includes.collect() })
}
