//! Feature rows, the columns that name them, and scores.

use std::ops::Range;

/// Width of a row: 32-bit words of header bits and presence, then numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RowShape {
    /// 32-bit words per row. Column 0 of a word is its most significant bit.
    pub words: usize,
    /// `f32` numbers per row.
    pub numbers: usize,
}

/// A batch of feature rows of one shape, row-major.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rows {
    shape: RowShape,
    len: usize,
    words: Vec<u32>,
    numbers: Vec<f32>,
}

impl Rows {
    /// An empty batch with room for `capacity` rows.
    #[must_use]
    pub fn with_capacity(shape: RowShape, capacity: usize) -> Self {
        Self {
            shape,
            len: 0,
            words: Vec::with_capacity(shape.words * capacity),
            numbers: Vec::with_capacity(shape.numbers * capacity),
        }
    }

    /// The shape of each row.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Words of row `row`.
    ///
    /// # Panics
    /// When `row` is out of range.
    #[must_use]
    pub fn words(&self, row: usize) -> &[u32] {
        &self.words[row * self.shape.words..(row + 1) * self.shape.words]
    }

    /// Numbers of row `row`.
    ///
    /// # Panics
    /// When `row` is out of range.
    #[must_use]
    pub fn numbers(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.shape.numbers..(row + 1) * self.shape.numbers]
    }

    /// Adds a zeroed row and hands out its two parts to be filled.
    pub fn push(&mut self) -> (&mut [u32], &mut [f32]) {
        let (at_word, at_number) = (self.words.len(), self.numbers.len());
        self.words.resize(at_word + self.shape.words, 0);
        self.numbers.resize(at_number + self.shape.numbers, 0.0);
        self.len += 1;
        (&mut self.words[at_word..], &mut self.numbers[at_number..])
    }

    /// Adds a copy of row `row` of `other`, which has the same shape.
    ///
    /// # Panics
    /// When the shapes differ or `row` is out of range.
    pub fn push_copy(&mut self, other: &Self, row: usize) {
        assert!(self.shape == other.shape, "rows of one shape");
        self.words.extend_from_slice(other.words(row));
        self.numbers.extend_from_slice(other.numbers(row));
        self.len += 1;
    }

    /// Adds copies of these rows of `other`, at once; where there is no row yet, the shape becomes
    /// that of `other`.
    ///
    /// # Panics
    /// When the shapes differ or a row is out of range.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        if self.is_empty() {
            self.shape = other.shape;
        }
        assert!(self.shape == other.shape, "rows of one shape");
        assert!(rows.end <= other.len, "rows that are there");
        let (words, numbers) = (self.shape.words, self.shape.numbers);
        self.words.extend_from_slice(&other.words[rows.start * words..rows.end * words]);
        self.numbers.extend_from_slice(&other.numbers[rows.start * numbers..rows.end * numbers]);
        self.len += rows.len();
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.words.clear();
        self.numbers.clear();
    }
}

/// Where a column's value stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A ternary header bit: -1 when `presence` is 0, else the bit at `value`.
    Bit {
        /// Position of the bit's value.
        value: BitAt,
        /// Position of the bit that says whether its header word was there.
        presence: BitAt,
    },
    /// Entry of the row's numbers.
    Number(u32),
}

/// A bit of a row: a word and a bit in it, counted from the least significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BitAt {
    /// Index of the 32-bit word in the row.
    pub word: u32,
    /// Bit in the word, 0 = least significant.
    pub bit: u8,
}

impl BitAt {
    /// The bit in a row's words.
    ///
    /// # Panics
    /// When the word lies outside the row.
    #[must_use]
    pub fn get(self, words: &[u32]) -> bool {
        words[self.word as usize] >> self.bit & 1 == 1
    }
}

/// A named column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, as the nPrint tool prints it for header bits.
    pub name: String,
    /// Where its value stands.
    pub place: Place,
}

impl Column {
    /// The column's value in row `row`: -1, 0 or 1 for header bits.
    ///
    /// # Panics
    /// When the row or the column's place is out of range.
    #[must_use]
    pub fn value(&self, rows: &Rows, row: usize) -> f32 {
        match self.place {
            Place::Number(index) => rows.numbers(row)[index as usize],
            Place::Bit { value, presence } => {
                let words = rows.words(row);
                if !presence.get(words) {
                    -1.0
                } else if value.get(words) {
                    1.0
                } else {
                    0.0
                }
            }
        }
    }
}

/// Class probabilities of a batch, row-major.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Scores {
    classes: usize,
    data: Vec<f32>,
}

impl Scores {
    /// Makes room for `rows` rows of `classes` zeros, reusing the memory.
    pub fn reset(&mut self, rows: usize, classes: usize) {
        self.classes = classes;
        self.data.clear();
        self.data.resize(rows * classes, 0.0);
    }

    /// Adds the rows of other scores of as many classes.
    ///
    /// # Panics
    /// When both have rows and their classes differ.
    pub fn append(&mut self, other: &Self) {
        if self.data.is_empty() {
            self.classes = other.classes;
        }
        assert!(other.data.is_empty() || self.classes == other.classes, "scores of one width");
        self.data.extend_from_slice(&other.data);
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.classes).unwrap_or(0)
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Scores of row `row`.
    ///
    /// # Panics
    /// When `row` is out of range.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.classes..(row + 1) * self.classes]
    }

    /// Scores of row `row`, to be filled.
    ///
    /// # Panics
    /// When `row` is out of range.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.classes..(row + 1) * self.classes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_appended_are_those_that_are_copied_one_by_one() {
        let shape = RowShape { words: 2, numbers: 1 };
        let mut all = Rows::with_capacity(shape, 5);
        for row in 0..5_u8 {
            let (words, numbers) = all.push();
            words.fill(u32::from(row));
            numbers.fill(f32::from(row));
        }
        for range in [0..5, 1..3, 2..2] {
            let (mut at_once, mut one_by_one) = (Rows::default(), Rows::with_capacity(shape, 0));
            at_once.append(&all, range.clone());
            range.for_each(|row| one_by_one.push_copy(&all, row));
            assert_eq!(at_once, one_by_one);
        }
    }
}
