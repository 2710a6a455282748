//! Hosts, as operators see them. Registration is the agents' (`api::agent`).

use super::Failure;
use crate::listing::{Listed, Predicate, Visibility};
use crate::schema::{host_state, hosts, ports};
use chrono::{DateTime, Utc};
use diesel::dsl::{self, count_star, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;
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
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub revision_number: i64,
}

impl Listed for HostRow {
    type Table = hosts::table;
    type Rows = dsl::IntoBoxed<'static, dsl::Select<hosts::table, dsl::AsSelect<Self, Pg>>, Pg>;

    /// The operators' alone.
    fn visible_to(view: Visibility) -> Self::Rows {
        let all = hosts::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(_) | Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }

    fn by_id(id: Uuid) -> Predicate<Self::Table> {
        Box::new(hosts::id.eq(id).nullable())
    }

    fn id(&self) -> Uuid {
        self.id
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
    /// When this was read, by the database's clock.
    pub read_at: DateTime<Utc>,
}

/// Adds state and counts, for any number of hosts in three queries.
pub async fn complete(conn: &mut AsyncPgConnection, rows: Vec<HostRow>) -> QueryResult<Vec<Host>> {
    let numbers: Vec<i32> = rows.iter().map(|row| row.number).collect();
    let states: Vec<HostStateRow> =
        host_state::table.filter(host_state::host.eq_any(&numbers)).select(HostStateRow::as_select()).load(conn).await?;
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
    let with_state = |row: HostRow| Host {
        state: states.remove(&row.number),
        ports: counts.get(&row.number).copied().unwrap_or(0),
        read_at,
        row,
    };
    Ok(rows.into_iter().map(with_state).collect())
}

/// New labels of a host. `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// `yes`, `no` or `prefer`.
    pub transit: Option<&'static str>,
    /// 1 to 1,000.
    pub weight: Option<i32>,
    /// Availability zone.
    pub az: Option<String>,
    /// Rack.
    pub rack: Option<String>,
}

/// Changes the labels of a host that the caller has locked. The scheduler reads them in its next
/// round; no entry changes.
pub async fn label(conn: &mut AsyncPgConnection, old: &HostRow, labels: &Labels) -> Result<HostRow, Failure> {
    let row = diesel::update(hosts::table.find(old.id))
        .set((
            hosts::transit.eq(labels.transit.unwrap_or(old.transit.as_str())),
            hosts::weight.eq(labels.weight.unwrap_or(old.weight)),
            hosts::az.eq(labels.az.as_deref().unwrap_or(&old.az)),
            hosts::rack.eq(labels.rack.as_deref().unwrap_or(&old.rack)),
            hosts::revision_number.eq(hosts::revision_number + 1),
            hosts::updated_at.eq(now),
        ))
        .returning(HostRow::as_returning())
        .get_result(conn)
        .await?;
    Ok(row)
}

/// Locks a host's row.
pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
    hosts::table.find(id).select(hosts::id).for_update().first::<Uuid>(conn).await.optional()?;
    Ok(())
}
