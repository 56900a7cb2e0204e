//! The meter: a sink that looks at each verdict's time and truth, and keeps only counts.

use super::Wall;
use super::latency::Latency;
use super::paced::Pace;
use super::queue::Stamps;
use serveflow_core::verdict::Verdict;
use serveflow_io::Sink;
use serveflow_train::metrics::Confusion;
use serveflow_train::traffic::fresh::number_of;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The mark of a verdict that is called early, nanoseconds.
pub const MARK_NS: u64 = 16_000_000;

/// What the flows truly are, and what another contender says of them.
#[derive(Clone, Debug)]
pub struct Truth {
    /// True label of each flow, by its number modulo their count.
    pub labels: Arc<[u16]>,
    /// Answers to compare with, in the same order; may be empty.
    pub yardstick: Arc<[Option<u16>]>,
    /// Number of labels.
    pub classes: usize,
}

/// Answers against truth.
#[derive(Clone, Debug)]
struct Marks {
    truth: Truth,
    answers: Confusion,
    yardstick: Confusion,
}

/// Takes verdicts and keeps what there is to tell of them.
#[derive(Debug)]
pub struct LatencyMeter {
    wall: Wall,
    /// `None`: traffic as fast as it is served, where no packet is due at any time.
    pace: Option<Pace>,
    /// From the packet that decided to the verdict.
    pub verdict: Latency,
    /// From the moment that a deadline passed or the flow ended to the verdict.
    pub timer: Latency,
    /// From a flow's first packet to its verdict.
    pub end_to_end: Latency,
    /// Verdicts in less than [`MARK_NS`], end to end.
    pub under_mark: u64,
    /// Final verdicts.
    pub verdicts: u64,
    /// Verdicts after the load, or after the last flow began, when open flows run out.
    pub drained: u64,
    /// Set when no flow begins any more.
    pub(super) is_draining: Arc<AtomicBool>,
    /// Verdicts without an answer.
    pub unanswered: u64,
    /// Verdicts by the stage that answered.
    pub stages: Vec<u64>,
    /// When a queue's consumer had its answers; empty without a queue.
    pub(super) stamps: Stamps,
    has_stamps: bool,
    marks: Option<Marks>,
}

impl LatencyMeter {
    /// A meter for a cascade of so many stages.
    #[must_use]
    pub fn new(wall: Wall, pace: Option<Pace>, stages: usize, truth: Option<Truth>) -> Self {
        let marks = truth.map(|truth| Marks {
            answers: Confusion::new(truth.classes),
            yardstick: Confusion::new(truth.classes),
            truth,
        });
        Self {
            wall,
            pace,
            verdict: Latency::default(),
            timer: Latency::default(),
            end_to_end: Latency::default(),
            under_mark: 0,
            verdicts: 0,
            drained: 0,
            is_draining: Arc::default(),
            unanswered: 0,
            stages: vec![0; stages],
            stamps: Stamps::default(),
            has_stamps: false,
            marks,
        }
    }

    /// The same in front of a queue, whose consumer says when it had its answers.
    #[must_use]
    pub fn with_stamps(self) -> Self {
        Self { has_stamps: true, ..self }
    }

    /// Takes another worker's counts.
    pub fn add(&mut self, other: &Self) {
        self.verdict.add(&other.verdict);
        self.timer.add(&other.timer);
        self.end_to_end.add(&other.end_to_end);
        self.under_mark += other.under_mark;
        self.verdicts += other.verdicts;
        self.drained += other.drained;
        self.unanswered += other.unanswered;
        self.stages.iter_mut().zip(&other.stages).for_each(|(mine, theirs)| *mine += theirs);
        if let (Some(mine), Some(theirs)) = (&mut self.marks, &other.marks) {
            mine.answers.merge(&theirs.answers);
            mine.yardstick.merge(&theirs.yardstick);
        }
    }

    /// The answers against the truth, where it is known.
    #[must_use]
    pub fn answers(&self) -> Option<&Confusion> {
        self.marks.as_ref().map(|marks| &marks.answers)
    }

    /// The yardstick's answers on the same flows, where it has any.
    #[must_use]
    pub fn yardstick(&self) -> Option<&Confusion> {
        let marks = self.marks.as_ref().filter(|marks| !marks.truth.yardstick.is_empty());
        marks.map(|marks| &marks.yardstick)
    }

    /// Latencies of a verdict: from the question's moment, and end to end. The first is `None` for
    /// a flow that was still open when no flow began any more: packet time leaps then, many flows
    /// are asked at once, and what that takes says nothing. Their wait is the traffic's own still.
    fn latencies(&self, verdict: &Verdict, now_ns: u64) -> (Option<u64>, u64) {
        let asked_ns = verdict.first_ns.saturating_add(verdict.collection_ns);
        let in_memory = verdict.collection_ns.saturating_add(verdict.compute_ns);
        if self.is_draining.load(Ordering::Relaxed) {
            return (None, in_memory);
        }
        match &self.pace {
            None => (Some(verdict.compute_ns), in_memory),
            Some(pace) if pace.is_loaded(asked_ns) => {
                let since = |ts_ns| now_ns.saturating_sub(pace.due_ns(ts_ns));
                (Some(since(asked_ns)), since(verdict.first_ns))
            }
            Some(_) => (None, in_memory),
        }
    }

    fn take(&mut self, verdict: &Verdict, now_ns: u64) {
        self.verdicts += 1;
        let (since_asked, end_to_end) = self.latencies(verdict, now_ns);
        match (since_asked, verdict.reason) {
            (None, _) => self.drained += 1,
            (Some(ns), reason) if reason.is_by_packet() => self.verdict.record(ns),
            (Some(ns), _) => self.timer.record(ns),
        }
        self.end_to_end.record(end_to_end);
        self.under_mark += u64::from(end_to_end < MARK_NS);
        match verdict.answer {
            Some(answer) => self.stages[usize::from(answer.stage)] += 1,
            None => self.unanswered += 1,
        }
        if let Some(marks) = &mut self.marks {
            marks.take(verdict);
        }
    }
}

impl Marks {
    fn take(&mut self, verdict: &Verdict) {
        let Some(number) = number_of(&verdict.flow) else { return };
        let at = (number % self.truth.labels.len() as u64) as usize;
        let truth = self.truth.labels[at];
        self.answers.add(truth, verdict.answer.map(|answer| answer.label));
        if let Some(&answer) = self.truth.yardstick.get(at) {
            self.yardstick.add(truth, answer);
        }
    }
}

impl Sink for LatencyMeter {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        let now_ns = if self.pace.is_some() { (self.wall)() } else { 0 };
        let last = verdicts.iter().filter(|verdict| verdict.is_final);
        for verdict in last {
            let stamp = if self.has_stamps { self.stamps.get(verdict.id) } else { None };
            self.take(verdict, stamp.unwrap_or(now_ns));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
