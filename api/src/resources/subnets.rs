//! Subnets.

use super::subnet_allocation::{Range, allocate};
use super::subnetpools::Length;
use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::decode::{Decode, Destination, Strict, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::{address_values, any_flag};
use crate::frame::resource::{Context, Resource, Tx};
use crate::{flag, standard};
use diesel::sql_types::{Bool, Nullable};
use diesel::{IntoSql as _, QueryResult};
use diesel_async::AsyncPgConnection;
use ipnet::IpNet;
use mizar_db::resources::network::{self, NetworkRow};
use mizar_db::resources::subnet::{self, SubnetRow};
use mizar_db::schema::subnets;
use mizar_db::sharing::{external, external_among, shared_among, told_shared};
use mizar_db::{one_of, sort_address, sort_id, sort_key, sort_same};
use mizar_domain::cidr::Cidr;
use mizar_domain::id::{NetworkId, ProjectId, SubnetId};
use mizar_domain::model::HostRoute;
use mizar_domain::pool::Pool;
use mizar_domain::subnet::{CreateSubnet, ServiceType, SubnetExtras, UpdateSubnet};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// The row.
    pub row: SubnetRow,
    /// Its network is shared with the caller's project, or with everybody.
    pub shared: bool,
    /// Its network may be the outside of routers.
    pub external: bool,
}

/// How IPv6 hosts get their addresses.
struct Ipv6Mode;

const IPV6_MODES: [&str; 3] = ["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];

impl Decode for Ipv6Mode {
    fn decode(value: &Value) -> Result<Self, String> {
        let known = value.as_str().is_some_and(|mode| IPV6_MODES.contains(&mode));
        if known { Ok(Self) } else { Err(format!("'{}' is not in {IPV6_MODES:?}", shown(value))) }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).enum_values(Some(IPV6_MODES)).into()
    }
}

impl Decode for ServiceType {
    fn decode(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| format!("'{}' is not a valid string.", shown(value)))?;
        Self::new(text).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).max_length(Some(255)).pattern(Some("^(network|compute|baremetal|trunk):")).into()
    }
}

impl Decode for Pool {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["start", "end"])?;
        Ok(Self { start: fields.required("start")?, end: fields.required("end")? })
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object
            .property("start", Ipv4Addr::schema())
            .property("end", Ipv4Addr::schema())
            .required("start")
            .required("end")
            .into()
    }
}

impl Decode for HostRoute {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["destination", "nexthop"])?;
        let Destination(destination) = fields.required("destination")?;
        Ok(Self { destination, nexthop: IpAddr::V4(fields.required("nexthop")?) })
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object
            .property("destination", Destination::schema())
            .property("nexthop", Ipv4Addr::schema())
            .required("destination")
            .required("nexthop")
            .into()
    }
}

fn addresses_schema() -> RefOr<Schema> {
    Array::new(Ipv4Addr::schema()).into()
}

fn version_schema() -> RefOr<Schema> {
    plain(Type::Integer).enum_values(Some([4])).into()
}

type Attr = Attribute<Subnet>;

