//! The costs of the simulation, each measured alone on this machine.
//!
//! Each is measured several times and the fastest counts: whatever else ran on the machine can only
//! have made the others slower.

use super::machine;
use super::replay_source::Tape;
use super::sim::{Costs, StageCost};
use serde::Serialize;
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::lane::{Constant, InlineLane, Lane, Model, ScoreError};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::KeyRules;
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::shard::Sharder;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, Null, OwnedFrame, Source, share_out};
use serveflow_model::bundle::Bundle;
use serveflow_serve::config::Config;
use serveflow_train::random::Random;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shares that the board's cost is told from: one, and as many as make a block's parts small.
const FEW_AND_MANY: [usize; 2] = [1, 32];
/// Packets of the small batches that a batch's own cost is told from.
const SMALL_BATCH: usize = 16;
/// Flows and packets of the traffic that the board is measured with.
const BOARD_TRAFFIC: (usize, usize) = (4_096, 65_536);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredCosts {
    /// The costs.
    pub costs: Costs,
    /// Flows for each packet.
    pub flows_per_packet: f64,
    /// Share of the packets that are kept for a stage.
    pub recorded: f64,
    /// Packets of a block as it is read.
    pub block_packets: usize,
    /// Packets of a batch of a worker that reads for itself.
    pub alone_packets: usize,
}

/// Who measures, and how.
#[derive(Clone, Copy)]
pub struct ScalingMeter<'a> {
    /// The models and the gates; stages are scored inline.
    pub bundle: &'a Bundle,
    /// The limits.
    pub config: &'a Config,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: fn() -> u64,
    /// Times that each cost is measured.
    pub repeats: usize,
    /// Seed of the traffic that is made up.
    pub seed: u64,
}

