//! Bindings of a port: the active one, which is columns of the port, and those that wait for a
//! migration. Read as one, from a view; activating one is the update of the port that
//! `binding:host_id` is too.

use super::network::NetworkRow;
use super::port::{Port, PortRow};
use super::port_commands::{host_facts, update, vif_details};
use super::{Failure, l3};
use crate::listing::{Listed, Visibility, listed_by};
use crate::schema::{inactive_bindings, port_bindings};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::id::PortId;
use mizar_domain::patch::Patch;
use mizar_domain::port::{Binding, BindingFailure, UpdatePort, VnicType};
use mizar_domain::port_binding::{BindingError, ChangeBinding, NewBinding, check_compute};
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A binding, active or not.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = port_bindings, check_for_backend(Pg))]
pub struct BindingRow {
    /// Of the port and the host.
    pub id: Uuid,
    /// Of which port.
    pub port_id: Uuid,
    /// Of which project.
    pub project_id: Uuid,
    /// Name of the host; empty: of a port that is not bound.
    pub host: String,
    /// `binding:vnic_type`.
    pub vnic_type: String,
    /// `binding:vif_type`.
    pub vif_type: String,
    /// `binding:vif_details`.
    pub vif_details: Value,
    /// `binding:profile`.
    pub profile: Value,
    /// [`ACTIVE`] or `INACTIVE`.
    pub status: String,
    /// The port's.
    pub revision_number: i64,
}

/// The port is on this host.
pub const ACTIVE: &str = "ACTIVE";

impl Listed for BindingRow {
    listed_by!(port_bindings: project_id);

    /// Its port's project's; where ports are is for nobody without further rights to read.
    fn visible_to(view: Visibility) -> Self::Rows {
        let all = port_bindings::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(project) => all.filter(port_bindings::project_id.eq(project)),
            Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }
}

/// The id of a port's binding to a host. Pages of lists end with an id: that is taken too.
pub async fn resolve(conn: &mut AsyncPgConnection, port: Uuid, raw: &str) -> QueryResult<Option<Uuid>> {
    // A port that is on no host has a binding that no path names.
    let named = port_bindings::host.eq(raw).and(port_bindings::host.ne(""));
    let id = Uuid::try_parse(raw).unwrap_or_default();
    let found = port_bindings::table.filter(port_bindings::port_id.eq(port));
    let found = found.filter(named.or(port_bindings::id.eq(id)));
    found.select(port_bindings::id).first(conn).await.optional()
}

/// A port's binding to a host.
pub async fn find(conn: &mut AsyncPgConnection, port: Uuid, host: &str) -> QueryResult<Option<BindingRow>> {
    let of_port = port_bindings::table.filter(port_bindings::port_id.eq(port));
    of_port.filter(port_bindings::host.eq(host)).select(BindingRow::as_select()).first(conn).await.optional()
}

/// A waiting binding as it is inserted.
#[derive(Insertable)]
#[diesel(table_name = inactive_bindings, check_for_backend(Pg))]
struct Waiting {
    port_id: Uuid,
    host: String,
    vnic_type: String,
    vif_type: String,
    vif_details: Value,
    profile: Value,
}

impl Waiting {
    /// What the active binding becomes when another is activated; none of a port that was on no host.
    fn left_by(row: &PortRow) -> Option<Self> {
        (!row.host_name.is_empty()).then(|| Self {
            port_id: row.id,
            host: row.host_name.clone(),
            vnic_type: row.vnic_type.clone(),
            vif_type: row.vif_type.clone(),
            vif_details: row.vif_details.clone(),
            profile: row.profile.clone(),
        })
    }

    /// Whether there was none to this host.
    async fn insert(self, conn: &mut AsyncPgConnection) -> QueryResult<bool> {
        let insert = diesel::insert_into(inactive_bindings::table).values(self).on_conflict_do_nothing();
        insert.execute(conn).await.map(|inserted| inserted == 1)
    }
}

fn impossible(port: Uuid, host: &str, reason: String) -> Failure {
    BindingError::Impossible { port: port.into(), host: host.to_owned(), reason }.into()
}

