//! How well a score tells flows of a class that the model never saw: the last stage trained again
//! without one class after the other.

use super::{auroc, share, threshold};
use crate::dataset::{Dataset, record};
use crate::pipeline::{Kind, PipelineError, Step, TierData, TrainPlan, filled, train_tier};
use crate::planner::pool::CandidateSpec;
use crate::random::Random;
use crate::scoring::score_all;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::Uncertainty;
use serveflow_label::{LabelBook, Split};
use serveflow_model::forest::BoundForest;

/// Flows of a class that each of the splits must have for the class to be held out.
const LEAST_FLOWS: usize = 5;
/// What the choice among classes is seeded with, beside the seed.
const CHOICE: u64 = 0x6f70;

/// What is held out of which model.
#[derive(Clone, Copy, Debug)]
pub struct HeldOutWish<'a> {
    /// The stage: its kind, size, packets, wait and features.
    pub recipe: CandidateSpec,
    /// Sets of encoders that recipes name by index.
    pub features: &'a [Vec<String>],
    /// Most classes that are held out, which each cost a training.
    pub most: usize,
    /// Share of known flows that may be called unknown.
    pub rate: f64,
}

/// How well classes are told that were held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The stage.
    pub stage: String,
    /// Names of the scores, in the order of all figures.
    pub scores: Vec<String>,
    /// The classes that were held out.
    pub classes: Vec<HeldOutClass>,
    /// Classes of the task.
    pub of: usize,
    /// Mean AUROC on the calibration split, by which a score is chosen.
    pub val: Vec<f64>,
    /// Mean AUROC on the test flows.
    pub test: Vec<f64>,
}

/// A class that was held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutClass {
    /// Its label.
    pub label: String,
    /// Test flows of it.
    pub flows: u64,
    /// Test flows of the others.
    pub known: u64,
    /// AUROC of its calibration flows against those of the other classes, by score.
    pub val: Vec<f64>,
    /// The same on the test flows.
    pub test: Vec<f64>,
    /// Share of its test flows that are called unknown, by score, at the calibrated threshold.
    pub caught: Vec<f64>,
    /// Share of the other test flows that are called unknown there.
    pub false_unknown: Vec<f64>,
}

impl HeldOut {
    /// The place of the score that tells best on the calibration split; the first one where none
    /// was tried.
    #[must_use]
    pub fn best(&self) -> usize {
        let all = 0..self.val.len();
        all.reduce(|best, next| if self.val[next] > self.val[best] + 1e-9 { next } else { best })
            .unwrap_or(0)
    }

    /// The score that tells best on the calibration split.
    #[must_use]
    pub fn score(&self) -> Uncertainty {
        Uncertainty::ALL[self.best()]
    }
}

/// Trains a stage again without each of some classes, and looks how odd their flows are to it.
/// `None` where no class can be held out, or the stage was not trained here.
///
/// # Errors
/// When a split has no flow, or a parameter is out of range.
pub fn hold_out(
    book: &LabelBook,
    plan: &TrainPlan,
    wish: HeldOutWish<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<Option<HeldOut>, PipelineError> {
    if wish.recipe.kind == Kind::Given || wish.most == 0 {
        return Ok(None);
    }
    let features = wish.features[wish.recipe.features].clone();
    let own = TrainPlan { features, wait_ms: wish.recipe.wait_ms, ..plan.clone() };
    let files = book.files.len();
    let dataset = record(book, &own.recording(&[wish.recipe.packets]), &mut |done| {
        progress(Step::Recording(done, files));
    });
    let study = Study::new(dataset.map_err(PipelineError::Record)?, &own, wish)?;
    let chosen = study.chosen(plan.seed);
    let classes: Result<Vec<_>, _> =
        chosen.into_iter().map(|class| study.without(class, progress)).collect();
    let classes = classes?;
    let mean = |of: fn(&HeldOutClass) -> &Vec<f64>| -> Vec<f64> {
        let one = |score: usize| {
            classes.iter().map(|class| of(class)[score]).sum::<f64>() / classes.len() as f64
        };
        (0..Uncertainty::ALL.len()).map(one).collect()
    };
    if classes.is_empty() {
        return Ok(None);
    }
    let (val, test) = (mean(|class| &class.val), mean(|class| &class.test));
    Ok(Some(HeldOut {
        stage: wish.recipe.name(plan.wait_ms, wish.features),
        scores: Uncertainty::ALL.map(|score| score.name().to_owned()).to_vec(),
        of: study.dataset.labels.len(),
        val,
        test,
        classes,
    }))
}

/// The flows of a stage, by split.
struct Study<'a> {
    dataset: Dataset,
    train: Vec<usize>,
    val: Vec<usize>,
    test: Vec<usize>,
    plan: &'a TrainPlan,
    wish: HeldOutWish<'a>,
}

