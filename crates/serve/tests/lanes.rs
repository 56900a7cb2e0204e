//! The suite that every lane passes, and what a queue adds to it.
#![allow(clippy::unwrap_used)]

use serveflow_core::counters::Counters;
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{Job, Lane, Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::verdict::{Reason, Verdict};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory};
use serveflow_serve::lanes::{self, BatchConfig, LANES, LaneParts, ThreadLane};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a model does instead of scoring at once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Slow(Duration),
    Fails,
    Panics,
}

/// Scores by the ones in a row, so that equal rows get equal scores.
#[derive(Debug)]
struct Ones {
    shape: RowShape,
    mood: Mood,
    scored: AtomicUsize,
}

impl Model for Ones {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        3
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        self.scored.fetch_add(1, Ordering::Relaxed);
        match self.mood {
            Mood::Well => {}
            Mood::Slow(time) => std::thread::sleep(time),
            Mood::Fails => return Err(ScoreError { message: "on purpose".to_owned() }),
            Mood::Panics => panic!("on purpose"),
        }
        scores.reset(rows.len(), 3);
        for row in 0..rows.len() {
            let ones: u32 = rows.words(row).iter().map(|word| word.count_ones()).sum();
            let sure = (ones % 10) as f32 / 10.0;
            let rest = [1.0 - sure, 0.0];
            let at = (ones % 3) as usize;
            let out = scores.row_mut(row);
            (out[at], out[(at + 1) % 3], out[(at + 2) % 3]) = (sure, rest[0], rest[1]);
        }
        Ok(())
    }
}

/// A fast stage in the worker and a slow one in a lane, and their models.
fn cascade(lane: &str, mood: Mood) -> (Arc<Cascade>, Vec<Arc<Ones>>) {
    let lane = LANES.iter().position(|entry| entry.name == lane).unwrap();
    let stage = |packets: u16, lane: usize| {
        let encoders = vec!["header_bits".to_owned()];
        let (layout, masks) = (HeaderLayout::default(), MaskSet::default());
        let spec = FeatureSpec { encoders, packets, layout, masks };
        let features = Features::new(&spec).unwrap();
        let gate = Gate::Uncertainty {
            measure: Uncertainty::Margin,
            threshold: Threshold::Universal(0.5),
        };
        Stage { lane, ..Stage::new(&packets.to_string(), features, gate, 1_000_000_000) }
    };
    let stages = vec![stage(1, 0), stage(3, lane)];
    let model = |(stage, mood): (&Stage, Mood)| {
        Arc::new(Ones { shape: stage.features.shape(), mood, scored: AtomicUsize::new(0) })
    };
    let models = stages.iter().zip([Mood::Well, mood]).map(model).collect();
    let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
    (Arc::new(Cascade::new(stages, labels).unwrap()), models)
}

fn as_dyn(models: &[Arc<Ones>]) -> Vec<Arc<dyn Model>> {
    models.iter().map(|model| Arc::clone(model) as Arc<dyn Model>).collect()
}

/// What a run gave, without what a clock says.
fn served(
    cascade: &Arc<Cascade>,
    lanes: &mut Vec<Box<dyn Lane>>,
    batch_rows: usize,
    when_full: WhenFull,
) -> (Vec<Verdict>, Counters) {
    let config = EngineConfig { batch_rows, ..EngineConfig::default() };
    let mut engine = Engine::new(Arc::clone(cascade), config);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol");
    let mut source =
        FileSource::new(vec![data.join("test/tls.pcap.zst"), data.join("test/smb.pcap.zst")]);
    let mut sink = Memory::default();
    let outcome = Worker {
        engine: &mut engine,
        lanes,
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames: 64,
        when_full,
        flush_ns: u64::MAX,
    }
    .run(&mut source, &mut |_, _| ControlFlow::Continue(()));
    assert!(outcome.unwrap().damaged.is_empty());
    let accounts = *engine.accounts();
    assert!(accounts.balance());
    assert_eq!((accounts.flows.collecting, accounts.flows.in_inference), (0, 0));
    assert_eq!(accounts.verdicts(), accounts.flows.seen);
    assert_eq!(accounts.flows.seen, sink.verdicts.len() as u64);
    sink.verdicts.sort_by_key(|verdict| verdict.id);
    (sink.verdicts, accounts)
}

