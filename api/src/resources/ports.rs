//! Ports.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::caller::{Access, Caller};
use crate::frame::decode::{Decode, Opaque, Strict, first_repeated, one_of as one_of_words, plain, words};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::resource::{Context, Operations, Resource, Tx};
use crate::frame::standard::{ids_schema, text_schema};
use crate::resources::port_attached;
use crate::resources::{l3, port_extras};
use crate::{flag, standard};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use mizar_db::resources::network::{self, NetworkRow};
use mizar_db::resources::port::{self, Port, PortRow};
use mizar_db::resources::port_commands;
use mizar_db::schema::ports;
use mizar_db::{one_of, sort_key};
use mizar_domain::id::{NetworkId, PortId, ProjectId, SecurityGroupId};
use mizar_domain::ipam::FixedIpRequest;
use mizar_domain::mac::Mac;
use mizar_domain::model::AddressPair;
use mizar_domain::patch::Patch;
use mizar_domain::port::{CreatePort, UpdatePort, VnicType};
use mizar_domain::port_extras::PortExtras;
use mizar_domain::text::{Name, Text};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

impl Decode for FixedIpRequest {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["subnet_id", "ip_address"])?;
        let subnet: Option<Uuid> = fields.optional("subnet_id")?;
        Ok(Self { subnet: subnet.map(Into::into), address: fields.optional("ip_address")? })
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object.property("subnet_id", Uuid::schema()).property("ip_address", Ipv4Addr::schema()).into()
    }
}

impl Decode for AddressPair {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["ip_address", "mac_address"])?;
        let range: Text<64> = fields.required("ip_address")?;
        let cidr = port::parse_range(range.as_str()).ok_or_else(|| format!("'{range}' is not a valid IP address."))?;
        if cidr.addr().is_ipv6() {
            return Err(format!("'{range}' is an IPv6 address; the data plane does not carry IPv6 yet"));
        }
        Ok(Self { cidr: cidr.trunc(), mac: fields.optional("mac_address")? })
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object
            .property("ip_address", text_schema())
            .property("mac_address", Mac::schema())
            .required("ip_address")
            .into()
    }
}

impl Decode for VnicType {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of_words(value, Self::ALL, Self::as_str)
    }

    fn schema() -> RefOr<Schema> {
        words(Self::ALL.map(Self::as_str))
    }
}

/// Security groups of a port, each named once.
struct GroupIds(Vec<SecurityGroupId>);

impl Decode for GroupIds {
    fn decode(value: &Value) -> Result<Self, String> {
        let ids = Vec::<Uuid>::decode(value)?;
        match first_repeated(&ids) {
            Some(twice) => Err(format!("Duplicate items in the list: '{twice}'")),
            None => Ok(Self(ids.into_iter().map(Into::into).collect())),
        }
    }

    fn schema() -> RefOr<Schema> {
        Vec::<Uuid>::schema()
    }
}

fn status_schema() -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(["ACTIVE", "BUILD", "DOWN", "ERROR"])).into()
}

type Attr = Attribute<Port>;

const EXTENSIONS: &[Extension] = &[
    Extension::new(
        "allowed-address-pairs",
        "Allowed Address Pairs",
        "Source addresses that a port may use beside its own.",
    ),
    Extension::new("binding", "Port Binding", "Ports are bound to hosts."),
    Extension::new(
        "ip-substring-filtering",
        "IP address substring filtering",
        "fixed_ips=ip_address_substr=… finds ports.",
    ),
    Extension::new("ip_allocation", "IP Allocation", "Ports say when they get their addresses."),
    Extension::new("port-security", "Port Security", "Anti-spoofing may be switched off."),
    Extension::new(
        "tag-ports-during-bulk-creation",
        "Tag Ports During Bulk Creation",
        "Tags may be given when creating ports.",
    ),
    Extension::new("data-plane-status", "Data plane status of port extension", "Others say what they see of ports."),
    Extension::new("extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP tells ports what they ask for."),
    Extension::new("port-device-profile", "Port device profile", "Nova reads what device a port needs."),
    Extension::new("port-numa-affinity-policy", "Port NUMA affinity policy", "Nova reads where a port wants to be."),
    Extension::new("port-numa-affinity-policy-socket", "Port NUMA affinity policy \"socket\"", "A policy more."),
    Extension::stored_only("dns-domain-ports", "dns_domain for ports", "Ports have a domain."),
    Extension::stored_only("port-hints", "Port hints", "Ports hold hints for back ends."),
    Extension::stored_only("port-trusted-vif", "Port trusted vif", "Ports may be marked for SR-IOV."),
    Extension::stored_only("uplink-status-propagation", "Port uplink status propagation", "For SR-IOV."),
    Extension::stored_only(
        "uplink-status-propagation-updatable",
        "Ability to turn the port uplink status propagation on and off.",
        "For SR-IOV.",
    ),
];