fn attributes() -> Vec<Attr> {
    let mut all = standard!(Subnet, subnets, SubnetRow: id name description project);
    all.extend([
        Attr::shown("network_id", Uuid::schema, |s, out| out.put(&s.row.network_id))
            .required()
            .filter(one_of!(subnets::network_id: Uuid))
            .sort(sort_key!(SubnetRow, subnets::network_id, |row| row.network_id)),
        Attr::shown("ip_version", version_schema, |s, out| out.put(&s.row.ip_version))
            .required()
            .filter(one_of!(subnets::ip_version: i16))
            .sort(sort_key!(SubnetRow, subnets::ip_version, |row| row.ip_version)),
        Attr::shown("cidr", Cidr::schema, |s, out| out.put(&s.row.cidr))
            .about("Of a pool may be left out.")
            .input(Option::<Cidr>::schema)
            .post()
            .filter(one_of!(subnets::cidr: IpNet))
            .sort(sort_key!(SubnetRow, subnets::cidr, |row| row.cidr)),
        Attr::shown("gateway_ip", Option::<Ipv4Addr>::schema, |s, out| {
            out.put(&s.row.gateway_ip.map(|gateway| gateway.addr()));
        })
        .about("The first address where it is not named; null: none.")
        .writable()
        .filter(|raw| {
            use diesel::ExpressionMethods as _;
            Ok(Box::new(subnets::gateway_ip.eq_any(address_values(raw))))
        })
        .sort(sort_address!(SubnetRow, "subnets.gateway_ip", |row| row.gateway_ip)),
        Attr::shown("allocation_pools", Vec::<Pool>::schema, |s, out| out.put(&s.row.allocation_pools)).writable(),
        Attr::shown("dns_nameservers", addresses_schema, |s, out| {
            out.put(&s.row.dns_nameservers.iter().map(IpNet::addr).collect::<Vec<_>>());
        })
        .writable(),
        Attr::shown("host_routes", Vec::<HostRoute>::schema, |s, out| out.put(&s.row.host_routes)).writable(),
        Attr::shown("enable_dhcp", bool::schema, |s, out| out.put(&s.row.enable_dhcp))
            .writable()
            .filter(flag!(subnets::enable_dhcp))
            .sort(sort_key!(SubnetRow, subnets::enable_dhcp, |row| row.enable_dhcp)),
        Attr::shown("ipv6_address_mode", Option::<Ipv6Mode>::schema, |_, out| out.put(&Value::Null))
            .post()
            .filter(|_| Ok(Box::new(false.into_sql::<Nullable<Bool>>())))
            .sort(sort_same!(SubnetRow)),
        Attr::shown("ipv6_ra_mode", Option::<Ipv6Mode>::schema, |_, out| out.put(&Value::Null))
            .post()
            .filter(|_| Ok(Box::new(false.into_sql::<Nullable<Bool>>())))
            .sort(sort_same!(SubnetRow)),
        Attr::shown("subnetpool_id", Option::<Uuid>::schema, |s, out| out.put(&s.row.subnetpool_id))
            .about("The pool that the range is of.")
            .post()
            .filter(one_of!(subnets::subnetpool_id: Uuid))
            .sort(sort_id!(SubnetRow, "subnets.subnetpool_id", |row| row.subnetpool_id)),
        Attr::hidden("prefixlen", Option::<Length>::schema)
            .about("A range of this length is taken from the pool; its default length where nothing is said.")
            .post(),
        Attr::hidden("use_default_subnetpool", bool::schema).about("Take the default pool.").post(),
        Attr::shown("service_types", Vec::<ServiceType>::schema, |s, out| out.put(&s.row.service_types)).writable(),
        Attr::shown("dns_publish_fixed_ip", bool::schema, |s, out| out.put(&s.row.dns_publish_fixed_ip))
            .about("Stored; nothing is published yet.")
            .writable(),
        Attr::shown("segment_id", Option::<Uuid>::schema, |_, out| out.put(&Value::Null))
            .about("Always null: networks have no segments.")
            .writable()
            .filter(|_| Ok(Box::new(false.into_sql::<Nullable<Bool>>())))
            .sort(sort_same!(SubnetRow)),
        Attr::shown("shared", bool::schema, |s, out| out.put(&s.shared)).about("Its network is.").filter_in(
            |context, raw| {
                let project = context.caller.project();
                any_flag(raw, |flag| told_shared("subnets.network_id", network::NETWORK, project, flag))
            },
        ),
        Attr::shown("router:external", bool::schema, |s, out| out.put(&s.external))
            .about("Its network is.")
            .filter(|raw| any_flag(raw, |flag| external("subnets.network_id", flag))),
    ]);
    all.extend(standard!(Subnet, subnets, SubnetRow: revision times tags));
    all
}

impl Resource for Subnet {
    type Row = SubnetRow;
    type Create = CreateSubnet<Range>;
    type Update = UpdateSubnet;
    type Held = NetworkRow;

