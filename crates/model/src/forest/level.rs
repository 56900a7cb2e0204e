//! Instruction sets: the same code, compiled once for each that is worth having.
//!
//! [`Level::run`] picks the copy when the program runs. All copies add the same numbers in the same
//! order, so they give the same scores to the last bit.

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What every machine of its kind has.
    Portable,
    /// 256-bit vectors of x86-64.
    Avx2,
    /// 512-bit vectors of x86-64, with bytes and masks.
    Avx512,
}

/// Work to be compiled for several levels; `run` and all that it calls must be inlined.
pub(super) trait Work {
    /// Does it.
    fn run<S: Set>(self, set: S);
}

/// What levels do each in their own way.
pub(super) trait Set: Copy {
    /// The numbers of 64 rows from the planes of their bits: bit `b` of number `r` is bit `r` of
    /// plane `b`. At most eight planes.
    #[inline(always)]
    fn numbers(self, planes: &[u64]) -> [u8; 64] {
        numbers(planes)
    }

    /// Adds to each of 64 sums the entry of the table that its row's number names. The table has
    /// `1 << planes.len()` entries, the numbers at most 16 bits.
    #[inline(always)]
    fn add(self, planes: &[u64], table: &[f32], sums: &mut [f64; 64]) {
        add(self, planes, table, sums);
    }

    /// Spreads bits to bytes of 0 and 1, the lowest bit first.
    #[inline(always)]
    fn spread(self, words: &[u32], bytes: &mut [u8]) {
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<32>().0) {
            for (byte, eight) in word.to_le_bytes().iter().zip(bytes.as_chunks_mut::<8>().0) {
                *eight = SPREAD[*byte as usize].to_le_bytes();
            }
        }
    }
}

/// Each byte's bits as eight bytes of 0 and 1.
static SPREAD: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte] |= (byte as u64 >> bit & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    table
};

#[inline(always)]
fn numbers(planes: &[u64]) -> [u8; 64] {
    let mut numbers = [0; 64];
    for (eight, to) in numbers.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut found = 0;
        for (bit, plane) in planes.iter().enumerate() {
            found |= SPREAD[(plane >> (8 * eight) & 255) as usize] << bit;
        }
        *to = found.to_le_bytes();
    }
    numbers
}

#[inline(always)]
fn add<S: Set>(set: S, planes: &[u64], table: &[f32], sums: &mut [f64; 64]) {
    let low = set.numbers(&planes[..planes.len().min(8)]);
    if planes.len() <= 8 {
        for (sum, number) in sums.iter_mut().zip(low) {
            *sum += f64::from(table[number as usize]);
        }
        return;
    }
    let high = set.numbers(&planes[8..]);
    for ((sum, low), high) in sums.iter_mut().zip(low).zip(high) {
        *sum += f64::from(table[usize::from(high) << 8 | usize::from(low)]);
    }
}

/// The set of every machine.
#[derive(Clone, Copy)]
struct Plain;

impl Set for Plain {}

