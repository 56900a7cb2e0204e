//! Changes of plan: a flow's verdict is that of the plan that it began with, whatever comes after.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, EDGES, Told, config};
use common::frames::{Frame, Rng};
use common::models::{StageSpec, cascade, delay_lanes, inline_lanes, stage};
use common::traffic::{MS, Shape, traffic};
use serveflow_core::engine::{Cascade, End, Engine, MOST_PLANS};
use serveflow_core::lane::Lane;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lanes of a plan.
const LANES: usize = 2;

/// Two cascades with nothing in common: stages, depths, waits, gates.
fn cascades() -> [Arc<Cascade>; 2] {
    let on = |lane, stage| StageSpec { lane, ..stage };
    [
        cascade(&[
            on(0, stage(1, 100 * MS, 0.3)),
            on(1, stage(3, 300 * MS, 0.3)),
            on(1, stage(5, 1_000 * MS, 1.0)),
        ]),
        cascade(&[on(1, stage(2, 200 * MS, 0.4)), on(0, stage(7, 900 * MS, 1.0))]),
    ]
}

/// An engine, its lanes, and which cascade each number stands for.
struct Serving {
    engine: Engine,
    lanes: Vec<Box<dyn Lane>>,
    stands_for: [usize; MOST_PLANS],
    told: BTreeMap<u64, (usize, Told)>,
}

impl Serving {
    fn new(cascades: &[Arc<Cascade>; 2], seed: u64) -> Self {
        Self {
            engine: Engine::new(Arc::clone(&cascades[0]), config()),
            lanes: delay_lanes(&cascades[0], seed, usize::MAX, 0),
            stands_for: [0; MOST_PLANS],
            told: BTreeMap::new(),
        }
    }

    /// Hands out and takes back once, and keeps what was told.
    fn pump(&mut self) {
        self.engine.submit(&mut self.lanes);
        self.engine.collect(&mut self.lanes);
        for verdict in self.engine.verdicts() {
            let by = self.stands_for[usize::from(verdict.plan)];
            let before = self.told.insert(verdict.id, (by, Told::of(verdict)));
            assert_eq!(before, None, "one verdict per flow");
        }
        self.engine.clear_verdicts();
        assert!(self.engine.accounts().balance(), "{:?}", self.engine.accounts());
    }

    /// Sends new flows through a cascade, if a number is free.
    fn adopt(&mut self, cascades: &[Arc<Cascade>; 2], which: usize, seed: u64) -> bool {
        let Some(number) = self.engine.free_plan() else { return false };
        let (from, lanes) =
            (usize::from(number) * LANES, delay_lanes(&cascades[which], seed, usize::MAX, 0));
        assert_eq!(lanes.len(), LANES);
        let to = self.lanes.len().min(from + LANES);
        self.lanes.splice(from..to, lanes);
        self.stands_for[usize::from(number)] = which;
        self.engine.adopt(number, Arc::clone(&cascades[which]), from);
        true
    }
}

/// What each flow is told by a cascade that never changes, by number.
fn alone(cascade: &Arc<Cascade>, frames: &[Frame]) -> BTreeMap<u64, Told> {
    let (config, lanes) = (config(), inline_lanes(cascade));
    let run = Drive { config, lanes, batch: 20, seed: 1, end: End::Silence }.run(cascade, frames);
    run.verdicts.iter().map(|verdict| (verdict.id, Told::of(verdict))).collect()
}

#[test]
fn a_flow_is_told_what_the_plan_says_that_it_began_with() {
    let cascades = cascades();
    let (mut changes, mut by_both) = (0, [0; 2]);
    for seed in 0..60 {
        let frames = traffic(&Shape::new(300 + seed, 80, &EDGES));
        let expected = [0, 1].map(|which| alone(&cascades[which], &frames));
        let mut serving = Serving::new(&cascades, seed);
        let mut rng = Rng(seed);
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let size = (1 + rng.below(20) as usize).min(rest.len());
            let (batch, behind) = rest.split_at(size);
            rest = behind;
            serving.engine.push_all(batch.iter().map(Frame::packet));
            serving.engine.advance();
            serving.pump();
            if rng.one_in(1 + seed % 7) {
                let which = rng.below(2) as usize;
                changes += usize::from(serving.adopt(&cascades, which, rng.next() >> 1));
            }
        }
        serving.engine.finish(End::Silence);
        while serving.engine.is_asking() || serving.engine.has_work() {
            serving.pump();
        }
        serving.pump();
        assert_eq!(serving.told.len(), expected[0].len(), "seed {seed}");
        for (id, (by, told)) in &serving.told {
            assert_eq!(expected[*by].get(id), Some(told), "seed {seed}, flow {id}");
            by_both[*by] += 1;
        }
    }
    assert!(changes > 500 && by_both.iter().all(|&flows| flows > 1000), "{changes}, {by_both:?}");
}

#[test]
fn numbers_are_used_again_and_none_is_free_while_all_have_flows() {
    let cascades = cascades();
    let mut serving = Serving::new(&cascades, 1);
    // A number that no flow goes by is used again.
    for _ in 0..3 * MOST_PLANS {
        assert!(serving.adopt(&cascades, 1, 2));
    }
    let frames = traffic(&Shape::new(5, 80, &EDGES));
    let (mut refused, mut adopted) = (0, 0);
    for frame in frames.iter().take(200) {
        serving.engine.push(&frame.packet());
        // Nothing is handed out, so that no flow is ever decided.
        if serving.adopt(&cascades, 0, 3) { adopted += 1 } else { refused += 1 }
    }
    assert!(refused > 0 && adopted > 0, "{adopted} plans adopted, {refused} times none free");
}
