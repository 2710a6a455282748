//! Waiting until a change has arrived everywhere: by what hosts acknowledged, never by time.

use crate::bed::Bed;
use anyhow::Result;
use mizar::sandbox::postgres;

/// Rows that say what is still missing; none = settled.
///
/// Roles: every subnet has active bouncers and every network active dividers, on hosts that may
/// carry transit, and nothing is pending or draining. Hosts: each has acknowledged every entry of
/// every scope that it receives, by itself or by include.
const UNSETTLED: &str = "
WITH RECURSIVE role AS (
  SELECT s.host, s.scope, s.state, h.name, h.transit FROM subscriptions s JOIN hosts h ON h.number = s.host
   WHERE s.role IN (2, 3) AND NOT s.deleted),
reach(host, scope, lo, hi) AS (
  SELECT host, scope, lo, hi FROM subscriptions WHERE NOT deleted
  UNION
  SELECT r.host, i.target, 0::smallint, 4095::smallint FROM reach r JOIN includes i ON i.scope = r.scope
   WHERE NOT i.deleted AND (i.slot = -1 OR i.slot BETWEEN r.lo AND r.hi)),
seen AS (
  SELECT h.name, h.number, s.cursor::pg_snapshot AS cursor FROM hosts h JOIN host_state s ON s.host = h.number
   WHERE s.seen_at > now() - interval '1 s' * {lease})
SELECT 'role of ' || name || ' is not active' FROM role WHERE state <> 2
UNION ALL SELECT 'role on ' || name || ', which is not for transit' FROM role WHERE transit = 'no'
UNION ALL SELECT 'no bouncer for subnet ' || n.cidr FROM subnets n
  WHERE NOT EXISTS (SELECT 1 FROM role WHERE scope = (5::bigint << 32) + n.number)
UNION ALL SELECT 'no divider for network ' || n.vni FROM networks n
  WHERE NOT EXISTS (SELECT 1 FROM role WHERE scope = (4::bigint << 32) + n.vni)
UNION ALL SELECT DISTINCT 'entries not acknowledged by ' || h.name FROM seen h
  JOIN reach r ON r.host = h.number JOIN entries e ON e.scope = r.scope AND e.slot BETWEEN r.lo AND r.hi
  WHERE NOT pg_visible_in_snapshot(e.xid::text::xid8, h.cursor)
UNION ALL SELECT DISTINCT 'subscriptions not acknowledged by ' || h.name FROM seen h
  JOIN subscriptions s ON s.host = h.number
  WHERE NOT pg_visible_in_snapshot(s.xid::text::xid8, h.cursor)";

impl Bed {
    /// Waits until roles are where labels allow them and every live host has acknowledged all that
    /// concerns it.
    pub fn settle(&self) -> Result<()> {
        let sql = UNSETTLED.replace("{lease}", &self.sandbox.settings().lease_s.to_string());
        let mut missing = String::new();
        let done = self.wait("every change acknowledged by every host", || {
            missing = postgres::query(&self.sandbox.database_url(), &sql)?;
            Ok(missing.trim().is_empty())
        });
        done.map_err(|error| error.context(format!("still missing: {}", missing.trim().replace('\n', "; "))))
    }
}
