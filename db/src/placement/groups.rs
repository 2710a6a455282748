//! What is left of security groups: includes of their rules that nothing needs any more, and
//! combinations of groups that no port has.
//!
//! The lock that keeps commands from needing what is being removed is the row of a group: commands
//! on ports hold the rows of their groups, and commands on rules the row of the rules' group. No
//! lock of a network would do, for a group is used on any number of them.

use super::{Error, fenced};
use crate::resources::group_set;
use crate::statement::statement;
use crate::{DbPool, entries};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Sets that one transaction forgets.
const BATCH: i64 = 200;

/// Labels that one look forgets.
const LABELS: i64 = 5_000;

/// An include by, or of, a scope of a security group; by its column values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnusedRules {
    /// Number of the group whose row holds it; negative: of the project with labels.
    pub group: i32,
    /// The scope that needed.
    pub scope: i64,
    /// The slot of it.
    pub slot: i16,
    /// What it needed.
    pub target: i64,
}

statement! {
    /// Numbers in scopes: host (2), subnet (5), a group's ingress (7) and egress rules (8), its peers
    /// (9), an address group (10), a project's label policies of ingress (11) and egress (12), its sets
    /// with labels (13).
    FindUnused { group: Option<i32> as Nullable<Integer> } -> (Integer, BigInt, SmallInt, BigInt)
    {
        "WITH f AS (SELECT " group "::integer AS number), groups AS (SELECT g.id, g.number FROM f \
           JOIN security_groups g ON f.number IS NULL OR g.number = f.number), \
         members AS (SELECT p.id, p.host, g.number FROM groups g \
           JOIN port_security_groups m ON m.security_group_id = g.id \
           JOIN ports p ON p.id = m.port_id WHERE p.host IS NOT NULL AND p.group_set IS NOT NULL), \
         labelled AS (SELECT p.id, p.host, (p.extras->'label_set'->>'project')::bigint AS project FROM f JOIN ports p \
             ON f.number IS NULL \
             WHERE p.host IS NOT NULL AND p.group_set IS NOT NULL AND p.extras ? 'label_set' \
           UNION ALL SELECT p.id, p.host, -f.number::bigint FROM f JOIN ports p \
             ON (p.extras->'label_set'->>'project')::integer = -f.number \
             WHERE p.host IS NOT NULL AND p.group_set IS NOT NULL AND p.extras ? 'label_set'), \
         named AS (SELECT CASE r.direction WHEN 'ingress' THEN 7 ELSE 8 END::bigint << 32 | g.number AS scope, r.* \
           FROM groups g JOIN security_group_rules r ON r.security_group_id = g.id), \
         needed AS (SELECT 5::bigint << 32 | s.number AS scope, a.slot, 7::bigint << 32 | m.number AS target \
             FROM members m JOIN port_ips a ON a.port_id = m.id JOIN subnets s ON s.id = a.subnet_id \
           UNION ALL SELECT 2::bigint << 32 | m.host, -1, 8::bigint << 32 | m.number FROM members m \
           UNION ALL SELECT n.scope, -1, 9::bigint << 32 | r.number FROM named n \
             JOIN security_groups r ON r.id = n.remote_group_id \
           UNION ALL SELECT n.scope, -1, 10::bigint << 32 | r.number FROM named n \
             JOIN address_groups r ON r.id = n.remote_address_group_id \
           UNION ALL SELECT 5::bigint << 32 | s.number, a.slot, 11::bigint << 32 | l.project FROM labelled l \
             JOIN port_ips a ON a.port_id = l.id JOIN subnets s ON s.id = a.subnet_id \
           UNION ALL SELECT 2::bigint << 32 | l.host, -1, 12::bigint << 32 | l.project FROM labelled l \
           UNION ALL SELECT k.kind << 32 | n.number, -1, 13::bigint << 32 | n.number FROM label_projects n, \
             (VALUES (11::bigint), (12::bigint)) k (kind) WHERE EXISTS (SELECT FROM label_policies p \
             WHERE p.project_id = n.id)), \
         held AS (SELECT (CASE WHEN i.target >> 32 IN (7, 8, 11, 12) THEN i.target ELSE i.scope END \
             & 4294967295)::integer * CASE WHEN i.target >> 32 IN (11, 12, 13) THEN -1 ELSE 1 END AS holder, i.* \
             FROM includes i WHERE NOT i.deleted AND i.target >> 32 BETWEEN 7 AND 13) \
         SELECT h.holder, h.scope, h.slot, h.target FROM held h, f WHERE (f.number IS NULL OR h.holder = f.number) \
         AND NOT EXISTS (SELECT FROM needed n WHERE n.scope = h.scope AND n.slot = h.slot AND n.target = h.target)"
    }
}

/// The statement by which the janitor finds what is unused: with a number, while it holds that row alone.
pub fn text() -> String {
    let query = diesel::debug_query::<diesel::pg::Pg, _>(&FindUnused { group: None }).to_string();
    query.split(" -- binds").next().unwrap_or_default().to_owned()
}

statement! {
    LockGroup { group: i32 as Integer } -> Integer
    { "SELECT number FROM security_groups WHERE number = " group " FOR UPDATE" }
}

statement! {
    LockProject { number: i32 as Integer } -> Integer
    { "SELECT number FROM label_projects WHERE number = " number " FOR UPDATE" }
}

