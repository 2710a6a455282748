//! Networks.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Strict, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::any_flag;
use crate::frame::resource::{Context, Resource, Tx};
use crate::frame::standard::{ids_schema, text_schema};
use crate::resources::qos_use;
use crate::{flag, standard};
use diesel::sql_types::Bool;
use diesel::{IntoSql as _, NullableExpressionMethods as _, QueryResult};
use diesel_async::AsyncPgConnection;
use mizar_db::listing::{Predicate, Visibility};
use mizar_db::resources::network::{self, Hold, Network, NetworkRow};
use mizar_db::resources::qos;
use mizar_db::schema::networks;
use mizar_db::sharing::{self, EXTERNAL, SHARED, external, told_shared};
use mizar_db::{one_of, sort_key};
use mizar_domain::dns::DnsDomain;
use mizar_domain::id::{NetworkId, ProjectId, QosPolicyId};
use mizar_domain::network::{CreateNetwork, NetworkExtras, UpdateNetwork};
use mizar_domain::text::{Name, Text};
use mizar_domain::vni::Vni;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// The only kind of network that there is.
pub(super) const GENEVE: &str = "geneve";

impl Decode for DnsDomain {
    fn decode(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| format!("'{}' is not a valid string.", shown(value)))?;
        Self::new(text).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).max_length(Some(254)).pattern(Some("^[A-Za-z0-9.-]*$")).into()
    }
}

pub(super) fn vni_schema() -> RefOr<Schema> {
    plain(Type::Integer).minimum(Some(Vni::MIN)).maximum(Some(Vni::MAX)).into()
}

/// `segments`, each as `provider:*` would say it: every network has one.
struct Segments(Option<Vni>);

impl Decode for Segments {
    fn decode(value: &Value) -> Result<Self, String> {
        let [segment] = value.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(format!("'{}' is not a list of one segment", shown(value)));
        };
        let [kind, physical, vni] = ["provider:network_type", "provider:physical_network", "provider:segmentation_id"];
        let fields = Strict::of(segment, &[kind, physical, vni])?;
        if let Some(other) = fields.optional::<Name>(kind)?.filter(|name| name.as_str() != GENEVE) {
            return Err(format!("{kind} '{other}': only '{GENEVE}' is supported"));
        }
        if fields.optional::<Text<64>>(physical)?.is_some() {
            return Err(format!("{physical}: geneve networks have no physical network"));
        }
        let number = fields.optional::<i64>(vni)?.map(Vni::new).transpose();
        number.map(Self).map_err(|error| format!("{vni}: {error}"))
    }

    fn schema() -> RefOr<Schema> {
        let segment = ObjectBuilder::new().schema_type(Type::Object);
        let segment = segment.property("provider:network_type", plain(Type::String).enum_values(Some([GENEVE])));
        let segment = segment.property("provider:physical_network", Option::<Text<64>>::schema());
        let one = ArrayBuilder::new().items(segment.property("provider:segmentation_id", vni_schema()));
        one.min_items(Some(1)).max_items(Some(1)).into()
    }
}

type Attr = Attribute<Network>;

fn shared_filter(context: &Context, raw: &[String]) -> Result<Predicate<networks::table>, String> {
    any_flag(raw, |flag| told_shared("networks.id", network::NETWORK, context.caller.project(), flag))
}

const EXTENSIONS: &[Extension] = &[
    Extension::stored_only("external-net", "Neutron external network", "Networks may be the outside of routers."),
    Extension::new("net-mtu", "Network MTU", "Networks have an MTU."),
    Extension::new("net-mtu-writable", "Network MTU (writable)", "The MTU of a network may be chosen."),
    Extension::new("network_availability_zone", "Network availability zone", "Networks say in which zones they are."),
    Extension::stored_only("dns-integration", "DNS Integration", "Ports have names, networks a domain."),
    Extension::new("provider", "Provider Network", "Operators see VNIs."),
];

