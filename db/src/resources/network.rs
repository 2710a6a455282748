//! Networks.

use super::{Failure, ObjectKind, host, l3};
use crate::entries;
use crate::ledger::Ledger;
use crate::listing::{self, Listed, Visibility, listed_by};
use crate::schema::{hosts, networks, ports, rbac_policies, subnets};
use crate::sharing::{self, SHARED, shared_with};
use crate::statement::statement;
use chrono::{DateTime, Utc};
use diesel::dsl::{self, exists, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_compile::Object;
use mizar_domain::dns::DnsDomain;
use mizar_domain::id::{NetworkId, PortId, QosPolicyId};
use mizar_domain::model;
use mizar_domain::network::{CreateNetwork, DeleteNetworkError, NetworkError, UpdateNetwork, check_mtu, underlay_for};
use mizar_domain::vni::Vni;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use uuid::Uuid;

/// A network as stored.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = networks, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct NetworkRow {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub description: String,
    pub admin_state_up: bool,
    pub status: String,
    pub vni: i32,
    pub mtu: i32,
    pub port_security_enabled: bool,
    pub dns_domain: String,
    pub availability_zone_hints: Vec<String>,
    pub qos_policy_id: Option<Uuid>,
    pub tags: Vec<String>,
    pub revision_number: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub is_default: bool,
}

impl Listed for NetworkRow {
    listed_by!(networks: project_id);

    fn visible_to(view: Visibility) -> Self::Rows {
        let all = networks::table.select(Self::as_select()).into_boxed();
        match view {
            Visibility::All => all,
            Visibility::Project(project) => {
                all.filter(networks::project_id.eq(project).nullable().or(shared_with("networks.id", NETWORK, project)))
            }
            Visibility::Nothing => all.filter(false.into_sql::<diesel::sql_types::Bool>()),
        }
    }
}

impl NetworkRow {
    /// What its entries are compiled from.
    pub fn model(&self) -> model::Network {
        model::Network { id: self.id.into(), vni: self.vni.cast_unsigned(), mtu: self.mtu.cast_unsigned() }
    }
}

/// Networks are shared as this.
pub const NETWORK: &str = "network";

/// A network with what other tables say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The row.
    pub row: NetworkRow,
    /// With the caller's project, or with everybody.
    pub shared: bool,
    /// Routers may have it as their outside.
    pub external: bool,
    /// Its subnets, by id.
    pub subnets: Vec<Uuid>,
    /// Address scope of the pool that its IPv4 subnets are of.
    pub ipv4_scope: Option<Uuid>,
    /// Where it can be used: wherever there are hosts.
    pub zones: Arc<Vec<String>>,
}

statement! {
    /// Subnets of networks, and the address scopes of their pools.
    SubnetsOf { networks: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, SqlUuid, Nullable<SqlUuid>)
    {
        "SELECT s.network_id, s.id, p.address_scope_id FROM subnets s LEFT JOIN subnetpools p ON p.id = s.subnetpool_id \
         WHERE s.network_id = ANY(" networks ") ORDER BY s.id"
    }
}

/// Adds what other tables say, for any number of networks in a few queries; `project` is the
/// caller's.
pub async fn complete(
    conn: &mut AsyncPgConnection,
    project: Option<Uuid>,
    rows: Vec<NetworkRow>,
) -> QueryResult<Vec<Network>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let shared = sharing::shared_among(conn, NETWORK, &ids, project).await?;
    let external = sharing::external_among(conn, &ids).await?;
    let found: Vec<(Uuid, Uuid, Option<Uuid>)> = SubnetsOf { networks: ids }.load(conn).await?;
    let zones = Arc::new(host::zone_names(conn).await?);
    let mut by_network: BTreeMap<Uuid, (Vec<Uuid>, Option<Uuid>)> = BTreeMap::new();
    for (network, subnet, scope) in found {
        let (subnets, ipv4_scope) = by_network.entry(network).or_default();
        subnets.push(subnet);
        // All of a network are of one pool.
        *ipv4_scope = scope;
    }
    let with_subnets = |row: NetworkRow| {
        let (subnets, ipv4_scope) = by_network.remove(&row.id).unwrap_or_default();
        let (shared, external) = (shared.contains(&row.id), external.contains(&row.id));
        Network { row, shared, external, subnets, ipv4_scope, zones: Arc::clone(&zones) }
    };
    Ok(rows.into_iter().map(with_subnets).collect())
}

/// How a command locks a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// With any number of others: commands on ports.
    Shared,
    /// Alone: commands on subnets and on the network itself.
    Alone,
}

