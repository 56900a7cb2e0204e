//! No allocation per packet: once warm, the engine works in the memory it has.
#![allow(clippy::unwrap_used)]

mod common;

use common::frames::{Frame, Rng, Tcp, framed, ipv4, udp};
use common::models::{CLASSES, cascade, hash_scores, stage};
use common::traffic::{MS, START};
use common::tunnels::{ip_of, stack, wrap};
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
use serveflow_core::lane::{InlineLane, Lane, Model, ScoreError};
use serveflow_core::packet::LinkType;
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::select::{Lists, Selection, SelectionSpec};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Flows alive at once, and packets of each: the same shape in each round, never the same flow.
const FLOWS: u32 = 600;
const PACKETS: u64 = 8;

fn round(number: u32) -> Vec<Frame> {
    let mut rng = Rng(7);
    let mut frames = Vec::new();
    // Whole turns of the finest and the coarsest wheel, so that rounds differ in flows alone.
    let start = START + u64::from(number) * (1 << 38);
    for flow in 0..FLOWS {
        let client = 0x0a00_0000 | (number * FLOWS + flow);
        let mut now = start + rng.below(2_000 * MS);
        let is_tcp = rng.one_in(2);
        for index in 0..=rng.below(PACKETS) {
            let (from, to) = if index % 2 == 0 { (client, 9) } else { (9, client) };
            let payload = if is_tcp {
                let flags = if index == 0 { 2 } else { 16 };
                let header = Tcp { src: 5_000, dst: 5_000, seq: 1, flags, ..Tcp::default() };
                ipv4(from, to, 6, &header.bytes(&[1; 30]))
            } else {
                ipv4(from, to, 17, &udp(6_000, 6_000, &[2; 20]))
            };
            frames.push(Frame::new(now, LinkType::Ethernet, framed(LinkType::Ethernet, &payload)));
            now += rng.below(150 * MS);
        }
    }
    frames.sort_by_key(|frame| frame.ts_ns);
    frames
}

/// Answers by sizes and gaps alone, which every round has again.
#[derive(Debug)]
struct ByNumbers {
    shape: RowShape,
    stage: u64,
}

impl Model for ByNumbers {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), CLASSES);
        for row in 0..rows.len() {
            let answer = hash_scores(self.stage, &[], rows.numbers(row));
            scores.row_mut(row).copy_from_slice(&answer);
        }
        Ok(())
    }
}

fn lanes(cascade: &Cascade) -> Vec<Box<dyn Lane>> {
    let model = |(stage, of): (usize, &Stage)| -> Arc<dyn Model> {
        Arc::new(ByNumbers { shape: of.features.shape(), stage: stage as u64 })
    };
    let models = cascade.stages().iter().enumerate().map(model).collect();
    vec![Box::new(InlineLane::new(models))]
}

/// Every third frame in tunnels, whose flow is the same.
fn in_tunnels(mut frames: Vec<Frame>) -> Vec<Frame> {
    let mut rng = Rng(3);
    for frame in frames.iter_mut().step_by(3) {
        if let Some(packet) = ip_of(frame) {
            let steps = stack(&mut rng);
            *frame = Frame { ts_ns: frame.ts_ns, ..wrap(&packet, &steps, &mut rng).frame };
        }
    }
    frames
}

/// A selection that looks at every flow and keeps it.
fn all_but_nothing() -> Option<Arc<Selection>> {
    let drop = Lists { protocols: vec![255], ..Lists::default() };
    Selection::new(&SelectionSpec { drop, ..SelectionSpec::default() }).map(Arc::new)
}

fn play(engine: &mut Engine, lanes: &mut [Box<dyn Lane>], frames: &[Frame]) {
    for batch in frames.chunks(64) {
        for frame in batch {
            engine.push(&frame.packet());
        }
        engine.advance();
        while engine.has_work() {
            engine.submit(lanes);
            engine.collect(lanes);
        }
        assert!(engine.accounts().balance());
        engine.clear_verdicts();
    }
}

/// Both cases in one test, so that no other thread allocates meanwhile.
#[test]
fn a_warm_engine_allocates_nothing() {
    let specs = [stage(1, 0, 0.3), stage(3, 300 * MS, 0.3), stage(5, 2_000 * MS, 1.0)];
    let cascade = cascade(&specs);
    // Room for all, and room for so few that flows are evicted all the time.
    for capacity in [1 << 16, 100] {
        let flows = FlowConfig {
            capacity,
            idle_ns: 1_000 * MS,
            linger_ns: 100 * MS,
            ..FlowConfig::default()
        };
        let config = EngineConfig { flows, batch_rows: 16, ..EngineConfig::default() };
        let mut engine = Engine::new(cascade.clone(), config).selecting(all_but_nothing());
        let mut lanes = lanes(&cascade);
        for number in 0..3 {
            play(&mut engine, &mut lanes, &in_tunnels(round(number)));
        }
        let bytes = engine.bytes();
        for number in 3..20 {
            let frames = in_tunnels(round(number));
            let region = Region::new(ALLOCATOR);
            play(&mut engine, &mut lanes, &frames);
            let change = region.change();
            let calls = change.allocations + change.reallocations;
            assert_eq!(calls, 0, "capacity {capacity}, round {number}: {change:?}");
        }
        assert_eq!(engine.bytes(), bytes);
        assert_eq!(engine.accounts().evictions() > 0, capacity == 100);
        assert!(engine.accounts().flows.seen >= u64::from(FLOWS) * 20);
        engine.finish(End::Stop);
    }
}
