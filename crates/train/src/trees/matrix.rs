//! Rows of bits and numbers as planes of bits.

use super::kernel::transpose_tile;
use super::{TrainError, cuts};
use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows};
use serveflow_model::forest::Test;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The usual number of thresholds of a number, which makes 256 bins.
pub const MAX_CUTS: usize = 255;

/// A question per plane, and its answer for each row: one bit.
///
/// The bits are kept twice, by plane (to part rows and to count over all of them) and by row (to
/// gather the rows of a node). Planes that are the same for all rows, or the same as or the
/// opposite of an earlier one, are left out: they could part nothing, or nothing else.
#[derive(Clone, Debug)]
pub struct BitMatrix {
    shape: RowShape,
    rows: usize,
    tests: Vec<Test>,
    /// For each column that has planes, which ones: the unit of column sampling.
    sources: Vec<Range<usize>>,
    by_plane: Vec<u64>,
    by_row: Vec<u64>,
}

impl BitMatrix {
    /// Makes the planes of `columns`: a header bit's presence and its value, and up to `max_cuts`
    /// thresholds of a number, taken from its values in `rows`.
    ///
    /// # Errors
    /// When there is no row, or a column reads outside the rows.
    pub fn new(rows: &Rows, columns: &[Column], max_cuts: usize) -> Result<Self, TrainError> {
        if rows.is_empty() || u32::try_from(rows.len()).is_err() {
            return Err(TrainError::Rows { found: rows.len() });
        }
        let candidates = candidates(rows, columns, max_cuts)?;
        let tests: Vec<Test> = candidates.iter().map(|(test, _)| *test).collect();
        let by_plane = planes(rows, &tests);
        let words = rows.len().div_ceil(64);
        let keep = telling_planes(&by_plane, words, rows.len());
        let mut kept_planes = Vec::with_capacity(keep.len() * words);
        let (mut kept, mut sources) = (Vec::new(), Vec::<Range<usize>>::new());
        let mut last = None;
        for plane in keep {
            let (test, source) = candidates[plane];
            if last.replace(source) != Some(source) {
                sources.push(kept.len()..kept.len());
            }
            kept.push(test);
            kept_planes.extend_from_slice(&by_plane[plane * words..(plane + 1) * words]);
            if let Some(range) = sources.last_mut() {
                range.end = kept.len();
            }
        }
        Ok(Self::with_planes(rows, kept, sources, kept_planes))
    }

    /// The same planes over other rows, as a validation set needs them.
    ///
    /// # Errors
    /// When there is no row, or the rows have another shape.
    pub fn same_planes(&self, rows: &Rows) -> Result<Self, TrainError> {
        if rows.is_empty() || u32::try_from(rows.len()).is_err() {
            return Err(TrainError::Rows { found: rows.len() });
        }
        if rows.shape() != self.shape {
            return Err(TrainError::Shape);
        }
        let by_plane = planes(rows, &self.tests);
        Ok(Self::with_planes(rows, self.tests.clone(), self.sources.clone(), by_plane))
    }

    fn with_planes(
        rows: &Rows,
        tests: Vec<Test>,
        sources: Vec<Range<usize>>,
        by_plane: Vec<u64>,
    ) -> Self {
        let (words, width) = (rows.len().div_ceil(64), tests.len().div_ceil(64));
        let mut by_row = vec![0; rows.len() * width];
        let mut tile = [0; 64];
        for block in 0..words {
            for word in 0..width {
                let count = (tests.len() - word * 64).min(64);
                tile.fill(0);
                for (c, t) in tile.iter_mut().enumerate().take(count) {
                    *t = by_plane[(word * 64 + c) * words + block];
                }
                transpose_tile(&mut tile);
                for (r, t) in (block * 64..rows.len()).zip(&tile) {
                    by_row[r * width + word] = *t;
                }
            }
        }
        Self { shape: rows.shape(), rows: rows.len(), tests, sources, by_plane, by_row }
    }

    /// The shape of the rows that it was made from.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The question of each plane.
    #[must_use]
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Which planes belong to one column: all cuts of a number, or a single bit.
    #[must_use]
    pub fn sources(&self) -> &[Range<usize>] {
        &self.sources
    }

    /// The answers of a plane, row 0 in the lowest bit of the first word.
    ///
    /// # Panics
    /// When there is no such plane.
    #[must_use]
    pub fn plane(&self, plane: usize) -> &[u64] {
        let words = self.rows.div_ceil(64);
        &self.by_plane[plane * words..(plane + 1) * words]
    }

