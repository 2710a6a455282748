//! The agent of a host: brings its data plane to what the API wants, and attaches ports.
//!
//! ```text
//!  API ── sync ──> core ── plan ──> dataplane (maps, programs)
//!                   ^ │ └── ledger (what was last told, on disk)
//!  socket ─ attach ─┘ └──> links (interfaces)
//! ```
//!
//! - [`core`]: the state, and each step of it. Takes no time.
//! - [`sync`]: where desired state comes from; [`ledger`], [`store`]: how it is kept.
//! - [`dataplane`]: maps, programs and their pins; [`links`]: interfaces.
//! - [`attach`], [`socket`]: what orchestrators call; [`status`], [`operators`]: what operators see.
//! - [`answers`]: what the API asks of this host; [`seeing`]: what it is told. [`flow_log`]: what passed.
//! - [`events`], [`dhcp`], [`probe`], [`control`], [`keeper`]: what goes on meanwhile.
//!
//! The agent may die at any point: forwarding is the kernel's, pinned; the next agent adopts
//! everything. The API may be away for any time: the ledger says what is desired.

pub mod answers;
pub mod attach;
mod bursts;
pub mod clock;
pub mod config;
pub mod confirm;
pub mod control;
pub mod core;
pub mod dataplane;
pub mod dhcp;
pub mod events;
pub mod flow_log;
pub mod frames;
pub mod introduce;
pub mod keeper;
pub mod ledger;
pub mod links;
pub mod object;
pub mod operators;
pub mod probe;
pub mod reports;
pub mod run;
pub mod seeing;
pub mod socket;
pub mod status;
pub mod store;
pub mod sync;
