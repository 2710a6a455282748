//! Rules of a port's bindings to several hosts, as migrations need them.
//!
//! One binding is active: the port is on that host. The others name hosts that it may go to, and
//! nothing is done for them until one is activated.

use crate::id::PortId;
use crate::port::VnicType;

/// Device owners of virtual machines: only these migrate.
const COMPUTE: &str = "compute:";

/// Another host for a port.
#[derive(Clone, Debug)]
pub struct NewBinding {
    /// Its name.
    pub host: String,
    /// `binding:vnic_type` there.
    pub vnic_type: VnicType,
    /// `binding:profile` there.
    pub profile: serde_json::Value,
}

/// Changes a binding. `None` leaves the attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct ChangeBinding {
    /// `binding:vnic_type` there.
    pub vnic_type: Option<VnicType>,
    /// `binding:profile` there.
    pub profile: Option<serde_json::Value>,
}

/// Why a binding cannot be made, changed or activated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not a virtual machine's.
    #[error("Bad port request: Invalid port {0}. Operation only valid on compute ports.")]
    NotCompute(PortId),
    /// Active or not.
    #[error("Binding for port {port} on host {host} already exists.")]
    Exists {
        /// The port.
        port: PortId,
        /// The host.
        host: String,
    },
    /// It is what it shall become.
    #[error("Binding for port {port} on host {host} is already active.")]
    AlreadyActive {
        /// The port.
        port: PortId,
        /// The host.
        host: String,
    },
    /// The host cannot take the port.
    #[error("Binding for port {port} on host {host} could not be created or updated: {reason}.")]
    Impossible {
        /// The port.
        port: PortId,
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
}

/// Only ports of virtual machines migrate.
pub fn check_compute(port: PortId, device_owner: &str) -> Result<(), BindingError> {
    if device_owner.starts_with(COMPUTE) { Ok(()) } else { Err(BindingError::NotCompute(port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_of_machines_have_several_bindings() {
        let port = PortId::random();
        assert_eq!(check_compute(port, "compute:nova"), Ok(()));
        for owner in ["", "network:dhcp", "Compute:", "computer"] {
            assert_eq!(check_compute(port, owner), Err(BindingError::NotCompute(port)), "{owner}");
        }
    }
}
