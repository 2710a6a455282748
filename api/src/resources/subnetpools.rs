//! Subnet pools: prefixes from which subnets get their ranges (Neutron's `subnetpools`).
//!
//! A pool's row lock guards what is free of it: whoever changes the pool or makes a subnet of it
//! holds it. Pools of one address scope do not overlap; the scope's row lock guards that.

use super::address_scopes::AddressScope;
use crate::frame::action::{Action, Answer, Input};
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain, shared_filter};
use crate::frame::resource::{Operations, Tx};
use crate::frame::stored::Stored as _;
use crate::{column, flag, standard, stored};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ipnet::IpNet;
use mizar_db::listing::{self, Visibility};
use mizar_db::schema::subnets;
use mizar_db::{sort_by, sort_id, sort_key};
use mizar_domain::cidr::Cidr;
use mizar_domain::patch::Patch;
use mizar_domain::subnet_pool::{self, Lengths, Prefixes, SubnetPoolError};
use mizar_domain::text::{Name, Tags};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A subnet pool.
    pub struct SubnetPool in subnetpools: owned {
        name: String as Text,
        description: String as Text,
        ip_version: i16 as Int2,
        prefixes: Vec<IpNet> as Array<Inet>,
        min_prefixlen: i16 as Int2,
        max_prefixlen: i16 as Int2,
        default_prefixlen: i16 as Int2,
        default_quota: Option<i32> as Nullable<Int4>,
        address_scope_id: Option<Uuid> as Nullable<Uuid>,
        is_default: bool as Bool,
        tags: Vec<String> as Array<Text>,
    }
}

/// A prefix of a pool. One of IPv4 must be a range that subnets can have.
pub struct Prefix(IpNet);

impl Decode for Prefix {
    fn decode(value: &Value) -> Result<Self, String> {
        match value.as_str().and_then(|text| text.parse().ok()) {
            Some(IpNet::V6(net)) if net.prefix_len() == 0 => Err("0 is not allowed as CIDR prefix length".into()),
            Some(IpNet::V6(net)) if net.trunc() != net => {
                Err(format!("'{net}' isn't a recognized IP subnet cidr, '{}' is recommended", net.trunc()))
            }
            Some(net @ IpNet::V6(_)) => Ok(Self(net)),
            _ => Cidr::decode(value).map(|cidr| Self(cidr.net().into())),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).examples(["10.0.0.0/8"]).into()
    }
}

/// A prefix length.
pub struct Length(pub i16);

impl Decode for Length {
    fn decode(value: &Value) -> Result<Self, String> {
        let length = i16::decode(value)?;
        if (0..=128).contains(&length) { Ok(Self(length)) } else { Err(format!("'{length}' is not in [0, 128]")) }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(0)).maximum(Some(128)).into()
    }
}

/// A number of addresses.
struct Count(i32);

impl Decode for Count {
    fn decode(value: &Value) -> Result<Self, String> {
        match i32::decode(value)? {
            count if count < 0 => Err(format!("'{count}' should be non-negative")),
            count => Ok(Self(count)),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(0)).maximum(Some(i32::MAX)).into()
    }
}

/// A name that says something.
struct Title(Name);

impl Decode for Title {
    fn decode(value: &Value) -> Result<Self, String> {
        let name = Name::decode(value)?;
        let blank = name.as_str().trim().is_empty();
        if blank { Err(format!("'{}' Blank strings are not permitted", shown(value))) } else { Ok(Self(name)) }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).min_length(Some(1)).max_length(Some(255)).pattern(Some(r"\S")).into()
    }
}

fn set(prefixes: Vec<Prefix>) -> Result<Prefixes, SubnetPoolError> {
    Prefixes::new(&prefixes.into_iter().map(|Prefix(net)| net).collect::<Vec<_>>())
}

impl SubnetPool {
    fn addresses(&self) -> Result<Prefixes, Fault> {
        Prefixes::new(&self.prefixes).map_err(Fault::internal)
    }

    const fn lengths(&self) -> Lengths {
        Lengths { min: self.min_prefixlen, max: self.max_prefixlen, default: self.default_prefixlen }
    }

    /// What its subnets are given from.
    pub fn model(&self) -> Result<subnet_pool::SubnetPool, Fault> {
        Ok(subnet_pool::SubnetPool { prefixes: self.addresses()?, lengths: self.lengths(), quota: self.default_quota })
    }

