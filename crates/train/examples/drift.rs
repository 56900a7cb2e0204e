//! How often drift is told where there is none, and how soon where traffic changes:
//! `cargo run --release -p serveflow-train --example drift -- BUNDLE OTHER`
//!
//! BUNDLE is what `serveflow train` wrote, with its pool; OTHER is the directory of another task,
//! whose flows stand for traffic that is new.
#![allow(clippy::unwrap_used)]
use serveflow_core::rows::Scores;
use serveflow_model::bundle::Bundle;
use serveflow_model::drift::StageReference;
use serveflow_train::dataset::{RecordPlan, record};
use serveflow_train::drift::{RATE, RUN, Watched, WindowDraw};
use serveflow_train::planner::pool::{Answers, Candidate, CandidatePool, Flows};
use serveflow_train::random::Random;
use std::ops::Range;
use std::path::Path;

/// Partings of captures into halves, windows in all, and streams that switch.
const HALVES: usize = 100;
const WINDOWS: usize = 10_000;
const STREAMS: usize = 500;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let (dir, other) = (Path::new(&given[0]), Path::new(&given[1]));
    let bundle = Bundle::load(dir).unwrap();
    let pool = std::fs::read(dir.join("pool/pool.json")).unwrap();
    let pool = serde_json::from_slice::<CandidatePool>(&pool).unwrap().labelled();
    let mut random = Random::new(&[7]);
    for (at, stage) in bundle.plan.stages.iter().enumerate() {
        let candidate = pool.candidates.iter().find(|own| own.name == stage.name).unwrap();
        let held = Held::new(&pool, candidate);
        let (val, test) = (held.part(0..pool.unseen), held.part(pool.unseen..held.flows));
        // All flows are held against it, those too that do not reach the stage.
        let own = val.reference(&stage.name, RATE, WindowDraw::default(), 1).unwrap();
        println!(
            "stage {}: windows of {} flows; {} calibration flows of {} captures, {} test flows of \
             {}",
            stage.name,
            own.window,
            val.len(),
            val.captures().len(),
            test.len(),
            test.captures().len()
        );
        let all = held.part(0..held.flows);
        for rate in [0.05, 0.01, RATE] {
            let (over, windows) = of_halves(&all, &stage.name, rate, &mut random);
            println!("  random halves of both, rate {rate}: {over:.5} of {windows} windows");
        }
        for run in [1, RUN] {
            let over = share_over(&test, &own, run, &mut random);
            println!(
                "  test captures, runs of at most {run} flows: {over:.4} of {WINDOWS} windows"
            );
        }
        delay(&val, &foreign(&bundle, at, other), &own, &mut random);
    }
}

/// Flows that a candidate was not trained on: the calibration split, and behind it the test flows.
struct Held {
    answers: Answers,
    known: Flows,
    classes: usize,
    flows: usize,
}

impl Held {
    fn new(pool: &CandidatePool, candidate: &Candidate) -> Self {
        let (unseen, classes) = (pool.unseen, pool.classes());
        let mut answers = Answers {
            scores: candidate.val.scores[..unseen * classes].to_vec(),
            facts: candidate.val.facts[..unseen].to_vec(),
            labels: candidate.val.labels[..unseen].to_vec(),
        };
        answers.append(candidate.test.clone());
        Self {
            answers,
            known: Flows {
                truth: [&pool.val.truth[..unseen], &pool.test.truth].concat(),
                capture: [&pool.val.capture[..unseen], &pool.test.capture].concat(),
            },
            classes,
            flows: unseen + pool.test.truth.len(),
        }
    }

    fn part(&self, flows: Range<usize>) -> Watched {
        let flows: Vec<usize> = flows.collect();
        Watched::new(&self.answers, self.classes, &self.known, &flows)
    }
}

