//! The batch lane: for models that are slow, far away, or both.
//!
//! Jobs stay with the worker, and the lane's threads get copies of their rows. So a job can be
//! given up at any time, and a call that hangs holds nothing that the worker waits for. Copies are
//! as many as the jobs that wait and those in calls, and their buffers are used again.

mod breaker;
mod queue;

use super::counters::{BatchCounters, Fate};
use super::{GiveUp, LaneParts, WallClock};
use breaker::{Breaker, Way};
use queue::{Batch, Piece, Shared};
use serveflow_core::lane::{Job, Lane, Model, went_well};
use serveflow_core::rows::Rows;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Limits of a batch lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Threads that call models.
    pub threads: usize,
    /// Most rows of a call.
    pub max_rows: usize,
    /// Longest that a job waits for others to join it, microseconds.
    pub max_wait_us: u64,
    /// How long after it was handed in a job without an answer is given up, milliseconds.
    pub deadline_ms: u64,
    /// Calls in a row that fail or are late until a stage's breaker opens.
    pub breaker_failures: u32,
    /// How long it is open at first, milliseconds.
    pub breaker_ms: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            max_rows: 256,
            max_wait_us: 200,
            deadline_ms: 1_000,
            breaker_failures: 5,
            breaker_ms: 1_000,
        }
    }
}

/// A job that has no answer yet.
#[derive(Debug)]
struct Held {
    id: u64,
    at_ns: u64,
    /// Pieces without an answer.
    pieces: usize,
    job: Box<Job>,
}

/// Joins jobs of a stage into calls of its model on threads of its own, gives up what is late, and
/// leaves a model alone that fails again and again. Where packets can wait it does neither
/// ([`LaneParts::give_up`]): every job waits for its answer.
///
/// Dropping it waits for a call until that is as old as the deadline; then the call's thread is
/// left to itself. That is sound: the thread owns copies of rows and its share of the queue and of
/// the models, and borrows nothing. It ends when the call does, or with the process.
pub struct BatchLane {
    shared: Arc<Shared>,
    wall: WallClock,
    counters: Arc<BatchCounters>,
    breakers: Vec<Breaker>,
    max_rows: usize,
    deadline_ns: u64,
    give_up: Option<GiveUp>,
    /// Jobs by id, which is by age as well.
    held: VecDeque<Held>,
    next_id: u64,
    /// Jobs to be taken back.
    back: VecDeque<Box<Job>>,
    /// Answers being split; kept for their memory.
    answers: Vec<Batch>,
}

