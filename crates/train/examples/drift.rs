//! How often drift is told where there is none, and how soon where traffic changes:
//! `cargo run --release -p serveflow-train --example drift -- BUNDLE OTHER`
//!
//! BUNDLE is what `serveflow train` wrote, with its pool; OTHER is the directory of another task, whose flows
//! stand for traffic that is new.
#![allow(clippy::unwrap_used)]
use serveflow_core::rows::Scores;
use serveflow_model::bundle::Bundle;
use serveflow_model::drift::StageReference;
use serveflow_train::drift::{RUN, Watched};
use serveflow_train::planner::pool::{Answers, Flows, Pool};
use serveflow_train::random::Random;
use serveflow_train::record::{RecordPlan, record};
use std::path::Path;

/// Partings of captures into halves, windows of each, and streams that switch.
const HALVES: usize = 40;
const WINDOWS: usize = 250;
const STREAMS: usize = 500;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let (dir, other) = (Path::new(&given[0]), Path::new(&given[1]));
    let bundle = Bundle::load(dir).unwrap();
    let pool = std::fs::read(dir.join("pool/pool.json")).unwrap();
    let pool = serde_json::from_slice::<Pool>(&pool).unwrap().labelled();
    let stage = &bundle.plan.stages[0];
    let reference = bundle.drift.as_ref().unwrap().stages()[0].as_ref().unwrap();
    let candidate = pool.candidates.iter().find(|own| own.name == stage.name).unwrap();
    let watched = |answers: &Answers, flows: &Flows| {
        let all: Vec<usize> = (0..flows.truth.len()).collect();
        Watched::new(answers, pool.classes(), (&flows.truth, &flows.capture), &all)
    };
    let (val, test) = (watched(&candidate.val, &pool.val), watched(&candidate.test, &pool.test));
    println!(
        "stage {}: windows of {} flows; {} calibration flows of {} captures, {} test flows of {}",
        stage.name,
        reference.window,
        val.len(),
        val.captures().len(),
        test.len(),
        test.captures().len()
    );
    let mut random = Random::new(&[7]);
    for rate in [0.05, 0.01, 0.001] {
        let over = of_halves(&val, (&stage.name, rate), &mut random);
        println!(
            "calibration captures, random halves, rate {rate}: {over:.5} of {} windows",
            HALVES * WINDOWS
        );
    }
    for run in [1, RUN, usize::MAX] {
        let over = share_over(&test, reference, run, &mut random);
        println!(
            "test captures, runs of at most {run} flows: {over:.5} of {} windows",
            HALVES * WINDOWS
        );
    }
    let new = foreign(&bundle, other);
    delay(&test, &new, reference, &mut random);
}

/// Share of windows over the threshold that a half of the captures sets, of the other half.
fn of_halves(val: &Watched, (stage, rate): (&str, f64), random: &mut Random) -> f64 {
    let mut over = 0;
    for half in 0..HALVES {
        let [known, other] = val.halves(random);
        let reference = val.part(&known).reference(stage, rate, half as u64).unwrap();
        let size = (reference.window as usize, RUN);
        let is_over = |random: &mut Random| {
            let window = val.window(&other, size, random);
            reference.score(&val.counts(&reference.quantities, &window)).0 > reference.threshold
        };
        over += (0..WINDOWS).filter(|_| is_over(random)).count();
    }
    over as f64 / (HALVES * WINDOWS) as f64
}

/// Share of windows over the threshold of a bundle.
fn share_over(own: &Watched, reference: &StageReference, run: usize, random: &mut Random) -> f64 {
    let all: Vec<usize> = (0..own.captures().len()).collect();
    let size = reference.window as usize;
    let mut over = 0;
    let mut by = std::collections::BTreeMap::new();
    for _ in 0..HALVES * WINDOWS {
        let window = own.window(&all, (size, run.min(size)), random);
        let (score, what) = reference.score(&own.counts(&reference.quantities, &window));
        if score > reference.threshold {
            over += 1;
            *by.entry(what.unwrap().name()).or_insert(0) += 1;
        }
    }
    println!("  by {by:?}");
    f64::from(over) / (HALVES * WINDOWS) as f64
}

/// All flows of another task as the first stage sees them.
fn foreign(bundle: &Bundle, dir: &Path) -> Watched {
    let stage = &bundle.cascade.stages()[0];
    let book = serveflow_train::labels::read_table(&dir.join("labels.csv"), dir).unwrap();
    let plan = RecordPlan {
        specs: vec![stage.features.spec().clone()],
        wait_ns: stage.wait_ns,
        of_window: 0,
        flows: bundle.flow_config(),
    };
    let dataset = record(&book, &plan, &mut |_| {}).unwrap();
    let mut scores = Scores::default();
    bundle.models[0].score(&dataset.rows[0], &mut scores).unwrap();
    let answers = Answers::new(&scores, &dataset.facts[0]);
    let capture: Vec<u32> = dataset.flows.iter().map(|flow| flow.capture.number()).collect();
    let all: Vec<usize> = (0..capture.len()).collect();
    Watched::new(&answers, scores.classes(), (&vec![0; capture.len()], &capture), &all)
}

/// Flows from a switch of traffic to the end of the first window over the threshold.
fn delay(test: &Watched, new: &Watched, reference: &StageReference, random: &mut Random) {
    let size = reference.window as usize;
    let all = |own: &Watched| (0..own.captures().len()).collect::<Vec<_>>();
    let (before, behind) = (all(test), all(new));
    let mut delays = Vec::new();
    for _ in 0..STREAMS {
        // The switch comes anywhere in a window, whose rest is of the new traffic.
        let old = random.below(size);
        let mut counts =
            test.counts(&reference.quantities, &test.window(&before, (old, RUN), random));
        let mut flows = 0;
        let found = loop {
            let part = if flows == 0 { size - old } else { size };
            let more = new.counts(&reference.quantities, &new.window(&behind, (part, RUN), random));
            for (counts, more) in counts.iter_mut().zip(more) {
                counts.iter_mut().zip(more).for_each(|(own, more)| *own += more);
            }
            flows += part;
            if reference.score(&counts).0 > reference.threshold {
                break Some(flows);
            }
            if flows > 20 * size {
                break None;
            }
            counts = reference.no_counts();
        };
        delays.push(found.unwrap_or(usize::MAX));
    }
    delays.sort_unstable();
    let missed = delays.iter().filter(|&&delay| delay == usize::MAX).count();
    let late = delays.iter().filter(|&&delay| delay > 2 * size - 1).count();
    println!(
        "switch to other traffic, {STREAMS} streams: told after {} flows (median), {} (99th percentile), {} (most); \
         later than {} flows: {late}, not at all: {missed}",
        delays[STREAMS / 2],
        delays[STREAMS * 99 / 100],
        delays[STREAMS - 1],
        2 * size - 1
    );
}
