//! Hosts in the shape of Neutron's agents: what tools that watch a cloud ask for. There is one
//! agent a host; what operators may change of it is with the hosts, `/v2.0/mizar/hosts`.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Opaque};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::{any_flag, flag_values};
use crate::frame::resource::{Context, Operations, Resource, Tx};
use crate::frame::standard::{nullable, text_schema, time, time_schema};
use diesel::sql_types::Bool;
use diesel::{IntoSql as _, NullableExpressionMethods as _, QueryResult};
use diesel_async::AsyncPgConnection;
use mizar_db::listing::Predicate;
use mizar_db::resources::host::{self, Host, HostRow, RoleCounts};
use mizar_db::schema::hosts;
use mizar_db::{one_of, sort_key, sort_same};
use mizar_domain::patch::Patch;
use mizar_domain::text::Name;
use serde_json::{Value, json};
use std::sync::LazyLock;
use uuid::Uuid;

/// A host's agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    host: Host,
    roles: RoleCounts,
}

const TYPE: &str = "Mizar agent";
const BINARY: &str = "mizar-agent";
/// Of a message queue; there is none.
const TOPIC: &str = "N/A";

type Attr = Attribute<Agent>;
type Term = Predicate<hosts::table>;

/// A filter on what is the same of all.
fn same(fits: bool) -> Result<Term, String> {
    Ok(Box::new(fits.into_sql::<Bool>().nullable()))
}

fn configurations(agent: &Agent) -> Value {
    let Agent { host, roles } = agent;
    json!({
        "transit": host.row.transit,
        "weight": host.row.weight,
        "transit_hook": host.row.transit_hook,
        "bouncers": roles.bouncers,
        "dividers": roles.dividers,
        "ports": host.ports,
        "rack": host.row.rack,
        "underlay": host.row.underlay.addr(),
        "mtu": host.row.mtu,
        "version": host.row.version,
    })
}

fn attributes() -> Vec<Attr> {
    vec![
        Attr::shown("id", Uuid::schema, |a, out| out.put(&a.host.row.id))
            .filter(one_of!(hosts::id: Uuid))
            .sort(sort_key!(HostRow, hosts::id, |row| row.id)),
        Attr::shown("agent_type", text_schema, |_, out| out.put(TYPE))
            .filter(|raw| same(raw.iter().any(|v| v == TYPE)))
            .sort(sort_same!(HostRow)),
        Attr::shown("binary", text_schema, |_, out| out.put(BINARY))
            .filter(|raw| same(raw.iter().any(|v| v == BINARY)))
            .sort(sort_same!(HostRow)),
        Attr::shown("topic", text_schema, |_, out| out.put(TOPIC))
            .filter(|raw| same(raw.iter().any(|v| v == TOPIC)))
            .sort(sort_same!(HostRow)),
        Attr::shown("host", text_schema, |a, out| out.put(&a.host.row.name))
            .filter(one_of!(hosts::name: String))
            .sort(sort_key!(HostRow, hosts::name, |row| row.name.clone())),
        Attr::shown("availability_zone", text_schema, |a, out| out.put(&a.host.row.az))
            .filter(one_of!(hosts::az: String)),
        Attr::shown("admin_state_up", bool::schema, |_, out| out.put(&true))
            .about("Always true: what a host does for others is its label transit.")
            .put()
            .filter(|raw| same(flag_values(raw)?.contains(&true)))
            .sort(sort_same!(HostRow)),
        Attr::shown("alive", bool::schema, |a, out| out.put(&a.host.alive))
            .about("It was heard of within the lease.")
            .filter_in(|context, raw| any_flag(raw, |flag| host::alive(context.settings.lease, flag))),
        Attr::shown(
            "heartbeat_timestamp",
            || nullable(time_schema()),
            |a, out| out.put(&a.host.state.as_ref().map(|state| time(state.seen_at))),
        )
        .about("When it was last heard of."),
        Attr::shown(
            "started_at",
            || nullable(time_schema()),
            |a, out| out.put(&a.host.state.as_ref().map(|state| time(state.started_at))),
        )
        .about("When it registered after its host's last boot."),
        Attr::shown("created_at", time_schema, |a, out| out.put(&time(a.host.row.created_at))).sort(sort_key!(
            HostRow,
            hosts::created_at,
            |row| row.created_at
        )),
        Attr::shown("configurations", Opaque::schema, |a, out| out.put(&configurations(a)))
            .about("What its host does: how many shards it bounces, networks it divides, ports it has."),
        Attr::shown("description", Option::<Name>::schema, |a, out| {
            out.put(&Some(&a.host.row.description).filter(|text| !text.is_empty()))
        })
        .put()
        .filter(one_of!(hosts::description: String))
        .sort(sort_key!(HostRow, hosts::description, |row| row.description.clone())),
        Attr::shown("resources_synced", Option::<bool>::schema, |_, out| out.put(&Value::Null))
            .about("Always null: nothing is reported to a placement service."),
    ]
}

