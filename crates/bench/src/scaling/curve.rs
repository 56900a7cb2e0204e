//! The expected curve: what each number of cores gives, and what binds it.
//!
//! The rate of each point is simulated. What binds it is told from bounds that hold whatever the
//! order of events: no run is faster than its reader, than its board, than the worker with the
//! largest shard, than all workers together, or than memory.

use super::shards::Shards;
use super::sim::{Costs, Played, Setup, play};
use serde::Serialize;
use std::fmt;

/// All that the curve is computed from.
#[derive(Clone, Debug, Serialize)]
pub struct Inputs {
    /// What the steps cost.
    pub costs: Costs,
    /// What memory can move.
    pub memory: MemoryBandwidth,
    /// Packets of the flows that sizes are drawn from.
    #[serde(skip)]
    pub flow_sizes: Vec<u64>,
    /// Flows that are hashed onto the workers.
    pub flows: usize,
    /// Flows for each packet, all workers together.
    pub flows_per_packet: f64,
    /// Packets of a block.
    pub block_packets: usize,
    /// Packets of a batch of a worker that reads for itself.
    pub alone_packets: usize,
    /// Blocks for each worker that may be read and not yet taken by all.
    pub blocks_ahead: usize,
    /// Seed of hashes and draws.
    pub seed: u64,
}

/// What memory can move on the machine that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryBandwidth {
    /// Bytes that a packet moves, counted from what is read and written for it.
    pub bytes_per_packet: f64,
    /// Bytes a second that one core moves.
    pub one_core: f64,
    /// Bytes a second that all cores move together.
    pub all_cores: f64,
    /// Cores that moved them.
    pub cores: usize,
}

/// A machine whose cores together move less than this share of what each moves alone has reached
/// what its memory can do; one that moves more was held up by its cores.
const SATURATED: f64 = 0.8;

impl MemoryBandwidth {
    /// Whether all cores together asked more of memory than it gives, so that its limit is known.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.cores > 1 && self.all_cores < SATURATED * self.cores as f64 * self.one_core
    }

    /// Packets a second that memory allows so many workers. Where its limit was not reached, each
    /// worker is allowed what a core could move.
    #[must_use]
    pub fn packets_per_s(&self, workers: usize) -> f64 {
        let bytes = if self.is_saturated() && workers >= self.cores {
            self.all_cores
        } else {
            workers as f64 * self.all_cores / self.cores as f64
        };
        bytes / self.bytes_per_packet
    }
}

/// What holds a run back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Binds {
    /// All workers are busy: more of them would give more.
    Workers,
    /// The worker with the most packets.
    Shard,
    /// Reading, which is one at a time.
    Reader,
    /// The board on which parts are left, where one worker is at a time.
    Board,
    /// Memory.
    Memory,
    /// Workers wait for their parts, which come in order, and for being woken.
    Waiting,
}

impl fmt::Display for Binds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Workers => "workers",
            Self::Shard => "largest shard",
            Self::Reader => "reader",
            Self::Board => "board",
            Self::Memory => "memory",
            Self::Waiting => "waiting",
        })
    }
}

/// What a number of cores is expected to give.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// Cores, with a worker on each.
    pub cores: usize,
    /// Packets served in a second.
    pub packets_per_s: f64,
    /// Flows named in a second.
    pub flows_per_s: f64,
    /// Share of what the first point would give, were every core worth the same.
    pub efficiency: f64,
    /// How much larger the largest shard is than a fair one.
    pub skew: f64,
    /// Bytes a second that the packets move.
    pub memory_bytes_per_s: f64,
    /// What holds it back.
    pub binds: Binds,
    /// Packets a second that this would allow alone.
    pub bound: f64,
    /// How the simulation went.
    pub played: Played,
}

/// A simulated rate below this share of the lowest bound is held back by none of them.
const NEAR: f64 = 0.8;
/// Blocks that each run reads, and as many more for each worker: what starting and ending take is
/// little beside them.
const BLOCKS: (usize, usize) = (200, 30);

/// What each of these numbers of cores is expected to give.
#[must_use]
pub fn curve(inputs: &Inputs, cores: &[usize]) -> Vec<CurvePoint> {
    let mut points: Vec<CurvePoint> = cores.iter().map(|&cores| point(inputs, cores)).collect();
    let each = points.first().map_or(1.0, |first| first.packets_per_s / first.cores as f64);
    for point in &mut points {
        point.efficiency = point.packets_per_s / (each * point.cores as f64);
    }
    points
}

