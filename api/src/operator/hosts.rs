//! Hosts: where they are, what they may be used for, whether they live. Agents register them and
//! say where they are; operators say what they are for.

use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Opaque, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::query::any_flag;
use crate::frame::resource::{Above, Context, Operations, Resource, Tx};
use crate::frame::standard::{nullable, text_schema, time, time_schema};
use diesel::QueryResult;
use diesel::sql_types::Text;
use diesel_async::AsyncPgConnection;
use mizar_db::feed::lag;
use mizar_db::listing;
use mizar_db::resources::host::{self, Host, HostRow, Labels};
use mizar_db::schema::hosts;
use mizar_db::{one_of, sort_by, sort_key};
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::openapi::schema::{Array, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// Whether and how gladly a host takes transit roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit(&'static str);

impl Transit {
    const ALL: [&'static str; 3] = ["yes", "no", "prefer"];
}

impl Decode for Transit {
    fn decode(value: &Value) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|word| value.as_str() == Some(word));
        known.map(Self).ok_or_else(|| format!("'{}' is not in {:?}", shown(value), Self::ALL))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).enum_values(Some(Self::ALL)).into()
    }
}

/// A share of the load, 1 to 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(i32);

impl Decode for Weight {
    fn decode(value: &Value) -> Result<Self, String> {
        match i64::decode(value)? {
            weight @ 1..=1000 => Ok(Self(weight as i32)),
            other => Err(format!("'{other}' is not between 1 and 1000")),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(1)).maximum(Some(1000)).into()
    }
}

/// Seconds, at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForSeconds(i32);

impl Decode for ForSeconds {
    fn decode(value: &Value) -> Result<Self, String> {
        match i64::decode(value)? {
            seconds @ 0..=86_400 => Ok(Self(seconds as i32)),
            other => Err(format!("'{other}' is not between 0 and 86400")),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(0)).maximum(Some(86_400)).into()
    }
}

/// The same in a query.
fn seconds(text: &str) -> Result<i32, String> {
    ForSeconds::decode(&text.into()).map(|ForSeconds(seconds)| seconds)
}

/// The host of a path, by name or id, as it is now.
pub async fn found(conn: &mut AsyncPgConnection, context: &Context, raw: &str) -> Result<Host, Fault> {
    let missing = || Host::missing(raw);
    let id = host::resolve(conn, raw).await?.ok_or_else(missing)?;
    let row: HostRow = listing::find(conn, context.view, None, id).await?.ok_or_else(missing)?;
    let mut hosts = Host::complete(conn, context, vec![row]).await?;
    hosts.pop().ok_or_else(missing)
}

type Attr = Attribute<Host>;

fn attributes() -> Vec<Attr> {
    vec![
        Attr::shown("id", Uuid::schema, |h, out| out.put(&h.row.id)).filter(one_of!(hosts::id: Uuid)).sort(sort_key!(
            HostRow,
            hosts::id,
            |row| row.id
        )),
        Attr::shown("name", text_schema, |h, out| out.put(&h.row.name))
            .about("What binding:host_id names.")
            .filter(one_of!(hosts::name: String))
            .sort(sort_key!(HostRow, hosts::name, |row| row.name.clone())),
        Attr::shown("number", i64::schema, |h, out| out.put(&h.row.number)),
        Attr::shown("underlay", text_schema, |h, out| out.put(&h.row.underlay.addr())),
        Attr::shown("mtu", u32::schema, |h, out| out.put(&h.row.mtu)),
        Attr::shown("az", text_schema, |h, out| out.put(&h.row.az))
            .about("Availability zone, as its agent says.")
            .filter(one_of!(hosts::az: String))
            .sort(sort_by!(HostRow, "hosts.az COLLATE \"C\"" => Text, |row| row.az.clone())),
        Attr::shown("rack", text_schema, |h, out| out.put(&h.row.rack))
            .about("As its agent says.")
            .filter(one_of!(hosts::rack: String))
            .sort(sort_by!(HostRow, "hosts.rack COLLATE \"C\"" => Text, |row| row.rack.clone())),
        Attr::shown("transit", Transit::schema, |h, out| out.put(&h.row.transit))
            .about("Whether it bounces and divides for others.")
            .put()
            .filter(one_of!(hosts::transit: String)),
        Attr::shown("weight", Weight::schema, |h, out| out.put(&h.row.weight)).put(),
        Attr::shown("transit_hook", text_schema, |h, out| out.put(&h.row.transit_hook)),
        Attr::shown("version", text_schema, |h, out| out.put(&h.row.version)),
        Attr::shown("abi", i64::schema, |h, out| out.put(&h.row.abi)),
        Attr::shown("alive", bool::schema, |h, out| out.put(&h.alive))
            .about("Its agent was heard of within the lease.")
            .filter_in(|context, raw| any_flag(raw, |flag| host::alive(context.settings.lease, flag))),
        Attr::shown(
            "seen_at",
            || nullable(time_schema()),
            |h, out| out.put(&h.state.as_ref().map(|s| time(s.seen_at))),
        )
        .about("When its agent was last heard of.")
        .sort(host::BY_HEARD),
        Attr::shown("silent_s", Option::<i64>::schema, |h, out| out.put(&h.silent_s()))
            .about("Seconds since its agent was last heard of."),
        Attr::shown("pending_entries", Option::<i64>::schema, |h, out| out.put(&h.lag.map(|lag| lag.entries))).about(
            "Entries written for it that its agent has not acknowledged, at most 10000; null while it is silent.",
        ),
        Attr::shown("oldest_pending_s", Option::<i64>::schema, |h, out| {
            out.put(&h.lag.filter(|lag| lag.entries > 0).map(|lag| lag.oldest.as_secs()))
        })
        .about("Since when the oldest of them waits."),
        Attr::hidden("behind_s", ForSeconds::schema)
            .about("Only hosts that live and lack an entry for so many seconds, or longer.")
            .filter_in(|context, raw| {
                let seconds: Vec<i32> = raw.iter().map(|text| seconds(text)).collect::<Result<_, _>>()?;
                Ok(lag::behind_for(context.settings.lease, seconds.into_iter().min().unwrap_or_default()))
            }),
        Attr::shown(
            "failures",
            || Array::new(Opaque::schema()).into(),
            |h, out| match &h.state {
                Some(state) => out.put(&state.failures),
                None => out.put::<[Value]>(&[]),
            },
        )
        .about("Entries that its agent could not apply."),
        Attr::hidden("failing", bool::schema)
            .about("Only hosts that have failures, or only those that have none.")
            .filter(|raw| any_flag(raw, host::failing)),
        Attr::shown("shrink_until", || nullable(time_schema()), |h, out| out.put(&h.row.shrink_until.map(time)))
            .about("Until then its agent may drop over half of its ports at once."),
        Attr::hidden("allow_shrink_s", ForSeconds::schema)
            .about("Sets shrink_until to so many seconds from now; 0 takes it back.")
            .put(),
        Attr::shown("lost_since", || nullable(time_schema()), |h, out| out.put(&h.row.lost_since.map(time)))
            .about("Since when its roles are replaced and its ports down; until it is heard of again."),
        Attr::shown("gone_until", || nullable(time_schema()), |h, out| out.put(&h.row.gone_until.map(time)))
            .about("Until then an operator vouches: if it is silent it is lost, however many others are."),
        Attr::hidden("believe_gone_s", ForSeconds::schema)
            .about("Sets gone_until to so many seconds from now; 0 takes it back. Says nothing of a host that lives.")
            .put(),
        Attr::shown("ports", i64::schema, |h, out| out.put(&h.ports)).about("Ports bound to it."),
        Attr::shown("created_at", time_schema, |h, out| out.put(&time(h.row.created_at))),
        Attr::shown("updated_at", time_schema, |h, out| out.put(&time(h.row.updated_at))),
        Attr::shown("revision_number", i64::schema, |h, out| out.put(&h.row.revision_number)),
    ]
}

