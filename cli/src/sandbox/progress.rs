//! What a person sees while something takes long: one line a step, with its time.

use anyhow::Result;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints steps, or keeps silent (tests).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// On standard error, so that standard output stays a command's result.
    Shown,
    /// Not at all.
    Silent,
}

impl Progress {
    /// Does `work` and says how long it took, or that it failed.
    pub fn step<T>(self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        if self == Self::Shown && terminal {
            eprint!("  ... {what}");
            let _ = std::io::stderr().flush();
        }
        let result = work();
        if self == Self::Shown {
            let mark = if result.is_ok() { "ok " } else { "ERR" };
            let back = if terminal { "\r\x1b[2K" } else { "" };
            eprintln!("{back}  {mark} {what} ({})", seconds(start.elapsed()));
        }
        result
    }

    /// A line of its own.
    pub fn say(self, line: &str) {
        if self == Self::Shown {
            eprintln!("{line}");
        }
    }
}

/// `1.23 s`, `45 ms`, `60 us`.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{} us", time.as_micros())
    } else if time < Duration::from_secs(1) {
        format!("{:.0} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