    /// The answer where there is none, or none to be seen.
    pub fn missing(id: Uuid) -> Fault {
        Fault::not_found(Self::NOT_FOUND, format!("Subnet pool {id} could not be found."))
    }

    /// Ranges of its subnets, and whose they are.
    pub async fn taken(conn: &mut AsyncPgConnection, pool: Uuid) -> QueryResult<Vec<(Uuid, IpNet)>> {
        let of_pool = subnets::table.filter(subnets::subnetpool_id.eq(pool));
        of_pool.select((subnets::project_id, subnets::cidr)).load(conn).await
    }

    /// Takes sent lengths over the ones there are.
    fn set_lengths(&mut self, lengths: Lengths) {
        (self.min_prefixlen, self.max_prefixlen, self.default_prefixlen) = (lengths.min, lengths.max, lengths.default);
    }

    /// The pool's scope is there, of its family, and nobody else's addresses in it are the pool's.
    /// `others` are pools of the same request.
    async fn check_scope(&self, tx: &mut Tx<'_>, others: &[Self]) -> Result<(), Fault> {
        let Some(scope) = self.address_scope_id else { return Ok(()) };
        let missing = || Fault::not_found("AddressScopeNotFound", format!("Address scope {scope} could not be found."));
        AddressScope::lock(tx.conn, scope).await?.ok_or_else(missing)?;
        let found = listing::find::<AddressScope>(tx.conn, tx.context.view, None, scope).await?;
        let version = found.ok_or_else(missing)?.ip_version;
        if version != self.ip_version {
            return Err(Fault::refused(
                400,
                "IllegalSubnetPoolIpVersionAssociationToAddressScope",
                format!(
                    "Illegal subnetpool association: subnetpool {} cannot associate with address scope {scope} \
                     because subnetpool ip_version is not {version}.",
                    self.id
                ),
            ));
        }
        let in_scope = subnetpools::table.filter(subnetpools::address_scope_id.eq(scope));
        let stored: Vec<Vec<IpNet>> =
            in_scope.filter(subnetpools::id.ne(self.id)).select(subnetpools::prefixes).load(tx.conn).await?;
        let others = others.iter().filter(|other| other.id != self.id && other.address_scope_id == Some(scope));
        let (own, foreign) = (self.addresses()?, stored.into_iter().chain(others.map(|other| other.prefixes.clone())));
        for prefixes in foreign {
            if Prefixes::new(&prefixes).map_err(Fault::internal)?.overlaps(&own) {
                let message = "Failed to associate address scope: subnetpools within an address scope must have \
                               unique prefixes.";
                return Err(Fault::conflict("AddressScopePrefixConflict", message));
            }
        }
        Ok(())
    }

    /// Addresses or scope change: neither may where the scope is somebody else's.
    async fn check_move(&self, tx: &mut Tx<'_>, old: &Self) -> Result<(), Fault> {
        if self.address_scope_id == old.address_scope_id && self.prefixes == old.prefixes {
            return Ok(());
        }
        if let (Some(scope), false) = (old.address_scope_id, tx.context.caller.has(Access::Admin)) {
            let found = listing::find::<AddressScope>(tx.conn, Visibility::All, None, scope).await?;
            if found.is_some_and(|scope| Some(scope.project_id) != tx.context.caller.project()) {
                let (kind, id) = ("IllegalSubnetPoolUpdate", self.id);
                let message = format!(
                    "Illegal subnetpool update : subnetpool {id} cannot be updated when associated with shared \
                     address scope {scope}."
                );
                return Err(Fault::refused(400, kind, message));
            }
        }
        self.check_scope(tx, &[]).await
    }
}

type Attr = Attribute<Item<SubnetPool>>;

impl Plain for SubnetPool {
    type More = ();

