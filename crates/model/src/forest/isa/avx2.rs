//! 256-bit vectors of x86-64.

use super::{Bytes, Row, Set, Table, WORD, add};
use pulp::cast;
use pulp::core_arch::x86::{Avx, Avx2};
use std::arch::x86_64::{__m128, __m128i, __m256d, __m256i};

pulp::simd_type! {
    /// The instructions of [`super::Level::Avx2`].
    pub(super) struct Wide256 {
        pub avx: "avx",
        pub avx2: "avx2",
        pub count: "popcnt",
        pub bmi1: "bmi1",
        pub bmi2: "bmi2",
    }
}

/// What is done with 256-bit vectors here and where there are wider ones too.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    pub(super) avx: Avx,
    pub(super) avx2: Avx2,
}

/// The most planes whose table is looked up byte by byte.
const BY_BYTES: usize = 6;

/// How 32 bits become the bytes of a vector: for each byte of the vector, which byte of the bits it
/// looks at, and which bit of that.
type Order = ([u8; 32], [u8; 32]);

/// How far each bit of a byte is from the top.
static UP: [[u64; 2]; 8] = [[7, 0], [6, 0], [5, 0], [4, 0], [3, 0], [2, 0], [1, 0], [0, 0]];

/// Bit `i` becomes byte `i`.
const NATURAL: Order = order(false);

/// Bytes that are put together to four-byte entries, by twos and again by twos, come out in vectors
/// of eight rows: the first four from the lower half of each vector of bytes, the others from the
/// upper.
const FOR_LOOKUP: Order = order(true);

const fn order(for_lookup: bool) -> Order {
    let (mut bytes, mut bits) = ([0; 32], [0; 32]);
    let mut at = 0;
    while at < 32 {
        let (half, place) = (at / 16, at % 16);
        let bit = if for_lookup { place / 4 * 8 + half * 4 + place % 4 } else { at };
        bytes[at] = bit as u8 / 8;
        bits[at] = 1 << (bit % 8);
        at += 1;
    }
    (bytes, bits)
}

impl Vectors {
    /// Bytes of all ones where a bit is set, else of zeros.
    #[inline(always)]
    fn mask(self, bits: u32, order: &Order) -> __m256i {
        let all = self.avx._mm256_set1_epi32(bits as i32);
        let bytes = self.avx2._mm256_shuffle_epi8(all, cast(order.0));
        let own = self.avx2._mm256_and_si256(bytes, cast(order.1));
        self.avx2._mm256_cmpeq_epi8(own, cast(order.1))
    }

    /// Numbers of at most eight bits of 32 rows: the rows' bits stand in the half of each plane
    /// that starts at bit `from`.
    #[inline(always)]
    fn numbers(self, planes: &[u64], from: usize, order: &Order) -> __m256i {
        let mut numbers = self.avx._mm256_setzero_si256();
        for plane in planes.iter().rev() {
            let twice = self.avx2._mm256_add_epi8(numbers, numbers);
            numbers = self.avx2._mm256_sub_epi8(twice, self.mask((plane >> from) as u32, order));
        }
        numbers
    }

    /// One byte of the entries that the numbers of 32 rows name, among sixteen.
    #[inline(always)]
    fn sixteen(self, entries: [u8; 16], numbers: __m256i) -> __m256i {
        let entries = self.avx2._mm256_broadcastsi128_si256(cast(entries));
        self.avx2._mm256_shuffle_epi8(entries, numbers)
    }

    /// The same among up to 64; the fifth and the sixth bit of the numbers are given as masks.
    #[inline(always)]
    fn pick<const PARTS: usize>(
        self,
        table: &[Bytes; PARTS],
        byte: usize,
        numbers: __m256i,
        upper: [__m256i; 2],
    ) -> __m256i {
        let mut found = [numbers; PARTS];
        for (found, part) in found.iter_mut().zip(table) {
            *found = self.sixteen(part[byte], numbers);
        }
        for at in 0..PARTS / 2 {
            found[at] = self.avx2._mm256_blendv_epi8(found[2 * at], found[2 * at + 1], upper[0]);
        }
        if PARTS > 2 {
            found[0] = self.avx2._mm256_blendv_epi8(found[0], found[1], upper[1]);
        }
        found[0]
    }

    /// [`Set::add`] for a table of 16, 32 or 64 entries.
    #[inline(always)]
    fn add<const PARTS: usize>(
        self,
        planes: &[u64],
        table: &[Bytes; PARTS],
        sums: &mut [f64; WORD],
    ) {
        let Some((low, high)) = planes.split_first_chunk::<4>() else { return };
        for (sums, from) in sums.as_chunks_mut::<32>().0.iter_mut().zip([0, 32]) {
            let numbers = self.numbers(low, from, &FOR_LOOKUP);
            let mut upper = [numbers; 2];
            for (upper, plane) in upper.iter_mut().zip(high) {
                *upper = self.mask((plane >> from) as u32, &FOR_LOOKUP);
            }
            let a = self.pick(table, 0, numbers, upper);
            let b = self.pick(table, 1, numbers, upper);
            let c = self.pick(table, 2, numbers, upper);
            let d = self.pick(table, 3, numbers, upper);
            let pairs = [
                (self.avx2._mm256_unpacklo_epi8(a, b), self.avx2._mm256_unpacklo_epi8(c, d)),
                (self.avx2._mm256_unpackhi_epi8(a, b), self.avx2._mm256_unpackhi_epi8(c, d)),
            ];
            for ((low, high), sums) in pairs.into_iter().zip(sums.as_chunks_mut::<16>().0) {
                let (first, second) = sums.split_at_mut(8);
                self.widen_add(self.avx2._mm256_unpacklo_epi16(low, high), first);
                self.widen_add(self.avx2._mm256_unpackhi_epi16(low, high), second);
            }
        }
    }