fn attributes() -> Vec<Attr> {
    let mut all = standard!(Port, ports, PortRow: id name description project);
    all.extend([
        Attr::shown("network_id", Uuid::schema, |p, out| out.put(&p.row.network_id))
            .required()
            .filter(one_of!(ports::network_id: Uuid))
            .sort(sort_key!(PortRow, ports::network_id, |row| row.network_id)),
        Attr::shown("admin_state_up", bool::schema, |p, out| out.put(&p.row.admin_state_up))
            .writable()
            .filter(flag!(ports::admin_state_up))
            .sort(sort_key!(PortRow, ports::admin_state_up, |row| row.admin_state_up)),
        Attr::shown("status", status_schema, |p, out| out.put(&p.row.status))
            .filter(one_of!(ports::status: String))
            .sort(sort_key!(PortRow, ports::status, |row| row.status.clone())),
        Attr::shown("mizar:status_reason", text_schema, |p, out| out.put(&p.row.status_reason))
            .about("What has to be done about a port in status ERROR."),
        Attr::shown("mac_address", Mac::schema, |p, out| out.put(&p.row.mac()))
            .about("Changed by administrators and services only, and only while the port is not bound.")
            .post()
            .put_by(Access::Privileged)
            .filter(|raw| {
                use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
                let macs: Vec<Mac> = mizar_db::listing::parse_all(raw);
                Ok(Box::new(ports::mac.eq_any(macs.into_iter().map(|mac| mac.0).collect::<Vec<_>>()).nullable()))
            })
            .sort(sort_key!(PortRow, ports::mac, |row| row.mac)),
        Attr::shown("fixed_ips", Vec::<FixedIpRequest>::schema, |p, out| {
            let ips = p.fixed_ips.iter().map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.address.addr()}));
            out.put(&ips.collect::<Vec<_>>());
        })
        .about("Filters: fixed_ips=subnet_id=…, ip_address=… or ip_address_substr=….")
        .writable()
        .filter(fixed_ips_filter),
        Attr::shown("ip_allocation", allocation_schema, |p, out| {
            out.put(if p.fixed_ips.is_empty() { "none" } else { "immediate" });
        })
        .about("Addresses are given when the port is made, or never.")
        .filter(allocation_filter),
        Attr::shown("resource_request", Option::<Opaque>::schema, |_, out| out.put(&Value::Null))
            .about("Always null: no policy reserves anything."),
        Attr::shown("device_id", Name::schema, |p, out| out.put(&p.row.device_id))
            .writable()
            .filter(one_of!(ports::device_id: String))
            .sort(sort_key!(PortRow, ports::device_id, |row| row.device_id.clone())),
        Attr::shown("device_owner", Name::schema, |p, out| out.put(&p.row.device_owner))
            .writable()
            .filter(one_of!(ports::device_owner: String))
            .sort(sort_key!(PortRow, ports::device_owner, |row| row.device_owner.clone())),
        Attr::shown("allowed_address_pairs", Vec::<AddressPair>::schema, put_pairs).writable(),
        Attr::shown("port_security_enabled", bool::schema, |p, out| out.put(&p.row.port_security_enabled)).writable(),
        Attr::shown("security_groups", ids_schema, |p, out| out.put(&p.security_groups))
            .about("Without it a port with port security gets the default group of its project.")
            .writable()
            .input(Option::<GroupIds>::schema)
            .filter(|raw| Ok(port::with_group(raw))),
        Attr::shown("binding:vnic_type", VnicType::schema, |p, out| out.put(&p.row.vnic_type))
            .about("Of others than normal the binding fails on every host.")
            .writable(),
        Attr::shown("binding:host_id", Name::schema, |p, out| out.put(&p.row.host_name))
            .writable()
            .sent_by(Access::Privileged)
            .seen_by(Access::Privileged)
            .filter(one_of!(ports::host_name: String)),
        Attr::shown("binding:vif_type", text_schema, |p, out| out.put(&p.row.vif_type)).seen_by(Access::Privileged),
        Attr::shown("binding:vif_details", Opaque::schema, |p, out| out.put(&p.row.vif_details))
            .seen_by(Access::Privileged),
        Attr::shown("binding:profile", Opaque::schema, |p, out| out.put(&p.row.profile))
            .writable()
            .sent_by(Access::Privileged)
            .seen_by(Access::Privileged),
    ]);
    all.extend(port_extras::attributes());
    all.extend(port_attached::attributes());
    all.extend(standard!(Port, ports, PortRow: revision times tags));
    all
}

