//! Floating IPs: addresses of an external network that stand for addresses of ports.

use super::l3::{DOWN, bad_request};
use super::qos_use;
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode as _, Opaque};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::query::address_values;
use crate::frame::resource::{Context, Operations, Tx};
use crate::frame::standard::nullable;
use crate::{column, standard, stored};
use diesel::{ExpressionMethods as _, NullableExpressionMethods as _, QueryResult, SelectableHelper as _};
use diesel_async::AsyncPgConnection;
use ipnet::IpNet;
use mizar_db::listing;
use mizar_db::resources::Failure;
use mizar_db::resources::l3::{self, FLOATING, NOBODY, Wish};
use mizar_db::resources::port::{self, PortRow};
use mizar_db::schema::ports;
use mizar_db::{sort_address, sort_id, sort_key};
use mizar_domain::dns::{DnsDomain, DnsName};
use mizar_domain::ipam::{FixedIpRequest, IpamError};
use mizar_domain::patch::Patch;
use mizar_domain::port::PortError;
use mizar_domain::text::{Name, Tags};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A floating IP. Until it is stored, an unspecified address asks for any.
    pub struct FloatingIp in floatingips: owned {
        description: String as Text,
        floating_network_id: Uuid as Uuid,
        floating_port_id: Uuid as Uuid,
        floating_ip_address: IpNet as Inet,
        subnet_id: Option<Uuid> as Nullable<Uuid>,
        port_id: Option<Uuid> as Nullable<Uuid>,
        fixed_ip_address: Option<IpNet> as Nullable<Inet>,
        router_id: Option<Uuid> as Nullable<Uuid>,
        qos_policy_id: Option<Uuid> as Nullable<Uuid>,
        status: String as Text,
        dns_name: String as Text,
        dns_domain: String as Text,
        tags: Vec<String> as Array<Text>,
    }
}

fn details_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object).property("name", Name::schema());
    let object = object.property("network_id", Uuid::schema()).property("mac_address", Name::schema());
    let object = object.property("admin_state_up", bool::schema()).property("status", Name::schema());
    let object = object.property("device_id", Name::schema()).property("device_owner", Name::schema());
    nullable(object.into())
}

fn details(port: &PortRow) -> Value {
    json!({"name": port.name, "network_id": port.network_id, "mac_address": port.mac(),
        "admin_state_up": port.admin_state_up, "status": port.status, "device_id": port.device_id,
        "device_owner": port.device_owner})
}

type Attr = Attribute<Item<FloatingIp>>;

impl Plain for FloatingIp {
    /// The port that it is associated with.
    type More = Option<PortRow>;

