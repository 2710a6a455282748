//! Attributes of ports that are stored together: what DHCP tells them, their names, and what is for others to read.

use crate::frame::attribute::{Attribute, Json};
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Opaque, Strict, one_of, plain, shown, words};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::standard::{nullable, text_schema};
use crate::resources::label_policies::{check_labels, shown_labels};
use mizar_db::resources::port::Port;
use mizar_domain::dhcp_option::{self, NAME_MAX, OptionChange, VALUE_MAX};
use mizar_domain::dns::{DnsDomain, DnsName};
use mizar_domain::label_policy::Labels;
use mizar_domain::port_extras::{DataPlaneStatus, NumaPolicy, PortExtras};
use mizar_domain::text::{Name, Text};
use serde_json::{Value, json};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

impl Decode for DnsName {
    fn decode(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| format!("'{}' is not a valid string.", shown(value)))?;
        Self::new(text).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).max_length(Some(254)).pattern(Some("^[A-Za-z0-9.-]*$")).into()
    }
}

impl Decode for NumaPolicy {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of(value, Self::ALL, Self::as_str)
    }

    fn schema() -> RefOr<Schema> {
        words(Self::ALL.map(Self::as_str))
    }
}

impl Decode for DataPlaneStatus {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of(value, Self::ALL, Self::as_str)
    }

    fn schema() -> RefOr<Schema> {
        words(Self::ALL.map(Self::as_str))
    }
}

impl Decode for OptionChange {
    fn decode(value: &Value) -> Result<Self, String> {
        // Some clients send back the id that old Neutrons showed.
        let fields = Strict::of(value, &["id", "opt_name", "opt_value", "ip_version"])?;
        let name: Text<NAME_MAX> = fields.required("opt_name")?;
        let value: Option<Text<VALUE_MAX>> = fields.optional("opt_value")?;
        match fields.optional::<i64>("ip_version")? {
            None | Some(4) => {}
            Some(6) => return Err("ip_version 6: the data plane does not carry IPv6 yet".into()),
            Some(other) => return Err(format!("ip_version: '{other}' is not in [4, 6]")),
        }
        Ok(Self { name: name.into_string(), value: value.map(Text::into_string) })
    }

    fn schema() -> RefOr<Schema> {
        let name = plain(Type::String).min_length(Some(1)).max_length(Some(NAME_MAX)).examples(["bootfile-name", "67"]);
        let value = plain(Type::String).max_length(Some(VALUE_MAX)).examples(["pxelinux.0"]);
        let version = plain(Type::Integer).enum_values(Some([4]));
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object
            .property("opt_name", name)
            .property("opt_value", nullable(value.into()))
            .property("ip_version", version)
            .required("opt_name")
            .into()
    }
}

fn options_input() -> RefOr<Schema> {
    Option::<Vec<OptionChange>>::schema()
}

fn options_schema() -> RefOr<Schema> {
    Array::new(OptionChange::schema()).into()
}

fn put_options(port: &Port, out: &mut Json) {
    let options = port.row.extras.0.dhcp_options.iter();
    let shown = options.map(|o| json!({"opt_name": o.name(), "opt_value": o.value(), "ip_version": 4}));
    out.put(&shown.collect::<Vec<_>>());
}

fn assignment_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    let names = ["ip_address", "hostname", "fqdn"];
    Array::new(names.into_iter().fold(object, |object, name| object.property(name, text_schema()).required(name)))
        .into()
}

fn put_assignment(port: &Port, out: &mut Json) {
    let extras = &port.row.extras.0;
    let domain = extras.domain(&port.network_domain);
    let assigned = port.fixed_ips.iter().map(|ip| {
        let address = ip.address.addr();
        let (hostname, fqdn) = extras.dns_name.assigned(domain, address);
        json!({"ip_address": address, "hostname": hostname, "fqdn": fqdn})
    });
    out.put(&assigned.collect::<Vec<_>>());
}

type Attr = Attribute<Port>;

