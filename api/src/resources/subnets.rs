//! Subnets.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::decode::{Decode, Destination, Strict, plain};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::address_values;
use crate::frame::resource::{Context, Resource, Tx};
use crate::frame::standard::{nullable, text_schema};
use crate::{flag, standard};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use ipnet::IpNet;
use mizar_db::resources::network::NetworkRow;
use mizar_db::resources::subnet::{self, SubnetRow};
use mizar_db::schema::subnets;
use mizar_db::{one_of, sort_key};
use mizar_domain::cidr::Cidr;
use mizar_domain::id::{NetworkId, ProjectId, SubnetId};
use mizar_domain::model::HostRoute;
use mizar_domain::pool::Pool;
use mizar_domain::subnet::{CreateSubnet, UpdateSubnet};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A subnet: its row says everything.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// The row.
    pub row: SubnetRow,
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

fn null_schema() -> RefOr<Schema> {
    nullable(plain(Type::String).into())
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
            .required()
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
        }),
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
        Attr::shown("ipv6_address_mode", null_schema, |_, out| out.put(&Value::Null)).post(),
        Attr::shown("ipv6_ra_mode", null_schema, |_, out| out.put(&Value::Null)).post(),
        Attr::shown("subnetpool_id", null_schema, |_, out| out.put(&Value::Null)).post(),
        Attr::shown("service_types", || Array::new(text_schema()).into(), |_, out| out.put::<[Value]>(&[])).writable(),
    ]);
    all.extend(standard!(Subnet, subnets, SubnetRow: revision times tags));
    all
}

impl Resource for Subnet {
    type Row = SubnetRow;
    type Create = CreateSubnet;
    type Update = UpdateSubnet;
    type Held = NetworkRow;

    const SINGULAR: &'static str = "subnet";
    const PLURAL: &'static str = "subnets";
    const KIND: &'static str = "Subnet";
    const NOT_FOUND: &'static str = "SubnetNotFound";
    const TABLE: &'static str = "subnets";
    const QUOTA: Option<&'static str> = Some("subnet");

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

    fn decode_create(fields: &mut Fields<'_>) -> Result<CreateSubnet, Fault> {
        match fields.required::<i64>("ip_version")? {
            4 => {}
            6 => return Err(Fault::invalid("ip_version", "the data plane does not carry IPv6 yet")),
            other => return Err(Fault::invalid("ip_version", format_args!("'{other}' is not in [4, 6]"))),
        }
        refuse_later(fields)?;
        for name in ["ipv6_address_mode", "ipv6_ra_mode"] {
            fields.only(name, &[Value::Null], "it is for subnets of ip_version 6")?;
        }
        fields.only("subnetpool_id", &[Value::Null], "subnet pools are not supported yet")?;
        Ok(CreateSubnet {
            id: SubnetId::random(),
            project: ProjectId::from(fields.project()?),
            network: NetworkId::from(fields.required::<Uuid>("network_id")?),
            name: fields.optional("name")?.unwrap_or_default(),
            description: fields.optional("description")?.unwrap_or_default(),
            cidr: fields.required("cidr")?,
            gateway: fields.patch("gateway_ip")?,
            pools: fields.optional("allocation_pools")?,
            dhcp: fields.optional("enable_dhcp")?.unwrap_or(true),
            dns: nameservers(fields)?.unwrap_or_default(),
            routes: fields.optional("host_routes")?.unwrap_or_default(),
            tags: fields.optional("tags")?.unwrap_or_default(),
        })
    }

    fn decode_update(fields: &mut Fields<'_>, _: &Self) -> Result<UpdateSubnet, Fault> {
        refuse_later(fields)?;
        Ok(UpdateSubnet {
            name: fields.optional("name")?,
            description: fields.optional("description")?,
            gateway: fields.patch("gateway_ip")?,
            pools: fields.optional("allocation_pools")?,
            dhcp: fields.optional("enable_dhcp")?,
            dns: nameservers(fields)?,
            routes: fields.optional("host_routes")?,
        })
    }

    async fn complete(_: &mut AsyncPgConnection, _: &Context, rows: Vec<SubnetRow>) -> QueryResult<Vec<Self>> {
        Ok(rows.into_iter().map(|row| Self { row }).collect())
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<NetworkRow>, Fault> {
        Ok(subnet::lock(conn, id).await?)
    }

    async fn create(tx: &mut Tx<'_>, commands: &[CreateSubnet]) -> Result<Vec<Self>, Fault> {
        let rows = subnet::create(tx.conn, tx.context.view, commands).await?;
        Ok(rows.into_iter().map(|row| Self { row }).collect())
    }

    async fn update(tx: &mut Tx<'_>, network: NetworkRow, old: Self, command: &UpdateSubnet) -> Result<Self, Fault> {
        Ok(Self { row: subnet::update(tx.conn, &network, old.row, command).await? })
    }

    async fn delete(tx: &mut Tx<'_>, network: NetworkRow, old: Self) -> Result<(), Fault> {
        Ok(subnet::delete(tx.conn, &network, &old.row).await?)
    }
}

fn nameservers(fields: &mut Fields<'_>) -> Result<Option<Vec<IpAddr>>, Fault> {
    let servers: Option<Vec<Ipv4Addr>> = fields.optional("dns_nameservers")?;
    Ok(servers.map(|servers| servers.into_iter().map(IpAddr::V4).collect()))
}

fn refuse_later(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.only("service_types", &[json!([])], "service types are not supported yet")
}
