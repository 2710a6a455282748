//! The agent protocol and the bodies of entries (CONTROLPLANE sections 2, 7 and 9).
//!
//! An *entry* is one row of desired state: `(scope, slot, kind, key) -> body`. Commands and the
//! scheduler write them, hosts that subscribe to the scope receive them, the agent turns them
//! into map entries. Bodies are JSON: an operator reads them at three in the morning, and they
//! travel compressed. Unknown fields are refused; a changed meaning gets a new kind.

pub mod ask;
pub mod body;
pub mod entry;
pub mod live;
pub mod local;
pub mod log;
pub mod sync;
pub mod trace;

pub use body::Body;
pub use entry::{Entry, EntryKey, Kind, Scope};