pub(super) fn attributes() -> Vec<Attr> {
    vec![
        Attr::shown("extra_dhcp_opts", options_schema, put_options)
            .about(
                "What DHCP tells the port beside what its subnet says, or instead: by name or number. An update \
                 changes the options that it names; null takes one away.",
            )
            .writable()
            .input(options_input),
        Attr::shown("dns_name", DnsName::schema, |p, out| out.put(&p.row.extras.0.dns_name.as_str()))
            .about("DHCP tells it to the port; nothing is published yet.")
            .writable(),
        Attr::shown("dns_domain", DnsDomain::schema, |p, out| {
            out.put(&p.row.extras.0.dns_domain.as_str());
        })
        .about("DHCP tells it to the port; nothing is published yet.")
        .writable(),
        Attr::shown("dns_assignment", assignment_schema, put_assignment)
            .about("In the domain of the port, else of its network, else openstacklocal."),
        Attr::shown("propagate_uplink_status", bool::schema, |p, out| out.put(&p.row.extras.0.propagate_uplink_status))
            .about("Stored; it means something for hardware interfaces only.")
            .writable(),
        Attr::shown("device_profile", Option::<Name>::schema, |p, out| out.put(&p.row.extras.0.device_profile))
            .about("For Nova to read.")
            .post(),
        Attr::shown("numa_affinity_policy", Option::<NumaPolicy>::schema, |p, out| {
            out.put(&p.row.extras.0.numa_affinity_policy);
        })
        .about("For Nova to read.")
        .writable(),
        Attr::shown("data_plane_status", Option::<DataPlaneStatus>::schema, |p, out| {
            out.put(&p.row.extras.0.data_plane_status);
        })
        .about("What others see of the port; we say what we see in its status.")
        .put_by(Access::Privileged),
        Attr::shown("hints", Option::<Opaque>::schema, |p, out| out.put(&p.row.extras.0.hints))
            .about("Stored; this back end takes none.")
            .writable()
            .sent_by(Access::Admin)
            .seen_by(Access::Admin),
        Attr::shown("trusted", Option::<bool>::schema, |p, out| out.put(&p.row.extras.0.trusted))
            .about("Stored; it means something for hardware interfaces only.")
            .writable()
            .sent_by(Access::Admin)
            .seen_by(Access::Admin),
        Attr::shown("mizar:labels", Option::<Labels>::schema, |p, out| {
            out.put(&shown_labels(p.row.extras.0.labels.as_ref()));
        })
        .about("By what the label policies of its project select and name the port; null: they do not.")
        .writable(),
    ]
}

/// What a request makes of them.
pub(super) fn decode(fields: &mut Fields<'_>, old: &PortExtras) -> Result<PortExtras, Fault> {
    let mut new = old.clone();
    if let Some(changes) = fields.optional::<Option<Vec<OptionChange>>>("extra_dhcp_opts")?.flatten() {
        let changed = dhcp_option::change(new.dhcp_options, changes);
        new.dhcp_options = changed.map_err(|error| Fault::invalid("extra_dhcp_opts", error))?;
    }
    if let Some(name) = fields.optional("dns_name")? {
        new.dns_name = name;
    }
    if let Some(domain) = fields.optional("dns_domain")? {
        new.dns_domain = domain;
    }
    if let Some(propagates) = fields.optional("propagate_uplink_status")? {
        new.propagate_uplink_status = propagates;
    }
    new.device_profile = fields.patch::<Name>("device_profile")?.map(Name::into_string).over(new.device_profile);
    new.numa_affinity_policy = fields.patch("numa_affinity_policy")?.over(new.numa_affinity_policy);
    new.data_plane_status = fields.patch("data_plane_status")?.over(new.data_plane_status);
    new.hints = fields.patch::<Opaque>("hints")?.map(|hints| hints.0).over(new.hints);
    new.trusted = fields.patch::<bool>("trusted")?.over(new.trusted);
    new.labels = fields.patch("mizar:labels")?.over(new.labels);
    if let Some(labels) = new.labels.as_ref().filter(|labels| old.labels.as_ref() != Some(*labels)) {
        check_labels(labels)?;
    }
    Ok(new)
}
