//! The REST surface, against a real server and a real database of each test's own.

mod address_scopes;
mod audit;
mod authorization;
mod bindings;
mod boot;
mod concurrency;
mod discovery;
mod frame;
mod hostile;
mod identity;
mod isolation;
mod listing;
mod networks;
mod observe;
mod openapi;
mod openstack_client;
mod operator;
mod ports;
mod program;
mod quotas;
mod rbac;
mod stampede;
mod subnets;
mod support;
mod tags;
