//! Routers: between subnets, and to an external network.
//!
//! Interfaces and gateways are ports. A command holds the router's row, so that what is checked
//! about all its interfaces together (they do not overlap; next hops are on them) stays true.

use super::l3::{DOWN, bad_request, shown, wished, wishes};
use super::qos_use;
use super::router_actions::{add_interface, add_routes, remove_interface, remove_routes};
use crate::frame::action::{Action, Answer, Input};
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Strict, first_repeated};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::{Operations, Tx};
use crate::frame::standard::{ids_schema, nullable, project_schema};
use crate::{column, flag, standard, stored};
use ipnet::IpNet;
use mizar_db::resources::host;
use mizar_db::resources::l3::{self, GATEWAY, Link, NOBODY, Wish};
use mizar_domain::ipam::FixedIpRequest;
use mizar_domain::model::HostRoute;
use mizar_domain::patch::Patch;
use mizar_domain::port::UpdatePort;
use mizar_domain::text::{Name, Tags, Text};
use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A router. While a command runs, `gateway_ips` holds what was asked for: null is automatic.
    pub struct Router in routers: owned {
        name: String as Text,
        description: String as Text,
        admin_state_up: bool as Bool,
        status: String as Text,
        gateway_network_id: Option<Uuid> as Nullable<Uuid>,
        gateway_port_id: Option<Uuid> as Nullable<Uuid>,
        gateway_ips: serde_json::Value as Jsonb,
        gateway_qos_policy_id: Option<Uuid> as Nullable<Uuid>,
        enable_snat: bool as Bool,
        routes: serde_json::Value as Jsonb,
        availability_zone_hints: Vec<String> as Array<Text>,
        tags: Vec<String> as Array<Text>,
    }
}

/// `external_gateway_info`; `{}` is none.
struct GatewayInfo(Option<Outside>);

/// Where a router's packets leave the cloud.
struct Outside {
    network: Uuid,
    snat: Option<bool>,
    addresses: Option<Vec<FixedIpRequest>>,
    qos_policy: Patch<Uuid>,
}

impl Decode for GatewayInfo {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = Strict::of(value, &["network_id", "enable_snat", "external_fixed_ips", "qos_policy_id"])?;
        if value.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(Self(None));
        }
        Ok(Self(Some(Outside {
            network: fields.required("network_id")?,
            snat: fields.optional("enable_snat")?,
            addresses: fields.optional("external_fixed_ips")?,
            qos_policy: match value.get("qos_policy_id") {
                None => Patch::Keep,
                Some(Value::Null) => Patch::Clear,
                Some(id) => Patch::Set(Uuid::decode(id).map_err(|reason| format!("qos_policy_id: {reason}"))?),
            },
        })))
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object).property("network_id", Uuid::schema());
        object
            .property("enable_snat", bool::schema())
            .property("external_fixed_ips", Vec::<FixedIpRequest>::schema())
            .property("qos_policy_id", Option::<Uuid>::schema())
            .into()
    }
}

/// `routes`: each destination and next hop once.
pub(super) struct Routes(pub Vec<HostRoute>);

impl Decode for Routes {
    fn decode(value: &Value) -> Result<Self, String> {
        let routes = Vec::<HostRoute>::decode(value)?;
        match first_repeated(&routes) {
            Some(twice) => Err(format!("Duplicate hostroute '{} via {}'", twice.destination, twice.nexthop)),
            None => Ok(Self(routes)),
        }
    }

    fn schema() -> RefOr<Schema> {
        Vec::<HostRoute>::schema()
    }
}

/// Routes, as their column holds them.
pub(super) fn column_of(routes: &[HostRoute]) -> Value {
    routes.iter().map(|route| json!({"destination": route.destination, "nexthop": route.nexthop})).collect()
}

/// The reverse.
pub(super) fn routes_of(row: &Router) -> Result<Vec<HostRoute>, Fault> {
    Vec::decode(&row.routes).map_err(|reason| Fault::internal(format!("routes cannot be read: {reason}")))
}

fn words_schema() -> RefOr<Schema> {
    Vec::<Text<255>>::schema()
}

