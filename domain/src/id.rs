//! Identifiers, one type each, so that a subnet's id is never taken for a port's.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The bare id, for a column or a key.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A tenant.
    ProjectId,
    /// A user of the embedded identity service.
    UserId,
    /// A network: a VPC with a VNI.
    NetworkId,
    /// A subnet of a network.
    SubnetId,
    /// A port: one interface of a machine.
    PortId,
    /// A host.
    HostId,
    /// A security group.
    SecurityGroupId,
    /// An address group.
    AddressGroupId,
    /// A label policy.
    LabelPolicyId,
    /// A QoS policy.
    QosPolicyId,
}