async fn find(conn: &mut AsyncPgConnection, group: Option<i32>) -> Result<BTreeSet<UnusedRules>, Error> {
    let rows: Vec<(i32, i64, i16, i64)> = FindUnused { group }.load(conn).await?;
    let include = |(group, scope, slot, target)| UnusedRules { group, scope, slot, target };
    Ok(rows.into_iter().map(include).collect())
}

/// Includes that nothing needs at this moment.
pub async fn unused(conn: &mut AsyncPgConnection) -> Result<BTreeSet<UnusedRules>, Error> {
    find(conn, None).await
}

/// Removes those of the includes, all held by one group, that are still unused while its row is
/// held alone. Returns how many.
pub async fn remove(pool: &DbPool, fence: i64, group: i32, includes: Vec<UnusedRules>) -> Result<usize, Error> {
    let includes = Arc::new(includes);
    fenced(pool, fence, move |conn| {
        let includes = Arc::clone(&includes);
        async move {
            // Where it is gone there is nobody to keep out.
            if group > 0 {
                LockGroup { group }.execute(conn).await?;
            } else {
                LockProject { number: -group }.execute(conn).await?;
            }
            let still = find(conn, Some(group)).await?;
            let gone = includes.iter().filter(|include| still.contains(include));
            let gone = gone.map(|include| (include.scope, include.slot, include.target));
            Ok(entries::remove_includes(conn, gone).await?)
        }
        .boxed()
    })
    .await
}

statement! {
    /// Takes note of which sets ports have.
    LookAtSets {} -> Integer
    {
        "UPDATE group_sets s SET unused_since = CASE WHEN u.used THEN NULL ELSE now() END FROM \
         (SELECT number, EXISTS (SELECT FROM ports p WHERE p.group_set = s.number) AS used FROM group_sets s) u \
         WHERE u.number = s.number AND u.used = (s.unused_since IS NOT NULL) RETURNING s.number"
    }
}

statement! {
    /// Whoever gives a set to a port at this moment holds its row; it is used, then.
    LockUnusedSets { longer: i64 as BigInt, most: i64 as BigInt } -> Integer
    {
        "SELECT number FROM group_sets WHERE unused_since < now() - " longer
        " * interval '1 microsecond' ORDER BY number LIMIT " most " FOR UPDATE SKIP LOCKED"
    }
}

statement! {
    DeleteUnusedSets { numbers: Vec<i32> as Array<Integer> } -> (Integer, Array<Integer>)
    {
        "DELETE FROM group_sets s WHERE s.number = ANY(" numbers
        ") AND s.unused_since IS NOT NULL AND NOT EXISTS (SELECT FROM ports p WHERE p.group_set = s.number) \
         RETURNING s.number, s.groups"
    }
}

/// Looks which combinations of groups and labels ports have, and forgets those that none has had for
/// `longer`. Returns how many.
///
/// To look is to go through all of them, so it is done once, and only to forget goes by batches. Labels go
/// with the look after that which forgot their last combination.
pub async fn forget_sets(pool: &DbPool, fence: i64, longer: Duration) -> Result<usize, Error> {
    let longer = i64::try_from(longer.as_micros()).unwrap_or(i64::MAX);
    fenced(pool, fence, move |conn| {
        async move {
            LookAtSets {}.execute(conn).await?;
            Ok(forget_labels(conn, longer).await?)
        }
        .boxed()
    })
    .await?;
    let mut all = 0;
    loop {
        let gone = forget_batch(pool, fence, longer).await?;
        if gone == 0 {
            return Ok(all);
        }
        all += gone;
    }
}

async fn forget_batch(pool: &DbPool, fence: i64, longer: i64) -> Result<usize, Error> {
    fenced(pool, fence, move |conn| {
        async move {
            let numbers: Vec<i32> = LockUnusedSets { longer, most: BATCH }.load(conn).await?;
            if numbers.is_empty() {
                return Ok(0);
            }
            // Looked at again once they are locked: a port that was made before is seen now.
            let gone: Vec<(i32, Vec<i32>)> = DeleteUnusedSets { numbers }.load(conn).await?;
            group_set::forget(conn, &gone).await?;
            Ok(gone.len())
        }
        .boxed()
    })
    .await
}

statement! {
    /// Whoever needs labels at this moment holds their row.
    LockUnusedLabels { longer: i64 as BigInt, most: i64 as BigInt } -> Integer
    {
        "SELECT l.number FROM label_sets l WHERE l.created_at < now() - " longer
        " * interval '1 microsecond' AND NOT EXISTS (SELECT FROM group_sets s WHERE s.groups @> ARRAY[-l.number]) \
         ORDER BY l.number LIMIT " most " FOR UPDATE SKIP LOCKED"
    }
}

statement! {
    DeleteUnusedLabels { numbers: Vec<i32> as Array<Integer> } -> Integer
    {
        "DELETE FROM label_sets l WHERE l.number = ANY(" numbers
        ") AND NOT EXISTS (SELECT FROM group_sets s WHERE s.groups @> ARRAY[-l.number]) RETURNING l.number"
    }
}

/// Forgets labels that are in no combination.
async fn forget_labels(conn: &mut AsyncPgConnection, longer: i64) -> QueryResult<()> {
    let numbers: Vec<i32> = LockUnusedLabels { longer, most: LABELS }.load(conn).await?;
    if !numbers.is_empty() {
        DeleteUnusedLabels { numbers }.execute(conn).await?;
    }
    Ok(())
}