    const SINGULAR: &'static str = "subnet";
    const PLURAL: &'static str = "subnets";
    const KIND: &'static str = "Subnet";
    const NOT_FOUND: &'static str = "SubnetNotFound";
    const TABLE: &'static str = "subnets";
    const QUOTA: Option<&'static str> = Some("subnet");
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new("subnet-service-types", "Subnet service types", "Subnets name the devices they are for."),
        Extension::stored_only(
            "subnet-dns-publish-fixed-ip",
            "Subnet DNS publish fixed IP",
            "Subnets may publish names.",
        ),
        Extension::stored_only(
            "subnet-external-network",
            "Subnet belongs to an external network",
            "Subnets say whether their network may be the outside of routers.",
        ),
    ];

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<Subnet>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &SubnetRow {
        &self.row
    }

    fn tags(&self) -> &[String] {
        &self.row.tags
    }

    fn decode_create(fields: &mut Fields<'_>) -> Result<CreateSubnet<Range>, Fault> {
        match fields.required::<i64>("ip_version")? {
            4 => {}
            6 => return Err(Fault::invalid("ip_version", "the data plane does not carry IPv6 yet")),
            other => return Err(Fault::invalid("ip_version", format_args!("'{other}' is not in [4, 6]"))),
        }
        for name in ["ipv6_address_mode", "ipv6_ra_mode"] {
            if fields.optional::<Option<Ipv6Mode>>(name)?.flatten().is_some() {
                return Err(Fault::invalid_input(format_args!("{name} is not valid when ip_version is 4")));
            }
        }
        no_segment(fields)?;
        let range = Range::decode(fields)?;
        let pools = fields.optional("allocation_pools")?;
        if pools.is_some() && range.is_open() {
            let reason = "allocation_pools allowed only for specific subnet requests";
            return Err(Fault::bad_query(format!("Bad subnets request: {reason}.")));
        }
        Ok(CreateSubnet {
            id: SubnetId::random(),
            project: ProjectId::from(fields.project()?),
            network: NetworkId::from(fields.required::<Uuid>("network_id")?),
            name: fields.optional("name")?.unwrap_or_default(),
            description: fields.optional("description")?.unwrap_or_default(),
            cidr: range,
            gateway: fields.patch("gateway_ip")?,
            pools,
            dhcp: fields.optional("enable_dhcp")?.unwrap_or(true),
            dns: nameservers(fields)?.unwrap_or_default(),
            routes: fields.optional("host_routes")?.unwrap_or_default(),
            tags: fields.optional("tags")?.unwrap_or_default(),
            extras: SubnetExtras {
                pool: None,
                service_types: service_types(fields)?.unwrap_or_default(),
                publish_dns: fields.optional("dns_publish_fixed_ip")?.unwrap_or(false),
            },
        })
    }

    fn decode_update(fields: &mut Fields<'_>, _: &Self) -> Result<UpdateSubnet, Fault> {
        no_segment(fields)?;
        Ok(UpdateSubnet {
            name: fields.optional("name")?,
            description: fields.optional("description")?,
            gateway: fields.patch("gateway_ip")?,
            pools: fields.optional("allocation_pools")?,
            dhcp: fields.optional("enable_dhcp")?,
            dns: nameservers(fields)?,
            routes: fields.optional("host_routes")?,
            service_types: service_types(fields)?,
            publish_dns: fields.optional("dns_publish_fixed_ip")?,
        })
    }

    async fn complete(conn: &mut AsyncPgConnection, context: &Context, rows: Vec<SubnetRow>) -> QueryResult<Vec<Self>> {
        let networks: Vec<Uuid> = rows.iter().map(|row| row.network_id).collect();
        let shared = shared_among(conn, network::NETWORK, &networks, context.caller.project()).await?;
        let external = external_among(conn, &networks).await?;
        let complete = |row: SubnetRow| Self {
            shared: shared.contains(&row.network_id),
            external: external.contains(&row.network_id),
            row,
        };
        Ok(rows.into_iter().map(complete).collect())
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<NetworkRow>, Fault> {
        Ok(subnet::lock(conn, id).await?)
    }

    async fn create(tx: &mut Tx<'_>, commands: &[CreateSubnet<Range>]) -> Result<Vec<Self>, Fault> {
        let commands = allocate(tx, commands).await?;
        let rows = subnet::create(tx.conn, tx.context.caller.own(), &commands).await?;
        Ok(Self::complete(tx.conn, tx.context, rows).await?)
    }

    async fn update(tx: &mut Tx<'_>, network: NetworkRow, old: Self, command: &UpdateSubnet) -> Result<Self, Fault> {
        let Self { row, shared, external } = old;
        Ok(Self { row: subnet::update(tx.conn, &network, row, command).await?, shared, external })
    }

    async fn delete(tx: &mut Tx<'_>, network: NetworkRow, old: Self) -> Result<(), Fault> {
        Ok(subnet::delete(tx.conn, &network, &old.row).await?)
    }
}

fn nameservers(fields: &mut Fields<'_>) -> Result<Option<Vec<IpAddr>>, Fault> {
    let servers: Option<Vec<Ipv4Addr>> = fields.optional("dns_nameservers")?;
    Ok(servers.map(|servers| servers.into_iter().map(IpAddr::V4).collect()))
}

fn service_types(fields: &mut Fields<'_>) -> Result<Option<Vec<ServiceType>>, Fault> {
    let Some(sent) = fields.optional::<Vec<ServiceType>>("service_types")? else { return Ok(None) };
    let mut once: Vec<ServiceType> = Vec::with_capacity(sent.len());
    for kind in sent {
        if !once.contains(&kind) {
            once.push(kind);
        }
    }
    Ok(Some(once))
}

fn no_segment(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.only("segment_id", &[Value::Null], "networks have no segments")
}
