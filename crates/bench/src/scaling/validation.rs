//! What workers really do here, to hold the simulation against.

use super::replay_source::Tape;
use super::sim::{Costs, Setup, play};
use crate::usage::cpu_seconds;
use serde::Serialize;
use serveflow_core::shard::Sharder;
use serveflow_io::{Null, Source, share_out};
use serveflow_model::bundle::Bundle;
use serveflow_serve::config::Config;
use serveflow_serve::workers::{WorkerIo, WorkerSetup, serve};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A number of workers: as simulated and as measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Workers.
    pub workers: usize,
    /// Packets a second as simulated.
    pub simulated: f64,
    /// Packets a second as measured.
    pub measured: f64,
    /// How far the simulated is above the measured, percent.
    pub error_percent: f64,
    /// Share of the measured time in which the workers were on a core; below 1 they waited, or
    /// something else was there. None where the system does not say.
    pub on_core: Option<f64>,
}

/// What is tried.
pub struct Trials<'a> {
    /// The models and the gates.
    pub bundle: &'a Bundle,
    /// The limits.
    pub config: &'a Config,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: fn() -> u64,
    /// The traffic.
    pub tape: &'a Tape,
    /// Flows that it was seen to have for each packet.
    pub flows_per_packet: f64,
    /// Times that it is played in a run.
    pub rounds: u64,
    /// Runs, of which the fastest counts.
    pub repeats: usize,
}

impl Trials<'_> {
    /// Serves the tape with so many workers, and simulates just that: the same flows on the same
    /// workers, as many blocks, the same limits.
    #[must_use]
    pub fn hold(&self, workers: usize, costs: &Costs, setup: &Setup) -> Trial {
        let flows = &self.config.engine.flows;
        let sharder = Sharder::new(workers as u32, flows.key, flows.seed);
        let packets = self.tape.packets * self.rounds;
        let blocks = (packets as usize).div_ceil(setup.block_packets);
        let setup = Setup { blocks, ..*setup };
        let shards = self.tape.shards(&sharder).with_flows_per_packet(self.flows_per_packet);
        let simulated = play(costs, &shards, &setup).packets_per_s;
        let runs = (0..self.repeats.max(1)).map(|_| {
            let before = cpu_seconds();
            let ns = self.run(sharder);
            let used = before.and_then(|before| Some((cpu_seconds()? - before) * 1e9));
            (ns, used.map(|used| used / (ns * workers as f64)))
        });
        let (ns, on_core) = runs.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there was a run");
        let measured = packets as f64 / ns * 1e9;
        let error_percent = (simulated / measured - 1.0) * 100.0;
        Trial { workers, simulated, measured, error_percent, on_core }
    }

    /// Nanoseconds of a run.
    fn run(&self, sharder: Sharder) -> f64 {
        let replay: Box<dyn Source> = Box::new(self.tape.replay(self.rounds));
        let sources = match sharder.shards() {
            1 => vec![replay],
            _ => {
                let shares = share_out(replay, sharder, self.config.engine.flows.idle_ns);
                shares.into_iter().map(|share| Box::new(share) as _).collect()
            }
        };
        let post = |source| WorkerIo { source, sink: Box::new(Null::default()) };
        let posts = sources.into_iter().map(post).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let crew = WorkerSetup {
            bundle: self.bundle,
            config: self.config,
            selection: None,
            wall: self.wall,
            stop: &stop,
            is_live: false,
            drains: false,
            service: None,
            drift: None,
        };
        let started = (self.wall)();
        let served = serve(&crew, posts);
        let took = (self.wall)().saturating_sub(started);
        assert!(served.outcome.is_ok_and(|outcome| outcome.damaged.is_empty()), "a sound tape");
        assert_eq!(served.accounts.packets.seen, self.tape.packets * self.rounds);
        took as f64
    }
}
