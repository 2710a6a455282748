//! Drops by port and reason, with the last packet of each that every processor saw.
//!
//! The programs keep both in one map, so that nothing has to keep up with them, and a port that causes a flood of
//! drops takes nobody's place: its counts are as many as there are reasons.

use crate::clock;
use crate::dataplane::runtime::Runtime;
use mizar_abi::Address;
use mizar_abi::maps::{DropCount, DropKey};
use mizar_abi::reason::Drop;
use mizar_wire::ask::{Dropped, Headers, PORTS, Sample};
use std::net::{IpAddr, Ipv6Addr};
use std::time::SystemTime;

/// Of many processors only so many have their packet shown.
const SAMPLES: usize = 8;

/// What was dropped of these ports, or of none named, the most first.
pub fn read(runtime: &Runtime, ports: &[u32]) -> Vec<Dropped> {
    let clock = Clock::now();
    let counts = runtime.drop_counts();
    let mut drops: Vec<Dropped> = counts
        .into_iter()
        .filter(|(key, _)| ports.is_empty() || ports.contains(&key.ep_id))
        .filter_map(|(key, counts)| dropped(&key, &counts, &clock))
        .collect();
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| (a.port, &a.reason).cmp(&(b.port, &b.reason))));
    drops.truncate(PORTS * Drop::ALL.len().div_ceil(2));
    drops
}

/// From the kernel's clock to that of people.
struct Clock {
    boot_ns: u64,
    unix_ms: i64,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { boot_ns: clock::boot_ns(), unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX) }
    }

    fn unix_ms(&self, boot_ns: u64) -> i64 {
        let ago = self.boot_ns.saturating_sub(boot_ns) / 1_000_000;
        self.unix_ms.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    }
}

fn dropped(key: &DropKey, counts: &[DropCount], clock: &Clock) -> Option<Dropped> {
    // What is handed to the agent ends for the programs, and is no loss.
    if key.reason == Drop::ToAgent as u32 {
        return None;
    }
    let known = Drop::from_number(key.reason);
    let mut last: Vec<&DropCount> = counts.iter().filter(|count| count.packets > 0).collect();
    last.sort_by_key(|count| std::cmp::Reverse(count.last_ns));
    Some(Dropped {
        port: key.ep_id,
        reason: known.map_or_else(|| format!("reason_{}", key.reason), |reason| reason.name().to_owned()),
        about: known.map_or("", Drop::about).to_owned(),
        packets: counts.iter().map(|count| count.packets).sum(),
        bytes: counts.iter().map(|count| count.bytes).sum(),
        samples: last.into_iter().take(SAMPLES).map(|count| sample(count, clock)).collect(),
    })
}

fn sample(count: &DropCount, clock: &Clock) -> Sample {
    let packet = (count.src != Address::default()).then(|| Headers {
        source: address(count.src),
        destination: address(count.dst),
        protocol: count.vni_proto as u8,
        source_port: count.sport,
        destination_port: count.dport,
    });
    Sample { at_ms: clock.unix_ms(count.last_ns), packet }
}

/// As people write it.
fn address(bytes: Address) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::mapped;

    const CLOCK: Clock = Clock { boot_ns: 10_000_000_000, unix_ms: 1_700_000_000_000 };

    #[test]
    fn the_youngest_packet_comes_first_and_unread_headers_are_none() {
        let key = DropKey { ep_id: 7, reason: Drop::Spoof as u32 };
        let unread = DropCount { packets: 2, bytes: 120, last_ns: 9_000_000_000, ..DropCount::default() };
        let read = DropCount {
            packets: 1,
            bytes: 60,
            last_ns: 9_500_000_000,
            vni_proto: 5000 << 8 | 17,
            sport: 1000,
            dport: 53,
            src: mapped([10, 0, 0, 1]),
            dst: mapped([10, 0, 0, 2]),
        };
        let got = dropped(&key, &[unread, DropCount::default(), read], &CLOCK).expect("a drop");
        assert_eq!((got.port, got.reason.as_str(), got.packets, got.bytes), (7, "spoof", 3, 180));
        assert_eq!(got.about, "Source MAC or address is not the port's.");
        let packet = Headers {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 17,
            source_port: 1000,
            destination_port: 53,
        };
        let samples = [
            Sample { at_ms: 1_699_999_999_500, packet: Some(packet) },
            Sample { at_ms: 1_699_999_999_000, packet: None },
        ];
        assert_eq!(got.samples, samples);
    }

    #[test]
    fn what_the_agent_got_is_no_loss() {
        let key = DropKey { ep_id: 7, reason: Drop::ToAgent as u32 };
        assert_eq!(dropped(&key, &[DropCount { packets: 1, ..DropCount::default() }], &CLOCK), None);
    }
}