impl ScalingMeter<'_> {
    /// Measures all costs with this traffic. `tell` hears what is measured next.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn measure(&self, tape: &Tape, tell: &mut dyn FnMut(&str)) -> io::Result<MeasuredCosts> {
        tell("reading");
        let (read_ns, block_packets) = self.read(tape);
        tell("parting and handing over");
        let (part_ns, hand_ns) = self.share(tape, read_ns);
        tell("waking");
        let wakes = (0..self.repeats.max(1)).map(|_| machine::wake_ns(self.wall));
        let wakes = wakes.collect::<io::Result<Vec<f64>>>()?;
        let wake_ns = wakes.into_iter().fold(f64::INFINITY, f64::min);
        tell("serving");
        let [large, small] =
            [self.config.batch_frames, SMALL_BATCH].map(|packets| self.serve(tape, packets));
        let mut stages = Vec::new();
        for (index, stage) in self.bundle.cascade.stages().iter().enumerate() {
            tell(&stage.name);
            stages.push(self.stage(tape, stage, [&large, &small].map(|s| (s, &s.scored[index]))));
        }
        let asking: f64 = stages.iter().map(|stage| stage.share * stage.ask_ns).sum();
        let flows_per_packet = large.flows as f64 / tape.packets as f64;
        // What is left when scoring is taken away: a part for each batch, and one for each packet.
        let batch_ns = slope([large.batches, small.batches], [large.rest_ns, small.rest_ns]);
        let rest_ns = (large.rest_ns - batch_ns * large.batches) / tape.packets as f64;
        let packet_ns = (rest_ns - asking * flows_per_packet).max(0.0);
        Ok(MeasuredCosts {
            costs: Costs { read_ns, part_ns, hand_ns, wake_ns, packet_ns, batch_ns, stages },
            flows_per_packet,
            recorded: large.recorded,
            block_packets,
            alone_packets: (tape.packets as f64 / large.batches).round() as usize,
        })
    }

    /// A stage's costs, from what large and small batches gave.
    fn stage(&self, tape: &Tape, stage: &Stage, served: [(&Served, &Scored); 2]) -> StageCost {
        let [(all, large), (_, small)] = served;
        let jobs = [large, small].map(|scored| scored.jobs as f64);
        let job_ns = slope(jobs, [large, small].map(|scored| scored.ns as f64));
        let rows = large.rows.max(1) as f64;
        StageCost {
            name: stage.name.clone(),
            share: large.rows as f64 / all.flows.max(1) as f64,
            ask_ns: self.ask(tape, stage),
            row_ns: ((large.ns as f64 - job_ns * jobs[0]) / rows).max(0.0),
            job_ns,
        }
    }

    fn fastest(&self, mut measure: impl FnMut() -> f64) -> f64 {
        (0..self.repeats.max(1)).map(|_| measure()).fold(f64::INFINITY, f64::min)
    }

    /// Nanoseconds to read a packet, and the packets of a block.
    fn read(&self, tape: &Tape) -> (f64, usize) {
        let mut blocks = 0;
        let ns = self.fastest(|| {
            let (mut source, mut batch) = (tape.replay(1), Batch::new());
            blocks = 0;
            let started = (self.wall)();
            while fill(&mut source, &mut batch) > 0 {
                blocks += 1;
            }
            self.since(started) / tape.packets as f64
        });
        (ns, (tape.packets as usize).div_ceil(blocks.max(1)))
    }

    fn since(&self, started: u64) -> f64 {
        (self.wall)().saturating_sub(started) as f64
    }

    /// Nanoseconds to part a packet and to hand a part over, both on a thread that is alone: where
    /// cores are at the board together it is dearer.
    fn share(&self, tape: &Tape, read_ns: f64) -> (f64, f64) {
        let even = self.even_traffic();
        let drained = |tape: &Tape, shares: usize| self.fastest(|| self.drain(tape, shares));
        let [few, many] = FEW_AND_MANY.map(|shares| drained(&even, shares));
        let (_, block_packets) = self.read(&even);
        let blocks = even.packets as f64 / block_packets as f64;
        let parts = blocks * (FEW_AND_MANY[1] - FEW_AND_MANY[0]) as f64;
        let hand_ns = ((many - few) / parts).max(0.0);
        let part_ns = drained(tape, 1) / tape.packets as f64 - read_ns;
        (part_ns.max(0.0), hand_ns)
    }

    /// Takes a shared tape to its end on this thread alone, nanoseconds. Only traffic that has
    /// packets for all shares in most blocks may be shared by more than one, or a share would wait
    /// for another.
    fn drain(&self, tape: &Tape, shares: usize) -> f64 {
        let FlowRules { key, seed } = FlowRules::of(self.config);
        let sharder = Sharder::new(shares as u32, key, seed);
        let mut shares =
            share_out(Box::new(tape.replay(1)), sharder, self.config.engine.flows.idle_ns);
        let mut batch = Batch::new();
        let started = (self.wall)();
        loop {
            let filled: usize = shares.iter_mut().map(|share| fill(share, &mut batch)).sum();
            if filled == 0 {
                return self.since(started);
            }
        }
    }

    /// Flows of the same size, mixed.
    fn even_traffic(&self) -> Tape {
        let (flows, packets) = BOARD_TRAFFIC;
        let mut draws = Random::new(&[self.seed, 0xb0a2d]);
        let frames: Vec<OwnedFrame> = (0..packets)
            .map(|number| OwnedFrame {
                ts_ns: 1_000_000_000 + number as u64 * 1_000,
                orig_len: 64,
                link: LinkType::RawIp,
                data: udp_packet(draws.below(flows) as u32).to_vec(),
                note: None,
            })
            .collect();
        Tape::of(&frames, &self.config.engine.flows).expect("frames of one link")
    }

    /// Serves one round after another, from batches that were read before: the fastest.
    fn serve(&self, tape: &Tape, batch_packets: usize) -> Served {
        let models: Vec<Arc<Timed>> =
            self.bundle.models.iter().map(|model| Timed::new(model, self.wall)).collect();
        let lane = InlineLane::new(models.iter().map(|model| Arc::clone(model) as _).collect());
        let batches = tape.batches(batch_packets);
        let mut played = Rounds::new(self, tape, batches, &self.bundle.cascade, Box::new(lane));
        played.round(); // Memory is taken from the system in the first.
        let round = |_| {
            models.iter().for_each(|model| model.reset());
            let before = *played.engine.accounts();
            let ns = played.round();
            let scored: Vec<Scored> = models.iter().map(|model| model.scored()).collect();
            let after = played.engine.accounts();
            let recorded = after.packets.recorded - before.packets.recorded;
            Served {
                rest_ns: ns - scored.iter().map(|scored| scored.ns as f64).sum::<f64>(),
                ns,
                batches: played.batches.len() as f64,
                flows: after.flows.seen - before.flows.seen,
                recorded: recorded as f64 / tape.packets as f64,
                scored,
            }
        };
        let rounds = (0..self.repeats.max(1)).map(round);
        let fastest = rounds.min_by(|a, b| a.ns.total_cmp(&b.ns));
        fastest.expect("there was at least one round")
    }

    /// Nanoseconds that asking a stage costs a flow: what a cascade that asks it twice costs more
    /// than one that asks it once.
    fn ask(&self, tape: &Tape, stage: &Stage) -> f64 {
        let [(once, _), (twice, rows)] = [1, 2].map(|times| {
            let (cascade, lane) = asked(stage, times, self.bundle.cascade.labels());
            let batches = tape.batches(self.config.batch_frames);
            let mut played = Rounds::new(self, tape, batches, &cascade, lane);
            played.round();
            let ns = self.fastest(|| played.round());
            let rounds = self.repeats.max(1) as u64 + 1;
            (ns, played.engine.accounts().flows.seen / rounds)
        });
        ((twice - once) / rows.max(1) as f64).max(0.0)
    }
}

/// How much is added for each: never less than nothing, which only noise can say.
fn slope(counts: [f64; 2], ns: [f64; 2]) -> f64 {
    let count = counts[1] - counts[0];
    if count > 0.0 { ((ns[1] - ns[0]) / count).max(0.0) } else { 0.0 }
}