statement! {
    /// A network's VNI never changes, so it may be looked up in the statement that locks. Who may
    /// not use a network does not lock it. `OFFSET 0` hides the project from the planner, which would plan
    /// anew for each.
    LockSharedById {
        class: i32 as Integer,
        project: Option<Uuid> as Nullable<SqlUuid>,
        ids: Vec<Uuid> as Array<SqlUuid>,
    } -> (SqlUuid, Text)
    {
        "SELECT n.id, pg_advisory_xact_lock_shared(" class ", n.vni)::text FROM \
         (SELECT o.id, o.vni FROM networks o, (SELECT " project "::uuid AS project OFFSET 0) me WHERE o.id = ANY((SELECT " ids
        ")::uuid[]) AND (me.project IS NULL OR o.project_id = me.project OR EXISTS (SELECT FROM rbac_policies s \
         WHERE s.object_type = 'network' AND s.object_id = o.id AND s.action = 'access_as_shared' \
         AND (s.target_project IS NULL OR s.target_project = me.project))) ORDER BY o.vni) n"
    }
}

statement! {
    /// As [`LockSharedById`], of the owner.
    LockAloneById {
        class: i32 as Integer,
        project: Option<Uuid> as Nullable<SqlUuid>,
        ids: Vec<Uuid> as Array<SqlUuid>,
    } -> (SqlUuid, Text)
    {
        "SELECT n.id, pg_advisory_xact_lock(" class ", n.vni)::text FROM \
         (SELECT o.id, o.vni FROM networks o, (SELECT " project "::uuid AS project OFFSET 0) me WHERE o.id = ANY((SELECT " ids
        ")::uuid[]) AND (me.project IS NULL OR o.project_id = me.project) ORDER BY o.vni) n"
    }
}

statement! {
    /// Locks the network of a port with other commands on ports; no row: there is no such port.
    LockOfPort { class: i32 as Integer, port: Uuid as SqlUuid } -> (SqlUuid, Text)
    {
        "SELECT n.id, pg_advisory_xact_lock_shared(" class ", n.vni)::text \
         FROM ports p JOIN networks n ON n.id = p.network_id WHERE p.id = " port ""
    }
}

statement! {
    /// Whoever makes a network the default one waits for others who do.
    LockDefault { class: i32 as Integer } -> Text
    { "SELECT pg_advisory_xact_lock(" class ", 0)::text" }
}

statement! {
    /// A version of this program that knows of no default may have closed the one that is.
    UndefaultClosed { beside: Uuid as SqlUuid } -> SqlUuid
    {
        "UPDATE networks n SET is_default = false, revision_number = revision_number + 1, updated_at = now() \
         WHERE is_default AND id <> " beside " AND NOT EXISTS (SELECT FROM rbac_policies s \
         WHERE s.object_type = 'network' AND s.object_id = n.id AND s.action = 'access_as_external') RETURNING id"
    }
}

statement! {
    DefaultBeside { id: Uuid as SqlUuid } -> SqlUuid
    { "SELECT id FROM networks WHERE is_default AND id <> " id "" }
}

statement! {
    Undefault { id: Uuid as SqlUuid, policy: Uuid as SqlUuid } -> SqlUuid
    {
        "UPDATE networks n SET is_default = false, revision_number = revision_number + 1, updated_at = now() \
         WHERE is_default AND id = " id " AND NOT EXISTS (SELECT FROM rbac_policies s WHERE s.object_type = 'network' \
         AND s.object_id = n.id AND s.action = 'access_as_external' AND s.id <> " policy ") RETURNING id"
    }
}

/// Locks the networks that are the caller's to use and reads them in the next statement: to put
/// ports on ([`Hold::Shared`]) his own and those shared with him, which those shared as external
/// are not; otherwise his own. The rest is neither locked nor in the answer: [`refusal`] says why.
pub async fn lock(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    ids: &[Uuid],
    hold: Hold,
) -> QueryResult<BTreeMap<Uuid, NetworkRow>> {
    let (held, read) = lock_beside(conn, view, ids, hold);
    let (held, mut networks) = futures::try_join!(held, read)?;
    networks.retain(|id, _| held.contains(id));
    Ok(networks)
}

/// What [`lock`] does, for who has more to send: two futures that have to be polled in this order. What was
/// read counts only if it was locked.
pub(super) fn lock_beside<'c>(
    conn: &'c AsyncPgConnection,
    view: Visibility,
    ids: &'c [Uuid],
    hold: Hold,
) -> (
    impl Future<Output = QueryResult<BTreeSet<Uuid>>> + Send + 'c,
    impl Future<Output = QueryResult<BTreeMap<Uuid, NetworkRow>>> + Send + 'c,
) {
    (lock_only(conn, view, ids, hold), read(conn, view, ids, hold))
}

