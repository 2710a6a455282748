//! Tests against a real database. One binary, so that they share one server.

mod agents;
mod conflicts;
mod feed_gc;
mod feed_hosts;
mod feed_lag;
mod feed_plan;
mod feed_stress;
mod janitor_plan;
mod migrations;
mod schema;
mod tls;
mod world;
mod writes;
