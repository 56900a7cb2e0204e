//! Recording: the engine itself makes the training rows, through a lane that keeps them.
//!
//! Training and serving rows cannot differ, because they come from the same engine, the same
//! encoders and the same flow rules; only the lane is another one, and no gate ever accepts.

use serveflow_core::counters::Counters;
use serveflow_core::deferral::FlowFacts;
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::{EncoderError, FeatureSpec, Features};
use serveflow_core::gate::Gate;
use serveflow_core::lane::{Job, Lane};
use serveflow_core::rows::{Column, Rows};
use serveflow_core::verdict::{FiveTuple, Verdict};
use serveflow_core::{FlowConfig, NO_WINDOW};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory, OrderRules, SourceError};
use serveflow_label::{Capture, FileLabels, LabelBook, Split};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

const BATCH_FRAMES: usize = 1024;

/// What to record: one stage per feature spec, with its longest wait.
#[derive(Clone, Debug)]
pub struct RecordPlan {
    /// Feature specs, by growing number of packets.
    pub specs: Vec<FeatureSpec>,
    /// Longest wait for the packets, nanoseconds after the flow's first.
    pub wait_ns: u64,
    /// How many of the last specs are of the window: asked when it ends.
    pub of_window: usize,
    /// Flow rules.
    pub flows: FlowConfig,
}

/// A recorded flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowInfo {
    /// The flow.
    pub flow: FiveTuple,
    /// Time of its first packet, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Packets that its row at the last stage covers.
    pub packets: u16,
    /// Index of its capture in the book's order.
    pub file: usize,
    /// The capture that it comes from: the one its table names, else its file.
    pub capture: Capture,
    /// Index of its label in the book; `None` when it is not labelled.
    pub label: Option<u16>,
    /// The part of the data it belongs to.
    pub split: Split,
}

/// Rows of all recorded flows: row `i` of each stage belongs to flow `i`.
#[derive(Debug)]
pub struct Dataset {
    /// Names of the labels.
    pub labels: Vec<String>,
    /// What was recorded, by stage.
    pub specs: Vec<FeatureSpec>,
    /// Columns of the rows, by stage.
    pub columns: Vec<Vec<Column>>,
    /// Rows, by stage.
    pub rows: Vec<Rows>,
    /// What else is known of each flow when a stage is asked, by stage.
    pub facts: Vec<Vec<FlowFacts>>,
    /// The flows.
    pub flows: Vec<FlowInfo>,
    /// Listed flows that no capture contained.
    pub missing: usize,
    /// Where packets and flows went, all captures together.
    pub accounts: Counters,
    /// Damaged captures.
    pub damaged: Vec<SourceError>,
}

impl Dataset {
    /// Indices of the labelled flows of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> Vec<usize> {
        let of_split = |info: &FlowInfo| info.split == split && info.label.is_some();
        (0..self.flows.len()).filter(|&flow| of_split(&self.flows[flow])).collect()
    }

    /// Labels of some flows; unlabelled ones are left out.
    #[must_use]
    pub fn labels_of(&self, flows: &[usize]) -> Vec<u16> {
        flows.iter().filter_map(|&flow| self.flows[flow].label).collect()
    }

    /// Rows of some flows at a stage.
    #[must_use]
    pub fn rows_of(&self, stage: usize, flows: &[usize]) -> Rows {
        let mut rows = Rows::with_capacity(self.rows[stage].shape(), flows.len());
        flows.iter().for_each(|&flow| rows.push_copy(&self.rows[stage], flow));
        rows
    }
}

