//! Ports: rows and how they read.

use super::address::FixedIpRow;
use super::attached::{self, Attached};
use super::port_extras::Extras;
use super::{Failure, ObjectKind, group_set, ipv4};
use crate::listing::{Listed, Predicate, Visibility, listed_by, parse_all};
use crate::schema::{networks, port_ips, port_security_groups, ports, security_groups};
use crate::sharing::on_own_network;
use chrono::{DateTime, Utc};
use diesel::dsl::{self, exists};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_domain::ipam::{Lease, Space};
use mizar_domain::mac::Mac;
use mizar_domain::model::{self, AddressPair};
use mizar_domain::port::is_filtered;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// A port as stored.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, AsChangeset)]
#[diesel(table_name = ports, check_for_backend(Pg))]
#[diesel(treat_none_as_null = true)]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct PortRow {
    pub id: Uuid,
    pub project_id: Uuid,
    pub network_id: Uuid,
    pub number: i32,
    pub name: String,
    pub description: String,
    pub mac: [u8; 6],
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub port_security_enabled: bool,
    pub address_pairs: Value,
    pub status: String,
    pub status_reason: String,
    pub host: Option<i32>,
    pub generation: i32,
    pub moved_from: Option<i32>,
    pub moved_at: Option<DateTime<Utc>>,
    pub wired_generation: Option<i32>,
    pub wired_at: Option<DateTime<Utc>>,
    pub host_name: String,
    pub vnic_type: String,
    pub vif_type: String,
    pub vif_details: Value,
    pub profile: Value,
    pub group_set: Option<i32>,
    pub extras: Extras,
    pub tags: Vec<String>,
    pub revision_number: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// An element of `address_pairs`: an address or a range, with a MAC address unless the port's own
/// is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPair {
    ip_address: String,
    mac_address: Option<Mac>,
}

impl Listed for PortRow {
    listed_by!(ports: project_id);

    /// Own, or on a network of one's own.
    fn visible_to(view: Visibility) -> Self::Rows {
        let all = ports::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(project) => {
                let own = ports::project_id.eq(project).nullable();
                all.filter(own.or(on_own_network::<ports::table>("ports.network_id", project)))
            }
            Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }
}

/// A port with its addresses, its security groups and what its names need.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The row.
    pub row: PortRow,
    /// In order.
    pub fixed_ips: Vec<FixedIpRow>,
    /// In the order of their ids.
    pub security_groups: Vec<Uuid>,
    /// The numbers of these, in order.
    pub group_numbers: Vec<i32>,
    /// Its network's, if its own name is in that domain; otherwise empty.
    pub network_domain: String,
    /// Policies and trunks.
    pub attached: Attached,
}

/// Adds the addresses and the groups, for any number of ports in one query each.
pub async fn complete(conn: &mut AsyncPgConnection, rows: Vec<PortRow>) -> QueryResult<Vec<Port>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let asked: Vec<(Uuid, Uuid)> = rows.iter().map(|row| (row.id, row.network_id)).collect();
    let (addresses, groups, domains, attached) = {
        // In one round trip.
        let conn = &*conn;
        futures::try_join!(
            addresses_of(conn, &ids),
            groups_of(conn, &ids),
            domains_for(conn, &rows),
            attached::of(conn, &asked)
        )?
    };
    let ports = join(rows, addresses, groups, &domains).into_iter().zip(attached);
    Ok(ports.map(|(port, attached)| Port { attached, ..port }).collect())
}

async fn addresses_of(mut conn: &AsyncPgConnection, ports: &[Uuid]) -> QueryResult<Vec<FixedIpRow>> {
    let of_ports = port_ips::table.filter(port_ips::port_id.eq_any(ports));
    let in_order = of_ports.order((port_ips::port_id, port_ips::position));
    in_order.select(FixedIpRow::as_select()).load(&mut conn).await
}

async fn groups_of(mut conn: &AsyncPgConnection, ports: &[Uuid]) -> QueryResult<Vec<(Uuid, Uuid, i32)>> {
    port_security_groups::table
        .inner_join(security_groups::table)
        .filter(port_security_groups::port_id.eq_any(ports))
        .select((port_security_groups::port_id, security_groups::id, security_groups::number))
        .load(&mut conn)
        .await
}

