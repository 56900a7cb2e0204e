//! Instruction sets: the same code, compiled once for each that is worth having.
//!
//! [`Level::run`] picks the copy when the program runs. All copies add the same numbers in the same
//! order, so they give the same scores to the last bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::transpose::transpose_many;
#[cfg(target_arch = "x86_64")]
use avx2::Wide256;
#[cfg(target_arch = "x86_64")]
use avx512::Wide512;

/// Rows whose bits make a word of a plane.
pub(super) const WORD: usize = 64;
/// 32-bit words of each row that are turned into planes at once.
pub(super) const BLOCK: usize = 8;

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

    /// Adds to each of 64 sums the entry of the table that its row's number names, which has at
    /// most 16 bits.
    #[inline(always)]
    fn add(self, planes: &[u64], table: Table<'_>, sums: &mut [f64; 64]) {
        add(self, planes, table.entries, sums);
    }

    /// Planes of the asked bits in a block of the rows' words: word `word` of `planes[i]` becomes
    /// bit `asked[i]` of each row.
    #[inline(always)]
    fn columns<const W: usize>(
        self,
        rows: &[Row<'_>; WORD],
        block: usize,
        asked: &[u8],
        planes: &mut [[u64; W]],
        word: usize,
    ) {
        let mut squares = rows.map(|row| {
            let words = row.words(block);
            [0, 2, 4, 6].map(|at| u64::from(words[at + 1]) << 32 | u64::from(words[at]))
        });
        transpose_many(&mut squares);
        for (plane, bit) in planes.iter_mut().zip(asked) {
            plane[word] = squares[usize::from(bit % 64)][usize::from(bit / 64)];
        }
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

/// A tree's leaves: a power of two, with as many planes, and at least 16 of them.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) entries: &'a [f32],
    /// The same by sixteens, byte by byte, if [`Level::by_bytes`].
    pub(super) bytes: &'a [Bytes],
}

/// Sixteen entries of a table: their lowest bytes, and so on.
pub(super) type Bytes = [[u8; 16]; 4];

/// A row in blocks of words.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    blocks: &'a [[u32; BLOCK]],
    rest: &'a [u32],
}

impl<'a> Row<'a> {
    #[inline(always)]
    pub(super) fn new(words: &'a [u32]) -> Self {
        let (blocks, rest) = words.as_chunks();
        Self { blocks, rest }
    }

    /// A block, with zeros behind the row's end.
    #[inline(always)]
    fn words(self, block: usize) -> [u32; BLOCK] {
        match self.blocks.get(block) {
            Some(words) => *words,
            None => self.last(),
        }
    }

    /// What is left behind the whole blocks.
    #[cold]
    fn last(self) -> [u32; BLOCK] {
        let mut words = [0; BLOCK];
        words.iter_mut().zip(self.rest).for_each(|(to, word)| *to = *word);
        words
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
            levels.extend(Wide256::try_new().map(|_| Self::Avx2));
            levels.extend(Wide512::try_new().map(|_| Self::Avx512));
        }
        levels
    }

    /// Whether tables are looked up byte by byte.
    pub(super) fn by_bytes(self) -> bool {
        self == Self::Avx2
    }

    /// Does the work at this level, or at a lower one if the machine does not have it.
    #[inline]
    pub(super) fn run<W: Work>(self, work: W) {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Self::Avx512
                && let Some(set) = Wide512::try_new()
            {
                return set.vectorize(Handed(work, set));
            }
            if self != Self::Portable
                && let Some(set) = Wide256::try_new()
            {
                return set.vectorize(Handed(work, set));
            }
        }
        work.run(Plain);
    }
}

/// Hands [`Work`] to the dispatcher, which wants a trait of its own.
#[cfg(target_arch = "x86_64")]
struct Handed<W, S>(W, S);

#[cfg(target_arch = "x86_64")]
impl<W: Work, S: Set> pulp::NullaryFnOnce for Handed<W, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run(self.1);
    }
}
