//! Each target for a number of inputs that takes a second or so: seeds, changed a little or much, and
//! bytes by chance. The sequence is known, so that a failure comes again.

use mizar_fuzz::{DECISIONS, FLOWS, MESSAGES, PACKETS, Target};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// A seed with changes, of which most are small.
    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if self.below(4) == 0 {
            let n = self.below(300);
            return self.bytes(n);
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..self.below(6) {
            let at = self.below(input.len());
            match self.below(7) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = self.next() as u8,
                2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b','][self.below(8)],
                3 => input.truncate(at),
                4 => {
                    let n = self.below(60);
                    input.splice(at..at, self.bytes(n));
                }
                5 => {
                    let end = at + self.below(input.len() - at);
                    input.drain(at..end);
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    input.extend_from_slice(&other[from..]);
                }
            }
        }
        input
    }
}

fn hold(target: Target, inputs: usize) {
    let seeds = (target.seeds)();
    for seed in &seeds {
        (target.run)(seed);
    }
    let mut r = Random(1);
    for round in 0..inputs {
        let input = r.input(&seeds);
        // The test's own output says which input it was; the panic, what was wrong.
        let held = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(held.is_ok(), "{}, round {round}: {input:02x?}", target.name);
    }
}

#[test]
fn whatever_a_frame_is_it_is_read_within_its_bounds() {
    hold(PACKETS, 60_000);
}

#[test]
fn whatever_happens_to_a_flow_it_stays_one() {
    hold(FLOWS, 60_000);
}

#[test]
fn whatever_tables_say_a_decision_leads_somewhere() {
    hold(DECISIONS, 60_000);
}

#[test]
fn whatever_a_text_is_it_is_understood_as_itself_or_refused() {
    hold(MESSAGES, 40_000);
}