fn attributes() -> Vec<Attr> {
    let mut all = standard!(Network, networks, NetworkRow: id name description project);
    all.extend([
        Attr::shown("admin_state_up", bool::schema, |n, out| out.put(&n.row.admin_state_up))
            .writable()
            .filter(flag!(networks::admin_state_up))
            .sort(sort_key!(NetworkRow, networks::admin_state_up, |row| row.admin_state_up)),
        Attr::shown("status", text_schema, |n, out| out.put(&n.row.status))
            .filter(one_of!(networks::status: String))
            .sort(sort_key!(NetworkRow, networks::status, |row| row.status.clone())),
        Attr::shown("subnets", ids_schema, |n, out| out.put(&n.subnets)),
        Attr::shown("shared", bool::schema, |n, out| out.put(&n.shared))
            .about("Every project may put ports on it.")
            .writable()
            .sent_by(Access::Admin)
            .off_by_default()
            .filter_in(shared_filter),
        Attr::shown("router:external", bool::schema, |n, out| out.put(&n.external))
            .about("Routers may have it as their outside.")
            .writable()
            .sent_by(Access::Admin)
            .off_by_default()
            .filter(|raw| any_flag(raw, |flag| external("networks.id", flag))),
        Attr::shown("mtu", u32::schema, |n, out| out.put(&n.row.mtu))
            .about("Bytes of an IP packet; 0 asks for the largest possible.")
            .writable()
            .filter(one_of!(networks::mtu: i32))
            .sort(sort_key!(NetworkRow, networks::mtu, |row| row.mtu)),
        Attr::shown("port_security_enabled", bool::schema, |n, out| out.put(&n.row.port_security_enabled))
            .about("What ports get that do not say.")
            .writable(),
        Attr::shown("ipv4_address_scope", Option::<Uuid>::schema, |n, out| out.put(&n.ipv4_scope))
            .about("Of the pool that its subnets are of."),
        Attr::shown("ipv6_address_scope", Option::<Uuid>::schema, |_, out| out.put(&Value::Null))
            .about("Null until there are IPv6 subnets."),
        Attr::shown("dns_domain", DnsDomain::schema, |n, out| out.put(&n.row.dns_domain))
            .about("Stored; nothing is published yet.")
            .writable(),
        Attr::shown("qos_policy_id", Option::<Uuid>::schema, |n, out| out.put(&n.row.qos_policy_id))
            .about("Of its ports that have none of their own; a new network has its project's default policy.")
            .writable(),
        Attr::shown("availability_zone_hints", Vec::<Name>::schema, |n, out| out.put(&n.row.availability_zone_hints))
            .about("Zones in which it is wanted; it can be used in all.")
            .post(),
        Attr::shown("availability_zones", Vec::<Name>::schema, |n, out| out.put(n.zones.as_ref()))
            .about("Where there are hosts."),
        Attr::shown("is_default", bool::schema, |n, out| out.put(&n.row.is_default))
            .about("The external network of auto-allocated topologies; there is one at most.")
            .writable()
            .sent_by(Access::Admin)
            .off_by_default()
            .filter(flag!(networks::is_default)),
        Attr::shown("vlan_transparent", bool::schema, |_, out| out.put(&false))
            .about("Always false.")
            .input(Option::<bool>::schema)
            .post(),
        Attr::hidden("ha", bool::schema)
            .about("False: no network is made for routers to watch each other.")
            .post()
            .sent_by(Access::Admin),
        Attr::shown("l2_adjacency", bool::schema, |_, out| out.put(&false))
            .about("Always false: ports reach each other by address, not by broadcast."),
        Attr::shown("provider:network_type", text_schema, |_, out| out.put(GENEVE))
            .writable()
            .sent_by(Access::Admin)
            .seen_by(Access::Privileged)
            .filter(|raw| {
                let any = raw.iter().any(|kind| kind == GENEVE);
                Ok(Box::new(any.into_sql::<diesel::sql_types::Bool>().nullable()))
            }),
        Attr::shown("provider:physical_network", Option::<Text<64>>::schema, |_, out| out.put(&Value::Null))
            .about("Always null: no network is a physical one.")
            .writable()
            .sent_by(Access::Admin)
            .seen_by(Access::Privileged)
            .filter(|_| Ok(Box::new(false.into_sql::<Bool>().nullable()))),
        Attr::hidden("segments", Segments::schema)
            .about("The one that every network has, named as by provider:*; as such it is shown.")
            .post()
            .sent_by(Access::Admin),
        Attr::shown("provider:segmentation_id", vni_schema, |n, out| out.put(&n.row.vni))
            .about("The VNI.")
            .writable()
            .sent_by(Access::Admin)
            .seen_by(Access::Privileged)
            .filter(one_of!(networks::vni: i32)),
    ]);
    all.extend(standard!(Network, networks, NetworkRow: revision times tags));
    all
}

