//! Which ports trunks have, and what these ports must be for that.

use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// `device_owner` of a port in a trunk.
pub const SUBPORT: &str = "trunk:subport";

/// A port in a trunk, as the trunk's list holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubPort {
    /// The port.
    pub port_id: Uuid,
    /// How its packets are told from others: `vlan`.
    pub segmentation_type: String,
    /// By which tag.
    pub segmentation_id: u16,
}

/// A port that a trunk has or wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub project: Uuid,
    /// On which network.
    pub network: Uuid,
    /// What that network carries.
    pub mtu: i32,
    /// What has the port already, in the words of its owner.
    pub device: String,
    /// Who gave it to that.
    pub owner: String,
    /// Whether it was given to a host.
    pub bound: bool,
    /// The trunk that has it.
    pub trunk: Option<Uuid>,
    /// As that trunk's own port.
    pub is_parent: bool,
}

type CandidateColumns = (SqlUuid, SqlUuid, SqlUuid, Integer, Text, Text, Bool, Nullable<SqlUuid>, Bool);

statement! {
    /// In one order, against commands on these ports and trunks that want the same.
    LockPorts { ports: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    { "SELECT id FROM ports WHERE id = ANY(" ports ") ORDER BY id FOR NO KEY UPDATE" }
}

statement! {
    Candidates { ports: Vec<Uuid> as Array<SqlUuid> } -> CandidateColumns
    {
        "SELECT p.id, p.project_id, p.network_id, n.mtu, p.device_id, p.device_owner, p.host_name <> '', t.id, \
         t.port_id IS NOT DISTINCT FROM p.id FROM ports p JOIN networks n ON n.id = p.network_id \
         LEFT JOIN trunk_ports m ON m.port_id = p.id LEFT JOIN trunks t ON t.id = m.trunk_id WHERE p.id = ANY("
        ports ")"
    }
}

statement! {
    Join { trunk: Uuid as SqlUuid, ports: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    {
        "INSERT INTO trunk_ports (trunk_id, port_id) SELECT " trunk ", * FROM unnest(" ports ")"
    }
}

statement! {
    Leave { trunk: Uuid as SqlUuid, ports: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    { "DELETE FROM trunk_ports WHERE trunk_id = " trunk " AND port_id = ANY(" ports ")" }
}

statement! {
    /// Says of ports what has them. Neither is compiled to entries.
    SetDevice { device: String as Text, owner: &'static str as Text, ports: Vec<Uuid> as Array<SqlUuid> }
    -> (SqlUuid, SqlUuid, Text)
    {
        "UPDATE ports SET device_id = " device ", device_owner = " owner
        ", revision_number = revision_number + 1, updated_at = now() WHERE id = ANY(" ports
        ") RETURNING id, project_id, device_owner"
    }
}

statement! {
    /// Says of ports that the device has them no more; what somebody else has said meanwhile stays.
    ClearDevice { owner: &'static str as Text, ports: Vec<Uuid> as Array<SqlUuid>, device: String as Text }
    -> (SqlUuid, SqlUuid, Text)
    {
        "UPDATE ports SET device_id = '', device_owner = CASE WHEN device_owner = " owner
        " THEN '' ELSE device_owner END, revision_number = revision_number + 1, updated_at = now() WHERE id = ANY("
        ports ") AND device_id = " device " RETURNING id, project_id, device_owner"
    }
}

/// Locks ports and reads them in the next statement: what is said about them stays true until the
/// end of the transaction.
pub async fn candidates(conn: &mut AsyncPgConnection, ports: Vec<Uuid>) -> QueryResult<BTreeMap<Uuid, Candidate>> {
    type Columns = (Uuid, Uuid, Uuid, i32, String, String, bool, Option<Uuid>, bool);
    LockPorts { ports: ports.clone() }.execute(conn).await?;
    let rows: Vec<Columns> = Candidates { ports }.load(conn).await?;
    let candidate = |(id, project, network, mtu, device, owner, bound, trunk, is_parent): Columns| {
        (id, Candidate { id, project, network, mtu, device, owner, bound, trunk, is_parent })
    };
    Ok(rows.into_iter().map(candidate).collect())
}

/// The trunk has a port of its own.
pub async fn take_parent(conn: &mut AsyncPgConnection, trunk: Uuid, port: Uuid) -> QueryResult<()> {
    Join { trunk, ports: vec![port] }.execute(conn).await?;
    Ok(())
}

/// A port of which it was said anew what has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The port.
    pub id: Uuid,
    /// Whose it is.
    pub project: Uuid,
    /// Who it is given to, as its `device_owner` now says.
    pub owner: String,
}

fn given(rows: Vec<(Uuid, Uuid, String)>) -> Vec<Given> {
    rows.into_iter().map(|(id, project, owner)| Given { id, project, owner }).collect()
}

/// Ports join a trunk; returns what that changed of them.
pub async fn join(conn: &mut AsyncPgConnection, trunk: Uuid, ports: Vec<Uuid>) -> QueryResult<Vec<Given>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    Join { trunk, ports: ports.clone() }.execute(conn).await?;
    Ok(given(SetDevice { device: trunk.to_string(), owner: SUBPORT, ports }.load(conn).await?))
}

/// Ports leave it; returns what that changed of them.
pub async fn leave(conn: &mut AsyncPgConnection, trunk: Uuid, ports: Vec<Uuid>) -> QueryResult<Vec<Given>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    LockPorts { ports: ports.clone() }.execute(conn).await?;
    Leave { trunk, ports: ports.clone() }.execute(conn).await?;
    Ok(given(ClearDevice { owner: SUBPORT, ports, device: trunk.to_string() }.load(conn).await?))
}