/// Oddness of flows by score: of the known classes, and of the one that was held out.
struct Oddness {
    known: Vec<Vec<f32>>,
    held: Vec<Vec<f32>>,
}

impl<'a> Study<'a> {
    fn new(
        dataset: Dataset,
        plan: &'a TrainPlan,
        wish: HeldOutWish<'a>,
    ) -> Result<Self, PipelineError> {
        let (train, val) = (filled(&dataset, Split::Train)?, filled(&dataset, Split::Val)?);
        let test = dataset.split(Split::Test);
        Ok(Self { dataset, train, val, test, plan, wish })
    }

    fn is_of(&self, flow: usize, class: u16) -> bool {
        self.dataset.flows[flow].label == Some(class)
    }

    /// The classes to hold out: all that have flows enough, or a random choice of them.
    fn chosen(&self, seed: u64) -> Vec<u16> {
        let labels = self.dataset.labels.len() as u16;
        let count =
            |flows: &[usize], class| flows.iter().filter(|&&f| self.is_of(f, class)).count();
        let has_flows = |class: &u16| {
            let (val, test) = (count(&self.val, *class), count(&self.test, *class));
            count(&self.train, *class) > 0 && val >= LEAST_FLOWS && test >= LEAST_FLOWS
        };
        let mut classes: Vec<u16> = (0..labels).filter(has_flows).collect();
        if labels < 3 {
            // Of two classes one is left, and a model of one class doubts nothing.
            return Vec::new();
        }
        Random::new(&[seed, CHOICE]).choose(&mut classes, self.wish.most);
        classes.truncate(self.wish.most);
        classes.sort_unstable();
        classes
    }

    /// Trains without a class, and looks at its flows.
    fn without(
        &self,
        class: u16,
        progress: &mut dyn FnMut(Step),
    ) -> Result<HeldOutClass, PipelineError> {
        let others = |flows: &[usize]| -> Vec<usize> {
            flows.iter().copied().filter(|&flow| !self.is_of(flow, class)).collect()
        };
        let tier = self.wish.recipe.tier();
        let failed = |source| PipelineError::Train { tier, source };
        let mut params = self.plan.seeded_params();
        if let Some(size) = self.wish.recipe.size {
            params.boost.rounds = params.boost.rounds.min(size);
            params.forest.trees = params.forest.trees.min(size);
        }
        let weights = params.class_weights;
        let data =
            TierData::new(&self.dataset, 0, &others(&self.train), &others(&self.val), weights);
        let data = data.map_err(failed)?;
        let forest = train_tier(tier.kind, &data, &params, &mut |done| {
            progress(Step::Training(tier, done));
        });
        let model = BoundForest::new(&forest.map_err(failed)?);
        let (val, test) =
            (self.oddness(&model, &self.val, class), self.oddness(&model, &self.test, class));
        let areas = |own: &Oddness| -> Vec<f64> {
            own.known.iter().zip(&own.held).map(|(known, held)| auroc(known, held)).collect()
        };
        // Without a threshold nothing is called unknown.
        let most =
            |known: &Vec<f32>| threshold(known.clone(), self.wish.rate).unwrap_or(f32::INFINITY);
        let limits: Vec<f32> = val.known.iter().map(most).collect();
        let called = |odd: &[Vec<f32>]| -> Vec<f64> {
            odd.iter().zip(&limits).map(|(odd, &most)| share(odd, |&odd| odd > most)).collect()
        };
        Ok(HeldOutClass {
            label: self.dataset.labels[usize::from(class)].clone(),
            flows: test.held[0].len() as u64,
            known: test.known[0].len() as u64,
            val: areas(&val),
            test: areas(&test),
            caught: called(&test.held),
            false_unknown: called(&test.known),
        })
    }

    fn oddness(&self, model: &BoundForest, flows: &[usize], class: u16) -> Oddness {
        let scores = score_all(model, &self.dataset.rows_of(0, flows));
        let scores = scores.expect("a forest scores every row");
        let of = |score: Uncertainty, held: bool| -> Vec<f32> {
            let own =
                flows.iter().enumerate().filter(|(_, flow)| self.is_of(**flow, class) == held);
            own.map(|(row, _)| score.uncertainty(scores.row(row))).collect()
        };
        let all = |held: bool| Uncertainty::ALL.map(|score| of(score, held)).to_vec();
        Oddness { known: all(false), held: all(true) }
    }
}
