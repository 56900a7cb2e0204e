//! What the audit evaluation says, as data.

use serde::{Deserialize, Serialize};

/// Everything that the audit evaluation of a training run found.
///
/// All F1 figures are macro averages over the labels that occur as truth or as answer; shares go
/// from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The model that was trained again and again, written `boosted@10`.
    pub model: String,
    /// Seed of all random choices.
    pub seed: u64,
    /// The flows and captures of the data's own split.
    pub data: DataReport,
    /// Field groups that the plan masks.
    pub masks: Vec<String>,
    /// How the intervals were made.
    pub bootstrap: BootstrapReport,
    /// On the split that the data comes with.
    pub given: SplitReport,
    /// On a random split of the same flows, of the same sizes.
    pub random: SplitReport,
    /// Macro-F1 of the random split less that of the given one, both with the planned masks.
    pub random_minus_given: f64,
    /// Test flows of the given split that equal a training flow, and the model without them.
    pub duplicates: DuplicateReport,
    /// The same for the random split.
    pub random_duplicates: DuplicateReport,
    /// The nearest-neighbour baseline on the given split.
    pub nearest: NearestReport,
    /// What the model of the given split with the planned masks leans on.
    pub fields: FieldsReport,
    /// The same for the random split, where a model may lean on what tells captures apart: on a
    /// split by capture, early stopping may have kept the model from it.
    pub random_fields: FieldsReport,
    /// What a reader should know before trusting the figures.
    pub warnings: Vec<Warning>,
}

/// Counts of the data's own split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// Labelled flows.
    pub flows: Counts,
    /// Captures with labelled flows.
    pub captures: Counts,
    /// Captures that have both training and test flows.
    pub shared_captures: usize,
    /// Whether captures are those that the label table names; else they are the files.
    pub captures_from_table: bool,
    /// Labels of test flows that no training flow has.
    pub unseen: Vec<UnseenLabel>,
}

/// A number for each part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Of the training part.
    pub train: usize,
    /// Of the calibration part.
    pub val: usize,
    /// Of the test part.
    pub test: usize,
}

/// A label that a model could not learn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenLabel {
    /// The label.
    pub label: String,
    /// Test flows that have it.
    pub flows: usize,
}

/// How the intervals were made: captures are drawn with replacement, all flows of one together, and
/// the interval goes from the 2.5th to the 97.5th percentile of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapReport {
    /// Draws.
    pub resamples: usize,
    /// Test captures of the given split that are drawn from.
    pub captures: usize,
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The interval; `None` when there are fewer than two captures to draw from.
    pub interval: Option<Interval>,
}

/// The middle 95 % of the resampled figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// A model's figures on test flows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Macro-F1.
    pub macro_f1: Estimate,
    /// Share of right answers.
    pub accuracy: Estimate,
}

/// The model with and without masks on one split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// With the planned masks.
    pub masked: Figures,
    /// With no mask at all.
    pub unmasked: Figures,
    /// Macro-F1 with the planned masks less that without any, on the same resamples.
    pub masked_minus_unmasked: Estimate,
}

/// Test flows whose whole row, words and numbers, equals that of a training flow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DuplicateReport {
    /// Test flows.
    pub test_flows: usize,
    /// Those that equal a training flow.
    pub duplicates: usize,
    /// Duplicates that equal a training flow with another label, whatever else they equal.
    pub other_label: usize,
    /// Duplicates that equal training flows with other labels only.
    pub only_other_labels: usize,
    /// The model on the test flows that are no duplicates; `None` when there are none.
    pub without: Option<Figures>,
}

impl DuplicateReport {
    /// Duplicates as a share of the test flows.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.duplicates as f64 / self.test_flows.max(1) as f64
    }
}

/// The nearest-neighbour baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearestReport {
    /// What it looks at, packet by packet.
    pub columns: Vec<String>,
    /// Neighbours that vote: the number that did best on the calibration flows.
    pub k: usize,
    /// Macro-F1 on the calibration flows by number of neighbours.
    pub val_macro_f1: Vec<(usize, f64)>,
    /// Training flows there are.
    pub train_flows: usize,
    /// Training flows that it keeps: all, or a stratified sample of a stated size.
    pub kept_flows: usize,
    /// Its figures on the test flows.
    pub figures: Figures,
    /// Macro-F1 of the model with the planned masks less that of the baseline.
    pub model_minus_nearest: Estimate,
}

/// What the model leans on, by permutation: a field's values of all packets are dealt out anew
/// among the calibration flows, together, and the model is asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldsReport {
    /// Calibration flows that were asked.
    pub flows: usize,
    /// Times that each field was dealt out; the mean counts.
    pub repeats: usize,
    /// Macro-F1 of the model on these flows as they are.
    pub macro_f1: f64,
    /// Fields that the model asks about.
    pub used: usize,
    /// The fields that matter most, by drop in macro-F1.
    pub top: Vec<FieldReport>,
    /// The groups that a mask could hide and does not.
    pub identity: Vec<FieldReport>,
}

/// How much a field, or a group of fields, matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldReport {
    /// The field as columns spell it, without packet and bit; or the group as masks spell it.
    pub field: String,
    /// Macro-F1 that is lost without it; may be below 0 by chance.
    pub drop: f64,
    /// Its part of all fields' drops, those below 0 left out.
    pub share: f64,
    /// Share of the flows that are answered otherwise without it, rightly or not.
    pub changed: f64,
    /// Its part of all fields' changes.
    pub changed_share: f64,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// The random split is kinder than the given one.
    RandomSplit,
    /// One group of identity fields carries much of the importance.
    Identity,
    /// Identity bits help on the random split.
    UnmaskedRandom,
    /// Identity bits change the figure of the given split.
    UnmaskedGiven,
    /// Many test flows are copies of training flows.
    Duplicates,
    /// A nearest-neighbour look-up does about as well.
    Nearest,
    /// The given split has captures in both training and test.
    SharedCaptures,
    /// Test flows have labels that were never trained.
    Unseen,
    /// There are few test captures.
    FewCaptures,
}

/// A sentence that a newcomer understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// The sentence.
    pub sentence: String,
}