    #[inline(always)]
    fn widen_add(self, eight: __m256i, sums: &mut [f64]) {
        let fours: [__m128; 2] = cast(eight);
        for (four, sums) in fours.into_iter().zip(sums.as_chunks_mut::<4>().0) {
            let wide = self.avx._mm256_cvtps_pd(four);
            *sums = cast(self.avx._mm256_add_pd(cast::<[f64; 4], __m256d>(*sums), wide));
        }
    }

    /// Transposes two squares of 16 by 16 bytes side by side. Each of four rounds interleaves the
    /// vectors of the first half with those of the second.
    #[inline(always)]
    fn squares(self, mut rows: [__m256i; 16]) -> [__m256i; 16] {
        for _ in 0..4 {
            let before = rows;
            for at in 0..8 {
                let (x, y) = (before[at], before[at + 8]);
                rows[2 * at] = self.avx2._mm256_unpacklo_epi8(x, y);
                rows[2 * at + 1] = self.avx2._mm256_unpackhi_epi8(x, y);
            }
        }
        rows
    }

    /// A block of a row.
    #[inline(always)]
    fn words(self, row: Row<'_>, block: usize) -> __m256i {
        match row.blocks.get(block) {
            Some(words) => cast(*words),
            None => cast(row.last()),
        }
    }

    /// Bytes of a block of 32 rows from one on: each of the block's 32 bytes, one row after the
    /// other.
    #[inline(always)]
    fn bytes(self, rows: &[Row<'_>; WORD], from: usize, block: usize) -> [[__m256i; 16]; 2] {
        let mut halves = [[self.avx._mm256_setzero_si256(); 16]; 2];
        for at in 0..16 {
            let low = self.words(rows[from + at], block);
            let high = self.words(rows[from + at + 16], block);
            halves[0][at] = self.avx2._mm256_permute2x128_si256::<0x20>(low, high);
            halves[1][at] = self.avx2._mm256_permute2x128_si256::<0x31>(low, high);
        }
        [self.squares(halves[0]), self.squares(halves[1])]
    }

    /// A bit of each byte; `up` moves it to the top of the byte.
    #[inline(always)]
    fn bit(self, bytes: __m256i, up: __m128i) -> u32 {
        self.avx2._mm256_movemask_epi8(self.avx2._mm256_sll_epi16(bytes, up)) as u32
    }

    /// [`Set::columns`].
    #[inline(always)]
    pub(super) fn columns<const W: usize>(
        self,
        rows: &[Row<'_>; WORD],
        block: usize,
        asked: &[u8],
        planes: &mut [[u64; W]],
        word: usize,
    ) {
        let low = self.bytes(rows, 0, block);
        let high = self.bytes(rows, 32, block);
        let (low, high) = (low.as_flattened(), high.as_flattened());
        for (plane, bit) in planes.iter_mut().zip(asked) {
            let (byte, up) = (usize::from(bit / 8), cast(UP[usize::from(bit % 8)]));
            let (low, high) = (self.bit(low[byte], up), self.bit(high[byte], up));
            plane[word] = u64::from(high) << 32 | u64::from(low);
        }
    }
}

impl Set for Wide256 {
    #[inline(always)]
    fn numbers(self, planes: &[u64]) -> [u8; 64] {
        let vectors = Vectors { avx: self.avx, avx2: self.avx2 };
        let low: [u8; 32] = cast(vectors.numbers(planes, 0, &NATURAL));
        let high: [u8; 32] = cast(vectors.numbers(planes, 32, &NATURAL));
        cast([low, high])
    }

    #[inline(always)]
    fn add(self, planes: &[u64], table: Table<'_>, sums: &mut [f64; 64]) {
        let vectors = Vectors { avx: self.avx, avx2: self.avx2 };
        let Table { entries, bytes } = table;
        if planes.len() > BY_BYTES {
            return add(self, planes, entries, sums);
        }
        if let Ok(bytes) = bytes.try_into() {
            vectors.add::<1>(planes, bytes, sums);
        } else if let Ok(bytes) = bytes.try_into() {
            vectors.add::<2>(planes, bytes, sums);
        } else if let Ok(bytes) = bytes.try_into() {
            vectors.add::<4>(planes, bytes, sums);
        } else {
            add(self, planes, entries, sums);
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
        let vectors = Vectors { avx: self.avx, avx2: self.avx2 };
        let ones = self.avx._mm256_set1_epi8(1);
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<32>().0) {
            let mask = vectors.mask(*word, &NATURAL);
            *bytes = cast(self.avx2._mm256_and_si256(mask, ones));
        }
    }
}
