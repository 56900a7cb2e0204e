//! Fake models and lanes, and cascades made of them.

use super::frames::Rng;
use serveflow_core::calibration::Calibration;
use serveflow_core::deferral::{Deferral, Head, OUTCOMES, facts_shape};
use serveflow_core::engine::{Cascade, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{InlineLane, Job, Lane, Model, ScoreError};
use serveflow_core::open_set::OpenSet;
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::sync::Arc;

pub const CLASSES: usize = 4;

/// Probabilities that are a hash of the row: sure, unsure, and different with every bit.
#[derive(Clone, Debug)]
pub struct HashModel {
    pub shape: RowShape,
    pub stage: u64,
    /// Fails every job in `n` whose first row says so; 0 never fails.
    pub fails_one_in: u64,
}

/// The probabilities of one row.
pub fn hash_scores(stage: u64, words: &[u32], numbers: &[f32]) -> [f32; CLASSES] {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ stage;
    let numbers = numbers.iter().map(|number| number.to_bits());
    for word in words.iter().copied().chain(numbers) {
        hash = (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    let mut rng = Rng(hash);
    let mut raw = [0.0; CLASSES];
    for value in &mut raw {
        *value = (rng.below(1000) as f32 + 1.0).powi(3);
    }
    let sum: f32 = raw.iter().sum();
    raw.map(|value| value / sum)
}

impl Model for HashModel {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        assert_eq!(rows.shape(), self.shape, "rows of the stage's shape");
        scores.reset(rows.len(), CLASSES);
        for row in 0..rows.len() {
            let answer = hash_scores(self.stage, rows.words(row), rows.numbers(row));
            scores.row_mut(row).copy_from_slice(&answer);
        }
        let first = scores.row(0)[0].to_bits();
        if self.fails_one_in > 0 && u64::from(first).is_multiple_of(self.fails_one_in) {
            return Err(ScoreError { message: "as told".to_owned() });
        }
        Ok(())
    }
}

/// One stage of a test cascade.
#[derive(Clone, Copy, Debug)]
pub struct StageSpec {
    pub packets: u16,
    pub wait_ns: u64,
    pub wants_window: bool,
    /// Largest uncertainty accepted.
    pub threshold: f32,
    pub lane: usize,
}

pub fn stage(packets: u16, wait_ns: u64, threshold: f32) -> StageSpec {
    StageSpec { packets, wait_ns, wants_window: false, threshold, lane: 0 }
}

/// A stage that wants the window, up to so many packets of it.
pub fn window(most: u16, threshold: f32) -> StageSpec {
    StageSpec { wants_window: true, ..stage(most, u64::MAX, threshold) }
}

pub fn spec(packets: u16) -> FeatureSpec {
    FeatureSpec {
        encoders: vec!["header_bits".to_owned(), "packet_series".to_owned()],
        packets,
        layout: HeaderLayout::default(),
        masks: MaskSet::from_iter([]),
    }
}

pub fn cascade(specs: &[StageSpec]) -> Arc<Cascade> {
    let stage = |(index, wanted): (usize, &StageSpec)| {
        let features = Features::new(&spec(wanted.packets)).unwrap();
        let threshold = Threshold::Universal(wanted.threshold);
        let gate = Gate::Uncertainty { measure: Uncertainty::LeastConfidence, threshold };
        Stage {
            wants_window: wanted.wants_window,
            lane: wanted.lane,
            ..Stage::new(&format!("stage{index}"), features, gate, wanted.wait_ns)
        }
    };
    let labels = (0..CLASSES).map(|class| format!("class{class}")).collect();
    Arc::new(Cascade::new(specs.iter().enumerate().map(stage).collect(), labels).unwrap())
}

/// Outcomes that are a hash of the facts.
#[derive(Clone, Copy, Debug)]
struct HashHead(u64);

impl Model for HashHead {
    fn shape(&self) -> RowShape {
        facts_shape(CLASSES)
    }

    fn classes(&self) -> usize {
        OUTCOMES
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), OUTCOMES);
        for row in 0..rows.len() {
            let answer = hash_scores(self.0, rows.words(row), rows.numbers(row));
            scores.row_mut(row).copy_from_slice(&answer[..OUTCOMES]);
        }
        Ok(())
    }
}

