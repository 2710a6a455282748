//! Real kernels for tests: private network and mount namespaces, in which an agent runs.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod api;
pub mod host;
pub mod links;
pub mod world;

use std::time::{Duration, Instant};

/// Waits until a condition holds; panics with `what` after ten seconds.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
