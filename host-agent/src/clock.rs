//! Clocks and identity of the kernel.

use mizar_packet::flow::Now;
use std::io;
use std::time::SystemTime;

/// Seconds that the kernel's TAI clock is ahead of UTC: 37 where somebody (chrony, ntpd) told the
/// kernel, else 0. The programs read the TAI clock, for it is the one they have, and subtract it.
pub fn tai_offset() -> io::Result<i32> {
    // SAFETY: all-zero is a valid timex: nothing is to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex that outlives the call.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(timex.tai)
}

/// Nanoseconds since boot, as `bpf_ktime_get_ns` counts them.
pub fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(done, 0, "every Linux has a monotonic clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same moment, as flows remember it.
pub fn now() -> Now {
    Now::from_ns(boot_ns())
}

/// From the kernel's clock to that of people.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// A moment by the kernel's clock,
    pub boot_ns: u64,
    /// and by that of people: milliseconds of Unix time.
    pub unix_ms: i64,
}

impl Wall {
    /// As they stand to each other now.
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { boot_ns: boot_ns(), unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX) }
    }

    /// What people call a moment that is not later.
    pub fn unix_ms(&self, boot_ns: u64) -> i64 {
        let ago = self.boot_ns.saturating_sub(boot_ns) / 1_000_000;
        self.unix_ms.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    }
}

/// The kernel's boot id.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
