//! What other resources say about ports: their QoS policies, and the trunks that have them.

use super::trunk::SubPort;
use crate::schema::ports;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Array, Bool, Integer, Jsonb, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::mac::Mac;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Of one port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attached {
    /// Its own policy.
    pub qos_policy: Option<Uuid>,
    /// Its network's.
    pub network_qos_policy: Option<Uuid>,
    /// The trunk that has it.
    pub trunk: Option<InTrunk>,
}

/// What a port is in its trunk.
#[derive(Clone, Debug, PartialEq)]
pub enum InTrunk {
    /// The port that carries the others.
    Parent {
        /// The trunk.
        trunk: Uuid,
        /// Those that it carries, with their MAC addresses; `None`: not for whom this is loaded.
        sub_ports: Option<Vec<(SubPort, Mac)>>,
    },
    /// One that is carried.
    SubPort {
        /// The trunk.
        trunk: Uuid,
    },
}

/// The rows of [`Select`].
const OWN_POLICY: i32 = 0;
const NETWORK_POLICY: i32 = 1;

statement! {
    /// One round trip for three small tables: nearly all ports are in none of them.
    Select { asked: Vec<Uuid> as Array<SqlUuid>, networks: Vec<Uuid> as Array<SqlUuid> }
        -> (Integer, SqlUuid, SqlUuid, Bool, Nullable<Jsonb>)
    {
        "WITH asked AS (SELECT " asked "::uuid[] AS ports, " networks "::uuid[] AS networks) \
         SELECT 0, q.port_id, q.qos_policy_id, false, NULL::jsonb FROM port_qos_policies q \
         WHERE q.port_id = ANY ((SELECT ports FROM asked)::uuid[]) \
         UNION ALL SELECT 1, n.id, n.qos_policy_id, false, NULL FROM networks n \
         WHERE n.qos_policy_id IS NOT NULL AND n.id = ANY ((SELECT networks FROM asked)::uuid[]) \
         UNION ALL SELECT 2, m.port_id, t.id, t.port_id = m.port_id, t.sub_ports FROM trunk_ports m \
         JOIN trunks t ON t.id = m.trunk_id WHERE m.port_id = ANY ((SELECT ports FROM asked)::uuid[])"
    }
}

type Columns = (i32, Uuid, Uuid, bool, Option<Value>);

/// Of ports, named with their networks, in their order.
pub(super) async fn of(mut conn: &AsyncPgConnection, asked: &[(Uuid, Uuid)]) -> QueryResult<Vec<Attached>> {
    let (ids, mut networks): (Vec<Uuid>, Vec<Uuid>) = asked.iter().copied().unzip();
    networks.sort_unstable();
    networks.dedup();
    let rows: Vec<Columns> = Select { asked: ids, networks }.load(&mut conn).await?;
    let (mut own, mut of_network, mut trunks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (kind, whose, what, is_parent, sub_ports) in rows {
        match kind {
            OWN_POLICY => drop(own.insert(whose, what)),
            NETWORK_POLICY => drop(of_network.insert(whose, what)),
            _ => drop(trunks.insert(whose, (what, sub_ports.filter(|_| is_parent)))),
        }
    }
    let mut trunks = with_macs(conn, trunks).await?;
    let attached = |(port, network): &(Uuid, Uuid)| Attached {
        qos_policy: own.get(port).copied(),
        network_qos_policy: of_network.get(network).copied(),
        trunk: trunks.remove(port),
    };
    Ok(asked.iter().map(attached).collect())
}

/// Reads the sub ports of trunks, of those ports that carry them.
async fn with_macs(
    mut conn: &AsyncPgConnection,
    trunks: BTreeMap<Uuid, (Uuid, Option<Value>)>,
) -> QueryResult<BTreeMap<Uuid, InTrunk>> {
    let mut all = Vec::with_capacity(trunks.len());
    for (port, (trunk, sub_ports)) in trunks {
        let sub_ports: Option<Vec<SubPort>> = sub_ports
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| Error::DeserializationError(Box::new(error)))?;
        all.push((port, trunk, sub_ports));
    }
    let carried: Vec<Uuid> =
        all.iter().flat_map(|(_, _, sub_ports)| sub_ports.iter().flatten().map(|port| port.port_id)).collect();
    let macs: BTreeMap<Uuid, [u8; 6]> = if carried.is_empty() {
        BTreeMap::new()
    } else {
        let wanted = ports::table.filter(ports::id.eq_any(carried)).select((ports::id, ports::mac));
        wanted.load(&mut conn).await?.into_iter().collect()
    };
    let role = |trunk, sub_ports: Option<Vec<SubPort>>| match sub_ports {
        Some(sub_ports) => {
            let with_mac = |port: SubPort| macs.get(&port.port_id).map(|mac| (port, Mac(*mac)));
            InTrunk::Parent { trunk, sub_ports: Some(sub_ports.into_iter().filter_map(with_mac).collect()) }
        }
        None => InTrunk::SubPort { trunk },
    };
    Ok(all.into_iter().map(|(port, trunk, sub_ports)| (port, role(trunk, sub_ports))).collect())
}
