//! Many rows at once, one bit of a word each.
//!
//! The rows are transposed: every tested bit becomes a plane of 64 rows, or of 512 with wide
//! vectors. The trees' programs (see [`super::program`]) turn planes into the numbers of leaves,
//! bit by bit, without a branch and without a load that depends on data. Then each row's number is
//! put together, looked up in the tree's table of leaves, and added to the row's sum. Trees are run
//! class by class, in tree order within a class, so each sum is the naive one.

use super::isa::{BLOCK, Bytes, Level, Row, Set, Table, WORD};
use super::link::Finish;
use super::pack::Packing;
use super::program::{CONSTANTS, Mux, Program, ZEROS};
use super::{Forest, ForestKind};
use serveflow_core::rows::Scores;

/// Words of a wide plane.
pub(super) const WIDE: usize = 8;

/// A forest as programs.
#[derive(Debug)]
pub(super) struct Slices {
    classes: usize,
    boosted: bool,
    base: Vec<f64>,
    finish: Finish,
    /// The tested bits of a packed row, rising; the plane of bit `i` is `CONSTANTS + i`.
    bits: Vec<u32>,
    /// The blocks of a row's words that have tested bits, and where these end in `asked`.
    blocks: Vec<(usize, usize)>,
    /// Each tested bit, counted from the start of its block.
    asked: Vec<u8>,
    steps: Vec<Mux>,
    code: Vec<u16>,
    leaves: Vec<f32>,
    /// The leaves byte by byte, for levels that look them up so.
    bytes: Vec<Bytes>,
    trees: Vec<Span>,
}

/// Where a tree's parts end, and the class that a boosted one adds to.
#[derive(Debug)]
struct Span {
    class: usize,
    steps: usize,
    code: usize,
    leaves: usize,
}

/// Bits of a boosted tree's numbers at the least.
const LEAST_BITS: usize = 4;

/// Bits of a block.
const BLOCK_BITS: u32 = 32 * BLOCK as u32;

/// The buffer of planes: as many places as 16 bits can name, of which the system hands out what is
/// touched. So no place needs to be checked.
type Places<const W: usize> = [[u64; W]; 1 << 16];

fn places<const W: usize>() -> Box<Places<W>> {
    let zeros = vec![[0; W]; 1 << 16].into_boxed_slice();
    let mut places: Box<Places<W>> = zeros.try_into().expect("it has that many places");
    places[1] = [!0; W];
    places
}

/// Memory that a thread keeps between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    narrow: Option<Box<Places<1>>>,
    wide: Option<Box<Places<WIDE>>>,
    sums: Vec<f64>,
}

impl Slices {
    /// Compiles a forest; none when it is too large to be run on planes.
    pub(super) fn new(forest: &Forest, packing: &Packing) -> Option<Self> {
        let nodes = || forest.trees().iter().flat_map(|tree| &tree.nodes);
        let mut bits: Vec<u32> = nodes().map(|node| packing.bit(node.test)).collect();
        bits.sort_unstable();
        bits.dedup();
        let free = CONSTANTS + bits.len();
        let (boosted, base) = match forest.kind() {
            ForestKind::Boosted { base, .. } => {
                (true, base.iter().map(|b| f64::from(*b)).collect())
            }
            ForestKind::Averaged => (false, vec![0.0; forest.classes()]),
        };
        let mut slices = Self {
            classes: forest.classes(),
            boosted,
            base,
            finish: Finish::of(forest),
            blocks: Vec::new(),
            asked: bits.iter().map(|bit| (bit % BLOCK_BITS) as u8).collect(),
            bits,
            steps: Vec::new(),
            code: Vec::new(),
            leaves: Vec::new(),
            bytes: Vec::new(),
            trees: Vec::new(),
        };
        for same in slices.bits.chunk_by(|a, b| a / BLOCK_BITS == b / BLOCK_BITS) {
            let end = slices.blocks.last().map_or(0, |(_, end)| *end) + same.len();
            slices.blocks.push(((same[0] / BLOCK_BITS) as usize, end));
        }
        let classes = if boosted { forest.classes() } else { 1 };
        for class in 0..classes {
            for tree in forest.trees().iter().skip(class).step_by(classes) {
                let place = |node: &super::Node| {
                    let bit = slices.bits.binary_search(&packing.bit(node.test));
                    bit.ok().and_then(|bit| u16::try_from(CONSTANTS + bit).ok())
                };
                let tests = tree.nodes.iter().map(place).collect::<Option<Vec<u16>>>()?;
                slices.push(&Program::new(tree, &tests, free)?, class, &tree.leaves);
            }
        }
        Some(slices)
    }

    fn push(&mut self, program: &Program, class: usize, values: &[f32]) {
        self.steps.extend_from_slice(&program.steps);
        // A boosted tree's table fills a vector, so its numbers may begin with zeros.
        let bits = program.code.len().max(if self.boosted { LEAST_BITS } else { 0 });
        self.code.extend(&program.code);
        self.code.extend(std::iter::repeat_n(ZEROS, bits - program.code.len()));
        let width = values.len() / program.leaves.len();
        let start = self.leaves.len();
        for leaf in &program.leaves {
            self.leaves.extend_from_slice(&values[leaf * width..(leaf + 1) * width]);
        }
        self.leaves.resize(start + (width << bits), 0.0);
        let (steps, code, leaves) = (self.steps.len(), self.code.len(), self.leaves.len());
        self.trees.push(Span { class, steps, code, leaves });
    }

    /// Brings the leaves into the form that a level wants.
    pub(super) fn prepare(&mut self, level: Level) {
        self.bytes.clear();
        if self.boosted && level.by_bytes() {
            let (sixteens, _) = self.leaves.as_chunks::<16>();
            self.bytes.extend(sixteens.iter().map(|entries| {
                let bytes = entries.map(f32::to_le_bytes);
                std::array::from_fn(|byte| bytes.map(|entry| entry[byte]))
            }));
        }
    }

