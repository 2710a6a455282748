//! The pure half of the agent: desired entries and local facts become the contents of maps, and
//! the difference to what is there becomes operations.
//!
//! # How it works
//!
//! Every entry of the feed is *rendered* by itself ([`render`]) into the map entries it claims,
//! with the help of the few other entries it refers to (a port needs its network's MTU, a subnet
//! its shard map). [`Planner`] keeps an index from what is referred to to who refers to it, so
//! that one changed entry renders again itself and its dependents alone. Where two entries claim
//! one map key (an address that two ports have for a moment), the claim of higher rank is in
//! force; when it goes, the other one takes over. So the result never depends on the order in
//! which entries arrived, and *incremental equals full*: a planner that saw a long history
//! desires the same as one that got the last state at once. A property test holds it to that.
//!
//! The rules of security groups belong to no entry alone: they are rendered for each *set* of
//! groups that a port here or an address bounced here has ([`filters`], [`policy`], [`rows`], [`label`]), as far as its
//! network has room for them ([`budget`]).
//!
//! # Order
//!
//! Programs run between any two operations. Additions go in the order of [`Key`], which lists
//! what is referred to before what refers to it; removals come after them, in the reverse order, and
//! generations of rules last of all, but that rules are missing is said first. An
//! entry that arrives before what it refers to is held: it renders nothing and is reported as a
//! [`Problem`], so a port without its network forwards nothing instead of something wrong.
//!
//! Removal needs authority: [`Planner::adopt`] compares with everything observed and is called
//! only once the desired state is known to be complete.

mod allowed;
mod budget;
mod drafting;
mod endpoint;
mod explain;
mod filters;
mod label;
mod planner;
mod policy;
mod render;
mod rows;
mod state;
mod table;
mod work;

pub use endpoint::{Endpoint, EndpointOption, EndpointRoute};
pub use explain::Judged;
pub use planner::{Planner, Problem};
pub use render::{Facts, Wiring, parse_mac};
pub use table::{Cidr, Key, Op, Prefix, Rule, Table, Value};
