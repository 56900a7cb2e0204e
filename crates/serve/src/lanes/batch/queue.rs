//! What the worker and the threads of a batch lane share. The lock is held to move buffers, never
//! while rows are copied or a model is called: so neither side ever waits long for it.

use serveflow_core::rows::{Rows, Scores};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a lane that is dropped looks whether its calls are still waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Rows of a job that wait for a call: the whole job, unless it is larger than a batch.
#[derive(Debug)]
pub(super) struct Piece {
    /// The job.
    pub(super) id: u64,
    /// The first of the job's rows that it holds.
    pub(super) from: usize,
    /// A copy: the job itself stays with the worker.
    pub(super) rows: Rows,
    /// When it came.
    pub(super) at_ns: u64,
}

/// A call of a model: pieces in, scores out.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) stage: usize,
    pub(super) pieces: Vec<Piece>,
    /// The rows of all pieces, where there is more than one.
    pub(super) joined: Rows,
    pub(super) scores: Scores,
    /// Whether the model gave scores.
    pub(super) went_well: bool,
    /// Whether it was given up before they came.
    pub(super) late: bool,
}

impl Batch {
    /// The rows to be scored.
    pub(super) fn join(&mut self) -> (&Rows, &mut Scores) {
        let Self { pieces, joined, scores, .. } = self;
        if let [only] = &pieces[..] {
            return (&only.rows, scores);
        }
        joined.clear();
        pieces.iter().for_each(|piece| joined.append(&piece.rows, 0..piece.rows.len()));
        (joined, scores)
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows.len()).sum()
    }
}

/// A call that a thread is in.
#[derive(Clone, Copy, Debug)]
struct Call {
    stage: usize,
    /// Its first and its last job. Jobs of a stage are taken in the order of their ids.
    jobs: (u64, u64),
    began_ns: u64,
    late: bool,
}

/// The pieces of a stage that wait.
#[derive(Debug, Default)]
struct Line {
    pieces: VecDeque<Piece>,
    rows: usize,
}

/// What a thread does next.
enum Next {
    Take(usize),
    /// No batch is full, and no piece has waited its time, which it will have then.
    Wait(Duration),
    Sleep,
}

/// The shared state.
#[derive(Debug)]
pub(super) struct Queue {
    lines: Vec<Line>,
    /// Pieces of all stages, and how many are as many as may wait.
    waiting: usize,
    most_waiting: usize,
    max_rows: usize,
    max_wait_ns: u64,
    calls: Vec<Option<Call>>,
    pub(super) answers: Vec<Batch>,
    /// Buffers to be used again.
    pub(super) spare_rows: Vec<Rows>,
    pub(super) spare_batches: Vec<Batch>,
    closed: bool,
    /// Threads that have not ended.
    pub(super) alive: usize,
}

impl Queue {
    /// Whether there is room for another job.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= self.most_waiting
    }

    pub(super) fn push(&mut self, stage: usize, piece: Piece) {
        let line = &mut self.lines[stage];
        line.rows += piece.rows.len();
        line.pieces.push_back(piece);
        self.waiting += 1;
    }

    /// Takes what waits of a job back. It stands at the front, because whatever was before it was
    /// taken, or given up before.
    pub(super) fn forget(&mut self, stage: usize, id: u64) -> bool {
        let mut any = false;
        while self.lines[stage].pieces.front().is_some_and(|piece| piece.id == id) {
            any |= self.pop(stage).is_some();
        }
        any
    }

    /// Takes all that waits of a stage back: the last of its jobs' ids, oldest first.
    pub(super) fn forget_all(&mut self, stage: usize, ids: &mut Vec<u64>) {
        while let Some(id) = self.pop(stage) {
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
    }

    fn pop(&mut self, stage: usize) -> Option<u64> {
        let line = &mut self.lines[stage];
        let piece = line.pieces.pop_front()?;
        line.rows -= piece.rows.len();
        self.waiting -= 1;
        self.spare_rows.push(piece.rows);
        Some(piece.id)
    }

    /// A job is given up: whether that is one more call that the model did not answer. It is when
    /// the job is the first of its call to be given up, or when it could not even be taken because
    /// every thread hangs: to count calls alone, one that never ends would count once.
    pub(super) fn note_late(&mut self, stage: usize, id: u64) -> bool {
        if self.forget(stage, id) && self.calls.iter().all(|call| call.is_some_and(|c| c.late)) {
            return true;
        }
        let mut first = false;
        for call in self.calls.iter_mut().flatten() {
            if call.stage == stage && (call.jobs.0..=call.jobs.1).contains(&id) {
                first |= !call.late;
                call.late = true;
            }
        }
        first
    }

    /// What a thread does next: the oldest of all lines that are due.
    fn next(&self, now_ns: u64) -> Next {
        let mut next = Next::Sleep;
        let (mut oldest, mut soonest) = (u64::MAX, u64::MAX);
        for (stage, line) in self.lines.iter().enumerate() {
            let Some(front) = line.pieces.front() else { continue };
            let due_ns = front.at_ns.saturating_add(self.max_wait_ns);
            let is_due = line.rows >= self.max_rows || self.is_full() || due_ns <= now_ns;
            if is_due && front.id < oldest {
                oldest = front.id;
                next = Next::Take(stage);
            }
            soonest = soonest.min(due_ns);
        }
        match next {
            Next::Sleep if soonest < u64::MAX => {
                Next::Wait(Duration::from_nanos(soonest.saturating_sub(now_ns)))
            }
            next => next,
        }
    }

    /// Takes as many pieces of a stage as fit into a batch.
    fn take(&mut self, thread: usize, stage: usize, now_ns: u64) -> Batch {
        let mut batch = self.spare_batches.pop().unwrap_or_default();
        (batch.stage, batch.went_well, batch.late) = (stage, false, false);
        let line = &mut self.lines[stage];
        let mut rows = 0;
        let fits = |piece: &Piece, rows| rows == 0 || rows + piece.rows.len() <= self.max_rows;
        while let Some(piece) = line.pieces.pop_front_if(|piece| fits(piece, rows)) {
            rows += piece.rows.len();
            batch.pieces.push(piece);
        }
        line.rows -= rows;
        self.waiting -= batch.pieces.len();
        let id = |piece: Option<&Piece>| piece.map_or(0, |piece| piece.id);
        let jobs = (id(batch.pieces.first()), id(batch.pieces.last()));
        self.calls[thread] = Some(Call { stage, jobs, began_ns: now_ns, late: false });
        batch
    }
}

