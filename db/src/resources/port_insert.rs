//! Rows of new ports, with what belongs to them: in one round trip where there is one port.

use super::Failure;
use super::address::{Assignment, FixedIpRow, Wanted};
use super::port::PortRow;
use super::port_extras::Extras;
use crate::schema::ports;
use diesel::prelude::*;
use diesel::result::DatabaseErrorKind;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::mac::Mac;
use mizar_domain::port::{CreatePort, PortError};
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

// With defaults in place of nulls the statement's text would depend on the row, and be prepared for each.
/// The row of a new port.
#[derive(Clone, Insertable)]
#[diesel(table_name = ports, check_for_backend(diesel::pg::Pg), treat_none_as_default_value = false)]
pub(super) struct NewPort {
    pub id: Uuid,
    pub project_id: Uuid,
    pub network_id: Uuid,
    pub name: String,
    pub description: String,
    pub mac: [u8; 6],
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub port_security_enabled: bool,
    pub address_pairs: Value,
    pub status: &'static str,
    pub status_reason: String,
    pub host: Option<i32>,
    pub generation: i32,
    pub host_name: String,
    pub vnic_type: &'static str,
    pub vif_type: &'static str,
    pub vif_details: Value,
    pub profile: Value,
    pub extras: Extras,
    pub group_set: Option<i32>,
    pub tags: Vec<String>,
}

/// Rows of one insert: each has 23 columns, and the protocol counts at most 65,535 parameters.
const ROWS: usize = 1000;

/// How often many ports draw random MAC addresses. With a million ports on one network one draw in sixteen is taken.
const DRAWS: usize = 16;

/// Inserts ports with their addresses and groups; the rows are in the order of the commands.
pub(super) async fn store(
    conn: &mut AsyncPgConnection,
    commands: &[CreatePort],
    new: Vec<NewPort>,
    wanted: &[Wanted<'_>],
    groups: &[(Uuid, Uuid, i32)],
) -> Result<(Vec<PortRow>, Vec<FixedIpRow>), Failure> {
    let mut assignment = Assignment::of(wanted);
    let guesses = assignment.guess()?;
    // One port goes out together with what belongs to it. Many must have their rows first: the more there are, the
    // more surely one of them meets a MAC address that is taken, and what belongs to it would end the transaction.
    let (one, many) = if new.len() == 1 { (new, Vec::new()) } else { (Vec::new(), new) };
    let mut rows = insert_many(conn, commands, many).await?;
    let (inserted, addresses) = {
        // In one round trip, and in this order: what belongs to a port comes after it.
        let conn = &*conn;
        futures::join!(insert(conn, &one), guesses.insert_and_join(conn, groups))
    };
    rows.extend(by_id(inserted?));
    // Without its port's row what follows has failed too; this is why.
    if let Some(port) = one.iter().find(|port| !rows.contains_key(&port.id)) {
        return Err(named_mac(commands, port).map_or_else(|| unlucky().into(), Failure::from));
    }
    let addresses = assignment.finish(conn, addresses?).await?;
    Ok((commands.iter().filter_map(|command| rows.remove(&command.id.uuid())).collect(), addresses))
}

/// Inserts the rows of many ports; those whose random MAC address is taken draw another.
async fn insert_many(
    conn: &AsyncPgConnection,
    commands: &[CreatePort],
    mut new: Vec<NewPort>,
) -> Result<BTreeMap<Uuid, PortRow>, Failure> {
    let mut rows = BTreeMap::new();
    for _ in 0..DRAWS {
        for chunk in new.chunks(ROWS) {
            rows.extend(by_id(insert(conn, chunk).await?));
        }
        new.retain(|port| !rows.contains_key(&port.id));
        if new.is_empty() {
            return Ok(rows);
        }
        for port in &mut new {
            if let Some(error) = named_mac(commands, port) {
                return Err(error.into());
            }
            port.mac = Mac::random().0;
        }
    }
    Err(unlucky().into())
}

fn by_id(rows: Vec<PortRow>) -> impl Iterator<Item = (Uuid, PortRow)> {
    rows.into_iter().map(|row| (row.id, row))
}

/// What is said of a port whose MAC address somebody has, if it was named and not drawn.
fn named_mac(commands: &[CreatePort], port: &NewPort) -> Option<PortError> {
    let named = commands.iter().any(|command| command.id.uuid() == port.id && command.mac.is_some());
    named.then(|| PortError::MacInUse { network: port.network_id.into(), mac: Mac(port.mac) })
}

/// Somebody has the random MAC address: the create runs again and draws another.
fn unlucky() -> diesel::result::Error {
    let message = "a random MAC address was taken".to_owned();
    diesel::result::Error::DatabaseError(DatabaseErrorKind::SerializationFailure, Box::new(message))
}

/// Inserts those rows whose MAC addresses are nobody's.
async fn insert(mut conn: &AsyncPgConnection, new: &[NewPort]) -> QueryResult<Vec<PortRow>> {
    match new {
        [] => Ok(Vec::new()),
        // One row is the common case, and a statement of fixed shape, prepared once.
        [one] => {
            let statement = diesel::insert_into(ports::table)
                .values(one)
                .on_conflict((ports::network_id, ports::mac))
                .do_nothing()
                .returning(PortRow::as_returning());
            statement.get_results(&mut conn).await
        }
        many => {
            let statement = diesel::insert_into(ports::table)
                .values(many)
                .on_conflict((ports::network_id, ports::mac))
                .do_nothing()
                .returning(PortRow::as_returning());
            statement.get_results(&mut conn).await
        }
    }
}
