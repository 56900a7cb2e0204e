//! What the verdicts of a worker were, counted as they are written.

use super::locked;
use super::shadow::ShadowVerdict;
use serveflow_core::open_set::UNKNOWN;
use serveflow_core::verdict::{Reason, Verdict};
use serveflow_io::Sink;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Upper bounds of the buckets of a histogram, nanoseconds: three to a decade, from 1 us to 100 s.
pub const BOUNDS: [u64; 25] = {
    let mut bounds = [0; 25];
    let (mut at, mut decade) = (0, 1_000);
    while at < bounds.len() {
        bounds[at] = decade * [1, 2, 5][at % 3];
        at += 1;
        if at % 3 == 0 {
            decade *= 10;
        }
    }
    bounds
};

/// Times by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many times fell into each bucket of [`BOUNDS`], the last one without a bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Their sum, nanoseconds.
    pub sum_ns: u128,
}

impl Histogram {
    /// Adds a time.
    pub fn add(&mut self, ns: u64) {
        self.counts[BOUNDS.partition_point(|&bound| bound < ns)] += 1;
        self.sum_ns += u128::from(ns);
    }

    /// The times since an earlier state of the same.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        since.counts.iter_mut().zip(earlier.counts).for_each(|(now, then)| *now -= then);
        since.sum_ns -= earlier.sum_ns;
        since
    }

    /// Adds another one's times.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.sum_ns += other.sum_ns;
    }

    /// Number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A bound that this share of the times, 0 to 1, is not above; `None` without times or a bound.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            below >= wanted
        });
        at.and_then(|at| BOUNDS.get(at).copied())
    }
}

/// What a verdict says, by name: the label and the stage, where a model was asked.
pub type VerdictCounts = (Option<(Arc<str>, Arc<str>)>, Reason);

/// Final verdicts so far.
#[derive(Clone, Debug, Default)]
pub struct VerdictStats {
    plans: Vec<PlanTally>,
    /// Those of plans whose number stands for another one now.
    earlier: BTreeMap<VerdictCounts, u64>,
    /// First packet to question.
    pub collection: Histogram,
    /// Question to answer, over all stages.
    pub compute: Histogram,
    /// Verdicts of late, while a shadow wants to compare them.
    kept: Option<Vec<ShadowVerdict>>,
    /// Time stamp of the deciding packet to the moment that the verdict is written, of live
    /// packets; without the verdicts that no packet brought about, but a timeout.
    pub age: Histogram,
}

/// Final verdicts of a plan, by stage, label and reason.
#[derive(Clone, Debug, Default)]
struct PlanTally {
    /// Those of the plan, and [`UNKNOWN`] behind them.
    labels: Vec<Arc<str>>,
    stages: Vec<Arc<str>>,
    counts: Vec<u64>,
    /// Those without an answer.
    unanswered: [u64; Reason::ALL.len()],
}

impl PlanTally {
    fn new(labels: &[String], stages: &[String]) -> Self {
        let shared = |names: &[String]| -> Vec<Arc<str>> {
            names.iter().map(|name| Arc::from(name.as_str())).collect()
        };
        // Flows of no class that was learned are counted behind the labels.
        let mut labels = shared(labels);
        labels.push(Arc::from(UNKNOWN));
        let counts = vec![0; labels.len() * stages.len() * Reason::ALL.len()];
        Self { labels, stages: shared(stages), counts, unanswered: [0; Reason::ALL.len()] }
    }

    fn add(&mut self, verdict: &Verdict) {
        let reason = verdict.reason as usize;
        match &verdict.answer {
            None => self.unanswered[reason] += 1,
            Some(answer) => {
                let label = match answer.unknown {
                    true => self.labels.len() - 1,
                    false => usize::from(answer.label),
                };
                let row = usize::from(answer.stage) * self.labels.len() + label;
                self.counts[row * Reason::ALL.len() + reason] += 1;
            }
        }
    }

    /// Adds what was counted, by name.
    fn tell(&self, sums: &mut BTreeMap<VerdictCounts, u64>) {
        for (row, counts) in self.counts.chunks_exact(Reason::ALL.len()).enumerate() {
            for (reason, &count) in
                Reason::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0)
            {
                let label = Arc::clone(&self.labels[row % self.labels.len()]);
                let stage = Arc::clone(&self.stages[row / self.labels.len()]);
                *sums.entry((Some((label, stage)), reason)).or_default() += count;
            }
        }
        for (reason, count) in
            Reason::ALL.into_iter().zip(self.unanswered).filter(|(_, count)| *count > 0)
        {
            *sums.entry((None, reason)).or_default() += count;
        }
    }
}

impl VerdictStats {
    /// Nothing yet of plan 0, whose labels and stages are called so.
    #[must_use]
    pub fn new(labels: &[String], stages: &[String]) -> Self {
        Self { plans: vec![PlanTally::new(labels, stages)], ..Self::default() }
    }

