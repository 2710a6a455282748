//! Trunks: a port whose machine sends the packets of other ports too, each with its VLAN tag.
//!
//! Hosts do not tag yet: a trunk is DOWN. Its own port and its sub ports are locked while a command
//! takes them, and each is in one trunk at most.

use super::l3::DOWN;
use super::trunk_actions::{add_subports, get_subports, remove_subports};
use crate::frame::action::{Action, Answer, Input};
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Strict, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::{Operations, Tx};
use crate::openapi::parts::named;
use crate::{column, flag, standard, stored};
use diesel::query_dsl::methods::FilterDsl;
use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
use diesel_async::RunQueryDsl as _;
use mizar_db::listing::{Listed as _, Predicate};
use mizar_db::resources::port::PortRow;
use mizar_db::resources::trunk::{self, Candidate, Given, SubPort};
use mizar_db::schema::ports;
use mizar_domain::text::{Name, Tags};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A trunk.
    pub struct Trunk in trunks: owned {
        name: String as Text,
        description: String as Text,
        admin_state_up: bool as Bool,
        status: String as Text,
        port_id: Uuid as Uuid,
        sub_ports: serde_json::Value as Jsonb,
        tags: Vec<String> as Array<Text>,
    }
}

/// What somebody may not do with another's port.
const PARENT_RULE: &str = "create_trunk:port_id";
const MEMBER_RULE: &str = "create_trunk:sub_ports";

/// How the packets of a sub port are told from others. Networks have no VLANs to inherit.
const VLAN: &str = "vlan";

impl Decode for SubPort {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["port_id", "segmentation_type", "segmentation_id"])?;
        let port_id = fields.required("port_id")?;
        let kind: Option<Name> = fields.optional("segmentation_type")?;
        let (Some(kind), Some(id)) = (kind, fields.optional::<i64>("segmentation_id")?) else {
            return Err(format!(
                "Invalid subport details '{}': missing segmentation information. Must specify both segmentation_id \
                 and segmentation_type",
                shown(value)
            ));
        };
        if kind.as_str() != VLAN {
            return Err(format!("Unknown segmentation_type '{kind}'"));
        }
        match u16::try_from(id) {
            Ok(segmentation_id @ 1..=4094) => {
                Ok(Self { port_id, segmentation_type: kind.into_string(), segmentation_id })
            }
            _ => Err(format!("Segmentation ID '{id}' is not in range")),
        }
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object).property("port_id", Uuid::schema());
        let object = object.property("segmentation_type", plain(Type::String).enum_values(Some([VLAN])));
        let object = object.property("segmentation_id", plain(Type::Integer).minimum(Some(1)).maximum(Some(4094)));
        object.required("port_id").required("segmentation_type").required("segmentation_id").into()
    }
}

/// `sub_ports`: each port and each tag once.
pub(super) struct SubPorts(pub Vec<SubPort>);

impl Decode for SubPorts {
    fn decode(value: &Value) -> Result<Self, String> {
        let all = Vec::<SubPort>::decode(value)?;
        let (mut ports, mut tags) = (BTreeSet::new(), BTreeSet::new());
        for SubPort { port_id, segmentation_id, .. } in &all {
            if !ports.insert(port_id) {
                return Err(format!("Non unique UUID for subport: '{port_id}'"));
            }
            if !tags.insert(segmentation_id) {
                return Err(format!("Segmentation ID '{segmentation_id}' for '{port_id}' is not unique"));
            }
        }
        Ok(Self(all))
    }

    fn schema() -> RefOr<Schema> {
        Array::new(SubPort::schema()).into()
    }
}

type Attr = Attribute<Item<Trunk>>;

impl Plain for Trunk {
    type More = ();

