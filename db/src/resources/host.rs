//! Hosts, as operators see them. Registration is the agents' (`api::agent`).

use super::Failure;
use crate::feed::lag::{self, Lag};
use crate::listing::{Dir, Listed, Ordering, Predicate, SortKey, Visibility, listed_by};
use crate::schema::{host_state, hosts, ports, subscriptions};
use crate::statement::statement;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{count_star, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Double, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// A host as stored.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = hosts, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct HostRow {
    pub id: Uuid,
    pub number: i32,
    pub name: String,
    pub underlay: IpNet,
    pub mtu: i32,
    pub az: String,
    pub rack: String,
    pub transit: String,
    pub weight: i32,
    pub transit_hook: String,
    pub version: String,
    pub abi: i32,
    pub shrink_until: Option<DateTime<Utc>>,
    pub lost_since: Option<DateTime<Utc>>,
    pub gone_until: Option<DateTime<Utc>>,
    pub description: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub revision_number: i64,
}

impl Listed for HostRow {
    listed_by!(hosts);

    /// The operators' alone.
    fn visible_to(view: Visibility) -> Self::Rows {
        let all = hosts::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(_) | Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }
}

/// What a host last said.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = host_state, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct HostStateRow {
    pub host: i32,
    pub boot_id: String,
    pub epoch: Option<String>,
    pub cursor: Option<String>,
    pub failures: Value,
    pub seen_at: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
}

/// A host with its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// The row.
    pub row: HostRow,
    /// `None`: it registered and was never heard of again.
    pub state: Option<HostStateRow>,
    /// Ports bound to it.
    pub ports: i64,
    /// It was heard of within the lease.
    pub alive: bool,
    /// When this was read, by the database's clock.
    pub read_at: DateTime<Utc>,
    /// What it has not acknowledged; `None`: not asked for ([`behind`]), or its agent is silent.
    pub lag: Option<Lag>,
}

impl Host {
    /// Seconds since it was heard of.
    pub fn silent_s(&self) -> Option<i64> {
        self.state.as_ref().map(|state| (self.read_at - state.seen_at).num_seconds())
    }
}

/// Adds state and counts, for any number of hosts in three queries.
pub async fn complete(conn: &mut AsyncPgConnection, lease: Duration, rows: Vec<HostRow>) -> QueryResult<Vec<Host>> {
    let numbers: Vec<i32> = rows.iter().map(|row| row.number).collect();
    let states: Vec<HostStateRow> = host_state::table
        .filter(host_state::host.eq_any(&numbers))
        .select(HostStateRow::as_select())
        .load(conn)
        .await?;
    let counts: Vec<(Option<i32>, i64)> = ports::table
        .filter(ports::host.eq_any(&numbers))
        .group_by(ports::host)
        .select((ports::host, count_star()))
        .load(conn)
        .await?;
    let read_at: DateTime<Utc> =
        diesel::select(now.into_sql::<diesel::sql_types::Timestamptz>()).get_result(conn).await?;
    let mut states: BTreeMap<i32, HostStateRow> = states.into_iter().map(|state| (state.host, state)).collect();
    let counts: BTreeMap<i32, i64> = counts.into_iter().filter_map(|(host, n)| Some((host?, n))).collect();
    let with_state = |row: HostRow| {
        let state = states.remove(&row.number);
        // A time ahead of ours, by a clock that was set back, is no age at all.
        let silent = state.as_ref().map(|state| (read_at - state.seen_at).to_std().unwrap_or_default());
        let alive = silent.is_some_and(|silent| silent < lease);
        let ports = counts.get(&row.number).copied().unwrap_or(0);
        Host { row, state, ports, alive, read_at, lag: None }
    };
    Ok(rows.into_iter().map(with_state).collect())
}

