//! Fixed work, stage by stage, for `scripts/instructions` to count.
//!
//! `instructions STAGE TIMES` does a stage's work so often and prints how many units that is. What
//! two runs differ by is the work alone: whatever comes before it is the same in both. Nothing here
//! reads a clock, and no seed is drawn.
#![allow(clippy::unwrap_used)]

use serveflow_bench::scaling::replay_source::Tape;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty, best_class};
use serveflow_core::lane::{Constant, InlineLane, Lane, Model};
use serveflow_core::packet::LinkType;
use serveflow_core::parse;
use serveflow_core::rows::{Rows, Scores};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, Null, OwnedFrame, Source};
use serveflow_model::LoadOptions;
use serveflow_model::bundle::Bundle;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stage's work: does it so often, and says how many units one time is.
type Work = fn(usize) -> usize;

const STAGES: &[(&str, &str, Work)] = &[
    ("read", "packet", read),
    ("parse", "packet", parse),
    ("find", "packet", find),
    ("record", "packet", record),
    ("flow", "flow", flow),
    ("encode", "flow", encode),
    ("gate", "flow", gate),
    ("score-tree@1", "flow", |times| score(0, times)),
    ("score-boosted@1", "flow", |times| score(1, times)),
    ("score-boosted@10", "flow", |times| score(2, times)),
    ("path", "packet", path),
];

/// Packets that stages without models are fed with.
const PACKETS: usize = 8_192;
/// Packets served at once.
const BATCH: usize = 256;
/// Rows scored at once.
const ROWS: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--list") => STAGES.iter().for_each(|(name, unit, _)| println!("{name} {unit}")),
        // What score depends on besides the code.
        Some("--path") => println!("{} bundle {}", vectors(), &bundle().id[..16]),
        Some(name) => {
            let (_, _, work) = STAGES.iter().find(|(known, ..)| *known == name).unwrap();
            println!("{}", work(args[2].parse().unwrap()));
        }
        None => panic!("expected a stage and how often, or --list or --path"),
    }
}

/// The widest vectors that code may choose at run time.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "x86_64 avx512";
        }
        if is_x86_feature_detected!("avx2") {
            return "x86_64 avx2";
        }
    }
    std::env::consts::ARCH
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol")
}

fn bundle() -> Bundle {
    let mut bundle = Bundle::open(&sample().join("bundle"), &LoadOptions::default()).unwrap();
    bundle.place(&vec![0; bundle.plan.stages.len()]);
    bundle
}

fn tape() -> Tape {
    let captures = serveflow_io::InputSet::find(&[sample().join("val")]).unwrap().paths();
    Tape::lay(&captures, PACKETS, &FlowConfig::default()).unwrap()
}

/// TCP packets in which `flows` flows take turns: an ACK with options and some payload.
fn frames(flows: u32) -> Vec<OwnedFrame> {
    let frame = |number: usize| {
        let mut data = vec![0; 14 + 20 + 32 + 20];
        data[12] = 8; // IPv4
        let flow = number as u32 % flows;
        data[14..18].copy_from_slice(&[0x45, 0, 0, 72]);
        data[22..24].copy_from_slice(&[64, 6]);
        data[26..30].copy_from_slice(&(0x0a00_0000 | flow).to_be_bytes());
        data[30..34].copy_from_slice(&[192, 0, 2, 1]);
        data[34..38].copy_from_slice(&[0xc0, 0, 1, 0xbb]);
        data[46..48].copy_from_slice(&[0x80, 0x10]);
        data[54..66].fill(1);
        OwnedFrame {
            ts_ns: 1_000_000_000 + number as u64 * 500,
            orig_len: 1_200,
            link: LinkType::Ethernet,
            data,
            note: None,
        }
    };
    (0..PACKETS).map(frame).collect()
}

/// An engine whose cascade asks one stage so often, and its lane.
fn engine(packets: u16, stages: usize) -> (Engine, Vec<Box<dyn Lane>>) {
    let spec = FeatureSpec {
        encoders: ["header_bits", "packet_series"].map(str::to_owned).to_vec(),
        packets,
        layout: HeaderLayout::default(),
        masks: MaskSet::default(),
    };
    let stage = |_| Stage::new("still", Features::new(&spec).unwrap(), Gate::never(), u64::MAX);
    let cascade = Cascade::new((0..stages).map(stage).collect(), vec!["a".into(), "b".into()]);
    let cascade = Arc::new(cascade.unwrap());
    let still =
        |stage: &Stage| Arc::new(Constant::first(stage.features.shape(), 2, 0.5)) as Arc<dyn Model>;
    let lane = InlineLane::new(cascade.stages().iter().map(still).collect());
    (Engine::new(cascade, EngineConfig::default()), vec![Box::new(lane)])
}

