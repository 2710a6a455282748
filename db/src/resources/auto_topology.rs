//! Networks that were made for projects which described none: which they are.

use crate::entries;
use crate::listing::{Listed as _, Visibility};
use crate::resources::network::NetworkRow;
use crate::schema::networks;
use crate::sharing;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Its network.
    pub network: Uuid,
    /// The router, if nobody deleted it.
    pub router: Option<Uuid>,
}

statement! {
    Lock { class: i32 as Integer, project: Uuid as SqlUuid } -> Text
    { "SELECT pg_advisory_xact_lock(" class ", hashtext(" project "::text))::text" }
}

statement! {
    Find { project: Uuid as SqlUuid } -> (SqlUuid, Nullable<SqlUuid>)
    { "SELECT network_id, router_id FROM auto_allocated_topologies WHERE project_id = " project "" }
}

statement! {
    Keep { project: Uuid as SqlUuid, network: Uuid as SqlUuid, router: Uuid as SqlUuid } -> SqlUuid
    {
        "INSERT INTO auto_allocated_topologies (project_id, network_id, router_id) VALUES (" project ", " network ", " router
        ") RETURNING project_id"
    }
}

/// Waits for whoever makes or deletes the topology of the project.
pub async fn lock(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<()> {
    Lock { class: entries::TOPOLOGY_LOCK, project }.get_result::<String>(conn).await.map(|_| ())
}

/// The topology of a project.
pub async fn find(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<Option<Topology>> {
    let found: Option<(Uuid, Option<Uuid>)> = Find { project }.get_result(conn).await.optional()?;
    Ok(found.map(|(network, router)| Topology { network, router }))
}

/// Remembers the topology of a project, which has none. Whoever deletes the network deletes that too.
pub async fn keep(conn: &mut AsyncPgConnection, project: Uuid, network: Uuid, router: Uuid) -> QueryResult<()> {
    Keep { project, network, router }.get_result::<Uuid>(conn).await.map(|_| ())
}

/// The default external network, if the caller sees it.
pub async fn outside(conn: &mut AsyncPgConnection, view: Visibility) -> QueryResult<Option<Uuid>> {
    let default = NetworkRow::visible_to(view).filter(networks::is_default.eq(true));
    let found: Option<NetworkRow> = default.first(conn).await.optional()?;
    let Some(network) = found else { return Ok(None) };
    Ok(sharing::external_among(conn, &[network.id]).await?.pop_first())
}