fn on(lane: &str, mood: Mood, jobs: usize, batch_rows: usize) -> (Vec<Verdict>, Counters) {
    at(lane, mood, jobs, batch_rows, WhenFull::Shed)
}

fn at(
    lane: &str,
    mood: Mood,
    jobs: usize,
    batch_rows: usize,
    when_full: WhenFull,
) -> (Vec<Verdict>, Counters) {
    let (cascade, models) = cascade(lane, mood);
    let mut lanes = build(&cascade, &parts(&models, jobs));
    served(&cascade, &mut lanes, batch_rows, when_full)
}

/// The lanes of a cascade's stages.
fn build(cascade: &Cascade, parts: &LaneParts) -> Vec<Box<dyn Lane>> {
    lanes::boxed(lanes::build(parts, cascade.stages()).unwrap())
}

/// Lanes that give up on nothing, however busy the machine is, and never leave a model alone.
fn parts(models: &[Arc<Ones>], jobs: usize) -> LaneParts {
    let usual = BatchConfig::default();
    let batch = BatchConfig { deadline_ms: 600_000, breaker_failures: u32::MAX, ..usual };
    LaneParts { batch, ..LaneParts::new(&as_dyn(models), jobs) }
}

fn shed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| verdict.reason == Reason::Shed).count()
}

fn failed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| verdict.reason == Reason::Failed).count()
}

#[test]
fn every_lane_gives_the_same_verdicts() {
    let (expected, _) = on("inline", Mood::Well, 1_000_000, 256);
    assert!(expected.len() > 100 && shed(&expected) == 0);
    let by_slow = expected.iter().filter(|v| v.answer.is_some_and(|a| a.stage == 1)).count();
    assert!((20..expected.len() - 20).contains(&by_slow), "both stages decide: {by_slow}");
    for lane in LANES.iter().map(|entry| entry.name) {
        for batch_rows in [1, 7, 256] {
            let (verdicts, accounts) = on(lane, Mood::Well, 1_000_000, batch_rows);
            assert_eq!(verdicts, expected, "{lane}, {batch_rows} rows");
            assert_eq!((accounts.inference_shed, accounts.inference_failures), (0, 0), "{lane}");
        }
        // Slow enough for answers to come when their flows have long left the table.
        let (verdicts, _) = on(lane, Mood::Slow(Duration::from_millis(2)), 1_000_000, 16);
        assert_eq!(verdicts, expected, "{lane}, slow");
    }
}

/// The flows that the slow stage was asked about keep the fast stage's answer.
fn best_answer_stands(verdicts: &[Verdict]) {
    let (plain, _) = on("inline", Mood::Well, 1_000_000, 256);
    for (verdict, plain) in verdicts.iter().zip(&plain) {
        assert_eq!((verdict.id, verdict.flow), (plain.id, plain.flow));
        let answer = verdict.answer.unwrap();
        if matches!(verdict.reason, Reason::Shed | Reason::Failed) {
            assert_eq!((answer.stage, answer.packets), (0, 1));
        } else {
            assert_eq!(verdict, plain);
        }
    }
}

#[test]
fn a_model_that_fails_is_told_of_in_every_lane() {
    let (expected, _) = on("inline", Mood::Well, 1_000_000, 256);
    let by_slow = expected.iter().filter(|v| v.answer.is_some_and(|a| a.stage == 1)).count();
    for lane in LANES.iter().map(|entry| entry.name) {
        let (verdicts, accounts) = on(lane, Mood::Fails, 1_000_000, 8);
        assert_eq!((failed(&verdicts), shed(&verdicts)), (by_slow, 0), "{lane}");
        assert!(accounts.inference_failures > 0 && accounts.inference_shed == 0, "{lane}");
        best_answer_stands(&verdicts);
    }
}