fn put_gateway(router: &Item<Router>, out: &mut crate::frame::attribute::Json) {
    let row = &router.row;
    let info = row.gateway_network_id.map(|network| {
        json!({"network_id": network, "enable_snat": row.enable_snat, "external_fixed_ips": row.gateway_ips,
            "qos_policy_id": row.gateway_qos_policy_id})
    });
    out.put(&info);
}

/// What both actions on interfaces answer.
fn interface_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object).property("id", Uuid::schema());
    let object = object.property("project_id", project_schema()).property("tenant_id", project_schema());
    let object = object.property("port_id", Uuid::schema()).property("network_id", Uuid::schema());
    object.property("subnet_id", Uuid::schema()).property("subnet_ids", ids_schema()).into()
}

type Attr = Attribute<Item<Router>>;

const EXTENSIONS: &[Extension] = &[
    Extension::stored_only("router", "Neutron L3 Router", "Routers and floating IPs."),
    Extension::stored_only("ext-gw-mode", "Neutron L3 Configurable external gateway mode", "SNAT may be switched off."),
    Extension::stored_only("qos-gateway-ip", "Gateway IP QoS", "Gateways of routers have policies."),
    Extension::stored_only("extraroute", "Neutron Extra Route", "Routers have routes of their own."),
    Extension::stored_only("extraroute-atomic", "Atomically add/remove extra routes", "Routes come and go one by one."),
    Extension::stored_only("router_availability_zone", "Router Availability Zone", "Routers name zones."),
];

impl Plain for Router {
    type More = ();

    const SINGULAR: &'static str = "router";
    const PLURAL: &'static str = "routers";
    const KIND: &'static str = "Router";
    const NOT_FOUND: &'static str = "RouterNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const QUOTA: Option<&'static str> = Some("router");
    const EXTENSIONS: &'static [Extension] = EXTENSIONS;

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<Router>, routers, Router: id name description project);
        all.extend([
            column!(Item<Router>, routers, Router, admin_state_up: bool, unsorted)
                .writable()
                .filter(flag!(routers::admin_state_up))
                .sort(mizar_db::sort_key!(Router, routers::admin_state_up, |row| row.admin_state_up)),
            column!(Item<Router>, routers, Router, status: String as Name)
                .about("DOWN until hosts forward for routers."),
            Attr::shown("external_gateway_info", || nullable(GatewayInfo::schema()), put_gateway)
                .about("Only administrators choose enable_snat and addresses.")
                .writable(),
            Attr::shown("routes", Routes::schema, |router, out| out.put(&router.row.routes)).put(),
            Attr::shown("availability_zone_hints", words_schema, |router, out| {
                out.put(&router.row.availability_zone_hints);
            })
            .post(),
            Attr::shown("availability_zones", words_schema, |_, out| out.put::<[Value]>(&[])),
        ]);
        all.extend(standard!(Item<Router>, routers, Router: revision times tags));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        let by = || vec![Input::optional::<Uuid>("subnet_id"), Input::optional::<Uuid>("port_id")];
        let routes = || vec![Input::required::<Routes>("routes")];
        let interface = Answer::Body(interface_schema);
        vec![
            Action {
                inputs: by(),
                answer: interface,
                ..Action::put("add_router_interface", "Put a router on a subnet", add_interface)
            },
            Action {
                inputs: by(),
                answer: interface,
                ..Action::put("remove_router_interface", "Take a router from a subnet", remove_interface)
            },
            Action {
                inputs: routes(),
                envelope: Some("router"),
                ..Action::put("add_extraroutes", "Add routes that a router does not have", add_routes)
            },
            Action {
                inputs: routes(),
                envelope: Some("router"),
                ..Action::put("remove_extraroutes", "Remove routes that a router has", remove_routes)
            },
        ]
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let hints: Vec<Text<255>> = fields.optional("availability_zone_hints")?.unwrap_or_default();
        let mut row = Self {
            name: fields.optional::<Name>("name")?.unwrap_or_default().into_string(),
            description: fields.optional::<Name>("description")?.unwrap_or_default().into_string(),
            admin_state_up: fields.optional("admin_state_up")?.unwrap_or(true),
            status: DOWN.to_owned(),
            gateway_ips: json!([]),
            enable_snat: true,
            routes: json!([]),
            availability_zone_hints: hints.into_iter().map(Text::into_string).collect(),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        };
        row.wish_gateway(fields, "create")?;
        Ok(row)
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)?;
        fields.over("description", &mut self.description)?;
        self.admin_state_up = fields.optional("admin_state_up")?.unwrap_or(self.admin_state_up);
        // Clients clear routes by null too.
        match fields.patch::<Routes>("routes")? {
            Patch::Keep => {}
            Patch::Clear => self.routes = json!([]),
            Patch::Set(Routes(routes)) => self.routes = column_of(&routes),
        }
        self.wish_gateway(fields, "update")
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        let known = host::zone_names(tx.conn).await?;
        for row in &mut *rows {
            if let Some(zone) = row.availability_zone_hints.iter().find(|zone| !known.contains(zone)) {
                let message = format!("AvailabilityZone {zone} could not be found.");
                return Err(Fault::not_found("AvailabilityZoneNotFound", message));
            }
            row.move_gateway(tx, None, &[]).await?;
        }
        qos_use::give_all(tx, rows.iter().filter_map(|row| row.gateway_qos_policy_id)).await
    }

    async fn before_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
        let ports = l3::interfaces(tx.conn, new.id).await?;
        let mut links = l3::links(tx.conn, &ports).await?;
        let moved = new.move_gateway(tx, Some(&old.row), &links).await?;
        if moved || new.routes != old.row.routes {
            links.extend(l3::links(tx.conn, new.gateway_port_id.as_slice()).await?);
            check_routes(new, &links)?;
        }
        charge_routes(tx, &old.row, new);
        // With the gateway its policy goes too, whoever gave it.
        if new.gateway_network_id.is_some() {
            qos_use::change(tx, old.row.gateway_qos_policy_id, new.gateway_qos_policy_id).await?;
        }
        Ok(())
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let row = &old.row;
        if !l3::interfaces(tx.conn, row.id).await?.is_empty() {
            return Err(Fault::conflict("RouterInUse", format!("Router {} still has ports", row.id)));
        }
        if let Some(port) = row.gateway_port_id {
            let gone = l3::drop_port(tx.conn, port).await?;
            tx.record("delete", "port", gone.id, None, json!({}));
        }
        charge_routes(tx, row, &Self { routes: json!([]), ..row.clone() });
        Ok(())
    }
}