/// What of the config decides the worker of a packet.
struct FlowRules {
    key: KeyRules,
    seed: u64,
}

impl FlowRules {
    fn of(config: &Config) -> Self {
        let flows = &config.engine.flows;
        Self { key: flows.key, seed: flows.seed }
    }
}

/// Fills a batch from memory, with as much as a block holds.
fn fill(source: &mut dyn Source, batch: &mut Batch) -> usize {
    const BLOCK_FRAMES: usize = 4096;
    source.fill(batch, BLOCK_FRAMES).expect("a tape is a sound capture")
}

/// A packet of a flow of its own: IPv4 and UDP without a payload.
fn udp_packet(flow: u32) -> [u8; 28] {
    let mut data = [0; 28];
    data[0] = 0x45;
    data[3] = 28;
    data[8] = 64;
    data[9] = 17;
    data[12..16].copy_from_slice(&(0x0a00_0000 | flow).to_be_bytes());
    data[16..20].copy_from_slice(&[192, 0, 2, 1]);
    data[20..24].copy_from_slice(&[0x30, 0x39, 0, 53]);
    data[25] = 8;
    data
}

/// A cascade that asks one stage so often, and a lane that answers at once.
fn asked(stage: &Stage, times: usize, labels: &[String]) -> (Arc<Cascade>, Box<dyn Lane>) {
    let stages: Vec<Stage> = (0..times).map(|_| stage.ungated()).collect();
    let model: Arc<dyn Model> =
        Arc::new(Constant::first(stage.features.shape(), labels.len(), 0.5));
    let lane = Box::new(InlineLane::new(vec![model; times]));
    (Arc::new(Cascade::new(stages, labels.to_vec()).expect("a stage twice")), lane)
}

/// What a round of serving gave.
struct Served {
    ns: f64,
    /// What is left without scoring.
    rest_ns: f64,
    batches: f64,
    flows: u64,
    recorded: f64,
    scored: Vec<Scored>,
}

/// A worker that serves the same batches again and again.
struct Rounds {
    engine: Engine,
    lanes: Vec<Box<dyn Lane>>,
    batches: Vec<Batch>,
    period_ns: u64,
    wall: fn() -> u64,
}

impl Rounds {
    fn new(
        meter: &ScalingMeter<'_>,
        tape: &Tape,
        batches: Vec<Batch>,
        cascade: &Arc<Cascade>,
        lane: Box<dyn Lane>,
    ) -> Self {
        let config = EngineConfig { provisional: false, ..meter.config.engine };
        Self {
            engine: Engine::new(Arc::clone(cascade), config),
            lanes: vec![lane],
            batches,
            period_ns: tape.period_ns,
            wall: meter.wall,
        }
    }

    /// Serves a round and ends its flows; what it took, nanoseconds.
    fn round(&mut self) -> f64 {
        let mut wall = self.wall;
        let mut sink = Null::default();
        let mut worker = Worker {
            engine: &mut self.engine,
            lanes: &mut self.lanes,
            sink: &mut sink,
            wall: &mut wall,
            batch_frames: 0,
            when_full: WhenFull::Wait,
            flush_ns: u64::MAX,
        };
        let started = (self.wall)();
        for batch in &self.batches {
            worker.serve(batch).expect("nothing is written");
        }
        let took = (self.wall)().saturating_sub(started);
        // Not timed: the next round's packets come later than all that this one waits for.
        self.batches.iter_mut().for_each(|batch| batch.delay(self.period_ns));
        took as f64
    }
}

/// What a model scored.
struct Scored {
    jobs: u64,
    rows: u64,
    ns: u64,
}

/// A model, and how long it takes.
#[derive(Debug)]
struct Timed {
    model: Arc<dyn Model>,
    wall: fn() -> u64,
    jobs: AtomicU64,
    rows: AtomicU64,
    ns: AtomicU64,
}

impl Timed {
    fn new(model: &Arc<dyn Model>, wall: fn() -> u64) -> Arc<Self> {
        let [jobs, rows, ns] = [(); 3].map(|()| AtomicU64::new(0));
        Arc::new(Self { model: Arc::clone(model), wall, jobs, rows, ns })
    }

    fn reset(&self) {
        let counts = [&self.jobs, &self.rows, &self.ns];
        counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn scored(&self) -> Scored {
        let [jobs, rows, ns] =
            [&self.jobs, &self.rows, &self.ns].map(|count| count.load(Ordering::Relaxed));
        Scored { jobs, rows, ns }
    }
}

impl Model for Timed {
    fn shape(&self) -> RowShape {
        self.model.shape()
    }

    fn classes(&self) -> usize {
        self.model.classes()
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let started = (self.wall)();
        let scored = self.model.score(rows, scores);
        self.ns.fetch_add((self.wall)().saturating_sub(started), Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        scored
    }
}
