//! What a host says of what its programs do, and would do.
//!
//! - [`drops`]: what they dropped.
//! - [`flows`]: which flows ports have.
//! - [`watch`]: what they did with a packet that is followed.
//! - [`trace`]: what they would do with a packet; [`record`]: what is looked up for that.

pub mod drops;
pub mod flows;
pub mod record;
pub mod trace;
pub mod watch;
