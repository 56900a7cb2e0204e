//! What a configuration costs when its limits are reached: memory, descriptors and threads.

use super::preflight::Needs;
use crate::config::Config;
use serveflow_model::bundle::Bundle;

/// Bytes of memory that limits come to, by what they are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBound {
    /// Flows in the table, and those that wait.
    pub flows: u64,
    /// Packets that are kept of undecided flows.
    pub packets: u64,
    /// Rings of interfaces.
    pub rings: u64,
    /// Rows that wait in lanes, and what workers read, count and write by.
    pub jobs: u64,
    /// Records that wait for the output, and those that are being written.
    pub output: u64,
}

/// Bytes that a flow takes in the table and while it waits, and a packet that is kept: as
/// `limits.prefault` takes them.
const BYTES_A_FLOW: u64 = 228;
const BYTES_A_PACKET: u64 = 96;
/// Bytes of a row beside its features: its flow, its place and its scores.
const BYTES_A_ROW: u64 = 128;
/// Bytes of a worker's buffers, counters and spare memory.
const BYTES_A_WORKER: u64 = 6 << 20;
/// A buffer that grows has its records twice for a moment, and one is written while the next fills.
const OUTPUT_COPIES: u64 = 2;
/// Jobs of a stage that is scored inline.
const INLINE_JOBS: u64 = 4;
/// Lanes by their index: see `LANE_NAMES`.
const INLINE: usize = 0;
const THREAD: usize = 1;
const BATCH: usize = 2;

/// The lane of each stage.
fn lanes_of(config: &Config, bundle: &Bundle) -> Vec<usize> {
    let planned = |_| bundle.cascade.stages().iter().map(|stage| stage.lane).collect();
    config.lanes.places(bundle).unwrap_or_else(planned)
}

impl MemoryBound {
    /// What a configuration comes to with a bundle.
    #[must_use]
    pub fn of(config: &Config, bundle: &Bundle) -> Self {
        let live = &config.live;
        let workers = config.listeners() as u64;
        let rows = config.engine.batch_rows as u64;
        let jobs =
            bundle.cascade.stages().iter().zip(lanes_of(config, bundle)).map(|(stage, lane)| {
                let shape = stage.features.shape();
                let row = (4 * (shape.words + shape.numbers)) as u64 + BYTES_A_ROW;
                let jobs = if lane == INLINE { INLINE_JOBS } else { config.queue_depth as u64 };
                workers * jobs * rows * row
            });
        let ring = (live.block_bytes * live.blocks) as u64;
        Self {
            flows: config.engine.flows.capacity as u64 * BYTES_A_FLOW,
            packets: config.engine.record_packets as u64 * BYTES_A_PACKET,
            rings: live.interfaces.len() as u64 * workers * ring,
            jobs: jobs.sum::<u64>() + workers * BYTES_A_WORKER,
            output: OUTPUT_COPIES * config.output.buffer_bytes as u64,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.flows + self.packets + self.rings + self.jobs + self.output
    }

    /// What a shadow adds, beside its models: it has a table and packets of its own.
    #[must_use]
    pub fn of_shadow(&self) -> u64 {
        self.flows + self.packets + self.jobs
    }
}

impl Needs {
    /// What a configuration needs with a bundle, on interfaces.
    #[must_use]
    pub fn of(config: &Config, bundle: &Bundle) -> Self {
        let workers = config.listeners() as u64;
        let lanes = lanes_of(config, bundle);
        let uses = |lane| lanes.contains(&lane);
        let of_lanes = u64::from(uses(THREAD))
            + if uses(BATCH) { config.lanes.batch.threads as u64 } else { 0 };
        // Of a bundle, and of another one that is to be served next.
        let threads = workers * (1 + 2 * of_lanes) + OTHER_THREADS;
        Self {
            bytes: MemoryBound::of(config, bundle).total() + bytes_of_threads(threads),
            descriptors: workers * config.live.interfaces.len() as u64 + OTHER_DESCRIPTORS,
            threads,
        }
    }
}

/// Address space that threads take beside what they are made for, whether they touch it or not.
fn bytes_of_threads(threads: u64) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    // The GNU C library gives each thread an arena, up to so many. It maps twice of one and gives
    // half back.
    let arenas = if cfg!(target_env = "gnu") { 1 + threads.min(8 * cores) } else { 0 };
    threads * BYTES_A_STACK + arenas * BYTES_AN_ARENA
}

/// Bytes of a thread's stack, and those of an arena of the C library on 64 bits.
const BYTES_A_STACK: u64 = 2 << 20;
const BYTES_AN_ARENA: u64 = 64 << 20;
/// Standard streams, sockets, the output, what the runtime waits by, and a bundle that is being
/// read.
const OTHER_DESCRIPTORS: u64 = 16;
/// Control, signals, log, output, a bundle that is being read, and those that watch for one and for
/// interfaces.
const OTHER_THREADS: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Typed;
    use serveflow_model::LoadOptions;
    use std::path::Path;

    /// What `total` sums up is each part once: no limit of the configuration is left out.
    #[test]
    fn each_part_counts_and_grows_with_its_limit() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle");
        let bundle = Bundle::open(&path, &LoadOptions::default()).unwrap();
        let bound = |text: &str| {
            let typed: Typed = toml::from_str(text).unwrap();
            MemoryBound::of(&typed.check_for(&bundle).unwrap(), &bundle)
        };
        let usual = bound("");
        let MemoryBound { flows, packets, rings, jobs, output } = usual;
        assert_eq!(usual.total(), flows + packets + rings + jobs + output);
        for (text, part) in [
            ("[flows]\ncapacity = 2000000", (|of| of.flows) as fn(&MemoryBound) -> u64),
            ("[limits]\nrecord_packets = 5000000", |of| of.packets),
            ("[live]\ninterfaces = [\"lo\"]", |of| of.rings),
            ("[limits]\nbatch_rows = 512", |of| of.jobs),
            ("[output]\nbuffer_mb = 1000", |of| of.output),
        ] {
            let larger = bound(text);
            assert!(part(&larger) > part(&usual), "{text}");
            assert_eq!(larger.total() - usual.total(), part(&larger) - part(&usual), "{text}");
        }
    }
}
