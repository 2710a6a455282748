//! What a host says of what its programs do.

pub mod drops;
