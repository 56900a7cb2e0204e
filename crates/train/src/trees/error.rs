//! Why there is nothing to train, or nothing to train it on.

use std::fmt;

/// Why a training set or its parameters were refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TrainError {
    /// A set has no row, or more than 32 bits can count.
    Rows {
        /// Number of rows.
        found: usize,
    },
    /// A column reads outside the rows.
    Column {
        /// Its name.
        name: String,
    },
    /// Rows of another shape than those that the planes were made from.
    Shape,
    /// The validation set asks other questions than the training set, or has other classes.
    Validation,
    /// There is not one label, or one weight, for each row.
    Length {
        /// What there should be one of for each row.
        what: &'static str,
        /// Number of rows.
        expected: usize,
        /// Number of entries.
        found: usize,
    },
    /// There is no class, or more than labels can name.
    Classes {
        /// Number of classes.
        found: usize,
    },
    /// A label is not below the number of classes.
    Label {
        /// The row.
        row: usize,
        /// Its label.
        label: u16,
        /// Number of classes.
        classes: usize,
    },
    /// A weight is negative or not finite.
    Weight {
        /// The row.
        row: usize,
    },
    /// All weights are zero.
    NoWeight,
    /// A parameter is out of its range.
    Param {
        /// Its name.
        name: &'static str,
        /// The range.
        expected: &'static str,
    },
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { found } => write!(f, "cannot train on {found} rows"),
            Self::Column { name } => write!(f, "column {name:?} reads outside the rows"),
            Self::Shape => write!(f, "rows of another shape than the training rows"),
            Self::Validation => write!(f, "the validation set has other planes or classes"),
            Self::Length { what, expected, found } => {
                write!(f, "{found} {what} for {expected} rows")
            }
            Self::Classes { found } => write!(f, "{found} classes: expected 1 to 65536"),
            Self::Label { row, label, classes } => {
                write!(f, "row {row}: label {label} of {classes} classes")
            }
            Self::Weight { row } => write!(f, "row {row}: its weight is negative or not finite"),
            Self::NoWeight => write!(f, "all weights are zero"),
            Self::Param { name, expected } => write!(f, "parameter {name}: expected {expected}"),
        }
    }
}

impl std::error::Error for TrainError {}

/// Refuses a parameter unless it is fine.
pub(super) fn require(
    fine: bool,
    name: &'static str,
    expected: &'static str,
) -> Result<(), TrainError> {
    if fine { Ok(()) } else { Err(TrainError::Param { name, expected }) }
}
