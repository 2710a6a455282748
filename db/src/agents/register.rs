//! Registration of a host by its agent.

use crate::entries;
use crate::pool::{Conflict, DbPool, PoolError};
use crate::schema::{host_state, hosts};
use crate::statement::statement;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Array, BigInt, Integer, Timestamptz};
use diesel::{
    ExpressionMethods as _, IntoSql as _, JoinOnDsl as _, OptionalExtension as _, QueryDsl as _, SelectableHelper as _,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt as _;
use ipnet::{IpNet, Ipv4Net};
use mizar_compile::Object;
use mizar_domain::id::HostId;
use mizar_domain::model;
use mizar_wire::Scope;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uuid::Uuid;

/// What an agent says of its host, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// As the certificate has it.
    pub name: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Address of the uplink.
    pub underlay: Ipv4Addr,
    /// Of the uplink.
    pub mtu: u16,
    /// Availability zone.
    pub az: String,
    /// Rack in it.
    pub rack: String,
    /// `xdp` or `tcx`.
    pub transit_hook: String,
    /// Of the agent.
    pub version: String,
    /// Of the data plane.
    pub abi: i32,
}

/// Why a host was not registered; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Another boot of this host, or another machine with its certificate, still has a lease.
    #[error("another boot of this host holds it for another {} s", left.num_seconds())]
    Held {
        /// Until the lease ends.
        left: TimeDelta,
    },
    /// Another host has the address.
    #[error("underlay address {0} belongs to another host")]
    UnderlayTaken(Ipv4Addr),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A statement failed.
    #[error("the host cannot be stored")]
    Database(#[from] Error),
}

impl Conflict for RegisterError {
    fn is_conflict(&self) -> bool {
        match self {
            // Two first registrations at once: the second finds the row when it tries again.
            Self::Database(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, info)) => {
                info.constraint_name() == Some("hosts_name_key")
            }
            Self::Database(error) => error.is_conflict(),
            // Perhaps by that same row: which of two broken constraints is named depends on the
            // order of the indexes. Whoever finds no row of the name again is told.
            Self::UnderlayTaken(_) => true,
            _ => false,
        }
    }
}

#[derive(diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = hosts)]
struct HostRow {
    number: i32,
    underlay: IpNet,
}

#[derive(diesel::Insertable, diesel::AsChangeset)]
#[diesel(table_name = hosts)]
struct Said<'a> {
    name: &'a str,
    underlay: IpNet,
    mtu: i32,
    az: &'a str,
    rack: &'a str,
    transit_hook: &'a str,
    version: &'a str,
    abi: i32,
}

statement! {
    /// Role 1: itself, and what every host needs.
    SubscribeItself { host: i32 as Integer, scopes: Vec<i64> as Array<BigInt> } -> BigInt
    {
        "INSERT INTO subscriptions (host, scope, role, state) SELECT " host ", s, 1, 2 FROM unnest(" scopes ") s \
         ON CONFLICT (host, scope, lo, role) DO UPDATE SET deleted = false, state = 2, changed_at = now() \
         WHERE subscriptions.deleted OR subscriptions.state <> 2"
    }
}

/// Makes or updates the host, its entry, its subscriptions to itself and its lease; returns its
/// number. Repeating it changes nothing but the lease.
pub async fn register(pool: &DbPool, said: &Registration, lease: TimeDelta) -> Result<u32, RegisterError> {
    let said = Arc::new(said.clone());
    let number = pool
        .transaction(move |conn| {
            let said = Arc::clone(&said);
            async move { store(conn, &said, lease).await }.boxed()
        })
        .await?;
    Ok(number.cast_unsigned())
}