    /// Scores up to 64 rows.
    #[inline(always)]
    pub(super) fn narrow<'a, S: Set>(
        &self,
        set: S,
        rows: impl ExactSizeIterator<Item = &'a [u32]> + Clone,
        buffers: &mut Buffers,
        scores: &mut Scores,
        start: usize,
    ) {
        let Buffers { narrow, sums, .. } = buffers;
        self.run(set, rows, narrow, sums, scores, start);
    }

    /// Scores up to 512 rows.
    #[inline(always)]
    pub(super) fn wide<'a, S: Set>(
        &self,
        set: S,
        rows: impl ExactSizeIterator<Item = &'a [u32]> + Clone,
        buffers: &mut Buffers,
        scores: &mut Scores,
        start: usize,
    ) {
        let Buffers { wide, sums, .. } = buffers;
        self.run(set, rows, wide, sums, scores, start);
    }

    #[inline(always)]
    fn run<'a, S: Set, const W: usize>(
        &self,
        set: S,
        rows: impl ExactSizeIterator<Item = &'a [u32]> + Clone,
        buffer: &mut Option<Box<Places<W>>>,
        sums: &mut Vec<f64>,
        scores: &mut Scores,
        start: usize,
    ) {
        let len = rows.len();
        let buffer = buffer.get_or_insert_with(places);
        let mut rest = rows;
        for word in 0..len.div_ceil(WORD) {
            let Some(first) = rest.next() else { break };
            // Rows that are not there may be like any other: nobody asks for their scores.
            let mut at_once = [Row::new(first); WORD];
            at_once[1..].iter_mut().zip(rest.by_ref()).for_each(|(to, row)| *to = Row::new(row));
            self.transpose(set, &at_once, buffer, word);
        }
        let padded = W * WORD;
        sums.clear();
        for base in &self.base {
            sums.resize(sums.len() + padded, *base);
        }
        self.add_trees(set, buffer, sums, len.div_ceil(WORD));
        self.finish.planes(sums, padded, len, scores, start);
    }

    /// Turns 64 rows into word `word` of the planes of the tested bits.
    #[inline(always)]
    fn transpose<S: Set, const W: usize>(
        &self,
        set: S,
        rows: &[Row<'_>; WORD],
        buffer: &mut Places<W>,
        word: usize,
    ) {
        let mut start = 0;
        for &(block, end) in &self.blocks {
            let planes = &mut buffer[CONSTANTS + start..CONSTANTS + end];
            set.columns(rows, block, &self.asked[start..end], planes, word);
            start = end;
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "a word of many planes, not of the buffer")]
    fn add_trees<S: Set, const W: usize>(
        &self,
        set: S,
        buffer: &mut Places<W>,
        sums: &mut [f64],
        words: usize,
    ) {
        let padded = W * WORD;
        let free = CONSTANTS + self.bits.len();
        let mut from = Span { class: 0, steps: 0, code: 0, leaves: 0 };
        for span in &self.trees {
            let steps = &self.steps[from.steps..span.steps];
            if W == 1 {
                compute_plain(steps, buffer, free as u16);
            } else {
                compute(steps, buffer, free as u16);
            }
            let code = &self.code[from.code..span.code];
            let entries = &self.leaves[from.leaves..span.leaves];
            let sixteens = from.leaves / 16..span.leaves / 16;
            let table = Table { entries, bytes: self.bytes.get(sixteens).unwrap_or(&[]) };
            for word in 0..words {
                let mut planes = [0; super::program::CODE_BITS];
                for (plane, place) in planes.iter_mut().zip(code) {
                    *plane = buffer[*place as usize][word];
                }
                let planes = &planes[..code.len()];
                if self.boosted {
                    let at = span.class * padded + word * WORD;
                    let sums = sums[at..].first_chunk_mut().expect("a sum for each row");
                    set.add(planes, table, sums);
                } else {
                    self.add_shares(set, planes, entries, sums, padded, word);
                }
            }
            from = Span { class: 0, steps: span.steps, code: span.code, leaves: span.leaves };
        }
    }

    /// Adds a leaf's values, one per class, to the sums of each of 64 rows.
    #[inline(always)]
    fn add_shares<S: Set>(
        &self,
        set: S,
        planes: &[u64],
        table: &[f32],
        sums: &mut [f64],
        padded: usize,
        word: usize,
    ) {
        let low = set.numbers(&planes[..planes.len().min(8)]);
        let high = if planes.len() > 8 { set.numbers(&planes[8..]) } else { [0; 64] };
        for (row, (low, high)) in low.into_iter().zip(high).enumerate() {
            let number = usize::from(high) << 8 | usize::from(low);
            let values = &table[number * self.classes..(number + 1) * self.classes];
            for (class, value) in values.iter().enumerate() {
                sums[class * padded + word * WORD + row] += f64::from(*value);
            }
        }
    }
}

/// Runs a program; its planes stand from place `free` on.
#[inline(always)]
fn compute<const W: usize>(steps: &[Mux], buffer: &mut Places<W>, free: u16) {
    for (place, step) in (free..).zip(steps) {
        let test = buffer[step.test as usize];
        let (zero, one) = (buffer[step.zero as usize], buffer[step.one as usize]);
        buffer[place as usize] = std::array::from_fn(|w| zero[w] ^ (test[w] & (zero[w] ^ one[w])));
    }
}

/// The same, never compiled for wide vectors: single words moved through them lose a third.
#[inline(never)]
fn compute_plain<const W: usize>(steps: &[Mux], buffer: &mut Places<W>, free: u16) {
    compute(steps, buffer, free);
}
