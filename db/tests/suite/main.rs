//! Tests against a real database. One binary, so that they share one server.

mod schema;
