//! Bindings of a port to hosts, for live migration: `/v2.0/ports/{port}/bindings/{host}`.
//!
//! Paths name them by their host. One is active; activating another moves the port there, as
//! writing `binding:host_id` does.

use crate::frame::action::{Action, Answer};
use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Opaque, plain};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::parent::Parent;
use crate::frame::resource::{Above, Context, Operations, Resource, Tx};
use crate::frame::standard::text_schema;
use diesel::{ExpressionMethods as _, NullableExpressionMethods as _, QueryResult};
use diesel_async::AsyncPgConnection;
use futures::FutureExt;
use futures::future::BoxFuture;
use mizar_db::resources::l3;
use mizar_db::resources::port::{Port, PortRow};
use mizar_db::resources::port_binding::{self, BindingRow};
use mizar_db::schema::port_bindings;
use mizar_db::{one_of, sort_key};
use mizar_domain::port::VnicType;
use mizar_domain::port_binding::{ChangeBinding, NewBinding};
use mizar_domain::text::Name;
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A binding.
#[derive(Debug)]
pub struct PortBinding {
    row: BindingRow,
}

type Attr = Attribute<PortBinding>;

fn status_schema() -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(["ACTIVE", "INACTIVE"])).into()
}

fn attributes() -> Vec<Attr> {
    vec![
        Attr::hidden("id", Uuid::schema)
            .about("Only to sort by; paths name a binding by its host.")
            .filter(one_of!(port_bindings::id: Uuid))
            .sort(sort_key!(BindingRow, port_bindings::id, |row| row.id)),
        Attr::shown("host", Name::schema, |b, out| out.put(&b.row.host))
            .about("Name of the host; empty: the port is on none.")
            .required()
            .filter(one_of!(port_bindings::host: String))
            .sort(sort_key!(BindingRow, port_bindings::host, |row| row.host.clone())),
        Attr::shown("vif_type", text_schema, |b, out| out.put(&b.row.vif_type))
            .filter(one_of!(port_bindings::vif_type: String)),
        Attr::shown("vif_details", Opaque::schema, |b, out| out.put(&b.row.vif_details)),
        Attr::shown("vnic_type", VnicType::schema, |b, out| out.put(&b.row.vnic_type))
            .writable()
            .filter(one_of!(port_bindings::vnic_type: String)),
        Attr::shown("profile", Opaque::schema, |b, out| out.put(&b.row.profile))
            .writable()
            .input(Option::<Opaque>::schema),
        Attr::shown("status", status_schema, |b, out| out.put(&b.row.status))
            .about("Of the binding: the port is on the host of the active one.")
            .filter(one_of!(port_bindings::status: String)),
    ]
}

/// As Neutron answers an activation: without envelope.
fn shown(row: &BindingRow) -> Value {
    json!({"host": row.host, "vif_type": row.vif_type, "vif_details": row.vif_details, "vnic_type": row.vnic_type,
        "profile": row.profile, "status": row.status})
}

fn shown_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    let attributes = attributes();
    let shown = attributes.iter().filter(|attribute| attribute.show.is_some());
    shown.fold(object, |object, attribute| object.property(attribute.name, (attribute.schema)())).into()
}

/// The audit event of a port that was moved by one of its bindings.
fn noted(tx: &mut Tx<'_>, port: &PortRow) {
    let moved = json!({"binding:host_id": port.host_name});
    tx.record("update", "port", port.id, Some(port.project_id), moved);
}

async fn find(tx: &mut Tx<'_>, port: Uuid, host: &str) -> Result<PortBinding, Fault> {
    let row = port_binding::find(tx.conn, port, host).await?;
    row.map(|row| PortBinding { row }).ok_or_else(|| PortBinding::missing(host))
}

fn activate<'t>(
    tx: &'t mut Tx<'_>,
    binding: PortBinding,
    _: &'t mut Fields<'_>,
) -> BoxFuture<'t, Result<Value, Fault>> {
    async move {
        let port = port_binding::activate(tx.conn, &binding.row).await?.row;
        noted(tx, &port);
        Ok(shown(&find(tx, port.id, &port.host_name).await?.row))
    }
    .boxed()
}

