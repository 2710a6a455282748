//! What ports have from QoS policies and trunks.

use super::qos_use;
use crate::frame::attribute::{Attribute, Json};
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::decode::{Decode as _, plain};
use crate::frame::fault::Fault;
use crate::frame::resource::Tx;
use crate::frame::standard::{nullable, text_schema};
use mizar_db::resources::attached::InTrunk;
use mizar_db::resources::port::Port;
use mizar_db::resources::qos;
use mizar_domain::id::QosPolicyId;
use mizar_domain::mac::Mac;
use mizar_domain::patch::Patch;
use serde_json::{Value, json};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

fn details_schema() -> RefOr<Schema> {
    let sub_port = ObjectBuilder::new().schema_type(Type::Object).property("port_id", Uuid::schema());
    let sub_port = sub_port.property("segmentation_type", text_schema());
    let sub_port = sub_port.property("segmentation_id", plain(Type::Integer)).property("mac_address", Mac::schema());
    let details = ObjectBuilder::new().schema_type(Type::Object).property("trunk_id", Uuid::schema());
    nullable(details.property("sub_ports", Array::new(sub_port)).into())
}

fn put_details(port: &Port, out: &mut Json) {
    let details = match &port.attached.trunk {
        Some(InTrunk::Parent { trunk, sub_ports: Some(sub_ports) }) => {
            let sub_ports = sub_ports.iter().map(|(port, mac)| {
                json!({"port_id": port.port_id, "segmentation_type": port.segmentation_type,
                    "segmentation_id": port.segmentation_id, "mac_address": mac})
            });
            json!({"trunk_id": trunk, "sub_ports": sub_ports.collect::<Vec<_>>()})
        }
        Some(InTrunk::Parent { sub_ports: None, .. } | InTrunk::SubPort { .. }) | None => Value::Null,
    };
    out.put(&details);
}

type Attr = Attribute<Port>;

/// Their attributes.
pub fn attributes() -> Vec<Attr> {
    vec![
        Attr::shown("qos_policy_id", Option::<Uuid>::schema, |p, out| out.put(&p.attached.qos_policy)).writable(),
        Attr::shown("qos_network_policy_id", Option::<Uuid>::schema, |p, out| {
            out.put(&p.attached.network_qos_policy);
        })
        .about("Of its network, which counts where it has none of its own."),
        Attr::shown("trunk_details", details_schema, put_details).about("Of the trunk whose port it is."),
    ]
}

/// The owner of a network sees others' ports there, but not which of their ports on other networks
/// those carry.
pub fn hide_foreign(context: &Context, ports: &mut [Port]) {
    if context.caller.has(Access::Admin) {
        return;
    }
    for port in ports.iter_mut().filter(|port| Some(port.row.project_id) != context.caller.project()) {
        if let Some(InTrunk::Parent { sub_ports, .. }) = &mut port.attached.trunk {
            *sub_ports = None;
        }
    }
}

/// Gives new ports the policies that commands name.
pub async fn give_policies(
    tx: &mut Tx<'_>,
    made: impl Iterator<Item = (&mut Port, Option<QosPolicyId>)>,
) -> Result<(), Fault> {
    let (mut ports, mut policies) = (Vec::new(), Vec::new());
    for (port, wish) in made {
        port.attached.qos_policy = wish.map(QosPolicyId::uuid);
        if let Some(policy) = port.attached.qos_policy {
            ports.push(port.row.id);
            policies.push(policy);
        }
    }
    if ports.is_empty() {
        return Ok(());
    }
    qos_use::give_all(tx, policies.iter().copied()).await?;
    Ok(qos::give_ports(tx.conn, ports, policies).await?)
}

/// Gives a port the policy that a command names.
pub async fn set_policy(tx: &mut Tx<'_>, port: &mut Port, wish: Patch<QosPolicyId>) -> Result<(), Fault> {
    if wish.is_keep() {
        return Ok(());
    }
    let (old, new) = (port.attached.qos_policy, wish.over(None).map(QosPolicyId::uuid));
    qos_use::change(tx, old, new).await?;
    if old != new {
        qos::set_of_port(tx.conn, port.row.id, new).await?;
        port.attached.qos_policy = new;
    }
    Ok(())
}

/// Refuses to delete a port that a trunk has, or to give it to what would delete it.
pub fn refuse_if_in_trunk(port: &Port) -> Result<(), Fault> {
    let id = port.row.id;
    match &port.attached.trunk {
        None => Ok(()),
        Some(InTrunk::Parent { trunk, .. }) => {
            let message = format!("Port {id} is currently a parent port for trunk {trunk}.");
            Err(Fault::conflict("PortInUseAsTrunkParent", message))
        }
        Some(InTrunk::SubPort { trunk }) => {
            let message = format!("Port {id} is currently a subport for trunk {trunk}.");
            Err(Fault::conflict("PortInUseAsSubPort", message))
        }
    }
}