fn allocation_schema() -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(["immediate", "none"])).into()
}

fn allocation_filter(raw: &[String]) -> Result<mizar_db::listing::Predicate<ports::table>, String> {
    let has = |kind: &str| raw.iter().any(|value| value == kind);
    Ok(port::by_having_address(has("immediate"), has("none")))
}

/// A pair without MAC address is shown with the port's own, as in Neutron.
fn put_pairs(port: &Port, out: &mut crate::frame::attribute::Json) {
    let own = Value::String(port.row.mac().to_string());
    let stored = port.row.address_pairs.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = stored.iter().map(|pair| {
        let mac = if pair["mac_address"].is_null() { &own } else { &pair["mac_address"] };
        json!({"ip_address": pair["ip_address"], "mac_address": mac})
    });
    out.put(&shown.collect::<Vec<_>>());
}

/// Parts of addresses that one request may look for.
const SUBSTRINGS: usize = 20;

fn fixed_ips_filter(raw: &[String]) -> Result<mizar_db::listing::Predicate<ports::table>, String> {
    let (mut subnets, mut addresses, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for value in raw {
        match value.split_once('=') {
            Some(("subnet_id", id)) => subnets.push(id.to_owned()),
            Some(("ip_address", address)) => addresses.push(address.to_owned()),
            Some(("ip_address_substr", part)) => parts.push(part.to_owned()),
            _ => return Err(format!("'{value}' is none of subnet_id=…, ip_address=…, ip_address_substr=…")),
        }
    }
    // Each nests the query one deeper.
    if parts.len() > SUBSTRINGS {
        return Err(format!("more than {SUBSTRINGS} of ip_address_substr"));
    }
    Ok(port::with_address(&subnets, &addresses, &parts))
}

impl Resource for Port {
    type Row = PortRow;
    type Create = CreatePort;
    type Update = UpdatePort;
    type Held = NetworkRow;

    const SINGULAR: &'static str = "port";
    const PLURAL: &'static str = "ports";
    const KIND: &'static str = "Port";
    const NOT_FOUND: &'static str = "PortNotFound";
    const TABLE: &'static str = "ports";
    const QUOTA: Option<&'static str> = Some("port");
    const EXTENSIONS: &'static [Extension] = EXTENSIONS;
    const OPERATIONS: Operations = Operations { service: true, ..Operations::TENANT };

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<Port>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &PortRow {
        &self.row
    }

    fn tags(&self) -> &[String] {
        &self.row.tags
    }

    fn decode_create(fields: &mut Fields<'_>) -> Result<Self::Create, Fault> {
        let host: Patch<Name> = fields.patch("binding:host_id")?;
        let profile: Option<Option<Opaque>> = fields.optional("binding:profile")?;
        Ok(CreatePort {
            id: PortId::random(),
            project: ProjectId::from(fields.project()?),
            network: NetworkId::from(fields.required::<Uuid>("network_id")?),
            name: fields.optional("name")?.unwrap_or_default(),
            description: fields.optional("description")?.unwrap_or_default(),
            admin_up: fields.optional("admin_state_up")?.unwrap_or(true),
            mac: fields.optional::<Option<Mac>>("mac_address")?.flatten(),
            fixed_ips: fields.optional("fixed_ips")?,
            device_id: fields.optional("device_id")?.unwrap_or_default(),
            device_owner: fields.optional("device_owner")?.unwrap_or_default(),
            pairs: fields.optional("allowed_address_pairs")?.unwrap_or_default(),
            port_security: fields.optional("port_security_enabled")?,
            security_groups: fields.optional::<Option<GroupIds>>("security_groups")?.flatten().map(|groups| groups.0),
            host: host_name(host).over(None),
            vnic_type: fields.optional("binding:vnic_type")?.unwrap_or_default(),
            profile: Value::Object(profile.flatten().unwrap_or_default().0),
            tags: fields.optional("tags")?.unwrap_or_default(),
            extras: port_extras::decode(fields, &PortExtras::default())?,
            qos_policy: fields.patch("qos_policy_id")?.over(None),
        })
    }

    fn decode_update(fields: &mut Fields<'_>, old: &Self) -> Result<Self::Update, Fault> {
        let (had, extras) = (&old.row.extras.0, port_extras::decode(fields, &old.row.extras.0)?);
        let profile: Option<Option<Opaque>> = fields.optional("binding:profile")?;
        Ok(UpdatePort {
            name: fields.optional("name")?,
            description: fields.optional("description")?,
            admin_up: fields.optional("admin_state_up")?,
            mac: fields.optional("mac_address")?,
            fixed_ips: fields.optional("fixed_ips")?,
            device_id: fields.optional("device_id")?,
            device_owner: fields.optional("device_owner")?,
            pairs: fields.optional("allowed_address_pairs")?,
            port_security: fields.optional("port_security_enabled")?,
            security_groups: match fields.patch::<GroupIds>("security_groups")? {
                Patch::Keep => None,
                Patch::Clear => Some(Vec::new()),
                Patch::Set(groups) => Some(groups.0),
            },
            host: host_name(fields.patch("binding:host_id")?),
            vnic_type: fields.optional("binding:vnic_type")?,
            profile: profile.map(|profile| Value::Object(profile.unwrap_or_default().0)),
            extras: Some(extras).filter(|extras| extras != had),
            qos_policy: fields.patch("qos_policy_id")?,
        })
    }

    async fn complete(conn: &mut AsyncPgConnection, context: &Context, rows: Vec<PortRow>) -> QueryResult<Vec<Self>> {
        let mut ports = port::complete(conn, rows).await?;
        port_attached::hide_foreign(context, &mut ports);
        Ok(ports)
    }

    /// Who gives a network to others takes their ports off it, as in Neutron: or he could not delete it again.
    async fn may_be_deleted_by(conn: &mut AsyncPgConnection, caller: &Caller, row: &PortRow) -> QueryResult<bool> {
        match caller.project() {
            Some(project) => network::is_of(conn, row.network_id, project).await,
            None => Ok(false),
        }
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<NetworkRow>, Fault> {
        Ok(port_commands::lock(conn, id).await?)
    }

    async fn create(tx: &mut Tx<'_>, commands: &[Self::Create]) -> Result<Vec<Self>, Fault> {
        let mut made = port_commands::create(tx.conn, &mut tx.ledger, tx.context.view, commands).await?;
        let policies = commands.iter().map(|command| command.qos_policy);
        port_attached::give_policies(tx, made.iter_mut().zip(policies)).await?;
        Ok(made)
    }

    async fn update(tx: &mut Tx<'_>, network: NetworkRow, old: Self, command: &Self::Update) -> Result<Self, Fault> {
        l3::refuse_change(tx.conn, &old, command).await?;
        let mut port = port_commands::update(tx.conn, tx.context.view, network, old, command).await?;
        port_attached::set_policy(tx, &mut port, command.qos_policy).await?;
        if command.fixed_ips.is_some() {
            l3::dissociate(tx, &port.row, &port.fixed_ips).await?;
        }
        Ok(port)
    }

    async fn delete(tx: &mut Tx<'_>, network: NetworkRow, old: Self) -> Result<(), Fault> {
        port_attached::refuse_if_in_trunk(&old)?;
        l3::refuse_delete(tx.conn, &old.row).await?;
        l3::dissociate(tx, &old.row, &[]).await?;
        Ok(port_commands::delete(tx.conn, network, &old).await?)
    }
}

/// The empty name unbinds, as null does.
fn host_name(host: Patch<Name>) -> Patch<String> {
    match host {
        Patch::Keep => Patch::Keep,
        Patch::Set(name) if !name.as_str().is_empty() => Patch::Set(name.into_string()),
        Patch::Set(_) | Patch::Clear => Patch::Clear,
    }
}
