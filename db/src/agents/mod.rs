//! What agents report: themselves, their leases and acknowledgements, the wiring of ports; and
//! what follows from it for the status of ports.

pub mod promote;
pub mod register;
pub mod report;
