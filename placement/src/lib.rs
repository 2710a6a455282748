//! Where transit roles go: pure decisions, no clock, no database, no randomness.
//!
//! The question that the original left open was where its transit switches are placed, and on
//! what principle. The principle here:
//!
//! - **Who may**: hosts whose label admits transit and whose lease lives ([`host`]).
//! - **Where first**: weighted rendezvous hashing over ordered failure domains (zone, rack,
//!   host), with a fixed hash, so that any replica of the scheduler computes the same ([`rank`]).
//!   A host that comes or goes changes the rank of no other pair of hosts.
//! - **Apart**: replicas of one demand spread over zones, then over racks: two never share a zone
//!   where two exist, nor a rack where two exist. This rule is stronger than the cap.
//! - **Not too much**: a host holds at most (1 + epsilon) of its fair share of all entries
//!   ([`shares`]). Demands cannot be cut, so a host below its fair share takes one more whole one.
//! - **Stay**: assignments are stored, and a stored one moves only for a reason: its host may no
//!   longer, two replicas share a domain they need not share, or its host is over its cap and
//!   another one has room ([`plan`](mod@plan)). Computing everything anew would move 30 times more.
//!
//! [`check`] states these rules a second time, independently and without regard to speed; the
//! property tests hold the planner to it and to a naive oracle. [`shards`] decides into how many
//! ranges a subnet is cut, [`pairs`] who replaces whom, [`failure`] when lost hosts are not to be
//! believed.

pub mod check;
pub mod failure;
pub mod host;
pub mod pairs;
pub mod plan;
pub mod rank;
pub mod shards;
pub mod shares;
mod topology;

pub use host::{Host, Transit};
pub use plan::{Demand, DemandKey, Rules, plan};