/// Adds how far those that live are behind. Of a silent one that says nothing but that it is silent.
pub async fn behind(conn: &mut AsyncPgConnection, hosts: Vec<Host>) -> QueryResult<Vec<Host>> {
    let told = |host: &Host| host.alive && host.state.as_ref().is_some_and(|state| state.cursor.is_some());
    let numbers: Vec<i32> = hosts.iter().filter(|host| told(host)).map(|host| host.row.number).collect();
    let lags = lag::lag(conn, &numbers).await?;
    let with_lag =
        |host: Host| Host { lag: told(&host).then(|| lags.get(&host.row.number).copied().unwrap_or_default()), ..host };
    Ok(hosts.into_iter().map(with_lag).collect())
}

/// New labels of a host. `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// `yes`, `no` or `prefer`.
    pub transit: Option<&'static str>,
    /// 1 to 1,000.
    pub weight: Option<i32>,
    /// Seconds from now for which its agent may drop over half of its ports; 0: not at all.
    pub shrink_s: Option<i32>,
    /// Seconds from now for which its silence means that it is lost, however many are; 0: not at all.
    pub gone_s: Option<i32>,
}

/// Changes the labels of a host that the caller has locked. The scheduler reads them in its next
/// round; no entry changes.
pub async fn label(conn: &mut AsyncPgConnection, old: &HostRow, labels: &Labels) -> Result<HostRow, Failure> {
    let at: DateTime<Utc> = diesel::select(now.into_sql::<diesel::sql_types::Timestamptz>()).get_result(conn).await?;
    let until = |seconds: Option<i32>, old| match seconds {
        None => old,
        Some(0) => None,
        Some(seconds) => Some(at + TimeDelta::seconds(seconds.into())),
    };
    let row = diesel::update(hosts::table.find(old.id))
        .set((
            hosts::transit.eq(labels.transit.unwrap_or(old.transit.as_str())),
            hosts::weight.eq(labels.weight.unwrap_or(old.weight)),
            hosts::shrink_until.eq(until(labels.shrink_s, old.shrink_until)),
            hosts::gone_until.eq(until(labels.gone_s, old.gone_until)),
            hosts::revision_number.eq(hosts::revision_number + 1),
            hosts::updated_at.eq(now),
        ))
        .returning(HostRow::as_returning())
        .get_result(conn)
        .await?;
    Ok(row)
}

/// Changes what operators wrote about a host that the caller has locked.
pub async fn describe(conn: &mut AsyncPgConnection, id: Uuid, description: &str) -> QueryResult<HostRow> {
    let statement = diesel::update(hosts::table.find(id)).set((
        hosts::description.eq(description),
        hosts::revision_number.eq(hosts::revision_number + 1),
        hosts::updated_at.eq(now),
    ));
    statement.returning(HostRow::as_returning()).get_result(conn).await
}

/// Hosts that were heard of within the lease, or those that were not.
pub fn alive(lease: Duration, alive: bool) -> Predicate<hosts::table> {
    let not = if alive { "" } else { "NOT " };
    let term = diesel::dsl::sql::<Nullable<Bool>>(&format!(
        "{not}EXISTS (SELECT FROM host_state heard WHERE heard.host = hosts.number \
         AND heard.seen_at > now() - make_interval(secs => "
    ));
    Box::new(term.bind::<Double, _>(lease.as_secs_f64()).sql("))"))
}

/// Hosts whose agents could not apply something, or those of which no such thing is known.
pub fn failing(failing: bool) -> Predicate<hosts::table> {
    let not = if failing { "" } else { "NOT " };
    Box::new(diesel::dsl::sql::<Nullable<Bool>>(&format!(
        "{not}EXISTS (SELECT FROM host_state told WHERE told.host = hosts.number AND told.failures <> '[]')"
    )))
}

/// When a host was heard of; those that never were are the first. What was within the last 20 s is equal, which is what
/// every host that lives has: else they would change places while somebody pages through them, and a page be repeated or
/// left out.
macro_rules! heard {
    ($of:literal) => {
        concat!(
            "least(now() - interval '20 s', coalesce((SELECT heard.seen_at FROM host_state heard WHERE heard.host = ",
            $of,
        )
    };
}

/// The host's own, to sort by.
const HEARD: &str = concat!(heard!("hosts.number"), "), '-infinity'))");