impl Router {
    /// Notes what a body says about the gateway.
    fn wish_gateway(&mut self, fields: &mut Fields<'_>, verb: &str) -> Result<(), Fault> {
        let outside = match fields.patch::<GatewayInfo>("external_gateway_info")? {
            Patch::Keep => return Ok(()),
            Patch::Clear => None,
            Patch::Set(GatewayInfo(outside)) => outside,
        };
        let Some(Outside { network, snat, addresses, qos_policy }) = outside else {
            (self.gateway_network_id, self.gateway_ips, self.enable_snat) = (None, json!([]), true);
            self.gateway_qos_policy_id = None;
            return Ok(());
        };
        for (sent, what) in [(snat.is_some(), "enable_snat"), (addresses.is_some(), "external_fixed_ips")] {
            if sent && !fields.caller.has(Access::Admin) {
                return Err(Fault::forbidden(format!("{verb}_router:external_gateway_info:{what}")));
            }
        }
        let same = self.gateway_network_id.replace(network) == Some(network);
        self.enable_snat = snat.unwrap_or(true);
        self.gateway_qos_policy_id = qos_policy.over(self.gateway_qos_policy_id.filter(|_| same));
        match addresses {
            Some(addresses) => self.gateway_ips = wished(&addresses),
            None if same => {}
            None => self.gateway_ips = Value::Null,
        }
        Ok(())
    }

