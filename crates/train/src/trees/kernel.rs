//! Counting bits in bulk: the loops that training spends its time in.
//!
//! They are plain loops over arrays of words. [`wide`] compiles what it is given once more for
//! each instruction set worth having and picks one when the program runs; counts are integers, so
//! which one it is never changes a result.

use serveflow_model::forest::transpose::transpose;

/// Work to be compiled for several instruction sets; `run` and all that it calls must be inlined.
pub(super) trait Work {
    /// What comes out.
    type Output;
    /// Does it.
    fn run(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
mod sets {
    use super::Work;

    pulp::simd_type! {
        /// Counts bits in 512-bit vectors.
        pub(super) struct Wide512 {
            pub f: "avx512f",
            pub bw: "avx512bw",
            pub dq: "avx512dq",
            pub vl: "avx512vl",
            pub popcount: "avx512vpopcntdq",
            pub count: "popcnt",
        }
        /// Counts bits by table look-up in 256-bit vectors.
        pub(super) struct Wide256 {
            pub avx2: "avx2",
            pub count: "popcnt",
        }
    }

    /// Hands [`Work`] to the dispatcher, which wants a trait of its own.
    pub(super) struct Handed<W>(pub(super) W);

    impl<W: Work> pulp::NullaryFnOnce for Handed<W> {
        type Output = W::Output;

        #[inline(always)]
        fn call(self) -> W::Output {
            self.0.run()
        }
    }
}

/// Does the work with the widest vectors that this machine has.
#[inline]
pub(super) fn wide<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(set) = sets::Wide512::try_new() {
            return set.vectorize(sets::Handed(work));
        }
        if let Some(set) = sets::Wide256::try_new() {
            return set.vectorize(sets::Handed(work));
        }
    }
    work.run()
}

/// Transposes one square of bits, for code that is not in a hot loop.
pub(super) fn transpose_tile(tile: &mut [u64; 64]) {
    struct One<'a>(&'a mut [u64; 64]);
    impl Work for One<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            transpose(self.0);
        }
    }
    wide(One(tile));
}

/// Words `word` of 64 rows of `width` words, which start at `bases`, turned into 64 columns.
#[inline(always)]
pub(super) fn gather(by_row: &[u64], bases: &[usize; 64], word: usize) -> [u64; 64] {
    let mut tile: [u64; 64] = std::array::from_fn(|row| by_row[bases[row] + word]);
    transpose(&mut tile);
    tile
}

/// Adds to each of 64 sums the number that its column's rows make: plane `p` counts `2^p`.
#[inline(always)]
pub(super) fn count(sums: &mut [u64], tile: &[u64; 64], planes: &[u64]) {
    for (sums, columns) in sums.chunks_exact_mut(8).zip(tile.chunks_exact(8)) {
        let mut found = [0; 8];
        for plane in planes.iter().rev() {
            for (found, column) in found.iter_mut().zip(columns) {
                *found = (*found << 1) + u64::from((column & plane).count_ones());
            }
        }
        sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
}

/// How many bits two planes have in common.
#[inline(always)]
pub(super) fn common(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from((a & b).count_ones())).sum()
}

/// Moves the rows that are not in `plane` to the front, order kept on both sides, and returns how
/// many they are; `moved` is scratch.
pub(super) fn part(rows: &mut [u32], plane: &[u64], moved: &mut Vec<u32>) -> usize {
    moved.clear();
    moved.resize(rows.len(), 0);
    let (mut front, mut back) = (0, 0);
    for at in 0..rows.len() {
        let row = rows[at];
        let passes = (plane[row as usize / 64] >> (row % 64) & 1) as usize;
        rows[front] = row;
        moved[back] = row;
        front += 1 - passes;
        back += passes;
    }
    rows[front..].copy_from_slice(&moved[..back]);
    front
}
