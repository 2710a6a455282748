//! Real kernels for tests: private network and mount namespaces, in which an agent runs.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod api;
pub mod host;
pub mod links;
pub mod tap;
pub mod traffic;
pub mod world;

use std::time::{Duration, Instant};

/// Waits until a condition holds; panics with `what` after half a minute: on a loaded machine
/// everything takes its time, and a test that passes waits no longer than it must.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited half a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