/// Serves the frames so often, each time behind the time before and after a silence of so long.
fn serve(engine: (Engine, Vec<Box<dyn Lane>>), frames: &[OwnedFrame], times: usize, silence: u64) {
    let (mut engine, mut lanes) = engine;
    let tape = Tape::of(frames, &FlowConfig::default()).unwrap();
    let mut batches = tape.batches(BATCH);
    let period = frames.len() as u64 * 500 + silence;
    let mut sink = Null::default();
    for _ in 0..times {
        for batch in &mut batches {
            let mut wall = || 0;
            let (engine, lanes) = (&mut engine, &mut lanes);
            let when_full = WhenFull::Wait;
            Worker {
                engine,
                lanes,
                sink: &mut sink,
                wall: &mut wall,
                batch_frames: 0,
                when_full,
                flush_ns: u64::MAX,
            }
            .serve(batch)
            .unwrap();
            batch.delay(period);
        }
    }
    black_box(engine.accounts());
}

/// Reading: blocks from memory, and the records in them.
fn read(times: usize) -> usize {
    let tape = tape();
    let (mut replay, mut batch) = (tape.replay(times as u64), Batch::new());
    while replay.fill(&mut batch, BATCH).unwrap() > 0 {}
    tape.packets as usize
}

fn parse(times: usize) -> usize {
    let frames = frames(64);
    let tape = Tape::of(&frames, &FlowConfig::default()).unwrap();
    let batches = tape.batches(BATCH);
    for _ in 0..times {
        for packet in batches.iter().flat_map(Batch::iter) {
            let _ = black_box(parse::parse(black_box(&packet), parse::KeyRules::default()));
        }
    }
    PACKETS
}

/// Packets of flows that have their verdict: parse, find the flow, note the packet.
fn find(times: usize) -> usize {
    // The first time decides the flows.
    serve(engine(1, 1), &frames(1_024), times + 1, 0);
    PACKETS
}

/// Packets that are kept: flows want more of them than there are.
fn record(times: usize) -> usize {
    serve(engine(u16::MAX, 1), &frames(1_024), times + 1, 0);
    PACKETS
}

/// Flows of a packet: begun, kept, encoded, asked, decided, ended by silence.
fn flow(times: usize) -> usize {
    serve(engine(1, 1), &frames(PACKETS as u32), times + 1, 200_000_000_000);
    PACKETS
}

/// The same flow asked once more, after ten packets: encode, ask, gate.
fn encode(times: usize) -> usize {
    let flows = 512;
    serve(engine(10, times), &frames(flows), 1, 0);
    flows as usize
}

fn gate(times: usize) -> usize {
    let gate = Gate::Uncertainty {
        measure: Uncertainty::LeastConfidence,
        threshold: Threshold::Universal(0.3),
    };
    let answers: Vec<[f32; 16]> = (0..PACKETS)
        .map(|row| std::array::from_fn(|class| ((row * 31 + class * 17) % 97) as f32 / 970.0))
        .collect();
    for _ in 0..times {
        for scores in &answers {
            black_box(gate.accepts(best_class(black_box(scores)).0, scores));
        }
    }
    PACKETS
}

/// A model of the sample's bundle on rows of noise.
fn score(stage: usize, times: usize) -> usize {
    let bundle = bundle();
    let model = &bundle.models[stage];
    let mut rows = Rows::with_capacity(model.shape(), ROWS);
    let mut state = 1_u32;
    for _ in 0..ROWS {
        let (words, numbers) = rows.push();
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        words.iter_mut().for_each(|word| *word = next() ^ next() << 16);
        numbers.iter_mut().for_each(|number| *number = (next() % 2_048) as f32);
    }
    let mut scores = Scores::default();
    let again = 8;
    for _ in 0..times * again {
        model.score(black_box(&rows), &mut scores).unwrap();
        black_box(&scores);
    }
    ROWS * again
}

/// The whole path with the sample's bundle, captures to verdicts.
fn path(times: usize) -> usize {
    let (bundle, tape) = (bundle(), tape());
    let config = EngineConfig { flows: bundle.flow_config(), ..EngineConfig::default() };
    let mut engine = Engine::new(Arc::clone(&bundle.cascade), config);
    Worker {
        engine: &mut engine,
        lanes: &mut vec![Box::new(InlineLane::new(bundle.models.clone()))],
        sink: &mut Null::default(),
        wall: &mut || 0,
        batch_frames: BATCH,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut tape.replay(times as u64), &mut |_, _| ControlFlow::Continue(()))
    .unwrap();
    assert!(engine.accounts().balance());
    tape.packets as usize
}