/// Makes a binding that waits, of a port that the caller holds.
pub async fn create(
    conn: &mut AsyncPgConnection,
    network: &NetworkRow,
    port: &PortRow,
    wish: &NewBinding,
) -> Result<(), Failure> {
    let id = PortId::from(port.id);
    check_compute(id, &port.device_owner)?;
    let exists = || BindingError::Exists { port: id, host: wish.host.clone() };
    if port.host_name == wish.host {
        return Err(exists().into());
    }
    let hosts = host_facts(conn, BTreeSet::from([wish.host.as_str()])).await?;
    let facts = hosts.get(&wish.host);
    let binding = Binding::decide(Some(&wish.host), facts, wish.vnic_type, network.mtu.cast_unsigned());
    if binding.host().is_none() {
        return Err(impossible(port.id, &wish.host, binding.reason()));
    }
    let waiting = Waiting {
        port_id: port.id,
        host: wish.host.clone(),
        vnic_type: wish.vnic_type.as_str().to_owned(),
        vif_type: binding.vif_type().to_owned(),
        vif_details: vif_details(&binding),
        profile: wish.profile.clone(),
    };
    if waiting.insert(conn).await? { Ok(()) } else { Err(exists().into()) }
}

/// Changes a binding of a port that the caller holds.
pub async fn change(
    conn: &mut AsyncPgConnection,
    network: NetworkRow,
    port: Port,
    binding: &BindingRow,
    command: &ChangeBinding,
) -> Result<(), Failure> {
    check_compute(port.row.id.into(), &port.row.device_owner)?;
    if binding.status == ACTIVE {
        let command =
            UpdatePort { vnic_type: command.vnic_type, profile: command.profile.clone(), ..UpdatePort::default() };
        update(conn, Visibility::All, network, port, &command).await?;
        return Ok(());
    }
    // What no host has makes no binding that waits, as when it is made.
    if let Some(kind) = command.vnic_type.filter(|kind| *kind != VnicType::Normal) {
        let reason = BindingFailure::NoSuchInterface(kind).to_string();
        return Err(impossible(port.row.id, &binding.host, reason));
    }
    let vnic_type = command.vnic_type.map_or_else(|| binding.vnic_type.clone(), |kind| kind.as_str().to_owned());
    let profile = command.profile.as_ref().unwrap_or(&binding.profile);
    let changed = diesel::update(inactive_bindings::table.find((binding.port_id, &binding.host)))
        .set((inactive_bindings::vnic_type.eq(vnic_type), inactive_bindings::profile.eq(profile)));
    changed.execute(conn).await?;
    Ok(())
}

/// Moves the port to the host of a waiting binding. The one that was active waits from now on.
pub async fn activate(conn: &mut AsyncPgConnection, binding: &BindingRow) -> Result<Port, Failure> {
    let (network, port) = l3::hold(conn, binding.port_id).await?;
    let (id, host) = (PortId::from(port.row.id), binding.host.clone());
    check_compute(id, &port.row.device_owner)?;
    if binding.status == ACTIVE {
        return Err(BindingError::AlreadyActive { port: id, host }.into());
    }
    let left = Waiting::left_by(&port.row);
    let command = UpdatePort {
        host: Patch::Set(host),
        vnic_type: Some(VnicType::named(&binding.vnic_type).unwrap_or_default()),
        profile: Some(binding.profile.clone()),
        ..UpdatePort::default()
    };
    // Takes the place of the binding that waited for this host.
    let port = update(conn, Visibility::All, network, port, &command).await?;
    if port.row.host.is_none() {
        return Err(impossible(port.row.id, &binding.host, port.row.status_reason));
    }
    if let Some(left) = left {
        left.insert(conn).await?;
    }
    Ok(port)
}

/// Takes a binding away. Without its active one the port is on no host: it is returned.
pub async fn delete(conn: &mut AsyncPgConnection, binding: &BindingRow) -> Result<Option<Port>, Failure> {
    if binding.status == ACTIVE {
        let (network, port) = l3::hold(conn, binding.port_id).await?;
        let command = UpdatePort { host: Patch::Clear, ..UpdatePort::default() };
        return update(conn, Visibility::All, network, port, &command).await.map(Some);
    }
    diesel::delete(inactive_bindings::table.find((binding.port_id, &binding.host))).execute(conn).await?;
    Ok(None)
}

/// A host is where the port is now: nothing waits for that any more.
pub(super) async fn arrived(conn: &mut AsyncPgConnection, port: &PortRow) -> QueryResult<()> {
    diesel::delete(inactive_bindings::table.find((port.id, &port.host_name))).execute(conn).await?;
    Ok(())
}
