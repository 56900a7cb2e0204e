//! What batch lanes count. Lanes live inside of workers, so their counters are shared: all workers
//! add to one set, and whoever started them reads it when they are done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counters of all stages.
#[derive(Debug)]
pub struct BatchCounters {
    stages: Vec<StageCounters>,
}

/// The counters of a stage; each is one of [`StageTally`].
#[derive(Debug, Default)]
struct StageCounters {
    batches: AtomicU64,
    rows: AtomicU64,
    largest: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    opened: AtomicU64,
    turned_away: AtomicU64,
}

/// What batch lanes did for a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTally {
    /// Calls of the model, those included that were not waited for.
    pub batches: u64,
    /// Rows of these calls.
    pub rows: u64,
    /// Rows of the largest of them.
    pub largest: u64,
    /// Jobs that were given up at their deadline.
    pub late: u64,
    /// Jobs whose call failed.
    pub failed: u64,
    /// Times that the circuit breaker opened.
    pub opened: u64,
    /// Jobs that came back without a call because it was open.
    pub turned_away: u64,
}

impl StageTally {
    /// Whether any job of the stage came to a batch lane.
    #[must_use]
    pub fn was_used(&self) -> bool {
        *self != Self::default()
    }

    /// Adds what was counted by another bundle.
    pub fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.rows += other.rows;
        self.largest = self.largest.max(other.largest);
        self.late += other.late;
        self.failed += other.failed;
        self.opened += other.opened;
        self.turned_away += other.turned_away;
    }

    /// Jobs that came back without an answer.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.late + self.failed + self.turned_away
    }
}

/// What may come of a job other than an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Late,
    Failed,
    TurnedAway,
}

impl BatchCounters {
    /// Counters for so many stages, all 0.
    #[must_use]
    pub fn new(stages: usize) -> Self {
        Self { stages: (0..stages).map(|_| StageCounters::default()).collect() }
    }

    /// What was counted so far, by stage index.
    #[must_use]
    pub fn tally(&self) -> Vec<StageTally> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = |stage: &StageCounters| StageTally {
            batches: get(&stage.batches),
            rows: get(&stage.rows),
            largest: get(&stage.largest),
            late: get(&stage.late),
            failed: get(&stage.failed),
            opened: get(&stage.opened),
            turned_away: get(&stage.turned_away),
        };
        self.stages.iter().map(tally).collect()
    }

    /// A call of a stage's model begins.
    pub(super) fn note_call(&self, stage: usize, rows: usize) {
        let Some(stage) = self.stages.get(stage) else { return };
        stage.batches.fetch_add(1, Ordering::Relaxed);
        stage.rows.fetch_add(rows as u64, Ordering::Relaxed);
        stage.largest.fetch_max(rows as u64, Ordering::Relaxed);
    }

    /// A job comes back without an answer.
    pub(super) fn note_job(&self, stage: usize, fate: Fate) {
        let Some(stage) = self.stages.get(stage) else { return };
        let counter = match fate {
            Fate::Late => &stage.late,
            Fate::Failed => &stage.failed,
            Fate::TurnedAway => &stage.turned_away,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A stage's breaker opens.
    pub(super) fn note_opened(&self, stage: usize) {
        if let Some(stage) = self.stages.get(stage) {
            stage.opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was counted of all bundles that were ever served, by the name of the stage: flows that are
/// still in the lanes of an earlier bundle are counted on, and no count ever becomes less.
#[derive(Debug, Default)]
pub struct BatchTotals(Mutex<Totals>);

#[derive(Debug, Default)]
struct Totals {
    /// Bundles whose lanes may still count, with the names of their stages.
    counting: Vec<(Vec<String>, Arc<BatchCounters>)>,
    /// What those counted that are gone.
    gone: BTreeMap<String, StageTally>,
}

fn add(sums: &mut BTreeMap<String, StageTally>, stages: &[String], counters: &BatchCounters) {
    for (stage, tally) in stages.iter().zip(counters.tally()) {
        sums.entry(stage.clone()).or_default().add(&tally);
    }
}

impl BatchTotals {
    /// Counts a bundle too, whose stages are called so. One that comes back is counted once.
    pub fn count(&self, stages: Vec<String>, counters: &Arc<BatchCounters>) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Totals { counting, gone } = &mut *totals;
        // Nobody else has them: no lane counts there any more, and no bundle can come back with
        // them.
        counting.retain(|(stages, counters)| {
            let is_counting = Arc::strong_count(counters) > 1;
            if !is_counting {
                add(gone, stages, counters);
            }
            is_counting
        });
        if !counting.iter().any(|(_, known)| Arc::ptr_eq(known, counters)) {
            counting.push((stages, Arc::clone(counters)));
        }
    }

    /// What was counted so far, by stage.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<String, StageTally> {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = totals.gone.clone();
        totals.counting.iter().for_each(|(stages, counters)| add(&mut sums, stages, counters));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Bundles come, go and come back, and their lanes count at any time: no count of a stage ever
    /// becomes less, and at the end all of it is there.
    #[test]
    fn counts_go_on_over_changes_of_the_bundle_and_none_becomes_less() {
        let totals = BatchTotals::default();
        let mut bundles = [
            (names(&["a", "b"]), Arc::new(BatchCounters::new(2))),
            (names(&["b", "c", "d"]), Arc::new(BatchCounters::new(3))),
            (names(&["a"]), Arc::new(BatchCounters::new(1))),
        ];
        let (mut before, mut rows) = (BTreeMap::<String, StageTally>::new(), 0);
        for step in 0..200_usize {
            let which = step * 7 % bundles.len();
            if step % 5 == 0 {
                let (stages, counters) = &bundles[which];
                totals.count(stages.clone(), counters);
            }
            if step % 31 == 30 {
                // Its last lane is gone, and another bundle takes its place.
                let stages = bundles[which].0.clone();
                bundles[which] = (stages.clone(), Arc::new(BatchCounters::new(stages.len())));
                totals.count(stages, &bundles[which].1);
            }
            let counted = totals
                .0
                .lock()
                .unwrap()
                .counting
                .iter()
                .any(|(_, counters)| Arc::ptr_eq(counters, &bundles[which].1));
            if counted {
                bundles[which].1.note_call(0, step);
                bundles[which].1.note_job(0, Fate::Failed);
                rows += step as u64;
            }
            let now = totals.tally();
            for (stage, tally) in &before {
                let later = &now[stage];
                assert!(later.rows >= tally.rows && later.failed >= tally.failed, "step {step}");
                assert!(later.largest >= tally.largest, "step {step}");
            }
            before = now;
        }
        assert_eq!(before.values().map(|tally| tally.rows).sum::<u64>(), rows);
        assert!(totals.0.lock().unwrap().gone.len() > 1, "some bundles are gone");
    }
}
