//! 512-bit vectors of x86-64.

use super::avx2::Vectors;
use super::{Row, Set, Table, WORD, add};
use pulp::cast;
use std::arch::x86_64::{__m128i, __m256, __m512, __m512d, __m512i};

pulp::simd_type! {
    /// The instructions of [`super::Level::Avx512`].
    pub(super) struct Wide512 {
        pub f: "avx512f",
        pub bw: "avx512bw",
        pub dq: "avx512dq",
        pub vl: "avx512vl",
        pub avx: "avx",
        pub avx2: "avx2",
        pub count: "popcnt",
        pub bmi1: "bmi1",
        pub bmi2: "bmi2",
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
    fn add(self, planes: &[u64], table: Table<'_>, sums: &mut [f64; 64]) {
        let (table16, _) = table.entries.as_chunks::<16>();
        if planes.len() > 6 || table16.is_empty() {
            return add(self, planes, table.entries, sums);
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
    fn columns<const W: usize>(
        self,
        rows: &[Row<'_>; WORD],
        block: usize,
        asked: &[u8],
        planes: &mut [[u64; W]],
        word: usize,
    ) {
        let vectors = Vectors { avx: self.avx, avx2: self.avx2 };
        vectors.columns(rows, block, asked, planes, word);
    }

    #[inline(always)]
    fn spread(self, words: &[u32], bytes: &mut [u8]) {
        let (pairs, last) = words.as_chunks::<2>();
        // Room may be for more words than there are.
        let (even, rest) = bytes.split_at_mut(64 * pairs.len());
        for (pair, bytes) in pairs.iter().zip(even.as_chunks_mut::<64>().0) {
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
