//! The kernel's side: maps, programs and links, behind one seam.
//!
//! [`Dataplane`] is what the planner's operations are executed on: [`kernel::Kernel`] with aya on
//! a host, [`memory::Memory`] in tests of everything above. What the programs write by themselves
//! (flows, counters, who owes an answer) is read through [`runtime::Runtime`], which opens the
//! pins a second time, so that a sweep through 100,000 flows blocks nobody. [`live::Live`] does the same with the
//! planned maps, for whoever only looks; [`counts::Counts`] is the flow log's.

pub mod counts;
pub mod fill;
pub mod kernel;
pub mod live;
pub mod marks;
pub mod memory;
mod pins;
mod raw;
pub mod runtime;

pub use pins::Pins;
pub use raw::{raw_event, raw_hop};

use mizar_plan::{Key, Table, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why the kernel refused something.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// A map operation.
    #[error("map {map}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// Loading, attaching or pinning a program.
    #[error("program {program}")]
    Program {
        /// Name of the program.
        program: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object does not fit this agent, or pinned maps do not fit the object.
    #[error("{0}")]
    Unfit(String),
    /// The file system of pins.
    #[error("{path}")]
    Io {
        /// What was opened, made or removed.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl PlaneError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.display().to_string(), source }
    }

    pub(crate) fn program<E: std::error::Error + Send + Sync + 'static>(program: &str) -> impl FnOnce(E) -> Self {
        let program = program.to_owned();
        move |source| Self::Program { program, source: Box::new(source) }
    }
}

/// The endpoint program, for whoever may wait: putting it on an interface takes a grace period of
/// RCU, some ten milliseconds, in which the planned maps must not stand still.
pub trait Guard: Send + Sync {
    /// Puts the endpoint program on an interface, or the current one in place of an older one,
    /// without a packet passing unfiltered or being lost. Where that was done, does nothing.
    fn bind(&self, ifname: &str, ifindex: u32) -> Result<(), PlaneError>;
}

/// Planned maps, and programs at endpoints.
pub trait Dataplane: Send {
    /// Everything in a map.
    fn dump(&self, table: Table) -> Result<Vec<(Key, Value)>, PlaneError>;
    /// Adds or overwrites an entry.
    fn put(&mut self, key: &Key, value: &Value) -> Result<(), PlaneError>;
    /// Removes an entry; one that is not there is no failure.
    fn remove(&mut self, key: &Key) -> Result<(), PlaneError>;
    /// The maps hold what is desired, and every endpoint has the current program: from now on the
    /// uplink's packets go by these maps too, which until now went by those of a predecessor with
    /// another layout, if there was one. Those are removed. May be repeated.
    fn engage(&mut self) -> Result<(), PlaneError>;
    /// Who puts the endpoint program on interfaces.
    fn guard(&self) -> Arc<dyn Guard>;
    /// Takes the program off. An interface that is gone, or has none, is no failure.
    fn detach(&mut self, ifindex: u32) -> Result<(), PlaneError>;
    /// Takes the program off every interface that is not listed.
    fn detach_others(&mut self, ifindexes: &BTreeSet<u32>) -> Result<(), PlaneError>;
}
