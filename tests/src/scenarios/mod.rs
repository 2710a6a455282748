//! Scenarios that more than one test program runs, with other settings, or of which there are many.

pub mod broken;
pub mod direct;
pub mod errors;
pub mod group_cases;
pub mod label_policies;
pub mod lifecycle;
pub mod many_roles;
pub mod nouns;
pub mod paths;
pub mod replay;
pub mod role_changes;
