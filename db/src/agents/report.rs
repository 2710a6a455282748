//! Leases, acknowledgements and wirings, many hosts in one statement each (CONTROLPLANE S5).

use crate::feed::Cursor;
use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::Kind;
use mizar_wire::sync::Failure;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;
use uuid::Uuid;

/// A sync as it is stored.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which boot synced: another one's row is left alone.
    pub boot_id: String,
    /// When.
    pub at: Instant,
    /// What it acknowledged, if it did.
    pub ack: Option<Acknowledged>,
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Of the cursor.
    pub epoch: String,
    /// Everything that it sees is in force, but for the failures.
    pub cursor: Cursor,
    /// What is not.
    pub failures: Vec<Failure>,
}

statement! {
    StoreSeen {
        host: Vec<i32> as Array<Integer>,
        boot_id: Vec<String> as Array<Text>,
        age_ms: Vec<i64> as Array<BigInt>,
        epoch: Vec<Option<String>> as Array<Nullable<Text>>,
        cursor: Vec<Option<String>> as Array<Nullable<Text>>,
        failures: Vec<Option<serde_json::Value>> as Array<Nullable<Jsonb>>,
    } -> Integer
    {
        "UPDATE host_state h SET seen_at = greatest(h.seen_at, clock_timestamp() - v.age * interval '1 ms'), \
         epoch = coalesce(v.epoch, h.epoch), cursor = coalesce(v.cursor, h.cursor), \
         failures = coalesce(v.failures, h.failures) FROM unnest("
        host ", " boot_id ", " age_ms ", " epoch ", " cursor ", " failures
        ") v(host, boot_id, age, epoch, cursor, failures) \
         WHERE h.host = v.host AND h.boot_id = v.boot_id RETURNING h.host"
    }
}

/// Renews leases and stores acknowledgements. Returns the hosts that another boot holds, or that
/// are gone. The clock is the database's, so that replicas and scheduler agree about leases.
pub async fn store_seen(conn: &mut AsyncPgConnection, seen: &BTreeMap<i32, Seen>) -> QueryResult<HashSet<i32>> {
    if seen.is_empty() {
        return Ok(HashSet::new());
    }
    let acks = || seen.values().map(|seen| seen.ack.as_ref());
    let failures = |ack: &Acknowledged| serde_json::to_value(&ack.failures);
    let statement = StoreSeen {
        host: seen.keys().copied().collect(),
        boot_id: seen.values().map(|seen| seen.boot_id.clone()).collect(),
        age_ms: seen.values().map(|seen| i64::try_from(seen.at.elapsed().as_millis()).unwrap_or(i64::MAX)).collect(),
        epoch: acks().map(|ack| ack.map(|ack| ack.epoch.clone())).collect(),
        cursor: acks().map(|ack| ack.map(|ack| ack.cursor.to_string())).collect(),
        failures: acks()
            .map(|ack| ack.map(failures).transpose())
            .collect::<Result<_, _>>()
            .map_err(|error| diesel::result::Error::SerializationError(error.into()))?,
    };
    let stored: Vec<i32> = statement.load(conn).await?;
    let mut lost: HashSet<i32> = seen.keys().copied().collect();
    for host in stored {
        lost.remove(&host);
    }
    Ok(lost)
}

/// The interface of a port on a host, as its agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wiring {
    /// Who reports.
    pub host: i32,
    /// Number of the port.
    pub port: i32,
    /// Which binding was wired: a report on another one says nothing.
    pub generation: i32,
}

statement! {
    /// A port that was down comes up again; one that is ACTIVE stays so.
    StoreWired {
        host: Vec<i32> as Array<Integer>,
        port: Vec<i32> as Array<Integer>,
        generation: Vec<i32> as Array<Integer>,
    } -> Integer
    {
        "WITH locked AS MATERIALIZED (SELECT p.id FROM ports p JOIN unnest("
        host ", " port ", " generation
        ") v(host, port, generation) ON p.number = v.port AND p.host = v.host AND p.generation = v.generation \
         WHERE p.wired_generation IS DISTINCT FROM p.generation OR p.status = 'DOWN' \
         ORDER BY p.id FOR NO KEY UPDATE OF p) \
         UPDATE ports p SET wired_generation = p.generation, wired_at = clock_timestamp(), \
         status = CASE WHEN p.admin_state_up AND p.status = 'DOWN' THEN 'BUILD' ELSE p.status END \
         FROM locked WHERE p.id = locked.id"
    }
}

