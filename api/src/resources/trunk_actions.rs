//! Ports that join and leave a trunk.

use super::trunks::{SubPorts, Trunk, candidates, join, leave};
use crate::frame::attribute::{Json, write_object};
use crate::frame::decode::{Decode, Strict, first_repeated};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::hold::find;
use crate::frame::plain::Item;
use crate::frame::resource::{Resource as _, Tx};
use crate::frame::stored::Stored as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mizar_db::resources::trunk::SubPort;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

type Run<'t> = BoxFuture<'t, Result<Value, Fault>>;

/// Ports that shall leave. Clients send what they joined with too; only the port counts.
pub(super) struct Leaving(Vec<Uuid>);

impl Decode for Leaving {
    fn decode(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| format!("'{value}' is not a list"))?;
        let port = |item: &Value| {
            let fields = Strict::of(item, &["port_id", "segmentation_type", "segmentation_id"])?;
            fields.required("port_id")
        };
        let ports: Vec<Uuid> = items.iter().map(port).collect::<Result<_, String>>()?;
        match first_repeated(&ports) {
            Some(twice) => Err(format!("Non unique UUID for subport: '{twice}'")),
            None => Ok(Self(ports)),
        }
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object).property("port_id", Uuid::schema());
        let object = object.property("segmentation_type", Option::<mizar_domain::text::Name>::schema());
        Array::new(object.property("segmentation_id", Option::<i64>::schema()).required("port_id")).into()
    }
}

/// Neutron answers with the trunk, and nothing around it.
async fn stored(tx: &mut Tx<'_>, trunk: Trunk, members: &[SubPort]) -> Result<Value, Fault> {
    let id = trunk.id;
    Trunk::store(tx.conn, &Trunk { sub_ports: json!(members), ..trunk }).await?;
    let item: Item<Trunk> = find(tx.conn, tx.context, None, id).await?;
    let mut text = Json::default();
    write_object(&item, &Item::<Trunk>::map().selection(&tx.context.caller, &BTreeSet::new()), &mut text);
    serde_json::from_slice(&text.into_bytes()).map_err(Fault::internal)
}

/// `add_subports`.
pub(super) fn add_subports<'t>(tx: &'t mut Tx<'_>, trunk: Item<Trunk>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let SubPorts(new) = body.required("sub_ports")?;
        let trunk = trunk.row;
        trunk.refuse_disabled()?;
        let mut members = trunk.members()?;
        let ids: Vec<Uuid> = new.iter().map(|member| member.port_id).collect();
        let ports = candidates(tx, &ids, Some(trunk.port_id), |_| "add_subports:port_id").await?;
        let locked = |id| ports.get(&id).ok_or_else(|| Fault::internal("a port was not locked"));
        let parent = locked(trunk.port_id)?;
        for member in &new {
            let port = locked(member.port_id)?;
            trunk.check_owner(tx, port, "add_subports:port_id")?;
            trunk.check_member(port, parent)?;
            if members.iter().any(|other| other.segmentation_id == member.segmentation_id) {
                let (kind, tag, id) = (&member.segmentation_type, member.segmentation_id, trunk.id);
                let message =
                    format!("segmentation_type {kind} and segmentation_id {tag} already in use on trunk {id}.");
                return Err(Fault::conflict("DuplicateSubPort", message));
            }
        }
        join(tx, trunk.id, ids).await?;
        members.extend(new);
        stored(tx, trunk, &members).await
    }
    .boxed()
}

/// `remove_subports`.
pub(super) fn remove_subports<'t>(tx: &'t mut Tx<'_>, trunk: Item<Trunk>, body: &'t mut Fields<'_>) -> Run<'t> {
    async move {
        let Leaving(gone) = body.required("sub_ports")?;
        let trunk = trunk.row;
        trunk.refuse_disabled()?;
        let mut members = trunk.members()?;
        let held: BTreeSet<Uuid> = members.iter().map(|member| member.port_id).collect();
        if let Some(port) = gone.iter().find(|port| !held.contains(port)) {
            let message = format!("SubPort on trunk {} with parent port {port} could not be found.", trunk.id);
            return Err(Fault::not_found("SubPortNotFound", message));
        }
        let leaving: BTreeSet<Uuid> = gone.iter().copied().collect();
        members.retain(|member| !leaving.contains(&member.port_id));
        leave(tx, trunk.id, gone).await?;
        stored(tx, trunk, &members).await
    }
    .boxed()
}

/// `get_subports`.
pub(super) fn get_subports<'t>(_: &'t mut Tx<'_>, trunk: Item<Trunk>, _: &'t mut Fields<'_>) -> Run<'t> {
    async move { Ok(json!({"sub_ports": trunk.row.sub_ports})) }.boxed()
}
