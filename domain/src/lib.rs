//! Types and rules of the cloud network, without I/O.
//!
//! Everything a tenant may ask for is a command here, checked by pure functions; the database adds
//! what other objects say about it, the API how it is asked. Errors name the attribute and carry
//! Neutron's wording, because tenants' tools show it as it is.

pub mod cidr;
pub mod dhcp_option;
pub mod dns;
pub mod id;
pub mod ipam;
pub mod label_policy;
pub mod mac;
pub mod model;
pub mod network;
pub mod patch;
pub mod policy;
pub mod pool;
pub mod port;
pub mod port_binding;
pub mod port_extras;
pub mod qos;
pub mod security_group;
pub mod subnet;
pub mod subnet_pool;
pub mod text;
pub mod vni;