impl Resource for Host {
    type Row = HostRow;
    /// Agents make hosts.
    type Create = std::convert::Infallible;
    type Update = Labels;
    type Held = ();

    const SINGULAR: &'static str = "host";
    const PLURAL: &'static str = "hosts";
    const PATH: &'static str = "mizar/hosts";
    const KIND: &'static str = "Host";
    const NOT_FOUND: &'static str = "HostNotFound";
    const TABLE: &'static str = "hosts";
    const EXTENSIONS: &'static [Extension] = &[Extension::new("mizar", "Mizar", "Hosts and their transit roles.")];
    const OPERATIONS: Operations = Operations {
        read: Access::Admin,
        create: None,
        update: Some(Access::Admin),
        delete: None,
        service: false,
        tags: false,
    };

    fn map() -> &'static AttributeMap<Self> {
        static MAP: LazyLock<AttributeMap<Host>> = LazyLock::new(|| AttributeMap::new(attributes()));
        &MAP
    }

    fn row(&self) -> &HostRow {
        &self.row
    }

    fn decode_create(_: &mut Fields<'_>) -> Result<Self::Create, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn decode_update(fields: &mut Fields<'_>, _: &Self) -> Result<Labels, Fault> {
        Ok(Labels {
            transit: fields.optional::<Transit>("transit")?.map(|Transit(word)| word),
            weight: fields.optional::<Weight>("weight")?.map(|Weight(weight)| weight),
            shrink_s: fields.optional::<ForSeconds>("allow_shrink_s")?.map(|ForSeconds(seconds)| seconds),
            gone_s: fields.optional::<ForSeconds>("believe_gone_s")?.map(|ForSeconds(seconds)| seconds),
        })
    }

    async fn resolve(conn: &mut AsyncPgConnection, _: Option<Above>, raw: &str) -> QueryResult<Option<Uuid>> {
        host::resolve(conn, raw).await
    }

    async fn complete(conn: &mut AsyncPgConnection, context: &Context, rows: Vec<HostRow>) -> QueryResult<Vec<Self>> {
        let hosts = host::complete(conn, context.settings.lease, rows).await?;
        host::behind(conn, hosts).await
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<()>, Fault> {
        Ok(host::lock(conn, id).await?)
    }

    async fn create(_: &mut Tx<'_>, _: &[Self::Create]) -> Result<Vec<Self>, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn update(tx: &mut Tx<'_>, (): (), old: Self, command: &Labels) -> Result<Self, Fault> {
        Ok(Self { row: host::label(tx.conn, &old.row, command).await?, ..old })
    }

    async fn delete(_: &mut Tx<'_>, (): (), _: Self) -> Result<(), Fault> {
        Err(Fault::method_not_allowed())
    }
}