    const SINGULAR: &'static str = "trunk";
    const PLURAL: &'static str = "trunks";
    const KIND: &'static str = "Trunk";
    const NOT_FOUND: &'static str = "TrunkNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const QUOTA: Option<&'static str> = Some("trunk");
    const EXTENSIONS: &'static [Extension] = &[
        Extension::stored_only("trunk", "Trunk Extension", "One port carries the packets of others, by VLAN tag."),
        Extension::stored_only("trunk-details", "Trunk port details", "Ports of trunks show their sub ports."),
    ];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<Trunk>, trunks, Trunk: id name description project);
        all.extend([
            column!(Item<Trunk>, trunks, Trunk, admin_state_up: bool, unsorted)
                .writable()
                .filter(flag!(trunks::admin_state_up))
                .sort(mizar_db::sort_key!(Trunk, trunks::admin_state_up, |row| row.admin_state_up)),
            column!(Item<Trunk>, trunks, Trunk, status: String as Name).about("DOWN until hosts tag for trunks."),
            column!(Item<Trunk>, trunks, Trunk, port_id: Uuid).about("The port that carries the others.").required(),
            Attr::shown("sub_ports", SubPorts::schema, |trunk, out| out.put(&trunk.row.sub_ports))
                .about("Changed by add_subports and remove_subports.")
                .post(),
        ]);
        all.extend(standard!(Item<Trunk>, trunks, Trunk: revision times tags));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        let trunk = Answer::Body(|| named(Trunk::KIND));
        let list = Answer::Body(|| {
            let object = ObjectBuilder::new().schema_type(Type::Object);
            object.property("sub_ports", SubPorts::schema()).required("sub_ports").into()
        });
        vec![
            Action {
                inputs: vec![Input::required::<SubPorts>("sub_ports")],
                answer: trunk,
                ..Action::put("add_subports", "Put ports into a trunk", add_subports)
            },
            Action {
                inputs: vec![Input::required::<super::trunk_actions::Leaving>("sub_ports")],
                answer: trunk,
                ..Action::put("remove_subports", "Take ports out of a trunk", remove_subports)
            },
            Action { answer: list, ..Action::get("get_subports", "The ports in a trunk", get_subports) },
        ]
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let SubPorts(sub_ports) = fields.optional("sub_ports")?.unwrap_or(SubPorts(Vec::new()));
        Ok(Self {
            name: fields.optional::<Name>("name")?.unwrap_or_default().into_string(),
            description: fields.optional::<Name>("description")?.unwrap_or_default().into_string(),
            admin_state_up: fields.optional("admin_state_up")?.unwrap_or(true),
            status: DOWN.to_owned(),
            port_id: fields.required("port_id")?,
            sub_ports: json!(sub_ports),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)?;
        fields.over("description", &mut self.description)?;
        self.admin_state_up = fields.optional("admin_state_up")?.unwrap_or(self.admin_state_up);
        Ok(())
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        let mut wanted = Vec::new();
        for row in rows.iter() {
            wanted.push(row.port_id);
            wanted.extend(row.members()?.iter().map(|member| member.port_id));
        }
        // All at once, in one order of locks.
        let parents: BTreeSet<Uuid> = rows.iter().map(|row| row.port_id).collect();
        let rule = |id| if parents.contains(&id) { PARENT_RULE } else { MEMBER_RULE };
        let mut free = candidates(tx, &wanted, None, rule).await?;
        for row in rows.iter() {
            let parent = take(&mut free, row.port_id, || trunk_port_in_use(row.port_id))?;
            row.check_owner(tx, &parent, PARENT_RULE)?;
            if let Some(fault) = refusal_as_parent(&parent) {
                return Err(fault);
            }
            for member in row.members()? {
                if member.port_id == row.port_id {
                    return Err(parent_in_use(member.port_id));
                }
                let port = take(&mut free, member.port_id, || trunk_port_in_use(member.port_id))?;
                row.check_owner(tx, &port, MEMBER_RULE)?;
                row.check_member(&port, &parent)?;
            }
        }
        Ok(())
    }

    async fn after_create(tx: &mut Tx<'_>, rows: &[Self]) -> Result<(), Fault> {
        for row in rows {
            let members = row.members()?.into_iter().map(|member| member.port_id).collect();
            trunk::take_parent(tx.conn, row.id, row.port_id).await?;
            join(tx, row.id, members).await?;
        }
        Ok(())
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let row = &old.row;
        row.refuse_disabled()?;
        let members: Vec<Uuid> = row.members()?.into_iter().map(|member| member.port_id).collect();
        let all = members.iter().copied().chain([row.port_id]).collect();
        let ports = trunk::candidates(tx.conn, all).await?;
        if ports.get(&row.port_id).is_some_and(|parent| parent.bound) {
            return Err(Fault::conflict("TrunkInUse", format!("Trunk {} is currently in use.", row.id)));
        }
        leave(tx, row.id, members).await
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        match constraint {
            "trunks_port_id_fkey" => Some(no_such_port(row.port_id)),
            "trunks_port_id_key" => Some(parent_in_use(row.port_id)),
            _ => None,
        }
    }
}

impl Trunk {
    /// Its sub ports.
    pub(super) fn members(&self) -> Result<Vec<SubPort>, Fault> {
        let read = serde_json::from_value(self.sub_ports.clone());
        read.map_err(|error| Fault::internal(format!("sub ports cannot be read: {error}")))
    }

    /// What is switched off stays as it is.
    pub(super) fn refuse_disabled(&self) -> Result<(), Fault> {
        if self.admin_state_up {
            return Ok(());
        }
        Err(Fault::conflict("TrunkDisabled", format!("Trunk {} is currently disabled.", self.id)))
    }