    const SINGULAR: &'static str = "floatingip";
    const PLURAL: &'static str = "floatingips";
    const KIND: &'static str = "FloatingIP";
    const NOT_FOUND: &'static str = "FloatingIPNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const QUOTA: Option<&'static str> = Some("floatingip");
    const EXTENSIONS: &'static [Extension] =
        &[Extension::stored_only("fip-port-details", "Floating IP Port Details Extension", "Show their ports.")];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<FloatingIp>, floatingips, FloatingIp: id description project);
        all.extend([
            column!(Item<FloatingIp>, floatingips, FloatingIp, floating_network_id: Uuid).required(),
            Attr::shown("floating_ip_address", Ipv4Addr::schema, |ip, out| out.put(&ip.row.floating_ip_address.addr()))
                .about("Chosen by managers and administrators, or else any free one.")
                .post()
                .input(Option::<Ipv4Addr>::schema)
                .filter(|raw| Ok(Box::new(floatingips::floating_ip_address.eq_any(address_values(raw)).nullable())))
                .sort(sort_key!(FloatingIp, floatingips::floating_ip_address, |row| row.floating_ip_address)),
            Attr::hidden("subnet_id", Option::<Uuid>::schema).about("From which the address shall be.").post(),
            Attr::shown("port_id", Option::<Uuid>::schema, |ip, out| out.put(&ip.row.port_id))
                .about("The port that it stands for.")
                .writable()
                .filter(|raw| Ok(Box::new(floatingips::port_id.eq_any(listing::parse_all::<Uuid>(raw))))),
            Attr::shown("fixed_ip_address", Option::<Ipv4Addr>::schema, |ip, out| {
                out.put(&ip.row.fixed_ip_address.map(|address| address.addr()));
            })
            .about("Which of the port's addresses, if it has several.")
            .writable()
            .filter(|raw| Ok(Box::new(floatingips::fixed_ip_address.eq_any(address_values(raw)))))
            .sort(sort_address!(FloatingIp, "floatingips.fixed_ip_address", |row| row.fixed_ip_address)),
            Attr::shown("router_id", Option::<Uuid>::schema, |ip, out| out.put(&ip.row.router_id))
                .about("Through which the port is reached: its subnet's gateway, where several lead there.")
                .filter(|raw| Ok(Box::new(floatingips::router_id.eq_any(listing::parse_all::<Uuid>(raw)))))
                .sort(sort_id!(FloatingIp, "floatingips.router_id", |row| row.router_id)),
            column!(Item<FloatingIp>, floatingips, FloatingIp, status: String as Name)
                .about("DOWN until hosts translate floating IPs."),
            Attr::shown("dns_name", DnsName::schema, |ip, out| out.put(&ip.row.dns_name))
                .about("Stored; nothing is published yet.")
                .post(),
            Attr::shown("dns_domain", DnsDomain::schema, |ip, out| out.put(&ip.row.dns_domain))
                .about("Stored; nothing is published yet.")
                .post(),
            Attr::shown("qos_policy_id", Option::<Uuid>::schema, |ip, out| out.put(&ip.row.qos_policy_id)).writable(),
            Attr::shown("port_forwardings", Vec::<Opaque>::schema, |_, out| out.put(&json!([])))
                .about("Always empty: single ports are not forwarded."),
            Attr::shown("port_details", details_schema, |ip, out| out.put(&ip.more.as_ref().map(details))),
        ]);
        all.extend(standard!(Item<FloatingIp>, floatingips, FloatingIp: revision times tags));
        all
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let address: Option<Ipv4Addr> = fields.optional::<Option<Ipv4Addr>>("floating_ip_address")?.flatten();
        if address.is_some() && !fields.caller.has(Access::Manager) {
            return Err(Fault::forbidden("create_floatingip:floating_ip_address"));
        }
        if address.is_some_and(|address| address.is_unspecified()) {
            return Err(Fault::invalid("floating_ip_address", "'0.0.0.0' is nobody's address"));
        }
        let mut row = Self {
            description: fields.optional::<Name>("description")?.unwrap_or_default().into_string(),
            floating_network_id: fields.required("floating_network_id")?,
            floating_ip_address: address.map_or_else(IpNet::default, |address| IpNet::from(IpAddr::V4(address))),
            subnet_id: fields.optional::<Option<Uuid>>("subnet_id")?.flatten(),
            qos_policy_id: fields.optional::<Option<Uuid>>("qos_policy_id")?.flatten(),
            status: DOWN.to_owned(),
            dns_name: fields.optional::<DnsName>("dns_name")?.unwrap_or_default().into(),
            dns_domain: fields.optional::<DnsDomain>("dns_domain")?.unwrap_or_default().into(),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        };
        row.update_association(fields)?;
        Ok(row)
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("description", &mut self.description)?;
        self.qos_policy_id = fields.patch("qos_policy_id")?.over(self.qos_policy_id);
        self.update_association(fields)
    }

    async fn more(conn: &mut AsyncPgConnection, _: &Context, rows: &[Self]) -> QueryResult<Vec<Option<PortRow>>> {
        use diesel::QueryDsl as _;
        let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.port_id).collect();
        let query = ports::table.filter(ports::id.eq_any(ids)).select(PortRow::as_select());
        let found: Vec<PortRow> = diesel_async::RunQueryDsl::load(query, conn).await?;
        let found: BTreeMap<Uuid, PortRow> = found.into_iter().map(|port| (port.id, port)).collect();
        Ok(rows.iter().map(|row| found.get(&row.port_id?).cloned()).collect())
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        // Routers before networks, all of them: one order of locks.
        for row in &mut *rows {
            row.associate(tx).await?;
        }
        for row in &mut *rows {
            row.take_address(tx).await?;
        }
        qos_use::give_all(tx, rows.iter().filter_map(|row| row.qos_policy_id)).await
    }

    async fn before_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
        let of = |row: &Self| (row.port_id, row.fixed_ip_address, row.router_id);
        if of(new) != of(&old.row) {
            new.associate(tx).await?;
        }
        qos_use::change(tx, old.row.qos_policy_id, new.qos_policy_id).await
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let gone = l3::drop_port(tx.conn, old.row.floating_port_id).await?;
        tx.record("delete", "port", gone.id, None, json!({}));
        Ok(())
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        let (port, fixed) = (row.port_id.unwrap_or_default(), row.fixed_ip_address.unwrap_or_default().addr());
        match constraint {
            "floatingips_once" => {
                let message = format!(
                    "Cannot associate floating IP {} ({}) with port {port} using fixed IP {fixed}, as that fixed IP \
                     already has a floating IP on external network {}.",
                    row.floating_ip_address.addr(),
                    row.id,
                    row.floating_network_id
                );
                Some(Fault::conflict("FloatingIPPortAlreadyAssociated", message))
            }
            "floatingips_port" => Some(no_such_port(port)),
            _ => None,
        }
    }
}

