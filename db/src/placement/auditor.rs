//! The scheduler's side of [`crate::audit`]: a repair that only a leader makes.

use super::{Error, fenced};
use crate::DbPool;
use crate::audit::{Finding, repair};
use futures::FutureExt;
use std::sync::Arc;

/// Repairs what of one batch is still wrong; returns what that was.
pub async fn mend(pool: &DbPool, fence: i64, findings: Vec<Finding>) -> Result<Vec<Finding>, Error> {
    let findings = Arc::new(findings);
    fenced(pool, fence, move |conn| {
        let findings = Arc::clone(&findings);
        async move { Ok(repair(conn, &findings).await?) }.boxed()
    })
    .await
}