    /// To see a port is not enough: the owner of a network sees those of others there.
    pub(super) fn check_owner(&self, tx: &Tx<'_>, port: &Candidate, rule: &str) -> Result<(), Fault> {
        let may = port.project == self.project_id || tx.context.caller.has(Access::Admin);
        if may { Ok(()) } else { Err(Fault::forbidden(rule)) }
    }

    /// Whether a port can be a sub port of this trunk.
    pub(super) fn check_member(&self, port: &Candidate, parent: &Candidate) -> Result<(), Fault> {
        if let Some(fault) = refusal_if_taken(port) {
            return Err(fault);
        }
        if port.mtu > parent.mtu {
            let (id, mtu, trunk, most) = (port.id, port.mtu, parent.id, parent.mtu);
            let message = format!("MTU {mtu} of subport {id} cannot be greater than MTU {most} of trunk {trunk}.");
            return Err(Fault::conflict("SubPortMtuGreaterThanTrunkPortMtu", message));
        }
        if !port.device.is_empty() {
            let (id, network, device) = (port.id, port.network, &port.device);
            let message = format!(
                "Unable to complete operation on port {id} for network {network}. Port already has an attached device \
                 {device}."
            );
            return Err(Fault::conflict("PortInUse", message));
        }
        Ok(())
    }
}

/// Puts ports into a trunk. That they are its own now is a change of theirs too.
pub(super) async fn join(tx: &mut Tx<'_>, id: Uuid, members: Vec<Uuid>) -> Result<(), Fault> {
    for port in trunk::join(tx.conn, id, members).await? {
        said_of(tx, &port, &id.to_string());
    }
    Ok(())
}

/// Takes ports out of a trunk, likewise.
pub(super) async fn leave(tx: &mut Tx<'_>, id: Uuid, members: Vec<Uuid>) -> Result<(), Fault> {
    for port in trunk::leave(tx.conn, id, members).await? {
        said_of(tx, &port, "");
    }
    Ok(())
}

fn said_of(tx: &mut Tx<'_>, port: &Given, device: &str) {
    let changes = json!({"device_id": device, "device_owner": port.owner});
    tx.record("update", "port", port.id, Some(port.project), changes);
}

/// Why a port cannot carry others: it is in a trunk, or it is a router's, or a host has it already,
/// which would have to begin to tag.
fn refusal_as_parent(port: &Candidate) -> Option<Fault> {
    let serves = port.bound || port.owner.starts_with("network:");
    refusal_if_taken(port).or_else(|| serves.then(|| parent_in_use(port.id)))
}

/// A port is in one trunk, in one role.
fn refusal_if_taken(port: &Candidate) -> Option<Fault> {
    port.trunk.map(|_| if port.is_parent { parent_in_use(port.id) } else { trunk_port_in_use(port.id) })
}

fn parent_in_use(port: Uuid) -> Fault {
    let message = format!("Port {port} is currently in use and is not eligible for use as a parent port.");
    Fault::conflict("ParentPortInUse", message)
}

fn trunk_port_in_use(port: Uuid) -> Fault {
    Fault::conflict("TrunkPortInUse", format!("Port {port} is in use by another trunk."))
}

fn no_such_port(port: Uuid) -> Fault {
    Fault::not_found("PortNotFound", format!("Port {port} could not be found."))
}

/// A port of those that were locked, each once.
fn take(free: &mut BTreeMap<Uuid, Candidate>, port: Uuid, twice: impl FnOnce() -> Fault) -> Result<Candidate, Fault> {
    free.remove(&port).ok_or_else(twice)
}

/// Locks ports that the caller sees, and `also` one that need not be seen. What he does not see is not
/// there, and what he sees on his network but is not his is locked for nobody: `rule` refuses it.
pub(super) async fn candidates(
    tx: &mut Tx<'_>,
    ids: &[Uuid],
    also: Option<Uuid>,
    rule: impl Fn(Uuid) -> &'static str,
) -> Result<BTreeMap<Uuid, Candidate>, Fault> {
    let these: Predicate<ports::table> = Box::new(ports::id.eq_any(ids.to_vec()).nullable());
    let query = FilterDsl::filter(PortRow::visible_to(tx.context.view), these);
    let seen: Vec<PortRow> = query.load(tx.conn).await?;
    let caller = &tx.context.caller;
    if let Some(foreign) =
        seen.iter().find(|port| !caller.has(Access::Admin) && caller.project() != Some(port.project_id))
    {
        return Err(Fault::forbidden(rule(foreign.id)));
    }
    let seen: Vec<Uuid> = seen.into_iter().map(|port| port.id).chain(also).collect();
    let found = trunk::candidates(tx.conn, seen).await?;
    match ids.iter().find(|id| !found.contains_key(id)) {
        Some(missing) => Err(no_such_port(*missing)),
        None => Ok(found),
    }
}