/// What was sent about a profile; null empties it.
fn profile(fields: &mut Fields<'_>) -> Result<Option<Value>, Fault> {
    let sent: Option<Option<Opaque>> = fields.optional("profile")?;
    Ok(sent.map(|profile| Value::Object(profile.unwrap_or_default().0)))
}

impl Resource for PortBinding {
    type Row = BindingRow;
    type Create = NewBinding;
    type Update = ChangeBinding;
    type Held = ();

    const SINGULAR: &'static str = "binding";
    const PLURAL: &'static str = "bindings";
    const KIND: &'static str = "PortBinding";
    const NOT_FOUND: &'static str = "PortBindingNotFound";
    const TABLE: &'static str = "inactive_bindings";
    const OPERATIONS: Operations = Operations {
        read: Access::Privileged,
        create: Some(Access::Privileged),
        update: Some(Access::Privileged),
        delete: Some(Access::Privileged),
        service: true,
        tags: false,
    };
    const EXTENSIONS: &'static [Extension] =
        &[Extension::new("binding-extended", "Port Bindings Extended", "Ports may be bound to a host to go to.")];
    const PARENT: Option<Parent<Self>> =
        Some(Parent::of::<Port>(|port| Box::new(port_bindings::port_id.eq(port).nullable())));

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<PortBinding>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn actions() -> Vec<Action<Self>> {
        let about = "Move the port to the host of this binding; the active one becomes inactive";
        let activate = Action::put("activate", about, activate);
        vec![Action { access: Access::Privileged, answer: Answer::Body(shown_schema), ..activate }]
    }

    fn row(&self) -> &BindingRow {
        &self.row
    }

    fn decode_create(fields: &mut Fields<'_>) -> Result<NewBinding, Fault> {
        let host: Name = fields.required("host")?;
        if host.as_str().is_empty() {
            return Err(Fault::invalid("host", "'' Blank strings are not permitted"));
        }
        Ok(NewBinding {
            host: host.into_string(),
            vnic_type: fields.optional("vnic_type")?.unwrap_or_default(),
            profile: profile(fields)?.unwrap_or_else(|| json!({})),
        })
    }

    fn decode_update(fields: &mut Fields<'_>, _: &Self) -> Result<ChangeBinding, Fault> {
        Ok(ChangeBinding { vnic_type: fields.optional("vnic_type")?, profile: profile(fields)? })
    }

    async fn resolve(conn: &mut AsyncPgConnection, above: Option<Above>, raw: &str) -> QueryResult<Option<Uuid>> {
        match above {
            Some(port) => port_binding::resolve(conn, port.id, raw).await,
            None => Ok(None),
        }
    }

    async fn complete(_: &mut AsyncPgConnection, _: &Context, rows: Vec<BindingRow>) -> QueryResult<Vec<Self>> {
        Ok(rows.into_iter().map(|row| Self { row }).collect())
    }

    /// The port is locked, and with it all its bindings.
    async fn lock(_: &mut AsyncPgConnection, _: Uuid) -> Result<Option<()>, Fault> {
        Ok(Some(()))
    }

    async fn create(tx: &mut Tx<'_>, commands: &[NewBinding]) -> Result<Vec<Self>, Fault> {
        let port = tx.above.ok_or_else(|| Fault::internal("a binding is below a port"))?.id;
        let (network, port) = l3::hold(tx.conn, port).await?;
        let mut made = Vec::with_capacity(commands.len());
        for command in commands {
            port_binding::create(tx.conn, &network, &port.row, command).await?;
            made.push(find(tx, port.row.id, &command.host).await?);
        }
        Ok(made)
    }

    async fn update(tx: &mut Tx<'_>, (): (), old: Self, command: &ChangeBinding) -> Result<Self, Fault> {
        let (network, port) = l3::hold(tx.conn, old.row.port_id).await?;
        port_binding::change(tx.conn, network, port, &old.row, command).await?;
        find(tx, old.row.port_id, &old.row.host).await
    }

    async fn delete(tx: &mut Tx<'_>, (): (), old: Self) -> Result<(), Fault> {
        if let Some(port) = port_binding::delete(tx.conn, &old.row).await? {
            noted(tx, &port.row);
        }
        Ok(())
    }

    fn missing(host: &str) -> Fault {
        Fault::not_found(Self::NOT_FOUND, format!("Binding for host {host} could not be found."))
    }
}
