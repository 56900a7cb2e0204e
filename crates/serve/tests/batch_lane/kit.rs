//! Models that do what a test tells them, and a clock that it moves.

use serveflow_core::lane::{Constant, Job, Lane, Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_serve::lanes::{BatchConfig, BatchCounters, BatchLane, LaneParts, ThreadLane};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A clock that stands until it is moved.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn go_us(&self, us: u64) {
        self.0.fetch_add(us * 1_000, Ordering::Relaxed);
    }

    pub(crate) fn go_ms(&self, ms: u64) {
        self.go_us(ms * 1_000);
    }
}

/// What a model says to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Say {
    Answer,
    Fail,
    Panic,
    WrongShape,
}

#[derive(Debug, Default)]
struct State {
    /// What is said to the next calls; afterwards they are answered.
    says: VecDeque<Say>,
    sizes: Vec<usize>,
    is_held: bool,
}

/// A model that answers each row with what stands in it, notes what it was asked, and hangs while
/// held.
#[derive(Clone, Debug)]
pub(crate) struct Backend(Arc<(Mutex<State>, Condvar)>);

impl Backend {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn say(&self, says: &[Say]) {
        self.0.0.lock().unwrap().says = says.iter().copied().collect();
    }

    pub(crate) fn hold(&self) {
        self.0.0.lock().unwrap().is_held = true;
    }

    pub(crate) fn release(&self) {
        self.0.0.lock().unwrap().is_held = false;
        self.0.1.notify_all();
    }

    /// Rows of each call, those that hang included.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.0.0.lock().unwrap().sizes.clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.sizes().len()
    }

    pub(crate) fn wait_for_calls(&self, calls: usize) {
        let started = Instant::now();
        while self.calls() < calls {
            assert!(started.elapsed() < Duration::from_secs(20), "no thread calls");
            std::thread::yield_now();
        }
    }
}

impl Model for Backend {
    fn shape(&self) -> RowShape {
        shape()
    }

    fn classes(&self) -> usize {
        2
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let mut state = self.0.0.lock().unwrap();
        state.sizes.push(rows.len());
        let say = state.says.pop_front().unwrap_or(Say::Answer);
        while state.is_held {
            state = self.0.1.wait(state).unwrap();
        }
        drop(state);
        match say {
            Say::Answer => {}
            Say::Fail => return Err(ScoreError { message: "on purpose".to_owned() }),
            Say::Panic => panic!("on purpose"),
            Say::WrongShape => {
                scores.reset(rows.len() + 1, 2);
                return Ok(());
            }
        }
        scores.reset(rows.len(), 2);
        for row in 0..rows.len() {
            scores.row_mut(row).fill(rows.words(row)[0] as f32);
        }
        Ok(())
    }
}

pub(crate) fn shape() -> RowShape {
    RowShape { words: 1, numbers: 1 }
}

/// A job whose rows hold the numbers from `mark` on.
pub(crate) fn job(stage: usize, mark: u32, rows: usize) -> Box<Job> {
    let mut job = Box::<Job>::default();
    (job.stage, job.rows) = (stage, Rows::with_capacity(shape(), rows));
    for row in 0..rows as u32 {
        job.rows.push().0[0] = mark + row;
    }
    job
}

/// What was answered to each row of a job.
pub(crate) fn marks(job: &Job) -> Vec<u32> {
    (0..job.scores.len()).map(|row| job.scores.row(row)[1] as u32).collect()
}

/// A lane whose time is the clock's.
pub(crate) fn lane(
    backends: &[&Backend],
    jobs: usize,
    batch: BatchConfig,
    clock: &Clock,
) -> (BatchLane, Arc<BatchCounters>) {
    let models: Vec<Arc<dyn Model>> =
        backends.iter().map(|&backend| Arc::new(backend.clone()) as Arc<dyn Model>).collect();
    let clock = clock.clone();
    let wall = Arc::new(move || clock.0.load(Ordering::Relaxed));
    let parts = LaneParts { batch, wall, ..LaneParts::new(&models, jobs) };
    (BatchLane::new(&parts).unwrap(), parts.counters)
}

/// Prints what a job of so many rows costs in each lane, with a model that answers at once.
pub(crate) fn overhead(rows: usize) {
    let shape = RowShape { words: 64, numbers: 16 };
    let models: Vec<Arc<dyn Model>> = vec![Arc::new(Constant::first(shape, 10, 1.0))];
    let parts = |max_wait_us| LaneParts {
        batch: BatchConfig { max_wait_us, ..BatchConfig::default() },
        ..LaneParts::new(&models, 64)
    };
    let lanes: [(&str, Box<dyn Lane>); 3] = [
        ("thread", Box::new(ThreadLane::new(&parts(0)).unwrap())),
        ("batch", Box::new(BatchLane::new(&parts(200)).unwrap())),
        ("batch, no wait", Box::new(BatchLane::new(&parts(0)).unwrap())),
    ];
    for (name, mut lane) in lanes {
        let (mut submit, mut poll, mut spare) = (Duration::ZERO, Duration::ZERO, Vec::new());
        let total = 20_000;
        let (mut asked, mut answered) = (0, 0);
        let started = Instant::now();
        while answered < total {
            if asked < total && asked - answered < 64 {
                let mut job = spare.pop().unwrap_or_else(|| job(0, 0, 0));
                if job.rows.is_empty() {
                    job.rows = Rows::with_capacity(shape, rows);
                    for _ in 0..rows {
                        job.rows.push();
                    }
                }
                let before = Instant::now();
                let taken = lane.submit(job);
                submit += before.elapsed();
                asked += usize::from(taken.is_ok());
            }
            let before = Instant::now();
            let back = lane.poll();
            poll += before.elapsed();
            answered += usize::from(back.is_some());
            spare.extend(back);
        }
        let each = |time: Duration| time.as_nanos() as f64 / f64::from(total as u32);
        println!(
            "{rows} rows, {name}: {:.0} ns a job; submit {:.0}, poll {:.0} on the worker",
            each(started.elapsed()),
            each(submit),
            each(poll)
        );
    }
}
