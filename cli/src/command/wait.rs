//! `--wait`, and what is shown meanwhile.

use super::failure::{Exit, Problem};
use anyhow::Result;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks. An object is there within a few milliseconds, or after somebody attached it.
const BETWEEN: Duration = Duration::from_millis(200);

/// A line on standard error: rewritten on a terminal, and elsewhere written once for each state.
struct Progress {
    terminal: bool,
    shown: String,
}

impl Progress {
    fn show(&mut self, state: &str, since: Duration) {
        let mut out = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop waiting.
        if self.terminal {
            let _ = write!(out, "\r\x1b[K{state} ({} s)", since.as_secs());
            let _ = out.flush();
        } else if self.shown != state {
            let _ = writeln!(out, "{state}");
        }
        state.clone_into(&mut self.shown);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && !self.shown.is_empty() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Waits until the object is ACTIVE; `look` reads it again.
pub fn until_active(
    noun: &str,
    object: Value,
    patience: Duration,
    look: impl FnMut() -> Result<Value>,
) -> Result<Value> {
    let progress = Progress { terminal: std::io::stderr().is_terminal(), shown: String::new() };
    waiting(noun, object, patience, progress, look)
}

fn waiting(
    noun: &str,
    mut object: Value,
    patience: Duration,
    mut progress: Progress,
    mut look: impl FnMut() -> Result<Value>,
) -> Result<Value> {
    let start = Instant::now();
    let words = |object: &Value, name: &str| super::render::cell(&object[name]);
    loop {
        let (status, reason) = (words(&object, "status"), words(&object, "mizar:status_reason"));
        let name = match words(&object, "name") {
            name if name.is_empty() => words(&object, "id"),
            name => name,
        };
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        match status.as_str() {
            "ACTIVE" => return Ok(object),
            "ERROR" => {
                let problem = Problem::new(Exit::Error, format!("{noun} {name} is in ERROR{because}"));
                return Err(problem.hint("bind it again after the reason is gone, or delete it").into());
            }
            _ => {}
        }
        // An administrator's view says so; a tenant's has no host.
        let unbound = object.get("binding:host_id").is_some_and(|host| host == "");
        if start.elapsed() >= patience {
            let message = format!("{noun} {name} is still {status} after {} s{because}", patience.as_secs());
            let hint = match status.as_str() {
                _ if unbound => {
                    "it is on no host yet: bind it by `mizar port set NAME --host HOST`, then attach it there"
                }
                "DOWN" => "is it enabled, bound to a host and attached there?",
                _ => "is it attached on its host, and does the host live? `mizar host list` tells operators",
            };
            return Err(Problem::new(Exit::Timeout, message).hint(hint).into());
        }
        let where_it_is = if unbound { ", on no host yet" } else { "" };
        progress.show(&format!("{noun} {name}: {status}{because}{where_it_is}"), start.elapsed());
        std::thread::sleep(BETWEEN.min(patience));
        object = look()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waited(statuses: &[&str], patience: Duration) -> Result<Value> {
        let object = |status: &str| json!({"name": "p1", "status": status, "mizar:status_reason": "the host is full"});
        let mut statuses = statuses.iter();
        let first = object(statuses.next().expect("one"));
        let mut next = || Ok(object(statuses.next().unwrap_or(&"BUILD")));
        waiting("port", first, patience, Progress { terminal: false, shown: String::new() }, &mut next)
    }

    fn exit(result: Result<Value>) -> (Exit, String) {
        let error = result.expect_err("it did not become ACTIVE");
        (error.downcast_ref::<Problem>().expect("a problem").exit, error.to_string())
    }

    #[test]
    fn waiting_ends_with_active_error_or_patience() {
        let long = Duration::from_secs(20);
        assert_eq!(waited(&["DOWN", "BUILD", "ACTIVE"], long).expect("ACTIVE")["status"], "ACTIVE");
        let (code, message) = exit(waited(&["BUILD", "ERROR"], long));
        assert_eq!((code, message.as_str()), (Exit::Error, "port p1 is in ERROR: the host is full"));
        let (code, message) = exit(waited(&["BUILD"], Duration::ZERO));
        assert_eq!((code, message.as_str()), (Exit::Timeout, "port p1 is still BUILD after 0 s: the host is full"));
    }
}
