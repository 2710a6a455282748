//! Commands on tenants' objects: locks, rows and entries of one transaction.
//!
//! Every function here runs inside the caller's transaction and follows one order: the networks'
//! locks, a read in the next statement, the domain's rules, the rows, then the entries as the
//! difference of what the object compiled to before and after (CONTROLPLANE section 3).

pub mod address;
pub mod applied;
pub mod attached;
pub mod auto_topology;
pub mod availability;
pub(crate) mod group_set;
pub mod host;
pub mod l3;
pub mod label_policy;
pub mod network;
pub mod policy;
pub mod port;
pub mod port_binding;
pub mod port_commands;
pub mod port_extras;
mod port_insert;
pub mod preview;
pub mod qos;
pub mod reach;
pub mod role;
pub mod security_group;
pub mod seeing;
pub mod subnet;
pub mod trunk;

use crate::pool::{Conflict, PoolError, is_conflict};
use diesel::result::{DatabaseErrorKind, Error};
use ipnet::IpNet;
use mizar_domain::network::{DeleteNetworkError, NetworkError};
use mizar_domain::port::PortError;
use mizar_domain::port_binding::BindingError;
use mizar_domain::subnet::{DeleteSubnetError, SubnetError};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// What kind of object a command did not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A network.
    Network,
    /// A subnet.
    Subnet,
    /// A port.
    Port,
    /// A host.
    Host,
    /// A rule of a security group.
    SecurityGroupRule,
    /// An address group.
    AddressGroup,
    /// A label policy.
    LabelPolicy,
}

impl ObjectKind {
    /// As Neutron's error types begin.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Subnet => "Subnet",
            Self::Port => "Port",
            Self::Host => "Host",
            Self::SecurityGroupRule => "SecurityGroupRule",
            Self::AddressGroup => "AddressGroup",
            Self::LabelPolicy => "LabelPolicy",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not there, or not visible to the caller: the same to him.
    #[error("{kind} {id} could not be found.")]
    NotFound {
        /// Of which kind.
        kind: ObjectKind,
        /// As the caller wrote it.
        id: String,
    },
    /// Visible, but only its owner or an administrator may do this.
    #[error("rule:{0} is disallowed by policy")]
    Forbidden(&'static str),
    /// The domain says no.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The domain says no.
    #[error(transparent)]
    DeleteNetwork(#[from] DeleteNetworkError),
    /// The domain says no.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// The domain says no.
    #[error(transparent)]
    DeleteSubnet(#[from] DeleteSubnetError),
    /// The domain says no.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The domain says no.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Others were faster so many times that giving up is kinder than going on.
    #[error("too many requests want the same addresses at once; try again")]
    Contended,
    /// Ports of a project would have more different labels.
    #[error("the ports of a project may have {0} different labels; those that none has any more count for some hours")]
    TooManyLabels(i64),
    /// The manifests of a project would be longer.
    #[error("the manifests of a project's label policies may have {0} bytes together")]
    TooLongManifests(i64),
    /// A stored value is not what this program ever writes.
    #[error("column {column} of {kind} {id} holds what cannot be read")]
    Corrupt {
        /// Of which kind.
        kind: ObjectKind,
        /// Which object.
        id: Uuid,
        /// Where.
        column: &'static str,
    },
    /// No connection.
    #[error("the database cannot be reached")]
    Pool(#[from] PoolError),
    /// A statement failed.
    #[error("a database statement failed")]
    Database(#[from] Error),
}

impl Conflict for Failure {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if is_conflict(error))
    }
}

impl Failure {
    pub(crate) fn not_found(kind: ObjectKind, id: impl fmt::Display) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}

/// The name of the constraint that a statement broke: names are ours, message texts are not.
pub fn violated(error: &Error) -> Option<&str> {
    match error {
        Error::DatabaseError(
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::ExclusionViolation,
            info,
        ) => info.constraint_name(),
        _ => None,
    }
}

/// A single address as an `inet` column takes it.
pub(crate) fn inet(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// An `inet` column that holds a single IPv4 address.
pub(crate) fn ipv4(column: IpNet) -> Option<Ipv4Addr> {
    match column.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
