//! What a lost or returned lease does to a host's ports.

use super::{Error, fenced};
use crate::DbPool;
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel_async::RunQueryDsl;
use futures::FutureExt;

/// `status_reason` of ports that are down because their host's lease ended. Names the cause for
/// the tenant, and the ports that come back with the host.
pub const LOST: &str = "its host does not answer";

statement! {
    TakeDown { reason: String as Text, hosts: Vec<i32> as Array<Integer> } -> BigInt
    {
        "UPDATE ports SET status = 'DOWN', status_reason = " reason
        ", revision_number = revision_number + 1, updated_at = now() WHERE id IN (SELECT id FROM ports \
         WHERE status IN ('ACTIVE', 'BUILD') AND host = ANY(" hosts ") ORDER BY id FOR UPDATE)"
    }
}

statement! {
    /// BUILD, not ACTIVE: whether the bouncers hold the address is judged as for a new port.
    LetReturn { reason: String as Text, hosts: Vec<i32> as Array<Integer> } -> BigInt
    {
        "UPDATE ports SET status = 'BUILD', status_reason = '', revision_number = revision_number + 1, \
         updated_at = now() WHERE id IN (SELECT id FROM ports WHERE status = 'DOWN' AND status_reason = " reason
        " AND host = ANY(" hosts ") ORDER BY id FOR UPDATE)"
    }
}

/// Ports of hosts that are lost are down. Returns how many changed.
pub async fn take_down(pool: &DbPool, fence: i64, hosts: Vec<u32>) -> Result<usize, Error> {
    let hosts: Vec<i32> = hosts.into_iter().map(u32::cast_signed).collect();
    fenced(pool, fence, move |conn| {
        let statement = TakeDown { reason: LOST.to_owned(), hosts: hosts.clone() };
        async move { Ok(statement.execute(conn).await?) }.boxed()
    })
    .await
}

/// Ports that went down with their hosts are being built again. Returns how many changed.
pub async fn let_return(pool: &DbPool, fence: i64, hosts: Vec<u32>) -> Result<usize, Error> {
    let hosts: Vec<i32> = hosts.into_iter().map(u32::cast_signed).collect();
    fenced(pool, fence, move |conn| {
        let statement = LetReturn { reason: LOST.to_owned(), hosts: hosts.clone() };
        async move { Ok(statement.execute(conn).await?) }.boxed()
    })
    .await
}

statement! {
    ReadDown { reason: String as Text } -> Integer
    { "SELECT DISTINCT host FROM ports WHERE status = 'DOWN' AND host IS NOT NULL AND status_reason = " reason "" }
}

/// Hosts with ports that went down with them, whichever leader saw to that.
pub async fn down(conn: &mut diesel_async::AsyncPgConnection) -> Result<std::collections::BTreeSet<u32>, Error> {
    let hosts: Vec<i32> = ReadDown { reason: LOST.to_owned() }.load(conn).await?;
    hosts.into_iter().map(|host| super::unsigned("ports", "host", host)).collect()
}
