//! What a lost or returned lease does to a host and its ports.

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

statement! {
    MarkLost { hosts: Vec<i32> as Array<Integer> } -> BigInt
    {
        "UPDATE hosts SET lost_since = now() WHERE number IN (SELECT number FROM hosts WHERE number = ANY(" hosts
        ") ORDER BY number FOR NO KEY UPDATE)"
    }
}

statement! {
    MarkReturned { hosts: Vec<i32> as Array<Integer> } -> BigInt
    {
        "UPDATE hosts SET lost_since = NULL WHERE number IN (SELECT number FROM hosts WHERE number = ANY(" hosts
        ") AND lost_since IS NOT NULL ORDER BY number FOR NO KEY UPDATE)"
    }
}

/// Ports of hosts that are lost are down, and the hosts known to be lost, also to the next
/// leader. Returns how many ports changed.
pub async fn take_down(pool: &DbPool, fence: i64, hosts: Vec<u32>) -> Result<usize, Error> {
    let hosts: Vec<i32> = hosts.into_iter().map(u32::cast_signed).collect();
    fenced(pool, fence, move |conn| {
        let mark = MarkLost { hosts: hosts.clone() };
        let statement = TakeDown { reason: LOST.to_owned(), hosts: hosts.clone() };
        async move {
            mark.execute(conn).await?;
            Ok(statement.execute(conn).await?)
        }
        .boxed()
    })
    .await
}

/// The hosts are no longer lost, and ports that went down with them are being built again.
/// Returns how many ports changed.
pub async fn let_return(pool: &DbPool, fence: i64, hosts: Vec<u32>) -> Result<usize, Error> {
    let hosts: Vec<i32> = hosts.into_iter().map(u32::cast_signed).collect();
    fenced(pool, fence, move |conn| {
        let mark = MarkReturned { hosts: hosts.clone() };
        let statement = LetReturn { reason: LOST.to_owned(), hosts: hosts.clone() };
        async move {
            mark.execute(conn).await?;
            Ok(statement.execute(conn).await?)
        }
        .boxed()
    })
    .await
}

statement! {
    ReadDown { reason: String as Text } -> Integer
    {
        "SELECT host FROM ports WHERE status = 'DOWN' AND host IS NOT NULL AND status_reason = " reason
        " UNION SELECT number FROM hosts WHERE lost_since IS NOT NULL"
    }
}

/// Hosts that are lost, or have ports that went down with them, whichever leader saw to that.
pub async fn down(conn: &mut diesel_async::AsyncPgConnection) -> Result<std::collections::BTreeSet<u32>, Error> {
    let hosts: Vec<i32> = ReadDown { reason: LOST.to_owned() }.load(conn).await?;
    hosts.into_iter().map(|host| super::unsigned("ports", "host", host)).collect()
}