/// The domains of networks that name ports.
async fn domains_for(mut conn: &AsyncPgConnection, rows: &[PortRow]) -> QueryResult<BTreeMap<Uuid, String>> {
    let named = rows.iter().filter(|row| row.extras.0.is_named_by_network());
    let named: BTreeSet<Uuid> = named.map(|row| row.network_id).collect();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted = networks::table.filter(networks::id.eq_any(named)).select((networks::id, networks::dns_domain));
    Ok(wanted.load(&mut conn).await?.into_iter().collect())
}

/// Puts addresses, groups and the domains of networks to their ports.
pub(super) fn join(
    rows: Vec<PortRow>,
    mut addresses: Vec<FixedIpRow>,
    groups: Vec<(Uuid, Uuid, i32)>,
    domains: &BTreeMap<Uuid, String>,
) -> Vec<Port> {
    addresses.sort_by_key(|address| (address.port_id, address.position));
    let mut by_port: BTreeMap<Uuid, Vec<FixedIpRow>> = BTreeMap::new();
    for address in addresses {
        by_port.entry(address.port_id).or_default().push(address);
    }
    let mut groups_of: BTreeMap<Uuid, (Vec<Uuid>, Vec<i32>)> = BTreeMap::new();
    for (port, group, number) in groups {
        let (ids, numbers) = groups_of.entry(port).or_default();
        ids.push(group);
        numbers.push(number);
    }
    let whole = |row: PortRow| {
        let fixed_ips = by_port.remove(&row.id).unwrap_or_default();
        let (mut security_groups, mut group_numbers) = groups_of.remove(&row.id).unwrap_or_default();
        security_groups.sort_unstable();
        group_numbers.sort_unstable();
        let network_domain = row.domain_of(domains.get(&row.network_id));
        Port { row, fixed_ips, security_groups, group_numbers, network_domain, attached: Attached::default() }
    };
    rows.into_iter().map(whole).collect()
}

impl PortRow {
    /// Its MAC address.
    pub const fn mac(&self) -> Mac {
        Mac(self.mac)
    }

    /// The domain of its network, if its name is in that.
    pub(super) fn domain_of(&self, network: Option<&String>) -> String {
        network.filter(|_| self.extras.0.is_named_by_network()).cloned().unwrap_or_default()
    }

    /// The number of its labels.
    pub(super) fn label_set(&self) -> Option<i32> {
        self.extras.0.label_set.map(|set| set.number)
    }

    /// Its allowed address pairs.
    pub fn pairs(&self) -> Result<Vec<AddressPair>, Failure> {
        let corrupt = || Failure::Corrupt { kind: ObjectKind::Port, id: self.id, column: "address_pairs" };
        let stored: Vec<StoredPair> = serde_json::from_value(self.address_pairs.clone()).map_err(|_| corrupt())?;
        let pair = |pair: StoredPair| {
            let cidr = parse_range(&pair.ip_address).ok_or_else(corrupt)?;
            Ok(AddressPair { cidr, mac: pair.mac_address })
        };
        stored.into_iter().map(pair).collect()
    }
}

/// `10.0.0.1` or `10.0.0.0/24`.
pub fn parse_range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

diesel::define_sql_function! {
    /// The address of an `inet` as text, without its prefix.
    fn host(address: diesel::sql_types::Inet) -> diesel::sql_types::Text;
}

/// Ports that have addresses, or none, or both kinds.
pub fn by_having_address(with: bool, without: bool) -> Predicate<ports::table> {
    let has = || exists(port_ips::table.filter(port_ips::port_id.eq(ports::id)));
    match (with, without) {
        (true, true) => Box::new(true.into_sql::<diesel::sql_types::Bool>().nullable()),
        (true, false) => Box::new(has().nullable()),
        (false, true) => Box::new(dsl::not(has()).nullable()),
        (false, false) => Box::new(false.into_sql::<diesel::sql_types::Bool>().nullable()),
    }
}

