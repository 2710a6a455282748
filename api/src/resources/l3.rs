//! What routers and floating IPs share, and how they guard their ports.

use crate::frame::decode::Decode as _;
use crate::frame::fault::Fault;
use crate::frame::resource::Tx;
use diesel_async::AsyncPgConnection;
use mizar_db::resources::address::FixedIpRow;
use mizar_db::resources::l3;
use mizar_db::resources::port::{Port, PortRow};
use mizar_domain::ipam::FixedIpRequest;
use mizar_domain::port::UpdatePort;
use serde_json::{Value, json};

/// The status of what the data plane does not act on yet.
pub const DOWN: &str = "DOWN";

/// Neutron's `BadRequest`, which is another type than that of a malformed body.
pub fn bad_request(message: impl Into<String>) -> Fault {
    Fault::refused(400, "BadRequest", message)
}

/// The addresses of a port, as answers and columns hold them.
pub fn shown(addresses: &[FixedIpRow]) -> Value {
    addresses.iter().map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.address.addr()})).collect()
}

/// Addresses asked for, in a column that holds addresses.
pub fn wished(addresses: &[FixedIpRequest]) -> Value {
    let wish = |ip: &FixedIpRequest| {
        let mut wish = serde_json::Map::new();
        if let Some(subnet) = ip.subnet {
            wish.insert("subnet_id".into(), json!(subnet.uuid()));
        }
        if let Some(address) = ip.address {
            wish.insert("ip_address".into(), json!(address));
        }
        Value::Object(wish)
    };
    addresses.iter().map(wish).collect()
}

/// The reverse.
pub fn wishes(column: &Value) -> Result<Vec<FixedIpRequest>, Fault> {
    Vec::decode(column).map_err(|reason| Fault::internal(format!("a list of addresses cannot be read: {reason}")))
}

/// Refuses to delete a port of a router or a floating IP but through these.
pub async fn refuse_delete(conn: &mut AsyncPgConnection, port: &PortRow) -> Result<(), Fault> {
    if !l3::is_owned(conn, port).await? {
        return Ok(());
    }
    let (id, owner) = (port.id, &port.device_owner);
    let message = format!("Port {id} cannot be deleted directly via the port API: has device owner {owner}.");
    Err(Fault::conflict("ServicePortInUse", message))
}

/// Refuses to change of such a port what its router or floating IP relies on.
pub async fn refuse_change(conn: &mut AsyncPgConnection, old: &Port, command: &UpdatePort) -> Result<(), Fault> {
    let row = &old.row;
    let differs = |text: &Option<mizar_domain::text::Name>, column: &str| {
        text.as_ref().is_some_and(|text| text.as_str() != column)
    };
    let changes = differs(&command.device_id, &row.device_id)
        || differs(&command.device_owner, &row.device_owner)
        || command.fixed_ips.is_some()
        || !command.host.is_keep();
    if !changes || !l3::is_owned(conn, row).await? {
        return Ok(());
    }
    let (id, owner) = (row.id, &row.device_owner);
    let message = format!("Port {id} cannot be changed directly via the port API: has device owner {owner}.");
    Err(Fault::conflict("ServicePortInUse", message))
}

/// Frees the floating IPs of addresses that a port does not keep.
pub async fn dissociate(tx: &mut Tx<'_>, port: &PortRow, kept: &[FixedIpRow]) -> Result<(), Fault> {
    let kept = kept.iter().map(|ip| ip.address).collect();
    for (floating, project) in l3::dissociate(tx.conn, port.id, kept).await? {
        tx.record("update", "floatingip", floating, Some(project), json!({"port_id": null}));
    }
    Ok(())
}
