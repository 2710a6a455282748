//! Where desired state comes from.
//!
//! [`source::StateSource`] is the seam: [`http::Http`] on a host, a channel in tests.
//! [`follow::Follower`] is the loop over it: register, sync, acknowledge, report.

pub mod backoff;
pub mod follow;
pub mod http;
pub mod source;
