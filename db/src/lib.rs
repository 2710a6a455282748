//! The database: schema, pool, migrations, the writers and readers of the feed.
//!
//! - [`schema`]: the tables; `migrations/` has the truth.
//! - [`pool`]: connections and their settings; retries.
//! - [`entries`]: how commands and the scheduler write desired state.

mod statement;

pub mod entries;
pub mod migrate;
pub mod pool;
#[expect(missing_docs, reason = "diesel's macro writes the items; the columns are documented in the migrations")]
pub mod schema;

pub use pool::{Connection, DbPool};
