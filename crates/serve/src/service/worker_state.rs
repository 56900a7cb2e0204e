//! What workers tell of themselves while they serve.
//!
//! A worker writes its state down between two batches, so each state is one in which all its
//! accounts balance; whoever reads sees the same state of all of them.

use super::degradation::DegradationControl;
use super::shadow::Comparison;
use super::verdict_stats::{Histogram, VerdictCounts, VerdictStats};
use serveflow_core::counters::Counters;
use serveflow_core::engine::Engine;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A worker's state.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    /// Where packets and flows went.
    pub accounts: Counters,
    /// Flows in the table.
    pub table_flows: u64,
    /// Packets kept of undecided flows.
    pub recorded_packets: u64,
    /// Bytes of flows and their packets.
    pub bytes: u64,
    /// Jobs that are with a lane, and those that wait to be handed to one.
    pub jobs: u64,
    /// Turns of its loop so far: one that stands still hangs.
    pub turns: u64,
    /// The version of the bundle that new flows go by.
    pub version: u64,
    /// What was written.
    pub tally: VerdictStats,
    /// How far its gates are loosened, and how often that changed.
    pub degradation: u8,
    /// Changes of it so far.
    pub degradation_changes: u64,
    /// How its shadow compares, where there is one.
    pub comparison: Comparison,
    /// Whether it is done.
    pub is_done: bool,
    /// Why it serves no more, where it panicked. What it counted is then what it last posted.
    pub failed: Option<String>,
}

/// The states of all workers.
#[derive(Debug)]
pub struct WorkerStates {
    workers: Vec<Mutex<WorkerState>>,
    /// What each worker's sink counts, between two states too.
    tallies: Vec<OnceLock<Arc<Mutex<VerdictStats>>>>,
}

/// The states of all workers together.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Sums over the workers; turns are of the slowest, the version is the oldest, and degradation
    /// is of the one whose gates are the loosest.
    pub sum: WorkerState,
    /// Final verdicts by what they say.
    pub verdicts: BTreeMap<VerdictCounts, u64>,
    /// Workers that are done, those that failed among them.
    pub done: usize,
    /// Workers that failed.
    pub failed: usize,
}

/// Counts stay what they are when whoever counted panicked. This is the one way to take a lock on
/// them.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorkerStates {
    /// A board for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Mutex::default()).collect(),
            tallies: (0..workers).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Names what a worker's sink counts.
    pub fn count_by(&self, worker: usize, tally: &Arc<Mutex<VerdictStats>>) {
        // A second one would be another run's.
        let _ = self.tallies[worker].set(Arc::clone(tally));
    }

    /// Final verdicts that were written up to this moment, all workers together.
    #[must_use]
    pub fn written(&self) -> u64 {
        let tallies = self.tallies.iter().filter_map(OnceLock::get);
        tallies.map(|tally| locked(tally).compute.count()).sum()
    }

    /// A worker's state.
    fn state(&self, worker: usize) -> MutexGuard<'_, WorkerState> {
        locked(&self.workers[worker])
    }

    /// Writes a worker's state down.
    pub fn post(
        &self,
        worker: usize,
        engine: &Engine,
        tally: &Mutex<VerdictStats>,
        turns: u64,
        version: u64,
    ) {
        let mut state = self.state(worker);
        state.accounts = *engine.accounts();
        state.table_flows = engine.table_len() as u64;
        state.recorded_packets = engine.recorded_packets() as u64;
        state.bytes = engine.bytes() as u64;
        state.jobs = engine.jobs_out() as u64;
        (state.turns, state.version) = (turns, version);
        state.tally.clone_from(&locked(tally));
    }

    /// Writes down how far a worker's gates are loosened.
    pub fn relieve(&self, worker: usize, valve: &DegradationControl) {
        let mut state = self.state(worker);
        (state.degradation, state.degradation_changes) = (valve.level(), valve.changes());
    }

    /// Writes down how a worker's shadow compares.
    pub fn compare(&self, worker: usize, comparison: &Comparison) {
        self.state(worker).comparison.clone_from(comparison);
    }

    /// A worker panicked, and serves no more.
    pub fn fail(&self, worker: usize, why: &str) {
        let mut state = self.state(worker);
        (state.failed, state.is_done) = (Some(why.to_owned()), true);
    }

    /// The workers that panicked, and why.
    #[must_use]
    pub fn failures(&self) -> Vec<(usize, String)> {
        let failure = |worker| self.state(worker).failed.clone().map(|why| (worker, why));
        (0..self.workers.len()).filter_map(failure).collect()
    }

    /// A worker is done.
    pub fn done(&self, worker: usize) {
        self.state(worker).is_done = true;
    }

    /// Has a worker see flows, without an engine.
    #[cfg(test)]
    pub(super) fn saw_for_test(&self, worker: usize, flows: u64) {
        self.state(worker).accounts.flows.seen += flows;
    }

    /// Has a worker turn once, without an engine.
    #[cfg(test)]
    pub(super) fn turn_for_test(&self, worker: usize) {
        self.state(worker).turns += 1;
    }

    /// Turns of each worker, and whether it is done.
    #[must_use]
    pub fn turns(&self) -> Vec<(u64, bool)> {
        let turns = |worker| {
            let state = self.state(worker);
            (state.turns, state.is_done)
        };
        (0..self.workers.len()).map(turns).collect()
    }

    /// The oldest version of the bundle that any worker sends new flows through.
    #[must_use]
    pub fn version(&self) -> u64 {
        let working =
            (0..self.workers.len()).map(|worker| self.state(worker)).filter(|state| !state.is_done);
        working.map(|state| state.version).min().unwrap_or(u64::MAX)
    }

    /// All workers together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        (totals.sum.turns, totals.sum.version) = (u64::MAX, u64::MAX);
        for worker in 0..self.workers.len() {
            totals.add(&self.state(worker));
        }
        totals
    }
}

impl Totals {
    fn add(&mut self, state: &WorkerState) {
        let sum = &mut self.sum;
        sum.accounts.add(&state.accounts);
        sum.table_flows += state.table_flows;
        sum.recorded_packets += state.recorded_packets;
        sum.bytes += state.bytes;
        sum.jobs += state.jobs;
        sum.turns = sum.turns.min(state.turns);
        sum.version = sum.version.min(state.version);
        sum.degradation = sum.degradation.max(state.degradation);
        sum.degradation_changes += state.degradation_changes;
        let times = |mine: &mut Histogram, theirs: &Histogram| mine.merge(theirs);
        times(&mut sum.tally.collection, &state.tally.collection);
        times(&mut sum.tally.compute, &state.tally.compute);
        times(&mut sum.tally.age, &state.tally.age);
        sum.comparison.merge(&state.comparison);
        for (said, count) in state.tally.verdicts() {
            *self.verdicts.entry(said).or_default() += count;
        }
        self.done += usize::from(state.is_done);
        self.failed += usize::from(state.failed.is_some());
    }
}