    /// Makes, changes and deletes the gateway's port as the row wishes; whether there was something to do.
    async fn move_gateway(&mut self, tx: &mut Tx<'_>, old: Option<&Self>, links: &[Link]) -> Result<bool, Fault> {
        let was = old.and_then(|old| old.gateway_network_id.zip(old.gateway_port_id));
        let wish = self.gateway_network_id;
        if was.map(|(network, _)| network) == wish && old.is_none_or(|old| old.gateway_ips == self.gateway_ips) {
            return Ok(false);
        }
        let mut port = None;
        if let Some((network, held)) = was {
            if wish == Some(network) {
                port = Some(held);
            } else if l3::has_floating(tx.conn, self.id, None).await? {
                let message = format!(
                    "Gateway cannot be updated for router {}, since a gateway to external network {network} is \
                     required by one or more floating IPs.",
                    self.id
                );
                return Err(Fault::conflict("RouterExternalGatewayInUseByFloatingIp", message));
            } else {
                let gone = l3::drop_port(tx.conn, held).await?;
                tx.record("delete", "port", gone.id, None, json!({}));
                self.gateway_port_id = None;
            }
        }
        let Some(network) = wish else { return Ok(true) };
        match l3::outside(tx.conn, tx.context.view, network).await? {
            None => {
                return Err(Fault::not_found("NetworkNotFound", format!("Network {network} could not be found.")));
            }
            Some((_, false)) => return Err(bad_request(format!("Network {network} is not an external network"))),
            Some((_, true)) => {}
        }
        let fixed_ips = if self.gateway_ips.is_null() { None } else { Some(wishes(&self.gateway_ips)?) };
        let made = match port {
            Some(port) => l3::change_port(tx.conn, port, &UpdatePort { fixed_ips, ..UpdatePort::default() }).await?,
            None => {
                let wish = Wish { project: NOBODY, network, fixed_ips, device: self.id, owner: GATEWAY };
                let made = l3::make_port(tx.conn, &mut tx.ledger, wish).await?;
                tx.record("create", "port", made.row.id, None, json!({"network_id": network, "device_owner": GATEWAY}));
                made
            }
        };
        self.gateway_port_id = Some(made.row.id);
        self.gateway_ips = shown(&made.fixed_ips);
        for link in l3::links(tx.conn, &[made.row.id]).await? {
            refuse_overlap(links, link.subnet, link.cidr)?;
        }
        Ok(true)
    }
}

/// A packet's address decides over the interface that it leaves by: one alone may lead there.
pub(super) fn refuse_overlap(links: &[Link], subnet: Uuid, cidr: IpNet) -> Result<(), Fault> {
    for link in links {
        if link.subnet == subnet {
            return Err(bad_request(format!("Router already has a port on subnet {subnet}")));
        }
        if link.cidr.contains(&cidr.network()) || cidr.contains(&link.cidr.network()) {
            let (other, range) = (link.subnet, link.cidr);
            let message = format!("Cidr {cidr} of subnet {subnet} overlaps with cidr {range} of subnet {other}");
            return Err(bad_request(message));
        }
    }
    Ok(())
}

fn invalid_routes(routes: &Value, reason: &str) -> Fault {
    let shown = crate::frame::decode::shown(routes);
    Fault::refused(400, "InvalidRoutes", format!("Invalid format for routes: {shown}, {reason}"))
}

/// Next hops are neighbours of the router, and not itself.
pub(super) fn check_routes(row: &Router, links: &[Link]) -> Result<(), Fault> {
    for route in routes_of(row)? {
        let on = |link: &Link| link.cidr.contains(&route.nexthop);
        if !links.iter().any(on) {
            return Err(invalid_routes(&row.routes, "the nexthop is not connected with router"));
        }
        if links.iter().any(|link| link.address.addr() == route.nexthop) {
            return Err(invalid_routes(&row.routes, "the nexthop is used by router"));
        }
    }
    Ok(())
}

/// Routes count against a quota of their own.
pub(super) fn charge_routes(tx: &mut Tx<'_>, old: &Router, new: &Router) {
    let count = |row: &Router| row.routes.as_array().map_or(0, Vec::len) as i64;
    let more = count(new) - count(old);
    if more != 0 {
        tx.charge(new.project_id, "router_route", more);
    }
}