/// The lanes with threads of their own.
const QUEUES: [&str; 2] = ["thread", "batch"];

#[test]
fn a_model_that_panics_fails_and_is_not_waited_for() {
    for lane in LANES.iter().map(|entry| entry.name) {
        let (verdicts, accounts) = on(lane, Mood::Panics, 1_000_000, 8);
        assert!(failed(&verdicts) > 20 && accounts.inference_failures > 1, "{accounts:?}");
        best_answer_stands(&verdicts);
    }
}

#[test]
fn a_full_queue_sheds_and_counts() {
    let slow = Mood::Slow(Duration::from_millis(20));
    for lane in QUEUES {
        let (verdicts, accounts) = on(lane, slow, 1, 4);
        assert!(accounts.inference_shed > 0 && shed(&verdicts) > 0, "{accounts:?}");
        assert!(shed(&verdicts) <= 4 * accounts.inference_shed as usize);
        best_answer_stands(&verdicts);
    }
}

#[test]
fn a_worker_that_waits_sheds_nothing_however_short_the_queue() {
    let (expected, _) = on("inline", Mood::Well, 1_000_000, 256);
    let moods = [Mood::Well, Mood::Slow(Duration::from_millis(1))];
    for (jobs, mood) in [1, 2, 64].into_iter().zip(moods.into_iter().cycle()) {
        for (lane, batch_rows) in QUEUES.into_iter().flat_map(|l| [1, 16, 256].map(|r| (l, r))) {
            let (verdicts, accounts) = at(lane, mood, jobs, batch_rows, WhenFull::Wait);
            assert_eq!(verdicts, expected, "{lane}: {jobs} jobs of {batch_rows} rows");
            assert_eq!((accounts.inference_shed, accounts.inference_failures), (0, 0));
        }
    }
    // The same queue and model do shed for a worker that does not wait.
    let slow = Mood::Slow(Duration::from_millis(20));
    assert!(at("thread", slow, 1, 4, WhenFull::Shed).1.inference_shed > 0);
}

#[test]
fn a_worker_that_waits_for_a_lane_that_fails_ends() {
    for (lane, mood) in QUEUES.into_iter().zip([Mood::Fails, Mood::Panics]) {
        let (verdicts, accounts) = at(lane, mood, 1, 4, WhenFull::Wait);
        assert!(
            failed(&verdicts) > 20 && accounts.inference_failures > 1,
            "{mood:?}: {accounts:?}"
        );
        assert_eq!(accounts.inference_shed, 0, "{mood:?}: each job was scored, if in vain");
        best_answer_stands(&verdicts);
    }
}

/// Takes nothing, like a lane whose thread is gone.
struct Gone;

impl Lane for Gone {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        Err(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        None
    }
}

#[test]
fn a_worker_does_not_wait_for_a_lane_that_will_never_have_room() {
    let (cascade, models) = cascade("thread", Mood::Well);
    let mut lanes = build(&cascade, &parts(&models, 1));
    lanes[1] = Box::new(Gone);
    let (verdicts, accounts) = served(&cascade, &mut lanes, 8, WhenFull::Wait);
    assert!(accounts.inference_shed > 0 && shed(&verdicts) > 20, "{accounts:?}");
    best_answer_stands(&verdicts);
}

/// A model that scores while the test holds no lock on it.
#[derive(Debug)]
struct Held(Arc<Mutex<()>>);

impl Model for Held {
    fn shape(&self) -> RowShape {
        RowShape::default()
    }