/// Share of windows over the threshold that a half of the captures sets, of the other half.
fn of_halves(own: &Watched, stage: &str, rate: f64, random: &mut Random) -> (f64, usize) {
    let mut over = 0;
    for half in 0..HALVES {
        let [known, other] = own.halves(random);
        let part = own.part(&known);
        let reference = part.reference(stage, rate, WindowDraw::default(), half as u64).unwrap();
        let draw = WindowDraw { flows: reference.window as usize, run: RUN };
        let is_over = |random: &mut Random| {
            let window = own.window(&other, draw, random);
            reference.score(&own.counts(&reference.quantities, &window)).0 > reference.threshold
        };
        over += (0..WINDOWS / HALVES).filter(|_| is_over(random)).count();
    }
    let windows = WINDOWS / HALVES * HALVES;
    (over as f64 / windows as f64, windows)
}

/// Share of windows over a threshold.
fn share_over(own: &Watched, reference: &StageReference, run: usize, random: &mut Random) -> f64 {
    let all: Vec<usize> = (0..own.captures().len()).collect();
    let is_over = |random: &mut Random| {
        let window = own.window(&all, WindowDraw { flows: reference.window as usize, run }, random);
        reference.score(&own.counts(&reference.quantities, &window)).0 > reference.threshold
    };
    (0..WINDOWS).filter(|_| is_over(random)).count() as f64 / WINDOWS as f64
}

/// All flows of another task as a stage sees them.
fn foreign(bundle: &Bundle, at: usize, dir: &Path) -> Watched {
    let stage = &bundle.cascade.stages()[at];
    let book = serveflow_label::read_table(&dir.join("labels.csv"), dir).unwrap();
    let plan = RecordPlan {
        specs: vec![stage.features.spec().clone()],
        wait_ns: stage.wait_ns,
        of_window: 0,
        flows: bundle.flow_config(),
    };
    let dataset = record(&book, &plan, &mut |_| {}).unwrap();
    let mut scores = Scores::default();
    bundle.models[at].score(&dataset.rows[0], &mut scores).unwrap();
    let answers = Answers::new(&scores, &dataset.facts[0]);
    let capture: Vec<u32> = dataset.flows.iter().map(|flow| flow.capture.number()).collect();
    let all: Vec<usize> = (0..capture.len()).collect();
    let known = Flows { truth: vec![0; capture.len()], capture };
    Watched::new(&answers, scores.classes(), &known, &all)
}

/// Flows from a switch of traffic to the end of the first window over the threshold.
fn delay(known: &Watched, new: &Watched, reference: &StageReference, random: &mut Random) {
    let size = reference.window as usize;
    let all = |own: &Watched| (0..own.captures().len()).collect::<Vec<_>>();
    let (before, behind) = (all(known), all(new));
    let of = |flows| WindowDraw { flows, run: RUN };
    let mut delays = Vec::new();
    for _ in 0..STREAMS {
        // The switch comes anywhere in a window, whose rest is of the new traffic.
        let old = random.below(size);
        let mut counts =
            known.counts(&reference.quantities, &known.window(&before, of(old), random));
        let mut flows = 0;
        let found = loop {
            let part = if flows == 0 { size - old } else { size };
            let more = new.counts(&reference.quantities, &new.window(&behind, of(part), random));
            counts.merge(&more);
            flows += part;
            if reference.score(&counts).0 > reference.threshold {
                break Some(flows);
            }
            if flows > 20 * size {
                break None;
            }
            counts.clear();
        };
        delays.push(found.unwrap_or(usize::MAX));
    }
    delays.sort_unstable();
    let told = |at: usize| match delays[at] {
        usize::MAX => "no number of".to_owned(),
        flows => flows.to_string(),
    };
    let missed = delays.iter().filter(|&&delay| delay == usize::MAX).count();
    let late = delays.iter().filter(|&&delay| delay > 2 * size - 1).count();
    println!(
        "  switch to other traffic, {STREAMS} streams: told after {} flows (median), {} (99th \
         percentile), {} (most); later than {} flows: {late}, not at all: {missed}",
        told(STREAMS / 2),
        told(STREAMS * 99 / 100),
        told(STREAMS - 1),
        2 * size - 1
    );
}
