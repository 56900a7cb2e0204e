//! Labels: which flow of which capture is what.
//!
//! Three ways to say it: a `labels.csv` beside the captures, the captures' folders or file names,
//! and the packet comments of pcapML captures. All end in one [`LabelBook`].

mod book;
pub mod diagnose;
mod error;
mod folders;
mod header;
mod order;
mod pcapml;
mod table;

pub use book::{Capture, FileLabels, LabelBook, Labelled};
pub use error::LabelError;
pub use folders::by_path;
pub use order::{other_order, sort_labels};
pub use pcapml::from_comments;
pub use table::read_table;

/// Which part of the data a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Models are fitted on it.
    Train,
    /// Early stopping and gates are calibrated on it.
    Val,
    /// Only evaluations see it.
    Test,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The split as tables spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The split of that name, in upper or lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name().eq_ignore_ascii_case(name))
    }
}
