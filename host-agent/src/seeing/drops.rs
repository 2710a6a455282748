//! Drops by port and reason, with the last packet of each that every processor saw.
//!
//! The programs keep both in one map, so that nothing has to keep up with them, and a port that causes a flood of
//! drops takes nobody's place: its counts are as many as there are reasons.

use crate::clock::Wall;
use crate::dataplane::runtime::Runtime;
use mizar_abi::Address;
use mizar_abi::maps::{DropCount, DropKey};
use mizar_abi::reason::Drop;
use mizar_wire::ask::{ANSWER, Dropped, Headers, Sample};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// Of many processors only so many have their packet shown.
const SAMPLES: usize = 8;

/// Bytes of an answer that what is around the drops may take.
const AROUND: usize = 64;

/// What was dropped of these ports, or of none named, the most first.
pub fn read(runtime: &Runtime, ports: &[u32]) -> Vec<Dropped> {
    let clock = Wall::now();
    let counts: Vec<(DropKey, Vec<DropCount>)> = if ports.is_empty() {
        runtime.drop_counts().into_iter().collect()
    } else {
        let ports: BTreeSet<u32> = ports.iter().copied().collect();
        ports.into_iter().flat_map(|port| runtime.drop_counts_of(port)).collect()
    };
    let mut drops: Vec<Dropped> =
        counts.into_iter().filter_map(|(key, counts)| dropped(&key, &counts, &clock)).collect();
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| (a.port, &a.reason).cmp(&(b.port, &b.reason))));
    fit(drops)
}

/// As much as an answer holds: one packet of each, where it does not hold more, and then the first ones.
fn fit(mut drops: Vec<Dropped>) -> Vec<Dropped> {
    let size = |one: &Dropped| serde_json::to_string(one).map_or(ANSWER, |text| text.len() + 1);
    let most = ANSWER - AROUND;
    if drops.iter().map(size).sum::<usize>() > most {
        drops.iter_mut().for_each(|one| one.samples.truncate(1));
        let mut left = most;
        let fitting = drops.iter().map_while(|one| {
            left = left.checked_sub(size(one))?;
            Some(())
        });
        let fitting = fitting.count();
        drops.truncate(fitting);
    }
    drops
}

fn dropped(key: &DropKey, counts: &[DropCount], clock: &Wall) -> Option<Dropped> {
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

fn sample(count: &DropCount, clock: &Wall) -> Sample {
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

    const CLOCK: Wall = Wall { boot_ns: 10_000_000_000, unix_ms: 1_700_000_000_000 };

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

    fn drops_of(ports: u32, processors: usize) -> Vec<Dropped> {
        let count = DropCount {
            packets: u64::MAX / 1000,
            bytes: u64::MAX / 1000,
            last_ns: 9_000_000_000,
            vni_proto: 17,
            sport: 50_000,
            dport: 50_000,
            src: mapped([192, 168, 100, 100]),
            dst: mapped([192, 168, 100, 101]),
        };
        let key = |ep_id| DropKey { ep_id, reason: Drop::Spoof as u32 };
        (0..ports).filter_map(|port| dropped(&key(port), &vec![count; processors], &CLOCK)).collect()
    }

    #[test]
    fn the_drops_of_a_host_fit_an_answer_however_many_they_are() {
        let all = drops_of(1600, 128);
        let got = fit(all.clone());
        let answer = mizar_wire::ask::Answer::Drops(got.clone()).to_value().to_string();
        assert!((ANSWER * 9 / 10..=ANSWER).contains(&answer.len()), "{} bytes", answer.len());
        let first: Vec<u32> = all.iter().map(|one| one.port).take(got.len()).collect();
        assert_eq!(got.iter().map(|one| one.port).collect::<Vec<_>>(), first, "the most first");
        assert!(got.iter().all(|one| one.samples.len() == 1));
        let few = drops_of(20, 128);
        assert_eq!(fit(few.clone()), few);
        assert!(few.iter().all(|one| one.samples.len() == SAMPLES));
    }

    #[test]
    fn what_the_agent_got_is_no_loss() {
        let key = DropKey { ep_id: 7, reason: Drop::ToAgent as u32 };
        assert_eq!(dropped(&key, &[DropCount { packets: 1, ..DropCount::default() }], &CLOCK), None);
    }
}