/// Ports with an address of any of these subnets, and that is any of these, and that has any of
/// these texts in it; an empty list asks for nothing. What is no id or address equals no port.
pub fn with_address(subnets: &[String], addresses: &[String], parts: &[String]) -> Predicate<ports::table> {
    let mut matching = port_ips::table.select(port_ips::port_id).into_boxed();
    if !subnets.is_empty() {
        matching = matching.filter(port_ips::subnet_id.eq_any(parse_all::<Uuid>(subnets)));
    }
    if !addresses.is_empty() {
        let addresses = parse_all::<IpAddr>(addresses).into_iter().map(IpNet::from);
        matching = matching.filter(port_ips::address.eq_any(addresses.collect::<Vec<_>>()));
    }
    if !parts.is_empty() {
        let escaped =
            |part: &String| format!("%{}%", part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let like = |part: &String| -> Predicate<port_ips::table> {
            Box::new(host(port_ips::address).like(escaped(part)).nullable())
        };
        let any = parts.iter().map(like).reduce(|one, other| Box::new(one.or(other)));
        if let Some(any) = any {
            matching = matching.filter(any);
        }
    }
    Box::new(ports::id.eq_any(matching).nullable())
}

/// Ports that have any of these security groups.
pub fn with_group(groups: &[String]) -> Predicate<ports::table> {
    let matching = port_security_groups::table
        .filter(port_security_groups::security_group_id.eq_any(parse_all::<Uuid>(groups)))
        .select(port_security_groups::port_id);
    Box::new(ports::id.eq_any(matching).nullable())
}

/// The column of pairs.
pub(super) fn stored_pairs(pairs: &[AddressPair]) -> Value {
    let stored = |pair: &AddressPair| {
        let whole = pair.cidr.prefix_len() == pair.cidr.max_prefix_len();
        let ip_address = if whole { pair.cidr.addr().to_string() } else { pair.cidr.to_string() };
        serde_json::json!({"ip_address": ip_address, "mac_address": pair.mac})
    };
    pairs.iter().map(stored).collect()
}

impl Port {
    /// Its addresses, as IPAM names them.
    pub fn leases(&self) -> Vec<Lease> {
        let lease = |row: &FixedIpRow| Some(Lease { subnet: row.subnet_id.into(), address: ipv4(row.address)? });
        self.fixed_ips.iter().filter_map(lease).collect()
    }

    /// The combination of groups and labels that filters it; `None`: nothing does.
    pub fn filter(&self) -> Option<model::GroupSet> {
        is_filtered(self.row.port_security_enabled, &self.row.device_owner).then(|| self.set())
    }

    /// The combination of its groups; where none was computed, one that lets nothing pass.
    fn set(&self) -> model::GroupSet {
        let groups = || self.group_numbers.iter().map(|number| number.cast_unsigned()).collect();
        let known = self.row.group_set.map(|number| model::GroupSet {
            number: number.cast_unsigned(),
            groups: groups(),
            labels: self.row.extras.0.labelled(),
        });
        known.unwrap_or(model::GroupSet::UNKNOWN)
    }

    /// What its combination is made of, as the row of that has it.
    pub(crate) fn parts(&self) -> Vec<i32> {
        group_set::parts(self.row.label_set(), self.group_numbers.iter().copied())
    }

    /// What its entries are compiled from. `spaces` are its network's subnets.
    pub fn model(&self, vni: i32, spaces: &[Space]) -> Result<model::BoundPort, Failure> {
        let row = &self.row;
        let fixed_ip = |ip: &FixedIpRow| {
            let space = spaces.iter().find(|space| space.subnet.uuid() == ip.subnet_id);
            let corrupt = || Failure::Corrupt { kind: ObjectKind::Port, id: row.id, column: "fixed_ips" };
            let subnet = space.ok_or_else(corrupt)?.number;
            Ok::<_, Failure>(model::FixedIp { subnet, address: ip.address.addr() })
        };
        Ok(model::BoundPort {
            id: row.id.into(),
            number: row.number.cast_unsigned(),
            generation: row.generation.cast_unsigned(),
            name: row.name.clone(),
            vni: vni.cast_unsigned(),
            mac: row.mac(),
            fixed_ips: self.fixed_ips.iter().map(fixed_ip).collect::<Result<_, _>>()?,
            pairs: row.pairs()?,
            port_security: row.port_security_enabled,
            admin_up: row.admin_state_up,
            set: self.filter(),
            dhcp_options: row.extras.0.told(),
            host: row.host.map(i32::cast_unsigned),
            moved_from: row.moved_from.map(i32::cast_unsigned),
        })
    }
}