async fn store(conn: &mut AsyncPgConnection, said: &Registration, lease: TimeDelta) -> Result<i32, RegisterError> {
    let row = Said {
        name: &said.name,
        underlay: Ipv4Net::from(said.underlay).into(),
        mtu: i32::from(said.mtu),
        az: &said.az,
        rack: &said.rack,
        transit_hook: &said.transit_hook,
        version: &said.version,
        abi: said.abi,
    };
    let known = hosts::table
        .filter(hosts::name.eq(&said.name))
        .select(HostRow::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let (number, before) = match known {
        Some(known) => {
            renew(conn, known.number, said, lease).await?;
            diesel::update(hosts::table.filter(hosts::number.eq(known.number)))
                .set((
                    &row,
                    hosts::updated_at.eq(diesel::dsl::now),
                    hosts::revision_number.eq(hosts::revision_number + 1),
                ))
                .execute(conn)
                .await
                .map_err(|error| refused(error, said))?;
            (known.number, Some(known))
        }
        None => {
            let number = diesel::insert_into(hosts::table)
                .values((hosts::id.eq(Uuid::from(HostId::random())), &row))
                .returning(hosts::number)
                .get_result(conn)
                .await
                .map_err(|error| refused(error, said))?;
            renew(conn, number, said, lease).await?;
            (number, None)
        }
    };
    let host = |underlay| model::Host { number: number.cast_unsigned(), name: said.name.clone(), underlay };
    let now = host(said.underlay);
    let writes = match before.map(|before| before.underlay.addr()) {
        Some(std::net::IpAddr::V4(underlay)) => {
            mizar_compile::update(Object::Host(&host(underlay)), Object::Host(&now))
        }
        _ => mizar_compile::create(Object::Host(&now)),
    };
    entries::apply(conn, &writes).await?;
    let scopes = [Scope::Cluster, Scope::Host(number.cast_unsigned())].map(Scope::to_i64).into();
    SubscribeItself { host: number, scopes }.execute(conn).await?;
    Ok(number)
}

/// Begins or renews the lease of this boot. What another boot acknowledged is void.
async fn renew(
    conn: &mut AsyncPgConnection,
    number: i32,
    said: &Registration,
    lease: TimeDelta,
) -> Result<(), RegisterError> {
    let held: Option<(String, DateTime<Utc>)> = host_state::table
        .find(number)
        .select((host_state::boot_id, host_state::seen_at))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let now: DateTime<Utc> = diesel::select(diesel::dsl::now.into_sql::<Timestamptz>()).get_result(conn).await?;
    match held {
        Some((boot_id, _)) if boot_id == said.boot_id => {
            diesel::update(host_state::table.find(number)).set(host_state::seen_at.eq(now)).execute(conn).await?;
        }
        Some((_, seen_at)) if seen_at + lease > now => {
            return Err(RegisterError::Held { left: seen_at + lease - now });
        }
        Some(_) => {
            diesel::update(host_state::table.find(number))
                .set((
                    host_state::boot_id.eq(&said.boot_id),
                    host_state::epoch.eq(None::<String>),
                    host_state::cursor.eq(None::<String>),
                    host_state::failures.eq(serde_json::json!([])),
                    host_state::seen_at.eq(now),
                    host_state::started_at.eq(now),
                ))
                .execute(conn)
                .await?;
        }
        None => {
            diesel::insert_into(host_state::table)
                .values((
                    host_state::host.eq(number),
                    host_state::boot_id.eq(&said.boot_id),
                    host_state::seen_at.eq(now),
                ))
                .execute(conn)
                .await?;
        }
    }
    Ok(())
}

fn refused(error: Error, said: &Registration) -> RegisterError {
    match &error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
            if info.constraint_name() == Some("hosts_underlay_key") =>
        {
            RegisterError::UnderlayTaken(said.underlay)
        }
        _ => error.into(),
    }
}

/// A host as a sync needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub number: i32,
    /// The boot that holds it.
    pub boot_id: String,
}

/// The host of that name, if it is registered.
pub async fn find(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<Known>, Error> {
    let found: Option<(i32, String)> = hosts::table
        .inner_join(host_state::table.on(host_state::host.eq(hosts::number)))
        .filter(hosts::name.eq(name))
        .select((hosts::number, host_state::boot_id))
        .first(conn)
        .await
        .optional()?;
    Ok(found.map(|(number, boot_id)| Known { number, boot_id }))
}
