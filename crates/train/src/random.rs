//! Seeded randomness that is the same everywhere: SplitMix64.

/// A stream of numbers, decided by its seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Step between the states of a stream.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles a number; neighbouring numbers come out unrelated.
#[inline(always)]
#[must_use]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Entry `at` of the stream of `seed`, for loops that want any order.
#[inline(always)]
#[must_use]
pub fn at(seed: u64, at: u64) -> u64 {
    mix(seed.wrapping_add(at.wrapping_add(1).wrapping_mul(STEP)))
}

impl Random {
    /// A stream of its own for each list of parts: a seed, then what it is for.
    #[must_use]
    pub fn new(parts: &[u64]) -> Self {
        Self(parts.iter().fold(0, |state, part| mix(state.wrapping_add(STEP) ^ mix(*part))))
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "a stream without an end is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number from 0 to 1, never either.
    pub fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A number from the exponential distribution of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// A number below `end`, which is not zero. The bias is under `end / 2^64`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Brings a random choice of `count` entries to the front.
    pub fn choose<T>(&mut self, items: &mut [T], count: usize) {
        for front in 0..count.min(items.len()) {
            let pick = front + self.below(items.len() - front);
            items.swap(front, pick);
        }
    }
}
