//! More traffic than the slow model can take: gates give before anything is shed, and come back.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "../../core/tests/common/frames.rs"]
mod frames;
#[allow(dead_code, unreachable_pub)]
#[path = "../../core/tests/common/models.rs"]
mod models;

use frames::{Frame, ether, ipv4, udp};
use models::{StageSpec, cascade, stage};
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{Job, Lane, Model};
use serveflow_core::packet::LinkType;
use serveflow_core::verdict::Reason;
use serveflow_serve::service::{DegradationControl, DegradationLimits, LaneLoad};
use std::collections::VecDeque;
use std::sync::Arc;

const MS: u64 = 1_000_000;
/// Jobs that the slow lane has room for.
const ROOM: usize = 64;

/// A lane that answers so many jobs a turn, when it is told that a turn is over.
struct Slow {
    models: Vec<Arc<dyn Model>>,
    waiting: VecDeque<Box<Job>>,
    allowed: usize,
    a_turn: usize,
}

impl Lane for Slow {
    fn submit(&mut self, mut job: Box<Job>) -> Result<(), Box<Job>> {
        if self.waiting.len() >= ROOM {
            return Err(job);
        }
        job.failed = self.models[job.stage].score(&job.rows, &mut job.scores).is_err();
        self.waiting.push_back(job);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        if self.allowed == 0 {
            // The engine asks once more than there are answers: that is the end of a turn.
            self.allowed = self.a_turn;
            return None;
        }
        self.allowed -= 1;
        self.waiting.pop_front()
    }
}

/// A first stage that is sure of few flows, four levels of degradation, and a second stage in the
/// slow lane.
fn relieved() -> Arc<Cascade> {
    let plain =
        cascade(&[stage(1, 1_000 * MS, 0.1), StageSpec { lane: 1, ..stage(1, 1_000 * MS, 1.0) }]);
    let gate = |threshold| Gate::Uncertainty {
        measure: Uncertainty::LeastConfidence,
        threshold: Threshold::Universal(threshold),
    };
    let mut stages: Vec<Stage> = plain.stages().to_vec();
    stages[0].degradation = [0.3, 0.4, 0.5, 1.0].map(gate).to_vec();
    Arc::new(Cascade::new(stages, plain.labels().to_vec()).unwrap())
}

/// What became of the flows.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    shed: u64,
    /// Flows that the slow stage answered.
    slow: u64,
    most: u8,
    last: u8,
    changes: u64,
}

/// Serves so many flows a turn of a millisecond for a while, then few.
fn serve(flows_a_turn: u32, limits: DegradationLimits) -> Outcome {
    let cascade = relieved();
    let config = EngineConfig { batch_rows: 1, ..EngineConfig::default() };
    let mut engine = Engine::new(Arc::clone(&cascade), config);
    let models = models::models(&cascade, 0);
    let slow = Slow { models: models.clone(), waiting: VecDeque::new(), allowed: 0, a_turn: 20 };
    let inline = serveflow_core::lane::InlineLane::new(models);
    let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(inline), Box::new(slow)];
    let mut valve = DegradationControl::new(limits);
    let (mut most, mut number) = (0, 0_u32);
    for turn in 0..8_000_u64 {
        let flows = if turn < 3_000 { flows_a_turn } else { 5 };
        for _ in 0..flows {
            number += 1;
            let ip = ipv4(number, 0x0a00_0001, 17, &udp(number as u16, 53, &[7; 20]));
            let frame = Frame::new(1 + turn * MS, LinkType::Ethernet, ether(&[], 0x0800, &ip));
            engine.push(&frame.packet());
        }
        engine.advance();
        while engine.has_work() {
            engine.submit(&mut lanes);
            engine.collect(&mut lanes[..1]);
        }
        engine.collect(&mut lanes[1..]);
        let load =
            LaneLoad { jobs: engine.jobs_out() as u64, room: ROOM as u64, ..LaneLoad::default() };
        valve.look(&load, engine.cascade().degradation_levels(), turn * MS);
        engine.set_degradation(valve.level());
        most = most.max(valve.level());
    }
    engine.finish(End::Stop);
    while engine.is_asking() || engine.has_work() {
        engine.submit(&mut lanes);
        engine.collect(&mut lanes);
    }
    assert!(engine.accounts().balance());
    let by = |verdict: &&serveflow_core::verdict::Verdict| {
        verdict.answer.is_some_and(|answer| answer.stage == 1)
    };
    Outcome {
        shed: engine.accounts().flows.verdicts[Reason::Shed as usize],
        slow: engine.verdicts().iter().filter(by).count() as u64,
        most,
        last: valve.level(),
        changes: valve.changes(),
    }
}

#[test]
fn gates_give_before_anything_is_shed_and_come_back() {
    let off = DegradationLimits { is_on: false, ..DegradationLimits::default() };
    let (with, without) = (serve(40, DegradationLimits::default()), serve(40, off));
    assert_eq!((without.most, without.changes), (0, 0));
    assert!(without.shed > 10_000, "{without:?}");
    assert!(with.shed * 50 < without.shed, "{with:?} against {without:?}");
    assert!(with.most >= 1 && with.last == 0, "{with:?}");
    // The slow model is still asked about nearly as much as it can take.
    assert!(with.slow * 3 > without.slow, "{with:?} against {without:?}");
}

#[test]
fn what_the_slow_model_can_take_loosens_no_gate() {
    let calm = serve(10, DegradationLimits::default());
    assert_eq!((calm.shed, calm.most, calm.changes), (0, 0, 0), "{calm:?}");
}
