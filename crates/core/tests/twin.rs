//! The engine against its twin: the same verdicts, to the nanosecond.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, Run, Told};
use common::frames::Frame;
use common::models::{StageSpec, cascade, inline_lanes, learned, stage};
use common::traffic::{MS, Shape, traffic};
use common::twin::Twin;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, EngineConfig};
use std::sync::Arc;

/// A config whose timeouts traffic of a few seconds meets often.
fn config(capacity: usize, idle: u64, active: u64, linger: u64) -> EngineConfig {
    let flows = FlowConfig {
        capacity,
        idle_ns: idle * MS,
        active_ns: active * MS,
        linger_ns: linger * MS,
        ..FlowConfig::default()
    };
    EngineConfig { flows, ..EngineConfig::default() }
}

fn cascades() -> Vec<Vec<StageSpec>> {
    let forever = u64::MAX;
    vec![
        vec![stage(1, forever, 1.0)],
        vec![stage(10, 500 * MS, 1.0)],
        vec![stage(1, 0, 0.4), stage(1, 0, 0.4), stage(10, 400 * MS, 1.0)],
        vec![stage(1, 100 * MS, 0.3), stage(3, 300 * MS, 0.3), stage(5, forever, 1.0)],
        vec![stage(2, 1_000 * MS, 0.2), stage(4, 1_000 * MS, 0.2), stage(7, 2_000 * MS, 0.0)],
        // A wait that is over for both stages at once.
        vec![stage(3, 50 * MS, 0.3), stage(6, 50 * MS, 1.0)],
    ]
}

/// The first few verdicts that only one side has.
fn difference(ours: &[Told], twins: &[Told]) -> String {
    let only = |a: &[Told], b: &[Told]| -> Vec<String> {
        let missing = a.iter().filter(|told| b.binary_search(told).is_err());
        missing.take(3).map(|told| format!("{told:?}")).collect()
    };
    let (ours, twins) = (only(ours, twins), only(twins, ours));
    format!("only the engine:\n{}\nonly the twin:\n{}", ours.join("\n"), twins.join("\n"))
}

fn compare(
    specs: &[StageSpec],
    config: EngineConfig,
    frames: &[Frame],
    end: End,
    seed: u64,
) -> Run {
    compare_cascade(&cascade(specs), config, frames, end, seed)
}

fn compare_cascade(
    cascade: &Arc<Cascade>,
    config: EngineConfig,
    frames: &[Frame],
    end: End,
    seed: u64,
) -> Run {
    let lanes = inline_lanes(cascade);
    // Who gives way in a full table depends on who is known to be decided.
    let batch = if config.flows.capacity < frames.len() { 1 } else { 1 + seed % 40 };
    let run = Drive { config, lanes, batch, seed, end }.run(cascade, frames);
    let (twins, evictions) = Twin::run(cascade, config, frames, end);
    let ours = run.told();
    assert!(ours == twins, "seed {seed} {config:?} {cascade:?}\n{}", difference(&ours, &twins));
    let accounts = &run.accounts;
    assert_eq!([accounts.evicted_undecided, accounts.evicted_decided], evictions);
    run
}

/// Runs every cascade over traffic of many seeds, and tells how often each reason came.
fn sweep(config: EngineConfig, seeds: u64, shape: impl Fn(u64) -> Shape) -> [u64; 7] {
    let mut reasons = [0; 7];
    for seed in 0..seeds {
        let frames = traffic(&shape(seed));
        for specs in cascades() {
            let end = if seed % 2 == 0 { End::Silence } else { End::Stop };
            let run = compare(&specs, config, &frames, end, seed);
            for (sum, count) in reasons.iter_mut().zip(run.accounts.flows.verdicts) {
                *sum += count;
            }
        }
    }
    reasons
}

const EDGES: [u64; 5] = [1_000 * MS, 3_000 * MS, 200 * MS, 300 * MS, 500 * MS];

#[test]
fn ordered_traffic_has_the_verdicts_of_the_twin() {
    let config = config(1 << 16, 1_000, 3_000, 200);
    let [accepted, last, ended, timed_out, evicted, shed, failed] =
        sweep(config, 20, |seed| Shape::new(seed, 60, &EDGES));
    assert!([accepted, last, ended, timed_out].iter().all(|&count| count > 500));
    assert_eq!((evicted, shed, failed), (0, 0, 0));
}

#[test]
fn time_stamps_that_step_back_change_nothing_but_what_the_rules_say() {
    let config = config(1 << 16, 1_000, 3_000, 200);
    sweep(config, 20, |seed| Shape { jitter: true, ..Shape::new(1_000 + seed, 60, &EDGES) });
}

