//! What operators ask a process: `/metrics`, `/healthz` and `/readyz`, without authentication, on a
//! listener of their own that belongs on loopback or a management network.
//!
//! The API has a web server anyway and serves these by it. The scheduler and the agent have none, and
//! an agent shall stay small on hosts that are somebody else's: for them there is [`serve`], which
//! knows of HTTP/1.1 what three pages need. [`Process`] is common to all.

mod listener;
mod process;

use std::time::Duration;

pub use listener::{Check, Operated, serve};
pub use process::Process;

/// OpenMetrics' own type.
pub const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/readyz` says: whether all is well, and the page. Who is no operator is not told why.
pub fn readiness(checks: &[Check], reasons: bool) -> (bool, serde_json::Value) {
    let ready = checks.iter().all(|(_, failure)| failure.is_none());
    let shown = checks.iter().map(|(name, failure)| {
        let text = match failure {
            None => "ok",
            Some(why) if reasons => why,
            Some(_) => "failing",
        };
        ((*name).to_owned(), serde_json::Value::from(text))
    });
    let shown: serde_json::Map<_, _> = shown.collect();
    (ready, serde_json::json!({"status": if ready { "ready" } else { "not ready" }, "checks": shown}))
}

/// A number of things, as gauges hold it.
pub fn gauge(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

/// What is wrong with somebody who was last heard of so long ago (`None`: never) and may be silent for so long.
pub fn silent(since: Option<Duration>, allowed: Duration) -> Option<String> {
    match since {
        Some(since) if since <= allowed => None,
        Some(since) => Some(format!("not heard of for {:.1} s", since.as_secs_f64())),
        None => Some("not reached yet".to_owned()),
    }
}
