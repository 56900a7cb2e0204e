//! What a model's columns read from a row.
//!
//! A foreign model takes a list of columns, in an order of its own. A [`Binding`] says for each
//! where its value stands in the rows of a stage. Values are those of the feature table: -1, 0 and
//! 1 for header bits, and numbers as they are.

use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Most columns that a model may have: a row of 128 KiB of bits.
pub const MAX_COLUMNS: usize = 1 << 20;

/// What a column of a model reads from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This bit: 0 or 1.
    Bit(BitAt),
    /// A header bit: -1 where its word was absent, else 0 or 1.
    Ternary {
        /// Position of the bit's value, which is 0 where it is absent.
        value: BitAt,
        /// Position of the bit that says whether it was there.
        presence: BitAt,
    },
    /// Entry of the row's numbers.
    Number(u32),
}

impl Input {
    /// The value of a row.
    ///
    /// # Panics
    /// When it lies outside of the row.
    #[must_use]
    #[inline]
    pub fn value(self, words: &[u32], numbers: &[f32]) -> f32 {
        let bit = |at: BitAt| f32::from(u8::from(at.get(words)));
        match self {
            Self::Bit(at) => bit(at),
            // The value of what is absent is 0: this is -1, 0 or 1.
            Self::Ternary { value, presence } => bit(value) + bit(presence) - 1.0,
            Self::Number(index) => numbers[index as usize],
        }
    }
}

/// Why columns cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// More columns than a row may have.
    TooMany {
        /// The number found.
        found: usize,
    },
    /// The stage has no such column.
    Unknown {
        /// Index among the model's columns.
        index: usize,
        /// The name.
        name: String,
    },
    /// The model names a column twice.
    Twice {
        /// Index of the second.
        index: usize,
        /// The name.
        name: String,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { found } => {
                write!(f, "expected at most {MAX_COLUMNS} columns, found {found}")
            }
            Self::Unknown { index, name } => {
                write!(f, "column {index}, `{name}`, is none of the stage's features")
            }
            Self::Twice { index, name } => {
                write!(f, "column {index}, `{name}`: expected once, found twice")
            }
        }
    }
}

impl std::error::Error for BindError {}

/// For each column of a model, in its order, what it reads from a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    shape: RowShape,
    inputs: Vec<Input>,
    missing: Option<f32>,
}

impl Binding {
    /// Columns of 0 and 1 without presence: column `i` is bit `31 - i % 32` of word `i / 32`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn bits(columns: usize) -> Result<Self, BindError> {
        if columns > MAX_COLUMNS {
            return Err(BindError::TooMany { found: columns });
        }
        let bit =
            |at: usize| Input::Bit(BitAt { word: (at / 32) as u32, bit: (31 - at % 32) as u8 });
        let shape = RowShape { words: columns.div_ceil(32), numbers: 0 };
        Ok(Self { shape, inputs: (0..columns).map(bit).collect(), missing: None })
    }

    /// All columns of rows of this shape, in their order.
    #[must_use]
    pub fn all(columns: &[Column], shape: RowShape) -> Self {
        Self { shape, inputs: columns.iter().map(input).collect(), missing: None }
    }

    /// The columns of these names, in the order of the names.
    ///
    /// # Errors
    /// When a name is not among the columns, or there twice.
    pub fn named(columns: &[Column], shape: RowShape, names: &[String]) -> Result<Self, BindError> {
        let known: HashMap<&str, &Column> =
            columns.iter().map(|column| (column.name.as_str(), column)).collect();
        let mut seen = BTreeSet::new();
        let mut inputs = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let error = || (index, name.clone());
            let Some(column) = known.get(name.as_str()) else {
                let (index, name) = error();
                return Err(BindError::Unknown { index, name });
            };
            if !seen.insert(name) {
                let (index, name) = error();
                return Err(BindError::Twice { index, name });
            }
            inputs.push(input(column));
        }
        Ok(Self { shape, inputs, missing: None })
    }

    /// The same columns of a model to which this value is missing, beside what is not-a-number.
    #[must_use]
    pub fn with_missing(self, missing: Option<f32>) -> Self {
        Self { missing, ..self }
    }

    /// The value that is missing to the model, if it was trained with one.
    #[must_use]
    pub fn missing(&self) -> Option<f32> {
        self.missing
    }

    /// The shape of the rows.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// What each column reads.
    #[must_use]
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is no column.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Writes the values of a row's columns.
    ///
    /// # Panics
    /// When the row is of another shape, or `out` is not as long as there are columns.
    pub fn expand(&self, rows: &Rows, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.inputs.len(), "a value for each column");
        let (words, numbers) = (rows.words(row), rows.numbers(row));
        for (out, input) in out.iter_mut().zip(&self.inputs) {
            *out = input.value(words, numbers);
        }
    }
}

fn input(column: &Column) -> Input {
    match column.place {
        Place::Bit { value, presence } => Input::Ternary { value, presence },
        Place::Number(index) => Input::Number(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, place: Place) -> Column {
        Column { name: name.to_owned(), place }
    }

    fn columns() -> Vec<Column> {
        let presence = BitAt { word: 1, bit: 31 };
        let bit = |bit| Place::Bit { value: BitAt { word: 0, bit }, presence };
        vec![column("a", bit(31)), column("b", bit(30)), column("size", Place::Number(0))]
    }

    const SHAPE: RowShape = RowShape { words: 2, numbers: 1 };

    #[test]
    fn values_are_those_of_the_feature_table() {
        let mut rows = Rows::with_capacity(SHAPE, 2);
        rows.push().1[0] = 7.5;
        let (words, _) = rows.push();
        words.copy_from_slice(&[1 << 30, 1 << 31]);
        let names = ["size", "b", "a"].map(str::to_owned);
        let binding = Binding::named(&columns(), SHAPE, &names).unwrap();
        let mut out = [0.0; 3];
        for row in 0..2 {
            binding.expand(&rows, row, &mut out);
            let expected = [2, 1, 0].map(|c: usize| columns()[c].value(&rows, row));
            assert_eq!(out, expected);
        }
        assert_eq!(out, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_not_there_or_there_twice_is_named() {
        let bound = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Binding::named(&columns(), SHAPE, &names).map_err(|error| error.to_string())
        };
        assert_eq!(bound(&["a", "b", "size"]), Ok(Binding::all(&columns(), SHAPE)));
        let error = bound(&["a", "sise"]).unwrap_err();
        assert_eq!(error, "column 1, `sise`, is none of the stage's features");
        assert_eq!(bound(&["a", "a"]).unwrap_err(), "column 1, `a`: expected once, found twice");
        assert!(Binding::bits(MAX_COLUMNS + 1).is_err());
        assert_eq!(Binding::bits(33).unwrap().shape().words, 2);
    }
}