    fn classes(&self) -> usize {
        1
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let _held: MutexGuard<'_, ()> = self.0.lock().unwrap();
        scores.reset(rows.len(), 1);
        Ok(())
    }
}

fn held(jobs: usize) -> (ThreadLane, Arc<Mutex<()>>) {
    let lock = Arc::new(Mutex::new(()));
    let held: Arc<dyn Model> = Arc::new(Held(Arc::clone(&lock)));
    (ThreadLane::new(&LaneParts::new(&[held], jobs)).unwrap(), lock)
}

/// Submits until the queue is full; how many jobs it took.
fn fill(lane: &mut ThreadLane) -> usize {
    let started = Instant::now();
    let mut taken = 0;
    // The thread takes one job out of the queue when it gets to run.
    while started.elapsed() < Duration::from_millis(200) {
        taken += usize::from(lane.submit(Box::default()).is_ok());
    }
    taken
}

#[test]
fn a_queue_takes_what_it_was_made_for_and_hands_the_rest_back() {
    for jobs in [0, 1, 5] {
        let (mut lane, lock) = held(jobs);
        let closed = lock.lock().unwrap();
        let taken = fill(&mut lane);
        assert_eq!(taken, jobs.max(1) + 1, "the queue, and the job that is being scored");
        assert!(lane.poll().is_none() && lane.submit(Box::<Job>::default()).is_err());
        drop(closed);
        let started = Instant::now();
        let mut back = 0;
        while back < taken && started.elapsed() < Duration::from_secs(10) {
            back += usize::from(lane.poll().is_some_and(|job| !job.failed));
        }
        assert_eq!(back, taken, "every job that was taken comes back");
        assert!(lane.submit(Box::default()).is_ok(), "there is room again");
    }
}

#[test]
fn a_lane_that_is_dropped_with_jobs_inside_ends() {
    let (mut lane, lock) = held(8);
    let closed = lock.lock().unwrap();
    assert!(fill(&mut lane) > 8);
    let dropping = std::thread::spawn(move || drop(lane));
    drop(closed);
    let started = Instant::now();
    while !dropping.is_finished() {
        assert!(started.elapsed() < Duration::from_secs(10), "the thread does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    dropping.join().unwrap();
    drop(held(3).0);
}

/// A model that hangs until the end of the process.
#[derive(Debug)]
struct Hangs(RowShape);

impl Model for Hangs {
    fn shape(&self) -> RowShape {
        self.0
    }

    fn classes(&self) -> usize {
        3
    }

    fn score(&self, _: &Rows, _: &mut Scores) -> Result<(), ScoreError> {
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_model_that_hangs_for_ever_costs_a_capture_a_few_deadlines_and_no_verdict() {
    let (cascade, models) = cascade("batch", Mood::Well);
    let hangs: Arc<dyn Model> = Arc::new(Hangs(models[1].shape));
    let models = [as_dyn(&models)[0].clone(), hangs];
    for (when_full, jobs, batch_rows) in
        [(WhenFull::Wait, 64, 8), (WhenFull::Wait, 1, 1), (WhenFull::Shed, 2, 8)]
    {
        let batch = BatchConfig { deadline_ms: 300, ..BatchConfig::default() };
        let parts = LaneParts { batch, ..LaneParts::new(&models, jobs) };
        let started = Instant::now();
        let mut lanes = build(&cascade, &parts);
        let (verdicts, accounts) = served(&cascade, &mut lanes, batch_rows, when_full);
        drop(lanes);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{jobs} jobs: {took:?}");
        best_answer_stands(&verdicts);
        let tally = parts.counters.tally()[1];
        assert_eq!(tally.unanswered(), accounts.inference_failures);
        assert!(tally.late > 0 && tally.batches == 1, "one thread hangs, once: {tally:?}");
        if when_full == WhenFull::Wait {
            assert_eq!((accounts.inference_shed, shed(&verdicts)), (0, 0));
            assert!(failed(&verdicts) > 20);
        }
    }
}