/// The queue, and who waits for it.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Something came, or the lane is dropped.
    came: Condvar,
    /// A thread ended.
    ended: Condvar,
    /// Whether there are answers: asked often, without the lock.
    answered: AtomicBool,
}

impl Shared {
    /// An empty queue for so many stages and threads.
    pub(super) fn new(
        stages: usize,
        threads: usize,
        jobs: usize,
        rows: usize,
        wait_ns: u64,
    ) -> Self {
        let queue = Queue {
            lines: (0..stages).map(|_| Line::default()).collect(),
            waiting: 0,
            most_waiting: jobs.max(1),
            max_rows: rows.max(1),
            max_wait_ns: wait_ns,
            calls: vec![None; threads],
            answers: Vec::new(),
            spare_rows: Vec::new(),
            spare_batches: Vec::new(),
            closed: false,
            alive: 0,
        };
        let (came, ended) = (Condvar::new(), Condvar::new());
        Self { queue: Mutex::new(queue), came, ended, answered: AtomicBool::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics between two states of the queue, so a poisoned one is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a thread for a job that came.
    pub(super) fn wake(&self) {
        self.came.notify_one();
    }

    /// Whether there are answers; they count as taken.
    pub(super) fn take_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) && self.answered.swap(false, Ordering::AcqRel)
    }

    /// The next batch of a thread, which waits for it; none when the lane is dropped.
    pub(super) fn next(&self, thread: usize, wall: &dyn Fn() -> u64) -> Option<Batch> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                queue.alive -= 1;
                self.ended.notify_all();
                return None;
            }
            let now_ns = wall();
            queue = match queue.next(now_ns) {
                Next::Take(stage) => {
                    let batch = queue.take(thread, stage, now_ns);
                    if queue.waiting > 0 {
                        self.came.notify_one();
                    }
                    return Some(batch);
                }
                Next::Wait(time) => {
                    let waited = self.came.wait_timeout(queue, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Next::Sleep => self.came.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// A thread is done with a batch.
    pub(super) fn answer(&self, thread: usize, mut batch: Batch) {
        let mut queue = self.lock();
        let call = queue.calls[thread].take();
        batch.late = call.is_some_and(|call| call.late);
        queue.answers.push(batch);
        self.answered.store(true, Ordering::Release);
    }

    /// Ends the threads. One that is in a call is waited for until the call is `deadline_ns` old,
    /// or until it is given up.
    pub(super) fn close(&self, now_ns: u64, deadline_ns: u64, is_given_up: &dyn Fn() -> bool) {
        let mut queue = self.lock();
        queue.closed = true;
        self.came.notify_all();
        let left = |call: &Call| call.began_ns.saturating_add(deadline_ns).saturating_sub(now_ns);
        let in_calls = queue.calls.iter().flatten().map(left).max();
        // Whoever is in no call ends as soon as it is woken.
        let mut left = Duration::from_nanos(in_calls.unwrap_or(deadline_ns));
        while queue.alive > 0 && !left.is_zero() && !is_given_up() {
            let look = left.min(LOOK);
            let waited = self.ended.wait_timeout_while(queue, look, |queue| queue.alive > 0);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            left -= look;
        }
    }
}