    const SINGULAR: &'static str = "subnetpool";
    const PLURAL: &'static str = "subnetpools";
    const KIND: &'static str = "SubnetPool";
    const NOT_FOUND: &'static str = "SubnetPoolNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const QUOTA: Option<&'static str> = Some("subnetpool");
    const SHARED_AS: Option<&'static str> = Some("subnetpool");
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new("subnet_allocation", "Subnet Allocation", "Subnets get their ranges from pools."),
        Extension::new("default-subnetpools", "Default Subnetpools", "A pool for subnets that name no range."),
        Extension::new("subnetpool-prefix-ops", "Subnet Pool Prefix Operations", "Prefixes are added and removed."),
        Extension::new("rbac-subnetpool", "Subnet Pool RBAC", "Subnet pools are shared with projects."),
    ];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<SubnetPool>, subnetpools, SubnetPool: id);
        all.push(column!(Item<SubnetPool>, subnetpools, SubnetPool, name: String as Title).required().put());
        all.extend(standard!(Item<SubnetPool>, subnetpools, SubnetPool: description project));
        all.extend([
            Attr::shown("prefixes", Vec::<Prefix>::schema, |pool, out| out.put(&pool.row.prefixes))
                .about("An update may only add to them.")
                .required()
                .put(),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, ip_version: i16),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, min_prefixlen: i16 as Length).writable(),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, max_prefixlen: i16 as Length).writable(),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, default_prefixlen: i16 as Length).writable(),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, default_quota: i32 as Option<Count>, unsorted)
                .about("Addresses (of IPv6: /64) that the subnets of a project may have of it; null: all.")
                .writable()
                .sort(
                    sort_by!(SubnetPool, "COALESCE(subnetpools.default_quota, -1)" => diesel::sql_types::Int4, |row| {
                        row.default_quota.unwrap_or(-1)
                    }),
                ),
            column!(Item<SubnetPool>, subnetpools, SubnetPool, address_scope_id: Uuid as Option<Uuid>, unsorted)
                .writable()
                .sort(sort_id!(SubnetPool, "subnetpools.address_scope_id", |row| row.address_scope_id)),
            Attr::shown("is_default", bool::schema, |pool, out| out.put(&pool.row.is_default))
                .about("Where subnets are made with use_default_subnetpool; one for each ip_version.")
                .writable()
                .sent_by(Access::Admin)
                .off_by_default()
                .filter(flag!(subnetpools::is_default))
                .sort(sort_key!(SubnetPool, subnetpools::is_default, |row| row.is_default)),
            Attr::shown("shared", bool::schema, |pool, out| out.put(&pool.shared))
                .about("Every project may use it.")
                .post()
                .sent_by(Access::Admin)
                .off_by_default()
                .filter_in(shared_filter::<SubnetPool>),
        ]);
        all.extend(standard!(Item<SubnetPool>, subnetpools, SubnetPool: revision times tags));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        let action = |name, about, run| Action {
            inputs: vec![Input::required::<Vec<Prefix>>("prefixes")],
            answer: Answer::Body(prefixes_schema),
            ..Action::put(name, about, run)
        };
        vec![
            action("add_prefixes", "Add prefixes", add_prefixes),
            action("remove_prefixes", "Remove prefixes that no subnet uses", remove_prefixes),
        ]
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let Title(name) = fields.required("name")?;
        let prefixes = set(fields.required("prefixes")?)?;
        let mut length = |name| Ok::<_, Fault>(fields.optional::<Length>(name)?.map(|Length(length)| length));
        let (min, max) = (length("min_prefixlen")?, length("max_prefixlen")?);
        let lengths = Lengths::new(prefixes.version(), min, max, length("default_prefixlen")?)?;
        let mut pool = Self {
            name: name.into_string(),
            description: fields.optional::<Name>("description")?.unwrap_or_default().into_string(),
            ip_version: prefixes.version(),
            prefixes: prefixes.to_nets(),
            default_quota: fields.optional::<Option<Count>>("default_quota")?.flatten().map(|Count(count)| count),
            address_scope_id: fields.optional::<Option<Uuid>>("address_scope_id")?.flatten(),
            is_default: fields.optional("is_default")?.unwrap_or(false),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        };
        pool.set_lengths(lengths);
        Ok(pool)
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        if let Some(Title(name)) = fields.optional("name")? {
            self.name = name.into_string();
        }
        fields.over("description", &mut self.description)?;
        if let Some(prefixes) = fields.optional::<Vec<Prefix>>("prefixes")? {
            let prefixes = set(prefixes)?;
            if prefixes.version() != self.ip_version {
                return Err(SubnetPoolError::Mixed.into());
            }
            if !prefixes.holds(&self.addresses()?) {
                return Err(SubnetPoolError::Shrinks.into());
            }
            self.prefixes = prefixes.to_nets();
        }
        let old = self.lengths();
        let mut length = |name, old| Ok::<_, Fault>(fields.optional::<Length>(name)?.map_or(old, |Length(new)| new));
        let (min, max) = (length("min_prefixlen", old.min)?, length("max_prefixlen", old.max)?);
        let default = length("default_prefixlen", old.default)?;
        self.set_lengths(Lengths::new(self.ip_version, Some(min), Some(max), Some(default))?);
        let quota: Patch<Count> = fields.patch("default_quota")?;
        match quota {
            Patch::Keep => {}
            Patch::Clear => self.default_quota = None,
            Patch::Set(Count(count)) => self.default_quota = Some(count),
        }
        self.address_scope_id = fields.patch("address_scope_id")?.over(self.address_scope_id);
        if let Some(is_default) = fields.optional("is_default")? {
            self.is_default = is_default;
        }
        Ok(())
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        // Locks of several scopes are taken in one order.
        let scopes: BTreeSet<Uuid> = rows.iter().filter_map(|pool| pool.address_scope_id).collect();
        for scope in scopes {
            AddressScope::lock(tx.conn, scope).await?;
        }
        for pool in rows.iter() {
            pool.check_scope(tx, rows).await?;
        }
        Ok(())
    }

    async fn before_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
        new.check_move(tx, &old.row).await
    }

    fn violation(constraint: &str, pool: &Self) -> Option<Fault> {
        match constraint {
            "subnetpools_default" => Some(Fault::invalid_input(format!(
                "A default subnetpool for this IP family has already been set. Only one default may exist per IP \
                 family (IPv{})",
                pool.ip_version
            ))),
            "subnets_pool" => {
                let message = "Unable to delete subnet pool: Subnet pool has existing allocations.";
                Some(Fault::refused(400, "SubnetPoolDeleteError", message))
            }
            _ => None,
        }
    }
}

