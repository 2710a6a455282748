//! Numbers as good as drawn, the same again for the same seed, so that a failure can be repeated.

/// The generator: SplitMix64.
pub struct Random(pub u64);

/// A number of the environment, if it is there.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}

/// How often a story feeds something drawn: so often, unless MIZAR_FUZZ_ROUNDS says otherwise.
pub fn rounds(usual: u32) -> u32 {
    setting("MIZAR_FUZZ_ROUNDS").map_or(usual, |rounds| u32::try_from(rounds).expect("MIZAR_FUZZ_ROUNDS: below 2^32"))
}

impl Random {
    /// For this story: always the same, unless MIZAR_FUZZ_SEED is another than 0.
    pub fn of_story(story: u64) -> Self {
        let seed = setting("MIZAR_FUZZ_SEED").unwrap_or(0);
        // Shown where the story fails.
        println!("MIZAR_FUZZ_SEED={seed}");
        Self(story.wrapping_add(seed << 16))
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `n`.
    pub fn below<N: TryInto<u64> + TryFrom<u64>>(&mut self, n: N) -> N {
        let n = n.try_into().ok().expect("a count");
        N::try_from(self.next() % n).ok().expect("less than a number of this type")
    }

    /// So many bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
