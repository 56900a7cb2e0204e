//! A tier: a kind of model at a packet depth, and how it is trained.

use crate::dataset::Dataset;
use crate::trees::{
    BitMatrix, BoostParams, ForestParams, MAX_CUTS, Progress, TrainError, TrainSet, TreeParams,
    train_boosted, train_forest, train_tree,
};
use serde::{Deserialize, Serialize};
use serveflow_core::rows::Rows;
use serveflow_model::forest::Forest;
use std::fmt;
use std::str::FromStr;

/// A kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One decision tree.
    Tree,
    /// A random forest.
    Forest,
    /// Gradient-boosted trees.
    Boosted,
    /// A model that another library trained.
    Given,
}

impl Kind {
    /// All kinds that are trained here.
    pub const ALL: [Self; 3] = [Self::Tree, Self::Forest, Self::Boosted];

    /// The kind as stages spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Forest => "forest",
            Self::Boosted => "boosted",
            Self::Given => "given",
        }
    }

    /// The kind in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Tree => "decision tree",
            Self::Forest => "random forest",
            Self::Boosted => "gradient-boosted trees",
            Self::Given => "model of another library",
        }
    }
}

/// A model to train: its kind and the packets it sees, written `boosted@10`, or `boosted@window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tier {
    /// Kind of model.
    pub kind: Kind,
    /// Packets that it sees, or [`Tier::WINDOW`].
    pub packets: u16,
}

impl Tier {
    /// The `packets` of a tier that wants the window, written `boosted@window`: more than any
    /// number of packets that can be written, since a window ends behind all of them.
    pub const WINDOW: u16 = u16::MAX;

    /// Packets that a row covers of what sees so many `packets`: as many, or as a window may have.
    #[must_use]
    pub fn row_packets(packets: u16, window_packets: u16) -> u16 {
        if packets == Self::WINDOW { window_packets } else { packets }
    }

    /// What it sees, as it is written behind the `@`.
    #[must_use]
    pub fn depth(self) -> String {
        if self.packets == Self::WINDOW { "window".to_owned() } else { self.packets.to_string() }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind.name(), self.depth())
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Kind::ALL.map(Kind::name).join(", ");
        let refused = || {
            format!(
                "expected KIND@PACKETS or KIND@window with a kind of {}, found `{text}`",
                known()
            )
        };
        let (kind, packets) = text.split_once('@').ok_or_else(refused)?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(refused)?;
        if packets == "window" {
            return Ok(Self { kind, packets: Self::WINDOW });
        }
        let packets: u16 = packets.parse().map_err(|_| refused())?;
        if packets == 0 || packets == Self::WINDOW {
            return Err(refused());
        }
        Ok(Self { kind, packets })
    }
}

/// How rows weigh by their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClassWeights {
    /// All rows weigh the same.
    #[default]
    None,
    /// Each class weighs the same in sum.
    Balanced,
    /// Between the two: by the square root of the balanced weight.
    Root,
}

impl ClassWeights {
    /// One weight per row; none when all weigh the same.
    fn rows(self, labels: &[u16], classes: usize) -> Vec<f32> {
        if self == Self::None {
            return Vec::new();
        }
        let mut counts = vec![0_usize; classes];
        labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        let present = counts.iter().filter(|&&count| count > 0).count();
        let weight = |&label: &u16| {
            let balanced =
                labels.len() as f64 / (present * counts[usize::from(label)]).max(1) as f64;
            if self == Self::Root { balanced.sqrt() as f32 } else { balanced as f32 }
        };
        labels.iter().map(weight).collect()
    }
}

/// Parameters of all kinds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TierParams {
    /// Decision trees.
    pub tree: TreeParams,
    /// Random forests.
    pub forest: ForestParams,
    /// Boosted trees.
    pub boost: BoostParams,
    /// How rows weigh.
    pub class_weights: ClassWeights,
}

/// Rows of two splits as trainers take them.
pub struct TierData {
    /// What is fitted.
    pub train: TrainSet,
    /// What early stopping looks at.
    pub val: TrainSet,
    /// The calibration rows, as they are served.
    pub val_rows: Rows,
}

impl TierData {
    /// The planes and labels of a recorded stage.
    ///
    /// # Errors
    /// When a split has no flow.
    pub fn new(
        dataset: &Dataset,
        stage: usize,
        train: &[usize],
        val: &[usize],
        class_weights: ClassWeights,
    ) -> Result<Self, TrainError> {
        let classes = dataset.labels.len();
        let train_rows = dataset.rows_of(stage, train);
        let matrix = BitMatrix::new(&train_rows, &dataset.columns[stage], MAX_CUTS)?;
        let val_rows = dataset.rows_of(stage, val);
        let val_matrix = matrix.same_planes(&val_rows)?;
        let labels = dataset.labels_of(train);
        let weights = class_weights.rows(&labels, classes);
        Ok(Self {
            train: TrainSet::new(matrix, labels, weights, classes)?,
            val: TrainSet::new(val_matrix, dataset.labels_of(val), Vec::new(), classes)?,
            val_rows,
        })
    }
}

/// Trains a tier.
///
/// # Errors
/// When a parameter is out of range.
///
/// # Panics
/// When it is one of the models that are given.
pub fn train_tier(
    kind: Kind,
    data: &TierData,
    params: &TierParams,
    progress: &mut dyn FnMut(Progress),
) -> Result<Forest, TrainError> {
    match kind {
        Kind::Tree => train_tree(&data.train, &params.tree),
        Kind::Forest => train_forest(&data.train, &params.forest, progress),
        Kind::Boosted => {
            let boosted = train_boosted(&data.train, Some(&data.val), &params.boost, progress)?;
            Ok(boosted.forest)
        }
        Kind::Given => panic!("a model that is given is not trained"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_round_trip_and_nonsense_is_refused() {
        for text in ["tree@1", "forest@5", "boosted@10", "boosted@window"] {
            assert_eq!(text.parse::<Tier>().unwrap().to_string(), text);
        }
        for text in ["", "tree", "tree@0", "tree@x", "bush@1", "tree@65535", "tree@70000"] {
            let error = text.parse::<Tier>().unwrap_err();
            assert!(error.contains("boosted") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn balanced_weights_give_each_class_the_same_sum() {
        let labels = [0, 0, 0, 2];
        let weights = ClassWeights::Balanced.rows(&labels, 3);
        assert_eq!(weights[0] * 3.0, weights[3]);
        assert!((weights.iter().sum::<f32>() - 4.0).abs() < 1e-6);
        assert!(ClassWeights::None.rows(&labels, 3).is_empty());
    }
}