impl Resource for Network {
    type Row = NetworkRow;
    type Create = CreateNetwork;
    type Update = UpdateNetwork;
    type Held = NetworkRow;

    const SINGULAR: &'static str = "network";
    const PLURAL: &'static str = "networks";
    const KIND: &'static str = "Network";
    const NOT_FOUND: &'static str = "NetworkNotFound";
    const TABLE: &'static str = "networks";
    const QUOTA: Option<&'static str> = Some("network");
    const EXTENSIONS: &'static [Extension] = EXTENSIONS;

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<Network>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &NetworkRow {
        &self.row
    }

    fn tags(&self) -> &[String] {
        &self.row.tags
    }

    fn decode_create(fields: &mut Fields<'_>) -> Result<CreateNetwork, Fault> {
        fields.only("ha", &[json!(false)], "routers need no network to watch each other")?;
        fields.only("vlan_transparent", &[json!(false), Value::Null], "networks do not carry VLAN tags")?;
        fields.only("provider:network_type", &[json!(GENEVE), Value::Null], "only 'geneve' is supported")?;
        fields.only("provider:physical_network", &[Value::Null], "geneve networks have no physical network")?;
        let vni = fields.optional::<Option<i64>>("provider:segmentation_id")?.flatten().map(Vni::new).transpose();
        let vni = vni.map_err(|error| Fault::invalid("provider:segmentation_id", error))?;
        let segment = fields.optional::<Option<Segments>>("segments")?.flatten();
        if vni.is_some() && segment.is_some() {
            let message = "Segments and provider values cannot both be set.";
            return Err(Fault::refused(400, "SegmentsSetInConjunctionWithProviders", message));
        }
        Ok(CreateNetwork {
            id: NetworkId::random(),
            project: ProjectId::from(fields.project()?),
            name: fields.optional("name")?.unwrap_or_default(),
            description: fields.optional("description")?.unwrap_or_default(),
            admin_up: fields.optional("admin_state_up")?.unwrap_or(true),
            mtu: fields.optional("mtu")?,
            shared: fields.optional("shared")?.unwrap_or(false),
            external: fields.optional("router:external")?.unwrap_or(false),
            port_security: fields.optional("port_security_enabled")?.unwrap_or(true),
            vni: vni.or(segment.and_then(|Segments(vni)| vni)),
            tags: fields.optional("tags")?.unwrap_or_default(),
            extras: NetworkExtras {
                dns_domain: fields.optional("dns_domain")?.unwrap_or_default(),
                zone_hints: zone_hints(fields)?,
                qos_policy: fields.optional::<Option<QosPolicyId>>("qos_policy_id")?.flatten(),
                is_default: fields.optional("is_default")?.unwrap_or(false),
            },
        })
    }

    fn decode_update(fields: &mut Fields<'_>, old: &Self) -> Result<UpdateNetwork, Fault> {
        refuse_moving(fields, old.row.vni)?;
        Ok(UpdateNetwork {
            name: fields.optional("name")?,
            description: fields.optional("description")?,
            admin_up: fields.optional("admin_state_up")?,
            mtu: fields.optional("mtu")?,
            shared: fields.optional("shared")?,
            external: fields.optional("router:external")?,
            port_security: fields.optional("port_security_enabled")?,
            dns_domain: fields.optional("dns_domain")?,
            qos_policy: fields.patch("qos_policy_id")?,
            is_default: fields.optional("is_default")?,
        })
    }