#[test]
fn stray_time_stamps_and_clocks_that_start_over_have_the_verdicts_of_the_twin() {
    let config = config(1 << 16, 1_000, 3_000, 200);
    sweep(config, 30, |seed| {
        let shape = Shape::new(2_000 + seed, 60, &EDGES);
        Shape { jitter: seed % 2 == 0, strays: true, ..shape }
    });
    // Without a look ahead, but with a bound.
    let config = EngineConfig { most_ahead_ns: 1_000 * MS, ..config };
    sweep(config, 30, |seed| {
        let shape = Shape::new(2_000 + seed, 60, &EDGES);
        Shape { jitter: seed % 2 == 0, strays: true, ..shape }
    });
}

#[test]
fn a_full_table_evicts_what_would_leave_first_of_what_is_decided() {
    for capacity in [0, 1, 5, 12] {
        let config = config(capacity, 1_000, 3_000, 200);
        let reasons = sweep(config, 12, |seed| {
            let shape = Shape::new(3_000 + seed, 80, &EDGES);
            Shape { jitter: seed % 3 == 1, strays: seed % 3 == 2, ..shape }
        });
        assert!(reasons[4] > 100, "{reasons:?}");
    }
}

/// Time in coarse steps: packets, timeouts and evictions fall on the same nanosecond, and only the
/// key breaks ties.
#[test]
fn ties_in_time_are_broken_as_the_twin_breaks_them() {
    let config = config(8, 100, 300, 50);
    for seed in 0..20 {
        let shape = Shape { span_ns: 3_000 * MS, ..Shape::new(7_000 + seed, 150, &EDGES) };
        let mut frames = traffic(&shape);
        frames.iter_mut().for_each(|frame| frame.ts_ns -= frame.ts_ns % (50 * MS));
        for specs in cascades() {
            compare(&specs, config, &frames, End::Stop, seed);
        }
    }
}

/// Timeouts that fall together with each other and with the stages' waits, and those that lie in
/// one slot of a timing wheel with them.
#[test]
fn timeouts_that_meet_deadlines_have_the_verdicts_of_the_twin() {
    for (idle, active, linger) in
        [(300, 300, 300), (500, 500, 0), (499, 3_000, 501), (301, 1_001, 2_000), (60, 120, 10)]
    {
        let edges = [idle * MS, active * MS, linger.max(1) * MS, 300 * MS, 500 * MS];
        sweep(config(1 << 16, idle, active, linger), 10, |seed| Shape {
            jitter: seed % 2 == 1,
            ..Shape::new(4_000 + seed, 60, &edges)
        });
    }
}

/// A long capture: the wheels turn several times, and gaps leap over whole turns.
#[test]
fn long_gaps_have_the_verdicts_of_the_twin() {
    let config = config(1 << 16, 120_000, 1_800_000, 5_000);
    let edges = [120_000 * MS, 1_800_000 * MS, 5_000 * MS, 275_000 * MS];
    sweep(config, 10, |seed| Shape {
        span_ns: 4_000_000 * MS,
        jitter: seed % 2 == 1,
        ..Shape::new(5_000 + seed, 60, &edges)
    });
}

/// A flood: all flows leave within one slot of the wheel, and packets keep moving some of them.
#[test]
fn a_flood_evicts_what_would_leave_first() {
    let edges = [300 * MS, 900 * MS, 10 * MS, 40 * MS];
    for (capacity, span) in [(20, 5), (60, 60), (60, 400), (200, 60)] {
        let reasons = sweep(config(capacity, 300, 900, 10), 8, |seed| {
            let shape = Shape::new(6_000 + seed, 400, &edges);
            Shape { span_ns: span * MS, jitter: seed % 3 == 1, strays: seed % 3 == 2, ..shape }
        });
        assert!(reasons[4] > 1_000, "{reasons:?}");
    }
}

#[test]
fn learned_gates_lead_where_the_twin_says() {
    let mut reached = [[0_u64; 4]; 3];
    for seed in 0..24 {
        let frames = traffic(&Shape::new(seed, 60, &[80, 200, 500, 900]));
        let config =
            EngineConfig { batch_rows: 1 + seed as usize % 20, ..config(1 << 16, 900, 4_000, 80) };
        let specs = [
            stage(1, 0, 0.0),
            stage(2, 200 * MS, 0.0),
            stage(4, 500 * MS, 0.0),
            stage(8, 900 * MS, 0.0),
        ];
        for (own, price) in [-0.5, 0.1, 0.6].into_iter().enumerate() {
            let cascade = learned(&specs, price);
            let end = if seed % 2 == 0 { End::Silence } else { End::Stop };
            let run = compare_cascade(&cascade, config, &frames, end, seed);
            for told in run.told() {
                reached[own][usize::from(told.answer.unwrap().2)] += 1;
            }
        }
    }
    // Stages are reached by skipping too, and fewer flows go on the dearer that is.
    assert!(reached.iter().flatten().all(|&flows| flows > 0), "{reached:?}");
    assert!(reached[0][0] < reached[1][0] && reached[1][0] < reached[2][0], "{reached:?}");
}
