//! A process as the kernel sees it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory, descriptors and time of this process, by the names that Prometheus' own clients use.
#[derive(Debug, Default)]
pub struct Process {
    memory: Gauge,
    files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

impl Process {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let process = registry.sub_registry_with_prefix("process");
        process.register_with_unit("resident_memory", "Memory in RAM", Unit::Bytes, own.memory.clone());
        process.register("open_fds", "Open file descriptors", own.files.clone());
        process.register_with_unit("cpu", "Time on a CPU, user and system", Unit::Seconds, own.cpu.clone());
        own
    }

    /// Reads them anew from /proc; where there is none they stay zero.
    pub fn refresh(&self) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let kib = read("status")
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok());
        self.memory.set(kib.unwrap_or(0) * 1024);
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.files.set(i64::try_from(files).unwrap_or(i64::MAX));
        // User and system time of all threads, the 14th and 15th field; the 2nd may hold anything.
        let stat = read("stat");
        let ticks: u64 = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
            .unwrap_or(0);
        // Linux tells user space 100 ticks a second on every machine that we run on.
        self.cpu.inner().store((ticks as f64 / 100.0).to_bits(), Ordering::Relaxed);
    }
}
