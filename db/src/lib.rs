//! The database: schema, pool, migrations, the writers and readers of the feed.
//!
//! - [`schema`]: the tables; `migrations/` has the truth.
//! - [`pool`]: connections and their settings; retries. [`turns`]: who gets one next.
//! - [`agents`]: what agents report.
//! - [`audit`]: whether desired state is what the tables say.
//! - [`entries`]: how commands and the scheduler write desired state.
//! - [`resources`]: commands on tenants' objects; [`listing`]: how these are found.
//! - [`identity`]: accounts, their roles, and revoked tokens.
//! - [`placement`]: what the scheduler reads and writes.
//! - [`questions`]: what hosts are asked, and answer.

mod statement;

pub mod agents;
pub mod audit;
pub mod entries;
pub mod feed;
pub mod identity;
pub mod ledger;
pub mod listing;
pub mod migrate;
pub mod placement;
pub mod pool;
pub mod questions;
pub mod quotas;
pub mod resources;
#[expect(missing_docs, reason = "diesel's macro writes the items; the columns are documented in the migrations")]
pub mod schema;
pub mod sharing;
mod tls;
pub mod turns;

pub use pool::{Connection, DbPool};

/// An error with its causes, for a log line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
