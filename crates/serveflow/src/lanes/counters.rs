//! What batch lanes count. Lanes live inside of workers, so their counters are shared: all workers
//! add to one set, and whoever started them reads it when they are done.

use std::sync::atomic::{AtomicU64, Ordering};

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
