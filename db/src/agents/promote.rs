//! BUILD to ACTIVE.
//!
//! A port is ACTIVE when packets reach it: its host lives and reports this binding's interface
//! wired, and every active bouncer of each of its addresses that has a live lease has acknowledged
//! the address's entry, at least one of them (CONTROLPLANE C5). An acknowledged cursor is a
//! snapshot, so "has acknowledged" is "the snapshot sees the entry's transaction, and the entry is
//! not among the failures that came with it". A bouncer without a lease does not hold anybody up:
//! senders have ejected it.

use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::Kind;
use std::time::Duration;

statement! {
    /// Led by the partial index `ports_wired`: the ports that wait, and no others. 5 is the kind
    /// of a subnet's scope, and the key of a bounce entry is the port's id and the address mapped
    /// into IPv6 (`inet_send` puts four bytes before it). Locked in the order of ids, as commands
    /// do, and checked again by the update: a command may have come first.
    Promote { lease_ms: i64 as BigInt, epoch: String as Text, kind: i32 as Integer } -> Integer
    {
        "WITH live AS MATERIALIZED (SELECT host, cursor, epoch, failures FROM host_state \
           WHERE seen_at > clock_timestamp() - " lease_ms " * interval '1 ms'), \
         now_at AS MATERIALIZED (SELECT " epoch "::text AS epoch, " kind "::smallint AS kind), \
         ready AS MATERIALIZED (SELECT p.id FROM ports p WHERE p.status = 'BUILD' \
           AND p.wired_generation = p.generation AND p.admin_state_up \
           AND EXISTS (SELECT FROM live h WHERE h.host = p.host) \
           AND NOT EXISTS (SELECT FROM port_ips i JOIN subnets s ON s.id = i.subnet_id CROSS JOIN now_at \
             CROSS JOIN LATERAL (SELECT (5::bigint << 32) | s.number AS scope, uuid_send(p.id) || CASE family(i.address) \
               WHEN 4 THEN '\\x00000000000000000000ffff'::bytea ELSE ''::bytea END || substring(inet_send(i.address) FROM 5) AS key) k \
             LEFT JOIN entries e ON e.scope = k.scope AND e.slot = i.slot AND e.kind = now_at.kind AND e.key = k.key \
               AND NOT e.deleted \
             CROSS JOIN LATERAL (SELECT count(*) AS bouncers, count(*) FILTER (WHERE l.epoch = now_at.epoch \
                 AND l.cursor IS NOT NULL AND pg_visible_in_snapshot(e.xid::text::xid8, l.cursor::pg_snapshot) \
                 AND (l.failures = '[]' OR NOT l.failures @> jsonb_build_array(jsonb_build_object( \
                   'scope', k.scope, 'kind', now_at.kind, 'key', encode(k.key, 'hex'))))) AS told \
               FROM subscriptions b JOIN live l ON l.host = b.host \
               WHERE b.scope = k.scope AND i.slot BETWEEN b.lo AND b.hi AND b.role = 2 AND b.state = 2 \
                 AND NOT b.deleted) b \
             WHERE i.port_id = p.id AND (e.xid IS NULL OR b.bouncers = 0 OR b.told < b.bouncers)) \
           ORDER BY p.id FOR NO KEY UPDATE) \
         UPDATE ports p SET status = 'ACTIVE', status_reason = '', updated_at = clock_timestamp(), \
         revision_number = p.revision_number + 1 FROM ready WHERE p.id = ready.id AND p.status = 'BUILD' \
         AND p.wired_generation = p.generation AND p.admin_state_up RETURNING p.number"
    }
}

/// Makes ACTIVE whatever has become ready; returns the numbers of those ports.
pub async fn promote(conn: &mut AsyncPgConnection, lease: Duration, epoch: &str) -> QueryResult<Vec<u32>> {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let statement = Promote { lease_ms, epoch: epoch.to_owned(), kind: i32::from(Kind::Bounce as i16) };
    let numbers: Vec<i32> = statement.load(conn).await?;
    Ok(numbers.into_iter().map(i32::cast_unsigned).collect())
}