/// Compares it with that of another host.
fn heard_as(marker: &HostRow, compared: &str) -> Predicate<hosts::table> {
    let term = diesel::dsl::sql::<Nullable<Bool>>(&format!("{HEARD} {compared} {}", heard!("")));
    Box::new(term.bind::<Integer, _>(marker.number).sql("), '-infinity'))"))
}

/// Sorts hosts by when they were heard of.
pub const BY_HEARD: SortKey<HostRow> = SortKey {
    order: |dir| -> Ordering<hosts::table> {
        let heard = diesel::dsl::sql::<Timestamptz>(HEARD);
        match dir {
            Dir::Asc => Box::new(heard.asc()),
            Dir::Desc => Box::new(heard.desc()),
        }
    },
    tied: |marker| heard_as(marker, "="),
    after: |marker, dir| heard_as(marker, if dir == Dir::Asc { ">" } else { "<" }),
};

/// How many transit roles a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleCounts {
    /// Shards that it bounces.
    pub bouncers: i64,
    /// Networks that it divides.
    pub dividers: i64,
}

/// The transit roles of hosts, by their numbers.
pub async fn role_counts(conn: &mut AsyncPgConnection, numbers: &[i32]) -> QueryResult<BTreeMap<i32, RoleCounts>> {
    let rows: Vec<(i32, i16, i64)> = subscriptions::table
        .filter(subscriptions::host.eq_any(numbers))
        .filter(subscriptions::role.eq_any([2_i16, 3]))
        .filter(subscriptions::deleted.eq(false))
        .group_by((subscriptions::host, subscriptions::role))
        .select((subscriptions::host, subscriptions::role, count_star()))
        .load(conn)
        .await?;
    let mut counts: BTreeMap<i32, RoleCounts> = BTreeMap::new();
    for (host, role, count) in rows {
        let counts = counts.entry(host).or_default();
        if role == 2 { counts.bouncers = count } else { counts.dividers = count }
    }
    Ok(counts)
}

statement! {
    /// The zones of hosts, by one descent of the index for each.
    ZoneNames {} -> Text
    {
        "WITH RECURSIVE zones (az) AS (SELECT min(az) FROM hosts UNION ALL \
         SELECT (SELECT min(h.az) FROM hosts h WHERE h.az > z.az) FROM zones z WHERE z.az IS NOT NULL) \
         SELECT az FROM zones WHERE az IS NOT NULL"
    }
}

/// The availability zones in which there are hosts, alive or not.
pub async fn zone_names(conn: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    ZoneNames {}.load(conn).await
}

statement! {
    /// Zones, and whether a host in them was heard of within the lease.
    SelectZones { lease_s: f64 as Double } -> (Text, Bool)
    {
        "SELECT h.az, coalesce(bool_or(s.seen_at > now() - make_interval(secs => "
        lease_s ")), false) FROM hosts h LEFT JOIN host_state s ON s.host = h.number GROUP BY 1 ORDER BY 1"
    }
}

/// The availability zones that hosts name, and whether one of their hosts lives.
pub async fn zones(conn: &mut AsyncPgConnection, lease: Duration) -> QueryResult<Vec<(String, bool)>> {
    SelectZones { lease_s: lease.as_secs_f64() }.load(conn).await
}

/// Locks a host's row. `None`: there is no such host.
pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<()>> {
    let locked: Option<Uuid> = hosts::table.find(id).select(hosts::id).for_update().first(conn).await.optional()?;
    Ok(locked.map(drop))
}

/// Number and name of a host.
pub async fn numbered(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<(i32, String)>> {
    hosts::table.find(id).select((hosts::number, hosts::name)).first(conn).await.optional()
}

/// The id of a host that is named by id or by name.
pub async fn resolve(conn: &mut AsyncPgConnection, raw: &str) -> QueryResult<Option<Uuid>> {
    match Uuid::try_parse(raw) {
        Ok(id) => Ok(Some(id)),
        Err(_) => hosts::table.filter(hosts::name.eq(raw)).select(hosts::id).first(conn).await.optional(),
    }
}
