//! How many addresses a network has for ports, and how many of them are used. Whoever sees a
//! network sees this.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::decode::{Decode, plain};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::parameters;
use crate::frame::resource::{Context, Operations, Resource, Tx};
use crate::frame::standard::text_schema;
use crate::standard;
use diesel::QueryResult;
use diesel::sql_types::{Array, Bool, Nullable, SmallInt};
use diesel_async::AsyncPgConnection;
use ipnet::IpNet;
use mizar_db::listing::{Predicate, parse_all};
use mizar_db::resources::availability::{self, SubnetUse};
use mizar_db::resources::network::NetworkRow;
use mizar_db::schema::networks;
use mizar_db::{one_of, sort_key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;
use utoipa::openapi::schema::{Array as ArraySchema, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// Of a network.
#[derive(Debug)]
pub struct NetworkIpAvailability {
    row: NetworkRow,
    subnets: Vec<SubnetIpAvailability>,
}

/// Of a subnet.
#[derive(Debug, Serialize)]
struct SubnetIpAvailability {
    subnet_id: Uuid,
    subnet_name: String,
    cidr: IpNet,
    ip_version: i16,
    total_ips: u128,
    used_ips: i64,
    ip_availability_details: Details,
}

/// Addresses that ports can have, and those that they get without naming them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Details {
    total_ips_in_subnet: u128,
    total_ips_in_allocation_pool: u128,
    used_ips_in_subnet: i64,
    used_ips_in_allocation_pool: i64,
}

impl Details {
    const fn and(self, other: Self) -> Self {
        Self {
            total_ips_in_subnet: self.total_ips_in_subnet.saturating_add(other.total_ips_in_subnet),
            total_ips_in_allocation_pool: self
                .total_ips_in_allocation_pool
                .saturating_add(other.total_ips_in_allocation_pool),
            used_ips_in_subnet: self.used_ips_in_subnet + other.used_ips_in_subnet,
            used_ips_in_allocation_pool: self.used_ips_in_allocation_pool + other.used_ips_in_allocation_pool,
        }
    }
}

/// Addresses of a range; of an IPv4 one without the network's own and the one for broadcasts.
fn hosts(range: IpNet) -> u128 {
    let free_bits = u32::from(range.max_prefix_len() - range.prefix_len());
    let all = 1_u128.checked_shl(free_bits).unwrap_or(u128::MAX);
    match range {
        IpNet::V4(_) => all.saturating_sub(2),
        IpNet::V6(_) => all,
    }
}

#[derive(Deserialize)]
struct Pool {
    start: IpAddr,
    end: IpAddr,
}

impl Pool {
    const fn size(&self) -> u128 {
        match (self.start, self.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => (end.to_bits() as u128).saturating_sub(start.to_bits() as u128) + 1,
            (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits().saturating_sub(start.to_bits()).saturating_add(1),
            _ => 0,
        }
    }
}

impl SubnetIpAvailability {
    fn of(used: SubnetUse) -> QueryResult<Self> {
        let pools: Vec<Pool> = serde_json::from_value(used.pools)
            .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
        let in_pools = pools.iter().fold(0, |sum: u128, pool| sum.saturating_add(pool.size()));
        Ok(Self {
            subnet_id: used.id,
            subnet_name: used.name,
            cidr: used.cidr,
            ip_version: used.ip_version,
            total_ips: in_pools,
            used_ips: used.used,
            ip_availability_details: Details {
                total_ips_in_subnet: hosts(used.cidr),
                total_ips_in_allocation_pool: in_pools,
                used_ips_in_subnet: used.used,
                used_ips_in_allocation_pool: used.used_of_pools,
            },
        })
    }
}

fn count() -> RefOr<Schema> {
    plain(Type::Integer).minimum(Some(0)).into()
}

fn details_schema() -> RefOr<Schema> {
    let names =
        ["total_ips_in_subnet", "total_ips_in_allocation_pool", "used_ips_in_subnet", "used_ips_in_allocation_pool"];
    let object = ObjectBuilder::new().schema_type(Type::Object);
    names.into_iter().fold(object, |object, name| object.property(name, count()).required(name)).into()
}

fn subnet_schema() -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    let all = [
        ("subnet_id", Uuid::schema()),
        ("subnet_name", text_schema()),
        ("cidr", text_schema()),
        ("ip_version", i16::schema()),
        ("total_ips", count()),
        ("used_ips", count()),
        ("ip_availability_details", details_schema()),
    ];
    for (name, schema) in all {
        object = object.property(name, schema).required(name);
    }
    ArraySchema::new(object).into()
}

/// Networks with subnets of these versions; what is counted of them says [`versions`].
fn with_version(raw: &[String]) -> Result<Predicate<networks::table>, String> {
    let term = diesel::dsl::sql::<Nullable<Bool>>(
        "EXISTS (SELECT FROM subnets asked WHERE asked.network_id = networks.id AND asked.ip_version = ANY(",
    );
    Ok(Box::new(term.bind::<Array<SmallInt>, _>(parse_all::<i16>(raw)).sql("))")))
}

/// The IP versions whose subnets a query asks for; none: all.
fn versions(query: &str) -> Vec<i16> {
    let pairs = parameters(query).unwrap_or_default();
    let raw: Vec<String> = pairs.into_iter().filter(|(name, _)| name == "ip_version").map(|(_, value)| value).collect();
    parse_all(&raw)
}

type Attr = Attribute<NetworkIpAvailability>;

fn attributes() -> Vec<Attr> {
    let mut all = vec![
        Attr::hidden("id", Uuid::schema).about("The network's.").filter(one_of!(networks::id: Uuid)).sort(sort_key!(
            NetworkRow,
            networks::id,
            |row| row.id
        )),
        Attr::shown("network_id", Uuid::schema, |n, out| out.put(&n.row.id))
            .filter(one_of!(networks::id: Uuid))
            .sort(sort_key!(NetworkRow, networks::id, |row| row.id)),
        Attr::shown("network_name", text_schema, |n, out| out.put(&n.row.name))
            .filter(one_of!(networks::name: String))
            .sort(sort_key!(NetworkRow, networks::name, |row| row.name.clone())),
    ];
    let project = standard!(NetworkIpAvailability, networks, NetworkRow: project);
    all.extend(project.into_iter().map(|attribute| Attr { post: None, ..attribute }));
    all.extend([
        Attr::hidden("ip_version", i16::schema)
            .about("Only networks with subnets of this version, and only these subnets of them.")
            .filter(with_version),
        Attr::shown("total_ips", count, |n, out| {
            out.put(&n.subnets.iter().fold(0_u128, |sum, subnet| sum.saturating_add(subnet.total_ips)));
        })
        .about("Addresses in the allocation pools of its subnets."),
        Attr::shown("used_ips", count, |n, out| out.put(&n.subnets.iter().map(|s| s.used_ips).sum::<i64>()))
            .about("Addresses that ports have, also outside of the pools."),
        Attr::shown("ip_availability_details", details_schema, |n, out| {
            let details = n.subnets.iter().map(|subnet| subnet.ip_availability_details);
            out.put(&details.fold(Details::default(), Details::and));
        })
        .about("The same with what is outside of the pools: addresses that ports get only by naming them."),
        Attr::shown("subnet_ip_availability", subnet_schema, |n, out| out.put(&n.subnets)),
    ]);
    all
}

impl Resource for NetworkIpAvailability {
    type Row = NetworkRow;
    type Create = std::convert::Infallible;
    type Update = std::convert::Infallible;
    type Held = ();

    const SINGULAR: &'static str = "network_ip_availability";
    const PLURAL: &'static str = "network_ip_availabilities";
    const PATH: &'static str = "network-ip-availabilities";
    const KIND: &'static str = "NetworkIpAvailability";
    const NOT_FOUND: &'static str = "NetworkNotFound";
    const TABLE: &'static str = "networks";
    const OPERATIONS: Operations = Operations::READ_ONLY;
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new(
            "network-ip-availability",
            "Network IP Availability",
            "How many addresses networks have, and how many are used.",
        ),
        Extension::new(
            "network-ip-availability-details",
            "Network IP Availability Details Extension",
            "How many of them are inside of allocation pools.",
        ),
    ];

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<NetworkIpAvailability>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &NetworkRow {
        &self.row
    }

    fn missing(id: &str) -> Fault {
        Fault::not_found(Self::NOT_FOUND, format!("Network {id} could not be found."))
    }

    async fn complete(
        conn: &mut AsyncPgConnection,
        context: &Context,
        rows: Vec<NetworkRow>,
    ) -> QueryResult<Vec<Self>> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut of: BTreeMap<Uuid, Vec<SubnetIpAvailability>> = BTreeMap::new();
        for subnet in availability::of(conn, &ids, &versions(&context.query)).await? {
            of.entry(subnet.network_id).or_default().push(SubnetIpAvailability::of(subnet)?);
        }
        Ok(rows.into_iter().map(|row| Self { subnets: of.remove(&row.id).unwrap_or_default(), row }).collect())
    }

    fn decode_create(_: &mut Fields<'_>) -> Result<Self::Create, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn decode_update(_: &mut Fields<'_>, _: &Self) -> Result<Self::Update, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn lock(_: &mut AsyncPgConnection, _: Uuid) -> Result<Option<()>, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn create(_: &mut Tx<'_>, _: &[Self::Create]) -> Result<Vec<Self>, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn update(_: &mut Tx<'_>, (): (), _: Self, _: &Self::Update) -> Result<Self, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn delete(_: &mut Tx<'_>, (): (), _: Self) -> Result<(), Fault> {
        Err(Fault::method_not_allowed())
    }
}