/// Why nothing could be recorded.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// A feature name is unknown.
    Features(EncoderError),
    /// The stages make no cascade.
    Cascade(serveflow_core::engine::CascadeError),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features(error) => error.fmt(f),
            Self::Cascade(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecordError {}

/// Keeps the rows of every job and answers nothing.
#[derive(Debug)]
pub struct RecordingLane {
    kept: Arc<Mutex<Vec<Kept>>>,
    done: VecDeque<Box<Job>>,
}

/// The rows of one stage, with the numbers of their flows.
#[derive(Debug, Default)]
pub struct Kept {
    /// Flow numbers, as in verdicts.
    pub flows: Vec<u64>,
    /// One row per flow number.
    pub rows: Rows,
    /// What else is known of the flows.
    pub facts: Vec<FlowFacts>,
}

impl RecordingLane {
    /// A lane for the stages of a cascade, and where it keeps their rows.
    #[must_use]
    pub fn new(cascade: &Cascade) -> (Self, Arc<Mutex<Vec<Kept>>>) {
        let shapes = cascade.stages().iter().map(|stage| stage.features.shape());
        let empty = |shape| Kept {
            flows: Vec::new(),
            rows: Rows::with_capacity(shape, 0),
            facts: Vec::new(),
        };
        let kept = Arc::new(Mutex::new(shapes.map(empty).collect()));
        (Self { kept: Arc::clone(&kept), done: VecDeque::new() }, kept)
    }
}

impl Lane for RecordingLane {
    fn submit(&mut self, mut job: Box<Job>) -> Result<(), Box<Job>> {
        let mut kept = self.kept.lock().expect("no holder of the rows panics");
        let stage = &mut kept[job.stage];
        stage.flows.extend_from_slice(&job.flows);
        stage.facts.extend_from_slice(&job.facts);
        (0..job.rows.len()).for_each(|row| stage.rows.push_copy(&job.rows, row));
        job.scores.reset(job.rows.len(), 1);
        self.done.push_back(job);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.done.pop_front()
    }
}

/// The cascade that records: every stage is asked, no gate accepts.
///
/// # Errors
/// When a feature name is unknown or the stages are not in order.
pub fn recording_cascade(plan: &RecordPlan) -> Result<Cascade, RecordError> {
    let mut stages = Vec::new();
    for (index, spec) in plan.specs.iter().enumerate() {
        let features = Features::new(spec).map_err(RecordError::Features)?;
        let name = format!("record@{}", spec.packets);
        let stage = Stage::new(&name, features, Gate::never(), plan.wait_ns);
        stages.push(stage.at_window_end(index + plan.of_window >= plan.specs.len()));
    }
    Cascade::new(stages, vec!["recorded".to_owned()]).map_err(RecordError::Cascade)
}

/// Records all captures of a book, each on a flow table of its own. `progress` is told the number
/// of captures done.
///
/// Captures that are damaged give the flows before the damage and an error in the dataset.
///
/// # Errors
/// When the plan's specs cannot be built.
pub fn record(
    book: &LabelBook,
    plan: &RecordPlan,
    progress: &mut dyn FnMut(usize),
) -> Result<Dataset, RecordError> {
    let cascade = Arc::new(recording_cascade(plan)?);
    let shapes = cascade.stages().iter().map(|stage| stage.features.shape());
    let mut dataset = Dataset {
        labels: book.labels.clone(),
        specs: plan.specs.clone(),
        columns: cascade.stages().iter().map(|stage| stage.features.columns()).collect(),
        rows: shapes.map(|shape| Rows::with_capacity(shape, 0)).collect(),
        facts: vec![Vec::new(); plan.specs.len()],
        flows: Vec::new(),
        missing: 0,
        accounts: Counters::default(),
        damaged: Vec::new(),
    };
    for (index, (path, labels)) in book.files.iter().enumerate() {
        record_file(&cascade, plan, path, labels, index, &mut dataset);
        progress(index + 1);
    }
    Ok(dataset)
}

fn record_file(
    cascade: &Arc<Cascade>,
    plan: &RecordPlan,
    path: &Path,
    labels: &FileLabels,
    file: usize,
    dataset: &mut Dataset,
) {
    let config = EngineConfig { flows: plan.flows, ..EngineConfig::default() };
    let mut engine = Engine::new(Arc::clone(cascade), config);
    let (lane, kept) = RecordingLane::new(cascade);
    let mut sink = Memory::default();
    let mut worker = Worker {
        engine: &mut engine,
        lanes: &mut vec![Box::new(lane)],
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames: BATCH_FRAMES,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    };
    let rules = OrderRules::of_flows(&plan.flows);
    let mut source = FileSource::with(vec![path.to_owned()], rules);
    let outcome = worker.run(&mut source, &mut |_, _| ControlFlow::Continue(()));
    let outcome = outcome.expect("a sink in memory never fails");
    dataset.damaged.extend(outcome.damaged);
    dataset.accounts.add(engine.accounts());
    let kept = kept.lock().expect("no holder of the rows panics");
    let cut = plan.flows.window_ns != NO_WINDOW;
    join(&kept, sink.verdicts, labels, (file, cut), dataset);
}

/// Adds the flows of one capture, in the order of their first packets, with their rows. Where flows
/// are cut into windows, all windows of a five-tuple stand in the split of its first one: they tell
/// of each other.
fn join(
    kept: &[Kept],
    mut verdicts: Vec<Verdict>,
    labels: &FileLabels,
    (file, cut): (usize, bool),
    dataset: &mut Dataset,
) {
    verdicts.retain(|verdict| verdict.answer.is_some());
    verdicts.sort_unstable_by_key(|verdict| verdict.id);
    let rows_by_flow: Vec<HashMap<u64, usize>> = kept
        .iter()
        .map(|stage| stage.flows.iter().enumerate().map(|(row, &flow)| (flow, row)).collect())
        .collect();
    let count = verdicts.len();
    let (mut found, mut met) = (0, HashMap::new());
    for (order, verdict) in verdicts.iter().enumerate() {
        let order = if cut { *met.entry(verdict.flow).or_insert(order) } else { order };
        let labelled = labels.find(&verdict.flow, verdict.first_ns / 1000);
        found += usize::from(labelled.is_some());
        dataset.flows.push(FlowInfo {
            flow: verdict.flow,
            first_ns: verdict.first_ns,
            packets: verdict.answer.map_or(0, |answer| answer.packets),
            file,
            capture: labelled
                .and_then(|labelled| labelled.source)
                .map_or(Capture::File(file), Capture::Source),
            label: labelled.map(|labelled| labelled.label),
            split: labelled.and_then(|labelled| labelled.split).unwrap_or(by_time(order, count)),
        });
        for (index, (stage, row)) in kept.iter().zip(&rows_by_flow).enumerate() {
            let row = row[&verdict.id];
            dataset.rows[index].push_copy(&stage.rows, row);
            dataset.facts[index].push(stage.facts[row]);
        }
    }
    dataset.missing += labels.listed().saturating_sub(found);
}

/// The split of flows that are not split otherwise: 70 % train, 15 % val, 15 % test, in time order.
pub(crate) fn by_time(order: usize, count: usize) -> Split {
    match order * 100 / count.max(1) {
        0..70 => Split::Train,
        70..85 => Split::Val,
        _ => Split::Test,
    }
}