impl Resource for Agent {
    type Row = HostRow;
    /// Hosts come by registration.
    type Create = std::convert::Infallible;
    /// The new description; none: as it is.
    type Update = Option<String>;
    type Held = ();

    const SINGULAR: &'static str = "agent";
    const PLURAL: &'static str = "agents";
    const KIND: &'static str = "Agent";
    const NOT_FOUND: &'static str = "AgentNotFound";
    const TABLE: &'static str = "hosts";
    const EXTENSIONS: &'static [Extension] = &[Extension::new("agent", "agent", "Hosts as agents.")];
    const OPERATIONS: Operations = Operations {
        read: Access::Admin,
        create: None,
        update: Some(Access::Admin),
        delete: Some(Access::Admin),
        service: false,
        tags: false,
    };

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<Agent>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &HostRow {
        &self.host.row
    }

    fn decode_create(_: &mut Fields<'_>) -> Result<Self::Create, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn decode_update(fields: &mut Fields<'_>, _: &Self) -> Result<Option<String>, Fault> {
        let reason = "an agent cannot be put down; to take transit roles from its host set transit of \
                      /v2.0/mizar/hosts to no";
        fields.only("admin_state_up", &[json!(true)], reason)?;
        Ok(match fields.patch::<Name>("description")? {
            Patch::Keep => None,
            Patch::Clear => Some(String::new()),
            Patch::Set(text) => Some(text.into_string()),
        })
    }

    async fn complete(conn: &mut AsyncPgConnection, context: &Context, rows: Vec<HostRow>) -> QueryResult<Vec<Self>> {
        let hosts = host::complete(conn, context.settings.lease, rows).await?;
        let numbers: Vec<i32> = hosts.iter().map(|host| host.row.number).collect();
        let mut roles = host::role_counts(conn, &numbers).await?;
        let with_roles = |host: Host| Self { roles: roles.remove(&host.row.number).unwrap_or_default(), host };
        Ok(hosts.into_iter().map(with_roles).collect())
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<()>, Fault> {
        Ok(host::lock(conn, id).await?)
    }

    async fn create(_: &mut Tx<'_>, _: &[Self::Create]) -> Result<Vec<Self>, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn update(tx: &mut Tx<'_>, (): (), mut old: Self, description: &Option<String>) -> Result<Self, Fault> {
        if let Some(description) = description {
            old.host.row = host::describe(tx.conn, old.host.row.id, description).await?;
        }
        Ok(old)
    }

    /// A host's number is never given to another one, so its row stays; what it did is given to
    /// others when it is silent, without anybody's help.
    async fn delete(_: &mut Tx<'_>, (): (), old: Self) -> Result<(), Fault> {
        let (id, name) = (old.host.row.id, &old.host.row.name);
        let message = if old.host.alive {
            format!("Agent {id} of host {name} is alive.")
        } else {
            format!(
                "Agent {id} stays known with its host {name}, whose number no other host may get. Its roles move away \
                 by themselves; believe_gone_s of /v2.0/mizar/hosts hastens that."
            )
        };
        Err(Fault::conflict("AgentInUse", message))
    }
}