fn prefixes_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    object.property("prefixes", Vec::<Prefix>::schema()).required("prefixes").into()
}

/// The set that an action names.
fn sent(body: &mut Fields<'_>, pool: &SubnetPool) -> Result<Prefixes, Fault> {
    let prefixes: Vec<Prefix> = body.required("prefixes")?;
    if prefixes.is_empty() {
        return Err(Fault::bad_request("Request body contains invalid data"));
    }
    let prefixes = set(prefixes)?;
    if prefixes.version() == pool.ip_version { Ok(prefixes) } else { Err(SubnetPoolError::Mixed.into()) }
}

async fn store(tx: &mut Tx<'_>, old: SubnetPool, prefixes: &Prefixes) -> Result<Value, Fault> {
    let mut new = SubnetPool { prefixes: prefixes.to_nets(), ..old.clone() };
    if new.prefixes != old.prefixes {
        new.check_move(tx, &old).await?;
        new = SubnetPool::store(tx.conn, &new).await?;
    }
    Ok(json!({"prefixes": new.prefixes}))
}

fn add_prefixes<'t>(
    tx: &'t mut Tx<'_>,
    pool: Item<SubnetPool>,
    body: &'t mut Fields<'_>,
) -> BoxFuture<'t, Result<Value, Fault>> {
    async move {
        let prefixes = pool.row.addresses()?.with(&sent(body, &pool.row)?);
        store(tx, pool.row, &prefixes).await
    }
    .boxed()
}

fn remove_prefixes<'t>(
    tx: &'t mut Tx<'_>,
    pool: Item<SubnetPool>,
    body: &'t mut Fields<'_>,
) -> BoxFuture<'t, Result<Value, Fault>> {
    async move {
        let gone = sent(body, &pool.row)?;
        let taken: Vec<IpNet> =
            SubnetPool::taken(tx.conn, pool.row.id).await?.into_iter().map(|(_, net)| net).collect();
        if Prefixes::new(&taken).is_ok_and(|taken| taken.overlaps(&gone)) {
            return Err(SubnetPoolError::InUse.into());
        }
        let prefixes = pool.row.addresses()?.without(&gone);
        if prefixes.is_empty() {
            return Err(SubnetPoolError::Empty.into());
        }
        store(tx, pool.row, &prefixes).await
    }
    .boxed()
}
