//! What the machine was doing, so that a reader can judge the figures.

use std::fs;

/// One line: kernel, cores, load, frequency-independent facts only.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load: String = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("Linux {}, {cores} cores, load {load}", read("/proc/sys/kernel/osrelease"))
}