    /// The answers for a row, plane 0 in the lowest bit of the first word.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u64] {
        let width = self.width();
        &self.by_row[row * width..(row + 1) * width]
    }

    /// Whether a row passes the test of a plane.
    ///
    /// # Panics
    /// When there is no such row or plane.
    #[inline]
    #[must_use]
    pub fn passes(&self, row: usize, plane: usize) -> bool {
        self.row(row)[plane / 64] >> (plane % 64) & 1 == 1
    }

    /// All rows, one after the other.
    pub(super) fn by_row(&self) -> &[u64] {
        &self.by_row
    }

    /// Words of a row.
    pub(super) fn width(&self) -> usize {
        self.tests.len().div_ceil(64)
    }
}

/// All tests that the columns offer, each once, with the column that it came from. A presence bit
/// stands for a whole header word, so it counts as a column of its own.
fn candidates(
    rows: &Rows,
    columns: &[Column],
    max_cuts: usize,
) -> Result<Vec<(Test, usize)>, TrainError> {
    let (mut out, mut bits, mut numbers) = (Vec::new(), HashSet::new(), HashSet::new());
    let shape = rows.shape();
    let outside = |at: BitAt| at.bit > 31 || at.word as usize >= shape.words;
    for (source, column) in columns.iter().enumerate() {
        let wrong = || TrainError::Column { name: column.name.clone() };
        match column.place {
            Place::Bit { value, presence } => {
                if outside(value) || outside(presence) {
                    return Err(wrong());
                }
                for (half, at) in [presence, value].into_iter().enumerate() {
                    if bits.insert(at) {
                        out.push((Test::Bit(at), source * 2 + half));
                    }
                }
            }
            Place::Number(index) => {
                if index as usize >= shape.numbers {
                    return Err(wrong());
                }
                if numbers.insert(index) {
                    let values = (0..rows.len()).map(|row| rows.numbers(row)[index as usize]);
                    let cuts = cuts(&values.collect::<Vec<_>>(), max_cuts);
                    let tests = cuts.into_iter().map(|threshold| Test::above(index, threshold));
                    out.extend(tests.map(|test| (test, source * 2)));
                }
            }
        }
    }
    Ok(out)
}

/// Answers tests for all rows, 64 rows at a time: words are turned by 64 x 64 transposition.
fn planes(rows: &Rows, tests: &[Test]) -> Vec<u64> {
    let words = rows.len().div_ceil(64);
    let mut by_word: HashMap<u32, Vec<(u8, usize)>> = HashMap::new();
    let mut by_number: HashMap<u32, Vec<(f32, usize)>> = HashMap::new();
    for (plane, test) in tests.iter().enumerate() {
        match *test {
            Test::Bit(at) => by_word.entry(at.word).or_default().push((at.bit, plane)),
            Test::Number { index, threshold, .. } => {
                by_number.entry(index).or_default().push((threshold, plane));
            }
        }
    }
    let mut out = vec![0; tests.len() * words];
    let mut values = [0.0; 64];
    for block in 0..words {
        let in_block = block * 64..rows.len().min(block * 64 + 64);
        for (word, bits) in &by_word {
            let mut tile = [0; 64];
            for (to, row) in tile.iter_mut().zip(in_block.clone()) {
                *to = u64::from(rows.words(row)[*word as usize]);
            }
            transpose_tile(&mut tile);
            for (bit, plane) in bits {
                out[plane * words + block] = tile[usize::from(*bit)];
            }
        }
        for (index, cuts) in &by_number {
            values.fill(f32::NAN);
            for (to, row) in values.iter_mut().zip(in_block.clone()) {
                *to = rows.numbers(row)[*index as usize];
            }
            for (threshold, plane) in cuts {
                let answers = values.iter().enumerate();
                out[plane * words + block] = answers
                    .fold(0, |word, (row, value)| word | u64::from(value > threshold) << row);
            }
        }
    }
    out
}

/// The planes that tell something new: not constant, nor the same as or the opposite of an earlier
/// one. Planes are compared by a hash of themselves or their opposite, whichever starts with a 0,
/// and in full where hashes are equal.
fn telling_planes(by_plane: &[u64], words: usize, rows: usize) -> Vec<usize> {
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut keep = Vec::new();
    let tail = !0 >> (words * 64 - rows);
    let upright = |plane: usize| {
        let plane = &by_plane[plane * words..(plane + 1) * words];
        let flip = if plane[0] & 1 == 1 { !0 } else { 0 };
        let mask = move |i| if i + 1 == words { tail } else { !0 };
        plane.iter().enumerate().map(move |(i, word)| (word ^ flip) & mask(i))
    };
    for plane in 0..by_plane.len() / words {
        if upright(plane).all(|word| word == 0) {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        upright(plane).for_each(|word| word.hash(&mut hasher));
        let twins = seen.entry(hasher.finish()).or_default();
        if !twins.iter().any(|twin| upright(*twin).eq(upright(plane))) {
            twins.push(plane);
            keep.push(plane);
        }
    }
    keep
}