/// The same stages with learned gates, whose heads lead to each later stage at a price, with
/// calibrated confidence and open-set rules.
pub fn learned(specs: &[StageSpec], price: f32) -> Arc<Cascade> {
    let plain = cascade(specs);
    let head = |from: usize, to: usize| Head {
        to,
        model: Arc::new(HashHead((from * 16 + to) as u64)),
        price,
    };
    let stage = |(index, of): (usize, &Stage)| {
        let heads = (index + 1..specs.len()).map(|to| head(index, to));
        let gate = match index + 1 == specs.len() {
            true => Gate::never(),
            false => Gate::Learned(Deferral::new(heads.collect())),
        };
        let steps = vec![(0.3, 0.2), (0.5 + index as f32 / 10.0, 0.7)];
        // The first stage takes all flows for known, the others about a half.
        let unknown = (index > 0).then_some(OpenSet { score: Uncertainty::Margin, threshold: 0.9 });
        Stage { gate, confidence: Calibration::new(steps).unwrap(), unknown, ..of.clone() }
    };
    let stages = plain.stages().iter().enumerate().map(stage).collect();
    Arc::new(Cascade::new(stages, plain.labels().to_vec()).unwrap())
}

pub fn models(cascade: &Cascade, fails_one_in: u64) -> Vec<Arc<dyn Model>> {
    let model = |(index, stage): (usize, &Stage)| -> Arc<dyn Model> {
        Arc::new(HashModel { shape: stage.features.shape(), stage: index as u64, fails_one_in })
    };
    cascade.stages().iter().enumerate().map(model).collect()
}

pub fn lane_count(cascade: &Cascade) -> usize {
    1 + cascade.stages().iter().map(|stage| stage.lane).max().unwrap()
}

pub fn inline_lanes(cascade: &Cascade) -> Vec<Box<dyn Lane>> {
    let lane = |_| Box::new(InlineLane::new(models(cascade, 0))) as Box<dyn Lane>;
    (0..lane_count(cascade)).map(lane).collect()
}

/// A lane that holds jobs for a while, gives them back in any order, and may be full.
pub struct DelayLane {
    models: Vec<Arc<dyn Model>>,
    #[allow(clippy::vec_box)] // As boxes they came, and as boxes they go back.
    held: Vec<Box<Job>>,
    rng: Rng,
    room: usize,
}

impl DelayLane {
    pub fn new(models: Vec<Arc<dyn Model>>, seed: u64, room: usize) -> Self {
        Self { models, held: Vec::new(), rng: Rng(seed), room }
    }
}

impl Lane for DelayLane {
    fn submit(&mut self, mut job: Box<Job>) -> Result<(), Box<Job>> {
        if self.held.len() >= self.room {
            return Err(job);
        }
        let model = &self.models[job.stage];
        job.failed = model.score(&job.rows, &mut job.scores).is_err();
        self.held.push(job);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        if self.held.is_empty() || !self.rng.one_in(3) {
            return None;
        }
        let at = self.rng.below(self.held.len() as u64) as usize;
        Some(self.held.swap_remove(at))
    }
}

pub fn delay_lanes(
    cascade: &Cascade,
    seed: u64,
    room: usize,
    fails_one_in: u64,
) -> Vec<Box<dyn Lane>> {
    let lane = |index: usize| {
        let models = models(cascade, fails_one_in);
        Box::new(DelayLane::new(models, seed + index as u64, room)) as Box<dyn Lane>
    };
    (0..lane_count(cascade)).map(lane).collect()
}