fn point(inputs: &Inputs, cores: usize) -> CurvePoint {
    let shards = Shards::hashed(&inputs.flow_sizes, inputs.flows, cores, inputs.seed)
        .with_flows_per_packet(inputs.flows_per_packet);
    let setup = Setup {
        blocks: BLOCKS.0 + BLOCKS.1 * cores,
        block_packets: inputs.block_packets,
        alone_packets: inputs.alone_packets,
        blocks_ahead: inputs.blocks_ahead,
        seed: inputs.seed,
    };
    let played = play(&inputs.costs, &shards, &setup);
    let bounds = bounds(inputs, &shards);
    let (mut binds, bound) = bounds.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
    let packets_per_s = played.packets_per_s.min(inputs.memory.packets_per_s(cores));
    if packets_per_s < NEAR * bound {
        binds = Binds::Waiting;
    }
    CurvePoint {
        cores,
        packets_per_s,
        flows_per_s: packets_per_s * inputs.flows_per_packet,
        efficiency: 1.0,
        skew: shards.skew(),
        memory_bytes_per_s: packets_per_s * inputs.memory.bytes_per_packet,
        binds,
        bound,
        played,
    }
}

/// Packets a second that each thing would allow, were it the only one.
fn bounds(inputs: &Inputs, shards: &Shards) -> Vec<(Binds, f64)> {
    let costs = &inputs.costs;
    let count = shards.packets.len();
    let memory = (Binds::Memory, inputs.memory.packets_per_s(count));
    // What a packet costs in a batch of so many, with so many flows for each.
    let served = |packets: f64, flows: f64| costs.serve_ns(packets, packets * flows) / packets;
    let flows = inputs.flows_per_packet;
    if count == 1 {
        let packet_ns = costs.read_ns + served(inputs.alone_packets.max(1) as f64, flows);
        return vec![(Binds::Workers, 1e9 / packet_ns), memory];
    }
    let block = inputs.block_packets as f64;
    let (share, flows_of_largest) = shards.largest();
    // A block is left once and taken by each.
    let hand_ns = costs.hand_ns * count as f64 / block;
    let average = served(block / count as f64, flows);
    let packet_ns = costs.read_ns + costs.part_ns + hand_ns + average;
    vec![
        (Binds::Workers, count as f64 * 1e9 / packet_ns),
        (Binds::Shard, 1e9 / (share * served(block * share, flows_of_largest))),
        (Binds::Reader, 1e9 / costs.read_ns),
        (Binds::Board, 1e9 / hand_ns),
        memory,
    ]
}

/// Where the curve bends, and why, in one sentence. It bends where a core that is added brings less
/// than half of what a core brought before.
#[must_use]
pub fn bend(inputs: &Inputs, points: &[CurvePoint]) -> String {
    let bends = |pair: &&[CurvePoint]| {
        let (before, after) = (&pair[0], &pair[1]);
        let added = (after.packets_per_s - before.packets_per_s)
            / after.cores.abs_diff(before.cores).max(1) as f64;
        added < 0.5 * before.packets_per_s / before.cores as f64
    };
    match points.windows(2).find(bends) {
        None => {
            let last = points.last().map_or(0, |point| point.cores);
            format!("The curve does not bend up to {last} cores.")
        }
        Some(pair) => format!(
            "The curve bends between {} and {} cores: {}.",
            pair[0].cores,
            pair[1].cores,
            reason(inputs, &pair[1])
        ),
    }
}

fn reason(inputs: &Inputs, point: &CurvePoint) -> String {
    let costs = &inputs.costs;
    let most = format!("at most {:.2} million packets/s", point.bound / 1e6);
    match point.binds {
        Binds::Workers => format!(
            "sharing costs {:.1} ns of each packet to part and {:.0} ns of each part to hand over, \
             and small parts make small jobs",
            costs.part_ns, costs.hand_ns
        ),
        Binds::Shard => format!(
            "the worker with the most packets has {:.2} times a fair share, and allows {most}",
            point.skew
        ),
        Binds::Reader => format!(
            "reading is one at a time, costs {:.1} ns a packet, and allows {most}",
            costs.read_ns
        ),
        Binds::Board => format!(
            "each of {} workers takes a part of each block, one at a time and {:.0} ns a part, \
             which allows {most}",
            point.cores, costs.hand_ns
        ),
        Binds::Memory => format!(
            "a packet moves {:.0} bytes, and memory as fast as here allows {most}",
            inputs.memory.bytes_per_packet
        ),
        Binds::Waiting => format!(
            "workers wait for their parts, which come in order and after {:.1} us to wake up",
            costs.wake_ns / 1e3
        ),
    }
}
