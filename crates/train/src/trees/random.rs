//! Seeded randomness that is the same everywhere: SplitMix64.

/// A stream of numbers, decided by its seed alone.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// Step between the states of a stream.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles a number; neighbouring numbers come out unrelated.
#[inline(always)]
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Entry `at` of the stream of `seed`, for loops that want any order.
#[inline(always)]
pub(super) fn at(seed: u64, at: u64) -> u64 {
    mix(seed.wrapping_add(at.wrapping_add(1).wrapping_mul(STEP)))
}

impl Random {
    /// A stream of its own for each list of parts: a seed, then what it is for.
    pub(super) fn new(parts: &[u64]) -> Self {
        Self(
            parts
                .iter()
                .fold(0, |state, part| mix(state.wrapping_add(STEP) ^ mix(*part))),
        )
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, which is not zero. The bias is under `end / 2^64`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Brings a random choice of `count` entries to the front.
    pub(super) fn choose<T>(&mut self, items: &mut [T], count: usize) {
        for front in 0..count.min(items.len()) {
            let pick = front + self.below(items.len() - front);
            items.swap(front, pick);
        }
    }
}