fn no_such_port(port: Uuid) -> Fault {
    Fault::not_found("PortNotFound", format!("Port {port} could not be found."))
}

impl FloatingIp {
    /// Notes what a body says about the port.
    fn update_association(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let fixed = fields.patch::<Ipv4Addr>("fixed_ip_address")?;
        let named = match fixed {
            Patch::Set(address) => Some(IpNet::from(IpAddr::V4(address))),
            Patch::Keep | Patch::Clear => None,
        };
        let before = (self.port_id, self.fixed_ip_address);
        match fields.patch::<Uuid>("port_id")? {
            Patch::Keep if fixed.is_keep() => return Ok(()),
            Patch::Keep => {}
            Patch::Clear => self.port_id = None,
            Patch::Set(port) => self.port_id = Some(port),
        }
        if self.port_id.is_none() && named.is_some() {
            return Err(bad_request("fixed_ip_address cannot be specified without a port_id"));
        }
        // The same address of the same port again: who says what is there already changes nothing.
        let stays = named.is_some() && (self.port_id, named) == before;
        self.router_id = self.router_id.filter(|_| stays);
        self.fixed_ip_address = named;
        Ok(())
    }

    /// Finds the port's address and the router that leads there. Both stay until the end of the transaction.
    async fn associate(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.router_id = None;
        let Some(id) = self.port_id else { return Ok(()) };
        let seen: Option<PortRow> = listing::find(tx.conn, tx.context.view, None, id).await?;
        let seen = seen.ok_or_else(|| no_such_port(id))?;
        if seen.project_id != self.project_id && !tx.context.caller.has(Access::Admin) {
            let message = format!("Port {id} is associated with a different tenant than Floating IP and therefore");
            return Err(bad_request(format!("{message} cannot be bound.")));
        }
        let port = port::complete(tx.conn, vec![seen]).await?;
        let addresses: Vec<_> = port.into_iter().flat_map(|port| port.fixed_ips).collect();
        let chosen = match (self.fixed_ip_address, addresses.as_slice()) {
            (Some(named), held) => {
                let message = || format!("Port {id} does not have fixed ip {}", named.addr());
                held.iter().find(|ip| ip.address == named).ok_or_else(|| bad_request(message()))?
            }
            (None, [one]) => one,
            (None, []) => {
                return Err(bad_request(format!(
                    "Cannot add floating IP to port {id} that has no fixed IPv4 addresses"
                )));
            }
            (None, _) => {
                let message = format!("Port {id} has multiple fixed IPv4 addresses.  Must provide a specific IPv4");
                return Err(bad_request(format!("{message} address when assigning a floating IP")));
            }
        };
        let router = l3::reach(tx.conn, id, chosen.address, self.floating_network_id).await?;
        if router.is_none() {
            let message = format!(
                "External network {} is not reachable from subnet {}.  Therefore, cannot associate Port {id} with a \
                 Floating IP.",
                self.floating_network_id, chosen.subnet_id
            );
            return Err(Fault::not_found("ExternalGatewayForFloatingIPNotFound", message));
        }
        self.fixed_ip_address = Some(chosen.address);
        self.router_id = router;
        Ok(())
    }

    /// Takes an address of the external network: a port of nobody's holds it.
    async fn take_address(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let network = self.floating_network_id;
        if !l3::outside(tx.conn, tx.context.view, network).await?.is_some_and(|(_, external)| external) {
            return Err(bad_request(format!("Network {network} is not a valid external network")));
        }
        let address = match self.floating_ip_address.addr() {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        };
        let subnet = self.subnet_id.map(Into::into);
        let wished = subnet.is_some() || address.is_some();
        let fixed_ips = wished.then(|| vec![FixedIpRequest { subnet, address }]);
        let wish = Wish { project: NOBODY, network, fixed_ips, device: self.id, owner: FLOATING };
        let exhausted = || {
            let message = format!("Unable to find any IP address on external network {network}.");
            Fault::refused(400, "ExternalIpAddressExhausted", message)
        };
        let made = l3::make_port(tx.conn, &mut tx.ledger, wish).await.map_err(|failure| match failure {
            Failure::Port(PortError::Ipam(IpamError::Exhausted(_))) => exhausted(),
            other => other.into(),
        })?;
        let taken = made.fixed_ips.first().ok_or_else(exhausted)?;
        self.floating_port_id = made.row.id;
        self.floating_ip_address = taken.address;
        tx.record("create", "port", made.row.id, None, json!({"network_id": network, "device_owner": FLOATING}));
        Ok(())
    }
}
