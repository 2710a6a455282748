//! From a subnet's wish for addresses to its range.

use super::subnetpools::{Length, SubnetPool, subnetpools};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::resource::Tx;
use crate::frame::stored::Stored as _;
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use ipnet::IpNet;
use mizar_db::listing::{self, Listed as _, Visibility};
use mizar_domain::cidr::Cidr;
use mizar_domain::subnet::CreateSubnet;
use mizar_domain::subnet_pool::{SubnetPool as Model, Wish};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What the range of a new subnet is, or by what it is to be found.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// This one, of no pool.
    Exactly(Cidr),
    /// A range of a pool; `None`: of the default one.
    Of(Option<Uuid>, Wish),
}

impl Range {
    /// From `cidr`, `prefixlen`, `subnetpool_id` and `use_default_subnetpool`.
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let bad = |reason: &str| Fault::bad_query(format!("Bad subnets request: {reason}."));
        let cidr: Option<Cidr> = fields.optional::<Option<Cidr>>("cidr")?.flatten();
        let length = fields.optional::<Option<Length>>("prefixlen")?.flatten().map(|Length(length)| length);
        let pool = fields.optional::<Option<Uuid>>("subnetpool_id")?.flatten();
        let default = fields.optional("use_default_subnetpool")?.unwrap_or(false);
        if cidr.is_some() && length.is_some() {
            return Err(bad("cidr and prefixlen must not be supplied together"));
        }
        if default && pool.is_some() {
            return Err(bad("subnetpool_id and use_default_subnetpool cannot both be specified"));
        }
        let wish = cidr.map_or(Wish::Any(length), |cidr| Wish::Exactly(cidr.net().into()));
        match (pool, default, cidr) {
            (None, false, Some(cidr)) => Ok(Self::Exactly(cidr)),
            (None, false, None) => Err(bad("a subnetpool must be specified in the absence of a cidr")),
            _ => Ok(Self::Of(pool, wish)),
        }
    }

    /// Whether any range would do.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Of(_, Wish::Any(_)))
    }
}

/// A pool that this request makes subnets of. Its row is locked.
struct Open {
    model: Model,
    taken: Vec<(Uuid, IpNet)>,
}

/// Finds ranges for new subnets. The pools stay locked until the subnets are in the table, so that
/// nobody is given the same range; several are locked in one order.
pub async fn allocate(tx: &mut Tx<'_>, commands: &[CreateSubnet<Range>]) -> Result<Vec<CreateSubnet>, Fault> {
    let mut default = None;
    let mut pools: BTreeMap<Uuid, Option<Open>> = BTreeMap::new();
    for command in commands {
        if let Range::Of(pool, _) = command.cidr {
            let pool = match pool.or(default) {
                Some(pool) => pool,
                None => *default.insert(default_pool(tx).await?),
            };
            pools.insert(pool, None);
        }
    }
    for (id, open) in &mut pools {
        // What the caller does not see is not locked for him; what he sees is read again then.
        visible(tx, *id).await?;
        SubnetPool::lock(tx.conn, *id).await?;
        let pool = visible(tx, *id).await?;
        if pool.ip_version != 4 {
            let reason = "Cannot create IPv4 subnet from IPv6 subnet pool";
            return Err(Fault::bad_query(format!("Bad subnets request: {reason}.")));
        }
        *open = Some(Open { model: pool.model()?, taken: SubnetPool::taken(tx.conn, *id).await? });
    }
    commands.iter().map(|command| place(command, default, &mut pools)).collect()
}

async fn visible(tx: &mut Tx<'_>, id: Uuid) -> Result<SubnetPool, Fault> {
    let found = listing::find::<SubnetPool>(tx.conn, tx.context.view, None, id).await?;
    found.ok_or_else(|| SubnetPool::missing(id))
}

fn place(
    command: &CreateSubnet<Range>,
    default: Option<Uuid>,
    pools: &mut BTreeMap<Uuid, Option<Open>>,
) -> Result<CreateSubnet, Fault> {
    let (pool, wish) = match command.cidr {
        Range::Exactly(cidr) => return Ok(command.at(cidr, None)),
        Range::Of(pool, wish) => (pool.or(default), wish),
    };
    let opened = pool.and_then(|id| Some((id, pools.get_mut(&id)?.as_mut()?)));
    let (id, Open { model, taken }) = opened.ok_or_else(|| Fault::internal("a pool was not opened"))?;
    let project = command.project.uuid();
    let all: Vec<IpNet> = taken.iter().map(|(_, net)| *net).collect();
    let own: Vec<IpNet> = taken.iter().filter(|(owner, _)| *owner == project).map(|(_, net)| *net).collect();
    let net = model.allocate(wish, &all, &own)?;
    let IpNet::V4(v4) = net else { return Err(Fault::internal("an IPv4 pool gave an IPv6 range")) };
    taken.push((project, net));
    // Prefixes of pools are such as subnets can have.
    Ok(command.at(Cidr::stored(v4), Some(id)))
}

/// The pool of subnets that name none, if the caller may use it.
async fn default_pool(tx: &mut Tx<'_>) -> Result<Uuid, Fault> {
    let pool = find_default(tx.conn, tx.context.view).await?;
    pool.ok_or_else(|| Fault::bad_query("Bad subnets request: No default subnetpool found for IPv4."))
}

/// The pool of subnets that name none, as somebody sees it.
pub async fn find_default(conn: &mut AsyncPgConnection, view: Visibility) -> QueryResult<Option<Uuid>> {
    let defaults =
        SubnetPool::visible_to(view).filter(subnetpools::is_default.eq(true)).filter(subnetpools::ip_version.eq(4_i16));
    let pools: Vec<SubnetPool> = defaults.load(conn).await?;
    Ok(pools.into_iter().next().map(|pool| pool.id))
}