impl Level {
    /// The levels of this machine, the best last.
    #[must_use]
    pub fn here() -> Vec<Self> {
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(x86::Wide256::try_new().map(|_| Self::Avx2));
            levels.extend(x86::Wide512::try_new().map(|_| Self::Avx512));
        }
        levels
    }

    /// Does the work at this level, or at a lower one if the machine does not have it.
    #[inline]
    pub(super) fn run<W: Work>(self, work: W) {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Self::Avx512
                && let Some(set) = x86::Wide512::try_new()
            {
                return set.vectorize(x86::Handed(work, set));
            }
            if self != Self::Portable
                && let Some(set) = x86::Wide256::try_new()
            {
                return set.vectorize(x86::Handed(work, Plain));
            }
        }
        work.run(Plain);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Set, Work, add};
    use pulp::cast;
    use std::arch::x86_64::{__m128i, __m256, __m512, __m512d, __m512i};

    pulp::simd_type! {
        /// The instructions of [`super::Level::Avx2`].
        pub(super) struct Wide256 {
            pub avx2: "avx2",
            pub count: "popcnt",
            pub bmi1: "bmi1",
            pub bmi2: "bmi2",
        }
        /// The instructions of [`super::Level::Avx512`].
        pub(super) struct Wide512 {
            pub f: "avx512f",
            pub bw: "avx512bw",
            pub dq: "avx512dq",
            pub vl: "avx512vl",
            pub count: "popcnt",
            pub bmi1: "bmi1",
            pub bmi2: "bmi2",
        }
    }

    /// Hands [`Work`] to the dispatcher, which wants a trait of its own.
    pub(super) struct Handed<W, S>(pub(super) W, pub(super) S);

    impl<W: Work, S: Set> pulp::NullaryFnOnce for Handed<W, S> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            self.0.run(self.1);
        }
    }

    impl Wide512 {
        /// Sixteen entries of a table of 16, 32 or 64, which stay in registers.
        #[inline(always)]
        fn pick(self, table: &[[f32; 16]], numbers: __m512i) -> __m512 {
            let entries = |part: usize| cast::<[f32; 16], __m512>(table[part]);
            match table.len() {
                1 => self.f._mm512_permutexvar_ps(numbers, entries(0)),
                2 => self.f._mm512_permutex2var_ps(entries(0), numbers, entries(1)),
                _ => {
                    let low = self.f._mm512_permutex2var_ps(entries(0), numbers, entries(1));
                    let high = self.f._mm512_permutex2var_ps(entries(2), numbers, entries(3));
                    let bit = self.f._mm512_set1_epi32(32);
                    let upper = self.f._mm512_test_epi32_mask(numbers, bit);
                    self.f._mm512_mask_blend_ps(upper, low, high)
                }
            }
        }

        #[inline(always)]
        fn widen_add(self, eight: __m256, sums: &mut [f64; 8]) {
            let sum = cast::<[f64; 8], __m512d>(*sums);
            *sums = cast(self.f._mm512_add_pd(sum, self.f._mm512_cvtps_pd(eight)));
        }

        #[inline(always)]
        fn numbers512(self, planes: &[u64]) -> __m512i {
            let mut numbers = self.f._mm512_setzero_si512();
            for (bit, plane) in planes.iter().enumerate() {
                let set = self.bw._mm512_maskz_set1_epi8(*plane, 1i8 << bit);
                numbers = self.f._mm512_or_si512(numbers, set);
            }
            numbers
        }
    }

    impl Set for Wide512 {
        #[inline(always)]
        fn numbers(self, planes: &[u64]) -> [u8; 64] {
            cast(self.numbers512(planes))
        }

        #[inline(always)]
        fn add(self, planes: &[u64], table: &[f32], sums: &mut [f64; 64]) {
            let (table16, _) = table.as_chunks::<16>();
            if planes.len() > 6 || table16.is_empty() {
                return add(self, planes, table, sums);
            }
            let bytes: [__m128i; 4] = cast(self.numbers512(planes));
            let (eights, _) = sums.as_chunks_mut::<8>();
            for (pair, bytes) in eights.chunks_exact_mut(2).zip(bytes) {
                let numbers = self.f._mm512_cvtepu8_epi32(bytes);
                let picked = self.pick(table16, numbers);
                self.widen_add(self.f._mm512_castps512_ps256(picked), &mut pair[0]);
                self.widen_add(self.dq._mm512_extractf32x8_ps::<1>(picked), &mut pair[1]);
            }
        }

        #[inline(always)]
        fn spread(self, words: &[u32], bytes: &mut [u8]) {
            let (pairs, last) = words.as_chunks::<2>();
            let (squares, rest) = bytes.as_chunks_mut::<64>();
            for (pair, bytes) in pairs.iter().zip(squares) {
                let mask = u64::from(pair[1]) << 32 | u64::from(pair[0]);
                *bytes = cast(self.bw._mm512_maskz_set1_epi8(mask, 1));
            }
            if let [word] = last {
                let wide = self.bw._mm512_maskz_set1_epi8(u64::from(*word), 1);
                let wide: [u8; 64] = cast(wide);
                rest[..32].copy_from_slice(&wide[..32]);
            }
        }
    }
}
