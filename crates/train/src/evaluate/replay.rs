//! Replays of the labelled captures: the whole cascade, or one of its stages alone.

use serveflow_core::counters::Counters;
use serveflow_core::engine::{Cascade, Engine, EngineConfig};
use serveflow_core::lane::{InlineLane, Lane, Model};
use serveflow_core::verdict::{FiveTuple, Verdict};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory, OrderRules, SourceError};
use serveflow_label::{FileLabels, LabelBook, Split};
use serveflow_model::bundle::Bundle;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Frames per batch: few, as on a live interface, so that compute latencies are honest.
const BATCH_FRAMES: usize = 64;

/// A labelled flow and its final verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// The flow.
    pub flow: FiveTuple,
    /// Time of its first packet, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Index of the true label in the bundle.
    pub truth: u16,
    /// Index of the label answered.
    pub label: Option<u16>,
    /// Probability of that label; 0 when there is none.
    pub confidence: f32,
    /// Whether the answer is "unknown", and the label but the nearest one.
    pub unknown: bool,
    /// Index of the stage that answered; 0 when none did.
    pub stage: usize,
    /// Packets that the stage saw.
    pub packets: u16,
    /// Packet time from the first packet until the deciding question.
    pub collection_ns: u64,
    /// Wall time from asking to answer.
    pub compute_ns: u64,
}

impl Answered {
    /// Collection and compute together.
    #[must_use]
    pub fn end_to_end_ns(&self) -> u64 {
        self.collection_ns.saturating_add(self.compute_ns)
    }
}

/// The outcome of one replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayTally {
    /// Labelled flows of the split, in the order of captures and first packets.
    pub answered: Vec<Answered>,
    /// Flows without a label, or of another split.
    pub other_flows: u64,
    /// Listed flows that were not met.
    pub missing_flows: u64,
    /// Where everything went.
    pub accounts: Counters,
    /// Damaged captures, a sentence each.
    pub damaged: Vec<String>,
    /// Wall time of the whole replay.
    pub wall_ns: u64,
}

/// Replays the captures of a label book.
pub struct EvaluationReplay<'a> {
    bundle: &'a Bundle,
    book: &'a LabelBook,
    /// The bundle's index of each label of the book.
    labels: &'a [u16],
    split: Split,
    limits: EngineConfig,
    wall: &'a mut dyn FnMut() -> u64,
}

/// A cascade of one stage of another, which answers every flow.
///
/// # Panics
/// When there is no such stage.
#[must_use]
pub fn stage_alone(cascade: &Cascade, stage: usize) -> Arc<Cascade> {
    let stage = cascade.stages()[stage].ungated();
    let labels = cascade.labels().to_vec();
    Arc::new(Cascade::new(vec![stage], labels).expect("a stage of a cascade is one"))
}

impl<'a> EvaluationReplay<'a> {
    /// A replay of a split under a bundle's flow rules and the given limits.
    pub fn new(
        bundle: &'a Bundle,
        book: &'a LabelBook,
        labels: &'a [u16],
        split: Split,
        limits: EngineConfig,
        wall: &'a mut dyn FnMut() -> u64,
    ) -> Self {
        Self { bundle, book, labels, split, limits, wall }
    }

    /// The whole cascade.
    pub fn cascade(&mut self) -> ReplayTally {
        let cascade = Arc::clone(&self.bundle.cascade);
        self.run(&cascade, &self.bundle.models.clone())
    }

    /// One stage alone.
    pub fn tier(&mut self, stage: usize) -> ReplayTally {
        let alone = stage_alone(&self.bundle.cascade, stage);
        let model = Arc::clone(&self.bundle.models[stage]);
        let mut tally = self.run(&alone, &[model]);
        tally.answered.iter_mut().for_each(|flow| flow.stage = stage);
        tally
    }

    fn run(&mut self, cascade: &Arc<Cascade>, models: &[Arc<dyn Model>]) -> ReplayTally {
        let mut tally = ReplayTally::default();
        let started = (self.wall)();
        for (path, labels) in &self.book.files {
            if !labels.may_hold(self.split) {
                continue;
            }
            let mut engine = Engine::new(Arc::clone(cascade), self.limits);
            // Whatever its lane is called, a stage is scored on the spot.
            let last = cascade.stages().iter().map(|stage| stage.lane).max().unwrap_or(0);
            let lane = |_| Box::new(InlineLane::new(models.to_vec())) as Box<dyn Lane>;
            let mut lanes: Vec<_> = (0..=last).map(lane).collect();
            let mut sink = Memory::default();
            let mut worker = Worker {
                engine: &mut engine,
                lanes: &mut lanes,
                sink: &mut sink,
                wall: &mut *self.wall,
                batch_frames: BATCH_FRAMES,
                when_full: WhenFull::Wait,
                flush_ns: u64::MAX,
            };
            let rules = OrderRules::of_flows(&self.limits.flows);
            let mut source = FileSource::with(vec![path.clone()], rules);
            let outcome = worker.run(&mut source, &mut |_, _| ControlFlow::Continue(()));
            let outcome = outcome.expect("a sink in memory never fails");
            tally.damaged.extend(outcome.damaged.iter().map(SourceError::line));
            tally.accounts.add(engine.accounts());
            self.sort(sink.verdicts, labels, &mut tally);
        }
        tally.wall_ns = (self.wall)().saturating_sub(started);
        tally
    }

    /// Puts the verdicts of one capture to the labels, in the order of the flows.
    fn sort(&self, mut verdicts: Vec<Verdict>, labels: &FileLabels, tally: &mut ReplayTally) {
        verdicts.retain(|verdict| verdict.is_final);
        verdicts.sort_unstable_by_key(|verdict| verdict.id);
        let count = verdicts.len();
        let mut found = 0;
        for (order, verdict) in verdicts.iter().enumerate() {
            let labelled = labels.find(&verdict.flow, verdict.first_ns / 1000);
            found += usize::from(labelled.is_some());
            let split =
                |split: Option<Split>| split.unwrap_or(crate::dataset::by_time(order, count));
            match labelled.filter(|labelled| split(labelled.split) == self.split) {
                None => tally.other_flows += 1,
                Some(labelled) => tally.answered.push(Answered {
                    flow: verdict.flow,
                    first_ns: verdict.first_ns,
                    truth: self.labels[usize::from(labelled.label)],
                    label: verdict.answer.map(|answer| answer.label),
                    confidence: verdict.answer.map_or(0.0, |answer| answer.confidence),
                    unknown: verdict.answer.is_some_and(|answer| answer.unknown),
                    stage: verdict.answer.map_or(0, |answer| usize::from(answer.stage)),
                    packets: verdict.answer.map_or(0, |answer| answer.packets),
                    collection_ns: verdict.collection_ns,
                    compute_ns: verdict.compute_ns,
                }),
            }
        }
        tally.missing_flows += labels.listed().saturating_sub(found) as u64;
    }
}
