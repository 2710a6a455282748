//! How networks, ports and floating IPs get QoS policies.
//!
//! One may give what one sees, one's own and what is shared with one. What an operator gave a
//! tenant's object without showing the tenant the policy, the tenant cannot take away: a limit
//! would be none otherwise.

use super::qos_policies::QosPolicy;
use crate::frame::decode::Decode;
use crate::frame::fault::Fault;
use crate::frame::plain::Plain as _;
use crate::frame::resource::Tx;
use mizar_db::listing;
use mizar_db::resources::qos;
use mizar_domain::id::QosPolicyId;
use serde_json::Value;
use std::collections::BTreeSet;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

impl Decode for QosPolicyId {
    fn decode(value: &Value) -> Result<Self, String> {
        Uuid::decode(value).map(Into::into)
    }

    fn schema() -> RefOr<Schema> {
        Uuid::schema()
    }
}

async fn is_visible(tx: &mut Tx<'_>, policy: Uuid) -> Result<bool, Fault> {
    Ok(listing::find::<QosPolicy>(tx.conn, tx.context.view, None, policy).await?.is_some())
}

/// Lets a new object have a policy. It stays, and stays visible to the caller, until the end of the
/// transaction.
async fn give(tx: &mut Tx<'_>, policy: Uuid) -> Result<(), Fault> {
    // What the caller does not see is not locked for him; what he sees is read again then.
    if is_visible(tx, policy).await? {
        qos::keep(tx.conn, policy).await?;
        if is_visible(tx, policy).await? {
            return Ok(());
        }
    }
    Err(Fault::not_found(QosPolicy::NOT_FOUND, format!("QoS policy {policy} could not be found.")))
}

/// The same of several new objects: each policy once, in the order in which all lock them.
pub async fn give_all(tx: &mut Tx<'_>, policies: impl IntoIterator<Item = Uuid>) -> Result<(), Fault> {
    for policy in policies.into_iter().collect::<BTreeSet<_>>() {
        give(tx, policy).await?;
    }
    Ok(())
}

/// Lets an object have another policy than it has.
pub async fn change(tx: &mut Tx<'_>, old: Option<Uuid>, new: Option<Uuid>) -> Result<(), Fault> {
    if old == new {
        return Ok(());
    }
    if let Some(old) = old
        && !is_visible(tx, old).await?
    {
        let message = format!("Failed to remove provided policy {old} because you are not authorized.");
        return Err(Fault::refused(403, "PolicyRemoveAuthorizationError", message));
    }
    match new {
        Some(new) => give(tx, new).await,
        None => Ok(()),
    }
}