statement! {
    StoreLost {
        host: Vec<i32> as Array<Integer>,
        port: Vec<i32> as Array<Integer>,
        generation: Vec<i32> as Array<Integer>,
    } -> Integer
    {
        "WITH locked AS MATERIALIZED (SELECT p.id FROM ports p JOIN unnest("
        host ", " port ", " generation
        ") v(host, port, generation) ON p.number = v.port AND p.host = v.host AND p.generation = v.generation \
         WHERE p.wired_generation IS NOT NULL ORDER BY p.id FOR NO KEY UPDATE OF p) \
         UPDATE ports p SET wired_generation = NULL, wired_at = NULL, status = 'DOWN', status_reason = '', \
         updated_at = clock_timestamp(), revision_number = p.revision_number + 1 FROM locked WHERE p.id = locked.id"
    }
}

statement! {
    /// Of a host that named all it has.
    StoreRest { host: i32 as Integer, wired: Vec<i32> as Array<Integer> } -> Integer
    {
        "WITH locked AS MATERIALIZED (SELECT p.id FROM ports p WHERE p.host = " host
        " AND p.wired_generation IS NOT NULL AND p.number <> ALL(" wired ") ORDER BY p.id FOR NO KEY UPDATE) \
         UPDATE ports p SET wired_generation = NULL, wired_at = NULL, status = 'DOWN', status_reason = '', \
         updated_at = clock_timestamp(), revision_number = p.revision_number + 1 FROM locked WHERE p.id = locked.id"
    }
}

fn columns(wirings: &[Wiring]) -> (Vec<i32>, Vec<i32>, Vec<i32>) {
    let host = wirings.iter().map(|wiring| wiring.host).collect();
    let port = wirings.iter().map(|wiring| wiring.port).collect();
    (host, port, wirings.iter().map(|wiring| wiring.generation).collect())
}

/// Interfaces that exist.
pub async fn store_wired(conn: &mut AsyncPgConnection, wired: &[Wiring]) -> QueryResult<usize> {
    if wired.is_empty() {
        return Ok(0);
    }
    let (host, port, generation) = columns(wired);
    StoreWired { host, port, generation }.execute(conn).await
}

/// Interfaces that are gone: their ports are DOWN.
pub async fn store_lost(conn: &mut AsyncPgConnection, lost: &[Wiring]) -> QueryResult<usize> {
    if lost.is_empty() {
        return Ok(0);
    }
    let (host, port, generation) = columns(lost);
    StoreLost { host, port, generation }.execute(conn).await
}

/// All ports of a host but these are not wired any more.
pub async fn store_complete(conn: &mut AsyncPgConnection, host: i32, wired: Vec<i32>) -> QueryResult<usize> {
    StoreRest { host, wired }.execute(conn).await
}

statement! {
    /// ERROR with the reason, and back to BUILD when it is gone.
    StoreFailed {
        host: i32 as Integer,
        port: Vec<Uuid> as Array<SqlUuid>,
        reason: Vec<String> as Array<Text>,
    } -> Bool
    {
        "WITH f AS MATERIALIZED (SELECT * FROM unnest(" port ", " reason ") f(id, reason)), \
         locked AS MATERIALIZED (SELECT p.id, f.reason FROM ports p LEFT JOIN f ON f.id = p.id \
           WHERE p.host = " host " AND CASE WHEN f.id IS NULL THEN p.status = 'ERROR' \
             ELSE p.status <> 'ERROR' OR p.status_reason <> f.reason END \
           ORDER BY p.id FOR NO KEY UPDATE OF p) \
         UPDATE ports p SET status = CASE WHEN l.reason IS NOT NULL THEN 'ERROR' \
           WHEN p.admin_state_up THEN 'BUILD' ELSE 'DOWN' END, status_reason = coalesce(l.reason, ''), \
         updated_at = clock_timestamp(), revision_number = p.revision_number + 1 FROM locked l WHERE p.id = l.id"
    }
}

/// What a tenant reads at most.
const REASON: usize = 500;

/// Ports of a host that its agent cannot program, with the reason; all its others can be.
pub async fn store_failed(conn: &mut AsyncPgConnection, host: i32, failures: &[Failure]) -> QueryResult<usize> {
    let of_ports = failures.iter().filter(|failure| failure.kind == Kind::Port as i16);
    // Keys of port entries are the ports' ids; one reason each.
    let reasons: BTreeMap<Uuid, String> = of_ports
        .filter_map(|failure| {
            Some((Uuid::try_parse(&failure.key).ok()?, failure.reason.chars().take(REASON).collect()))
        })
        .collect();
    let (port, reason) = reasons.into_iter().unzip();
    StoreFailed { host, port, reason }.execute(conn).await
}