    async fn complete(
        conn: &mut AsyncPgConnection,
        context: &Context,
        rows: Vec<NetworkRow>,
    ) -> QueryResult<Vec<Self>> {
        network::complete(conn, context.caller.project(), rows).await
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<NetworkRow>, Fault> {
        Ok(network::lock(conn, Visibility::All, &[id], Hold::Alone).await?.remove(&id))
    }

    async fn create(tx: &mut Tx<'_>, commands: &[CreateNetwork]) -> Result<Vec<Self>, Fault> {
        let commands = with_policies(tx, commands).await?;
        let made = network::create(tx.conn, tx.context.settings.underlay_mtu, &commands).await?;
        for Network { row, .. } in made.iter().filter(|network| network.shared) {
            open(tx, row, SHARED, true).await?;
        }
        for Network { row, .. } in made.iter().filter(|network| network.external) {
            open(tx, row, EXTERNAL, true).await?;
        }
        Ok(made)
    }

    async fn update(tx: &mut Tx<'_>, _held: NetworkRow, old: Self, command: &UpdateNetwork) -> Result<Self, Fault> {
        if !command.qos_policy.is_keep() {
            let new = command.qos_policy.over(None).map(QosPolicyId::uuid);
            qos_use::change(tx, old.row.qos_policy_id, new).await?;
        }
        if let Some(shared) = command.shared {
            network::share(tx.conn, &mut tx.ledger, &old.row, shared).await?;
        }
        if let Some(external) = command.external {
            open(tx, &old.row, EXTERNAL, external).await?;
        }
        Ok(network::update(tx.conn, tx.context.settings.underlay_mtu, old, command).await?)
    }

    /// Its subnets and policies go with it, and count no more.
    async fn delete(tx: &mut Tx<'_>, _held: NetworkRow, old: Self) -> Result<(), Fault> {
        for (subnet, owner) in network::delete(tx.conn, &old).await? {
            tx.record("delete", "subnet", subnet, Some(owner), json!({}));
            tx.charge(owner, "subnet", -1);
        }
        sharing::forget(tx.conn, &mut tx.ledger, network::NETWORK, old.row.id).await?;
        Ok(())
    }
}

/// The commands with the policies that the networks get.
async fn with_policies(tx: &mut Tx<'_>, commands: &[CreateNetwork]) -> Result<Vec<CreateNetwork>, Fault> {
    let mut all = commands.to_vec();
    qos_use::give_all(tx, all.iter().filter_map(|command| Some(command.extras.qos_policy?.uuid()))).await?;
    let mut defaults = BTreeMap::new();
    for command in all.iter_mut().filter(|command| command.extras.qos_policy.is_none()) {
        let project = command.project.uuid();
        let policy = match defaults.get(&project) {
            Some(known) => *known,
            None => qos::default_of(tx.conn, project).await?,
        };
        defaults.insert(project, policy);
        command.extras.qos_policy = policy.map(Into::into);
    }
    Ok(all)
}

/// What a network is made of stays. Clients send back what they read, so the same is no change.
fn refuse_moving(fields: &mut Fields<'_>, vni: i32) -> Result<(), Fault> {
    let fixed = |name| Fault::invalid_input(format!("provider network attribute {name} cannot be updated"));
    for (name, is) in [("provider:network_type", json!(GENEVE)), ("provider:segmentation_id", json!(vni))] {
        fields.only(name, &[is, Value::Null], "").map_err(|_| fixed(name))?;
    }
    let physical = "provider:physical_network";
    fields.only(physical, &[Value::Null], "").map_err(|_| fixed(physical))
}

/// Gives everybody access to a network, or takes it back.
async fn open(tx: &mut Tx<'_>, network: &NetworkRow, action: &str, open: bool) -> QueryResult<()> {
    let ledger = &mut tx.ledger;
    sharing::open_to_all(tx.conn, ledger, action, network::NETWORK, network.id, network.project_id, open).await
}

fn zone_hints(fields: &mut Fields<'_>) -> Result<Vec<String>, Fault> {
    let sent: Vec<Name> = fields.optional("availability_zone_hints")?.unwrap_or_default();
    let mut once = Vec::with_capacity(sent.len());
    for hint in sent.into_iter().map(Name::into_string) {
        if once.contains(&hint) {
            return Err(Fault::invalid(
                "availability_zone_hints",
                format_args!("Duplicate items in the list: '{hint}'"),
            ));
        }
        once.push(hint);
    }
    Ok(once)
}
