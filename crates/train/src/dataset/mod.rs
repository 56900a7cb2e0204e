//! Datasets: flows recorded by the engine, with their labels, and what the labels leave out.

mod matching;
mod record;
mod summary;

pub use matching::{LabelMatch, survey};
pub use record::*;
pub use summary::{ClassCount, DataSummary, SplitCount, TrainingWarning, TrainingWarningKind};