    /// A plan's number stands for another one from now on.
    fn name_plan(&mut self, plan: u8, labels: &[String], stages: &[String]) {
        let plan = usize::from(plan);
        if self.plans.len() <= plan {
            self.plans.resize_with(plan + 1, PlanTally::default);
        }
        let before = std::mem::replace(&mut self.plans[plan], PlanTally::new(labels, stages));
        before.tell(&mut self.earlier);
    }

    /// Counts verdicts; `now_ns` is the time since the epoch where their packets are live.
    fn add(&mut self, verdicts: &[Verdict], now_ns: Option<u64>) {
        for verdict in verdicts.iter().filter(|verdict| verdict.is_final) {
            let plan = &mut self.plans[usize::from(verdict.plan)];
            plan.add(verdict);
            if let Some(kept) = &mut self.kept {
                kept.push(ShadowVerdict::new(verdict, &plan.labels));
            }
            self.collection.add(verdict.collection_ns);
            self.compute.add(verdict.compute_ns);
            if let Some(now_ns) = now_ns
                && verdict.reason.is_by_packet()
            {
                self.age.add(now_ns.saturating_sub(verdict.deciding_ns));
            }
        }
    }

    /// Takes the verdicts since the last call, and keeps those that come: for a shadow that
    /// compares them.
    pub fn take_kept(&mut self, into: &mut Vec<ShadowVerdict>) {
        into.clear();
        std::mem::swap(self.kept.get_or_insert_with(Vec::new), into);
    }

    /// Keeps no verdicts any more.
    pub fn keep_none(&mut self) {
        self.kept = None;
    }

    /// Final verdicts so far, by what they say.
    #[must_use]
    pub fn verdicts(&self) -> BTreeMap<VerdictCounts, u64> {
        let mut sums = self.earlier.clone();
        self.plans.iter().for_each(|plan| plan.tell(&mut sums));
        sums
    }
}

/// A sink that counts what goes through it.
pub struct StatsSink {
    inner: Box<dyn Sink>,
    tally: Arc<Mutex<VerdictStats>>,
    /// Time since the epoch, nanoseconds, where packets are live.
    epoch: Option<fn() -> u64>,
}

impl StatsSink {
    /// A sink in front of another one, and what it counts.
    #[must_use]
    pub fn new(
        inner: Box<dyn Sink>,
        tally: VerdictStats,
        epoch: Option<fn() -> u64>,
    ) -> (Self, Arc<Mutex<VerdictStats>>) {
        let tally = Arc::new(Mutex::new(tally));
        (Self { inner, tally: Arc::clone(&tally), epoch }, tally)
    }
}

impl Sink for StatsSink {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.inner.write(verdicts)?;
        let now_ns = self.epoch.map(|epoch| epoch());
        locked(&self.tally).add(verdicts, now_ns);
        Ok(())
    }

    fn name_plan(&mut self, plan: u8, labels: &[String], stages: &[String]) {
        locked(&self.tally).name_plan(plan, labels, stages);
        self.inner.name_plan(plan, labels, stages);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::verdict::FiveTuple;

    #[test]
    fn buckets_hold_what_is_not_above_their_bound() {
        assert_eq!(
            (BOUNDS[0], BOUNDS[2], BOUNDS[3], BOUNDS[24]),
            (1_000, 5_000, 10_000, 100_000_000_000)
        );
        let mut times = Histogram::default();
        for ns in [0, 1_000, 1_001, 3_000_000, u64::MAX] {
            times.add(ns);
        }
        assert_eq!((times.counts[0], times.counts[1], times.counts[25]), (2, 1, 1));
        assert_eq!((times.count(), times.quantile_ns(0.5)), (5, Some(2_000)));
        assert_eq!((times.quantile_ns(1.0), Histogram::default().quantile_ns(0.5)), (None, None));
        let mut twice = times.clone();
        twice.merge(&times);
        assert_eq!((twice.count(), twice.sum_ns), (10, 2 * times.sum_ns));
    }

    /// A flow that ended by silence has waited for its timeout: that says nothing of how far a
    /// worker is behind.
    #[test]
    fn ages_are_those_of_verdicts_that_a_packet_decided() {
        let end = "192.0.2.1".parse().unwrap();
        let flow =
            FiveTuple { src: end, dst: end, src_port: 1, dst_port: 2, proto: 17, vlan: None };
        let one = Verdict {
            id: 0,
            plan: 0,
            flow,
            answer: None,
            reason: Reason::Final,
            is_final: true,
            first_ns: 0,
            deciding_ns: 1_000_000,
            collection_ns: 0,
            compute_ns: 0,
        };
        let verdicts = Reason::ALL.map(|reason| Verdict { reason, ..one });
        let mut tally = VerdictStats::new(&[], &[]);
        tally.add(&verdicts, Some(11_000_000));
        assert_eq!((tally.age.count(), tally.age.quantile_ns(1.0)), (2, Some(10_000_000)));
        assert_eq!(tally.compute.count(), Reason::ALL.len() as u64);
        // Packets of captures are as old as they are.
        tally.add(&verdicts, None);
        assert_eq!(tally.age.count(), 2);
    }
}
