//! Interfaces of ports.
//!
//! An interface is named `tap` and the first 11 characters of the port's id (as Neutron's agents
//! do, and as libvirt is told), and carries two marks: a link group, given in the very message
//! that makes it, says that it is ours; its alias, set last, says that it is finished and for what
//! it was made. So the kernel itself keeps the list of attachments: nothing on disk can disagree
//! with it, and a restart adopts what is finished and removes what is not.
//!
//! Order: made (down) - guarded by the program - host's end up - inner end configured and up -
//! marked as finished. So no frame of an endpoint ever meets the host's own stack; and the inner
//! end finds its carrier when it comes up, and sends at once: the end that is up first gets its
//! queue from a work queue of the kernel, some milliseconds or a second later.

mod describe;
pub mod netlink;
mod netns;
mod tap;

use mizar_abi::maps::EpKind;
use mizar_plan::Endpoint;
use mizar_wire::local::AttachKind;
use std::future::Future;
use uuid::Uuid;

pub use describe::{host_ifname, parse_alias, write_alias};

/// An interface as the kernel made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Name of the host's end.
    pub ifname: String,
    /// Its index.
    pub ifindex: u32,
    /// Index of the inner end if that is in the host's own namespace, else 0.
    pub inner_ifindex: u32,
}

/// An interface that serves a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The port.
    pub port: Uuid,
    /// What was asked for.
    pub kind: AttachKind,
    /// What there is.
    pub made: Made,
}

impl Interface {
    /// How the programs deliver to it.
    pub fn delivery(&self) -> EpKind {
        match self.kind {
            AttachKind::Container { .. } => EpKind::Veth,
            AttachKind::Tap => EpKind::Tap,
            AttachKind::Host { .. } => EpKind::Host,
        }
    }
}

/// Why an interface could not be made, configured or removed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The caller's mistake: nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The kernel's answer.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LinkError {
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }
}

/// What a survey found of ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Finished interfaces.
    pub whole: Vec<Interface>,
    /// Remains of a crash.
    pub half: Vec<Made>,
}

/// Makes, configures and removes interfaces. Every call may be repeated.
pub trait Links: Clone + Send + Sync + 'static {
    /// Everything of ours that exists.
    fn survey(&self) -> impl Future<Output = Result<Survey, LinkError>> + Send;
    /// Makes an interface, down and bare. Remains of the same port are replaced.
    fn make(&self, port: Uuid, kind: &AttachKind) -> impl Future<Output = Result<Made, LinkError>> + Send;
    /// Brings it up, and gives its inner end MAC, MTU, addresses and routes.
    fn configure(
        &self,
        interface: &Interface,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Marks it finished.
    fn finish(&self, interface: &Interface) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Whether it is still there, both ends, where it was made: a namespace's path may have come
    /// to mean another namespace.
    fn is_sound(&self, interface: &Interface) -> impl Future<Output = bool> + Send;
    /// Removes it. One that is gone is no failure.
    fn remove(&self, made: &Made) -> impl Future<Output = Result<(), LinkError>> + Send;
}