async fn lock_only(
    mut conn: &AsyncPgConnection,
    view: Visibility,
    ids: &[Uuid],
    hold: Hold,
) -> QueryResult<BTreeSet<Uuid>> {
    let project = match view {
        Visibility::All => None,
        Visibility::Project(project) => Some(project),
        Visibility::Nothing => return Ok(BTreeSet::new()),
    };
    let (class, ids) = (entries::NETWORK_LOCK, ids.to_vec());
    let locked: Vec<(Uuid, String)> = match hold {
        Hold::Shared => LockSharedById { class, project, ids }.load(&mut conn).await?,
        Hold::Alone => LockAloneById { class, project, ids }.load(&mut conn).await?,
    };
    Ok(locked.into_iter().map(|(id, _)| id).collect())
}

async fn read(
    mut conn: &AsyncPgConnection,
    view: Visibility,
    ids: &[Uuid],
    hold: Hold,
) -> QueryResult<BTreeMap<Uuid, NetworkRow>> {
    let all = networks::table.select(NetworkRow::as_select()).into_boxed();
    let mut wanted = match ids {
        // The usual one, and a plan that PostgreSQL keeps.
        [one] => all.filter(networks::id.eq(*one)),
        many => all.filter(networks::id.eq_any(many.to_vec())),
    };
    if let Visibility::Project(project) = view
        && hold == Hold::Shared
    {
        // A policy may have gone while the lock was waited for; an owner stays.
        let shared = rbac_policies::table
            .filter(rbac_policies::object_type.eq(NETWORK))
            .filter(rbac_policies::action.eq(SHARED))
            .filter(rbac_policies::target_project.is_null().or(rbac_policies::target_project.eq(project)))
            .select(rbac_policies::object_id);
        wanted = wanted.filter(networks::project_id.eq(project).or(networks::id.eq_any(shared)));
    }
    let rows: Vec<NetworkRow> = wanted.load(&mut conn).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Why [`lock`] did not give a network: it is not there to the caller, or not his to use.
pub(super) async fn refusal(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    id: NetworkId,
    rule: &'static str,
) -> Failure {
    match listing::find::<NetworkRow>(conn, view, None, id.uuid()).await {
        Ok(Some(_)) => Failure::Forbidden(rule),
        Ok(None) => Failure::not_found(ObjectKind::Network, id),
        Err(error) => error.into(),
    }
}

/// Locks the network of a port with other commands on ports, and reads it in the next statement.
pub(super) async fn lock_of_port(conn: &mut AsyncPgConnection, port: Uuid) -> QueryResult<Option<NetworkRow>> {
    let statement = LockOfPort { class: entries::NETWORK_LOCK, port };
    let found: Option<(Uuid, String)> = statement.get_result(conn).await.optional()?;
    let Some((id, _)) = found else { return Ok(None) };
    networks::table.find(id).select(NetworkRow::as_select()).first(conn).await.optional()
}

/// How often a random number is drawn. With a million networks one draw in sixteen is taken, so
/// that all fail once in 10^19.
const DRAWS: usize = 16;

/// Makes networks. To share them is the caller's to do.
pub async fn create(
    conn: &mut AsyncPgConnection,
    underlay_mtu: u32,
    commands: &[CreateNetwork],
) -> Result<Vec<Network>, Failure> {
    let mut made = Vec::with_capacity(commands.len());
    let mut writes = Vec::new();
    let zones = Arc::new(host::zone_names(conn).await?);
    for command in commands {
        if let Some(unknown) = command.extras.zone_hints.iter().find(|hint| !zones.contains(hint)) {
            return Err(NetworkError::NoSuchZone(unknown.clone()).into());
        }
        if command.extras.is_default {
            check_default(conn, command.id.uuid(), command.external).await?;
        }
        let row = insert(conn, command, check_mtu(command.mtu, underlay_mtu)?).await?;
        writes.extend(mizar_compile::create(Object::Network(&row.model())));
        made.push(Network {
            row,
            shared: command.shared,
            external: command.external,
            subnets: Vec::new(),
            ipv4_scope: None,
            zones: Arc::clone(&zones),
        });
    }
    entries::apply(conn, &writes).await?;
    Ok(made)
}

async fn insert(conn: &mut AsyncPgConnection, command: &CreateNetwork, mtu: u32) -> Result<NetworkRow, Failure> {
    for _ in 0..DRAWS {
        let vni = command.vni.unwrap_or_else(Vni::random);
        let row: Option<NetworkRow> = diesel::insert_into(networks::table)
            .values((
                networks::id.eq(command.id.uuid()),
                networks::project_id.eq(command.project.uuid()),
                networks::name.eq(command.name.as_str()),
                networks::description.eq(command.description.as_str()),
                networks::admin_state_up.eq(command.admin_up),
                networks::vni.eq(vni.get().cast_signed()),
                networks::mtu.eq(mtu.cast_signed()),
                networks::port_security_enabled.eq(command.port_security),
                networks::dns_domain.eq(command.extras.dns_domain.as_str()),
                networks::availability_zone_hints.eq(&command.extras.zone_hints),
                networks::qos_policy_id.eq(command.extras.qos_policy.map(QosPolicyId::uuid)),
                networks::is_default.eq(command.extras.is_default),
                networks::tags.eq(command.tags.clone().into_vec()),
            ))
            .on_conflict(networks::vni)
            .do_nothing()
            .returning(NetworkRow::as_returning())
            .get_result(conn)
            .await
            .optional()?;
        match row {
            Some(row) => return Ok(row),
            None if command.vni.is_some() => return Err(NetworkError::VniInUse(vni).into()),
            None => {}
        }
    }
    Err(NetworkError::NoVniFree.into())
}

/// Changes a network that the caller has locked ([`Hold::Alone`]), and [`share`]d if need be.
pub async fn update(
    conn: &mut AsyncPgConnection,
    underlay_mtu: u32,
    old: Network,
    command: &UpdateNetwork,
) -> Result<Network, Failure> {
    let Network { row: old, shared, mut external, subnets, ipv4_scope, zones } = old;
    let mtu = match command.mtu {
        Some(mtu) => {
            let mtu = check_mtu(Some(mtu), underlay_mtu)?;
            check_hosts(conn, old.id, mtu).await?;
            mtu.cast_signed()
        }
        None => old.mtu,
    };
    if let Some(wish) = command.external {
        if !wish && l3::is_outside(conn, old.id).await? {
            return Err(NetworkError::ExternalInUse(old.id.into()).into());
        }
        external = sharing::external_among(conn, &[old.id]).await?.contains(&old.id);
    }
    if command.is_default == Some(true) {
        check_default(conn, old.id, external).await?;
    }
    let name = command.name.as_ref().map_or(old.name.as_str(), |name| name.as_str());
    let description = command.description.as_ref().map_or(old.description.as_str(), |text| text.as_str());
    let row: NetworkRow = diesel::update(networks::table.find(old.id))
        .set((
            networks::name.eq(name),
            networks::description.eq(description),
            networks::admin_state_up.eq(command.admin_up.unwrap_or(old.admin_state_up)),
            networks::mtu.eq(mtu),
            networks::port_security_enabled.eq(command.port_security.unwrap_or(old.port_security_enabled)),
            networks::dns_domain.eq(command.dns_domain.as_ref().map_or(old.dns_domain.as_str(), DnsDomain::as_str)),
            networks::qos_policy_id
                .eq(command.qos_policy.over(old.qos_policy_id.map(QosPolicyId::from)).map(QosPolicyId::uuid)),
            // What is closed is nobody's outside any more.
            networks::is_default.eq(command.is_default.unwrap_or(old.is_default) && external),
            networks::revision_number.eq(networks::revision_number + 1),
            networks::updated_at.eq(now),
        ))
        .returning(NetworkRow::as_returning())
        .get_result(conn)
        .await?;
    let writes = mizar_compile::update(Object::Network(&old.model()), Object::Network(&row.model()));
    entries::apply(conn, &writes).await?;
    Ok(Network { row, shared: command.shared.unwrap_or(shared), external, subnets, ipv4_scope, zones })
}

/// Whether a network may become the default one. The lock is the last that such a command takes.
async fn check_default(conn: &mut AsyncPgConnection, id: Uuid, external: bool) -> Result<(), Failure> {
    if !external {
        return Err(NetworkError::DefaultNotExternal.into());
    }
    LockDefault { class: entries::DEFAULT_LOCK }.get_result::<String>(conn).await?;
    UndefaultClosed { beside: id }.get_result::<Uuid>(conn).await.optional()?;
    let beside = DefaultBeside { id };
    match beside.get_result::<Uuid>(conn).await.optional()? {
        Some(other) => Err(NetworkError::DefaultExists(other.into()).into()),
        None => Ok(()),
    }
}

/// A policy goes by which a locked network was open to routers: without another it is no default either.
pub async fn closing(conn: &mut AsyncPgConnection, id: Uuid, policy: Uuid) -> QueryResult<()> {
    Undefault { id, policy }.get_result::<Uuid>(conn).await.optional().map(|_| ())
}

/// Sets `shared` of a locked network. It cannot be taken back while somebody has ports there, or the
/// outside of his routers, whom no other policy lets in. Ports of nobody's are such an outside's.
pub async fn share(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    network: &NetworkRow,
    shared: bool,
) -> Result<(), Failure> {
    sharing::share_with_all(conn, ledger, NETWORK, network.id, network.project_id, shared).await?;
    if !shared {
        let foreign = ports::table
            .filter(ports::network_id.eq(network.id))
            .filter(ports::project_id.ne_all([network.project_id, l3::NOBODY]))
            .filter(dsl::not(exists(
                rbac_policies::table
                    .filter(rbac_policies::object_type.eq(NETWORK))
                    .filter(rbac_policies::object_id.eq(network.id))
                    .filter(rbac_policies::action.eq(SHARED))
                    .filter(
                        rbac_policies::target_project
                            .is_null()
                            .or(rbac_policies::target_project.eq(ports::project_id.nullable())),
                    ),
            )));
        if diesel::select(exists(foreign)).get_result::<bool>(conn).await?
            || l3::is_outside_of_strangers(conn, network.id, network.project_id).await?
        {
            return Err(NetworkError::SharedInUse(network.id.into()).into());
        }
    }
    Ok(())
}

/// A larger MTU must fit the uplinks of the hosts that the network is on.
async fn check_hosts(conn: &mut AsyncPgConnection, network: Uuid, mtu: u32) -> Result<(), Failure> {
    let on_network = ports::table
        .filter(ports::network_id.eq(network))
        .filter(ports::host.is_not_null())
        .select(ports::host.assume_not_null());
    let small =
        hosts::table.filter(hosts::mtu.lt(underlay_for(mtu).cast_signed())).filter(hosts::number.eq_any(on_network));
    match diesel::select(exists(small)).get_result(conn).await? {
        true => Err(NetworkError::HostTooSmall(mtu).into()),
        false => Ok(()),
    }
}

/// Whether a network is of a project, whoever else sees it.
pub async fn is_of(conn: &mut AsyncPgConnection, id: Uuid, project: Uuid) -> QueryResult<bool> {
    let own = networks::table.find(id).filter(networks::project_id.eq(project));
    diesel::select(exists(own)).get_result(conn).await
}

/// Deletes a network that the caller has locked ([`Hold::Alone`]), with its subnets; returns which
/// those were, and whose. Ports must be gone before: that is the tenant's to decide. Its policies are the
/// caller's to delete.
pub async fn delete(conn: &mut AsyncPgConnection, network: &Network) -> Result<Vec<(Uuid, Uuid)>, Failure> {
    let id = network.row.id;
    let ports: Vec<Uuid> =
        ports::table.filter(ports::network_id.eq(id)).select(ports::id).order(ports::id).limit(10).load(conn).await?;
    if !ports.is_empty() {
        let ports = ports.into_iter().map(PortId::from).collect();
        return Err(DeleteNetworkError::HasPorts { network: NetworkId::from(id), ports }.into());
    }
    let subnets: Vec<super::subnet::SubnetRow> = diesel::delete(subnets::table.filter(subnets::network_id.eq(id)))
        .returning(super::subnet::SubnetRow::as_returning())
        .get_results(conn)
        .await?;
    diesel::delete(networks::table.find(id)).execute(conn).await?;
    let gone = subnets.iter().map(|subnet| (subnet.id, subnet.project_id)).collect();
    let mut writes = Vec::new();
    for subnet in subnets {
        writes.extend(mizar_compile::delete(Object::Subnet(&subnet.model(&network.row)?)));
    }
    writes.extend(mizar_compile::delete(Object::Network(&network.row.model())));
    entries::apply(conn, &writes).await?;
    Ok(gone)
}

/// A network's revision rises when a list in its representation changes (its subnets). Ports do
/// not count: they are not in it, and every create would lock the one row.
pub(super) async fn touch(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
    diesel::update(networks::table.find(id))
        .set((networks::revision_number.eq(networks::revision_number + 1), networks::updated_at.eq(now)))
        .execute(conn)
        .await?;
    Ok(())
}