impl BatchLane {
    /// A lane for the models of these parts.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(parts: &LaneParts) -> io::Result<Self> {
        let mut config = parts.batch;
        if parts.give_up.is_some() {
            (config.deadline_ms, config.breaker_failures) = (u64::MAX, u32::MAX);
        }
        let (stages, threads) = (parts.models.len(), config.threads.max(1));
        let wait_ns = config.max_wait_us.saturating_mul(1_000);
        let shared = Arc::new(Shared::new(stages, threads, parts.jobs, config.max_rows, wait_ns));
        let pause_ns = config.breaker_ms.saturating_mul(1_000_000);
        let lane = Self {
            shared: Arc::clone(&shared),
            wall: Arc::clone(&parts.wall),
            counters: Arc::clone(&parts.counters),
            breakers: vec![Breaker::new(config.breaker_failures, pause_ns); stages],
            max_rows: config.max_rows.max(1),
            deadline_ns: config.deadline_ms.saturating_mul(1_000_000),
            give_up: parts.give_up.clone(),
            held: VecDeque::new(),
            next_id: 0,
            back: VecDeque::new(),
            answers: Vec::new(),
        };
        for thread in 0..threads {
            let (own, own_parts) = (Arc::clone(&shared), parts.clone());
            let task = move || work(&own, &own_parts, thread);
            shared.lock().alive += 1;
            // Where one is not to be had, the lane is dropped, which ends those before it.
            let started = parts.start("batch", Box::new(task));
            started.inspect_err(|_| shared.lock().alive -= 1)?;
        }
        Ok(lane)
    }

    /// Takes the answers there are.
    fn collect(&mut self) {
        if !self.shared.take_answered() {
            return;
        }
        let mut answers = std::mem::take(&mut self.answers);
        std::mem::swap(&mut answers, &mut self.shared.lock().answers);
        for batch in &mut answers {
            self.settle(batch);
        }
        let mut queue = self.shared.lock();
        for mut batch in answers.drain(..) {
            queue.spare_rows.extend(batch.pieces.drain(..).map(|piece| piece.rows));
            queue.spare_batches.push(batch);
        }
        drop(queue);
        self.answers = answers;
    }

    /// Splits an answer among its jobs. What was given up in the meantime is no longer there.
    fn settle(&mut self, batch: &mut Batch) {
        let (stage, is_whole) = (batch.stage, batch.pieces.len() == 1);
        let mut at = 0;
        for piece in &batch.pieces {
            let (first, rows) = (at, piece.rows.len());
            at += rows;
            let Some(index) = self.find(piece.id) else { continue };
            if !batch.went_well {
                self.give_back(index, Some(Fate::Failed));
                self.shared.lock().forget(stage, piece.id);
                continue;
            }
            let held = &mut self.held[index];
            let scores = &mut held.job.scores;
            if is_whole && rows == held.job.rows.len() {
                std::mem::swap(scores, &mut batch.scores);
            } else {
                if held.pieces * self.max_rows >= held.job.rows.len() {
                    scores.reset(held.job.rows.len(), batch.scores.classes());
                }
                for row in 0..rows {
                    let own = scores.row_mut(piece.from + row);
                    own.copy_from_slice(batch.scores.row(first + row));
                }
            }
            held.pieces -= 1;
            if held.pieces == 0 {
                self.give_back(index, None);
            }
        }
        if !batch.late && self.breakers[stage].note_call(batch.went_well, (self.wall)()) {
            self.opened(stage);
        }
    }

    /// Gives up the jobs whose time has passed.
    fn expire(&mut self) {
        let Some(oldest) = self.held.front() else { return };
        let now_ns = (self.wall)();
        let mut is_due = oldest.at_ns.saturating_add(self.deadline_ns) <= now_ns;
        while is_due {
            let (stage, id) = (self.held[0].job.stage, self.held[0].id);
            let is_call = self.shared.lock().note_late(stage, id);
            self.give_back(0, Some(Fate::Late));
            if is_call && self.breakers[stage].note_call(false, now_ns) {
                self.opened(stage);
            }
            let due_ns = |held: &Held| held.at_ns.saturating_add(self.deadline_ns);
            is_due = self.held.front().is_some_and(|held| due_ns(held) <= now_ns);
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.held.binary_search_by_key(&id, |held| held.id).ok()
    }

    /// Lets a held job be polled, with its answer or, for this reason, without.
    fn give_back(&mut self, index: usize, fate: Option<Fate>) {
        let Some(Held { id, mut job, .. }) = self.held.remove(index) else { return };
        let stage = job.stage;
        job.failed = fate.is_some();
        if let Some(fate) = fate {
            self.counters.note_job(stage, fate);
        }
        self.back.push_back(job);
        if self.breakers[stage].note_job(id, fate.is_none(), (self.wall)()) {
            self.opened(stage);
        }
    }

    /// A stage's breaker has opened: what waits for its model comes back at once.
    fn opened(&mut self, stage: usize) {
        self.counters.note_opened(stage);
        let mut ids = Vec::new();
        self.shared.lock().forget_all(stage, &mut ids);
        for id in ids {
            if let Some(index) = self.find(id) {
                self.give_back(index, Some(Fate::TurnedAway));
            }
        }
    }

    /// Copies a job's rows for the threads, in pieces if they are more than a batch.
    /// The first goes into the buffer that was found for it.
    fn hand_over(&mut self, job: Box<Job>, mut buffer: Option<Rows>, now_ns: u64) {
        let (id, stage, len) = (self.next_id, job.stage, job.rows.len());
        self.next_id += 1;
        let mut pieces = 0;
        // A job without rows is a piece as well: it must come back.
        for from in (0..len.max(1)).step_by(self.max_rows) {
            let mut rows = buffer.take().unwrap_or_default();
            rows.clear();
            rows.append(&job.rows, from..len.min(from + self.max_rows));
            let mut queue = self.shared.lock();
            queue.push(stage, Piece { id, from, rows, at_ns: now_ns });
            if from + self.max_rows < len {
                buffer = queue.spare_rows.pop();
            }
            pieces += 1;
        }
        self.held.push_back(Held { id, at_ns: now_ns, pieces, job });
        self.shared.wake();
    }
}

impl Lane for BatchLane {
    fn submit(&mut self, mut job: Box<Job>) -> Result<(), Box<Job>> {
        let (stage, now_ns) = (job.stage, (self.wall)());
        let way = self.breakers[stage].way(now_ns);
        if way == Way::Back {
            self.counters.note_job(stage, Fate::TurnedAway);
            job.failed = true;
            self.back.push_back(job);
            return Ok(());
        }
        let buffer = {
            let mut queue = self.shared.lock();
            if queue.is_full() {
                return Err(job);
            }
            queue.spare_rows.pop()
        };
        if way == Way::Try {
            self.breakers[stage].try_with(self.next_id);
        }
        self.hand_over(job, buffer, now_ns);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        if self.back.is_empty() {
            self.collect();
            self.expire();
        }
        self.back.pop_front()
    }

    fn is_given_up(&self) -> bool {
        self.give_up.as_ref().is_some_and(GiveUp::is_due)
    }
}

impl Drop for BatchLane {
    fn drop(&mut self) {
        self.shared.close((self.wall)(), self.deadline_ns, &|| self.is_given_up());
    }
}

impl fmt::Debug for BatchLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lane = f.debug_struct("BatchLane");
        lane.field("held", &self.held.len()).field("breakers", &self.breakers);
        lane.field("deadline_ns", &self.deadline_ns).finish_non_exhaustive()
    }
}

/// A thread of a lane: takes batches and calls models until the lane is dropped.
fn work(shared: &Shared, parts: &LaneParts, thread: usize) {
    while let Some(mut batch) = shared.next(thread, parts.wall.as_ref()) {
        parts.counters.note_call(batch.stage, batch.len());
        let model: &dyn Model = parts.models[batch.stage].as_ref();
        let call = || {
            let classes = model.classes();
            let (rows, scores) = batch.join();
            let is_ok = model.score(rows, scores).is_ok();
            // What has another shape cannot be split.
            is_ok && (scores.len(), scores.classes()) == (rows.len(), classes)
        };
        batch.went_well = went_well(call);
        shared.answer(thread, batch);
    }
}
