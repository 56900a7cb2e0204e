//! Takes traffic through an engine, and makes its verdicts comparable.

use super::frames::{Frame, Rng};
use super::traffic::MS;
use serveflow_core::FlowConfig;
use serveflow_core::counters::Counters;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig};
use serveflow_core::lane::Lane;
use serveflow_core::verdict::{FiveTuple, Reason, Verdict};
use std::sync::Arc;

/// What a verdict says, apart from wall time: ordered, so that runs compare as multisets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub flow: FiveTuple,
    pub first_ns: u64,
    pub deciding_ns: u64,
    pub collection_ns: u64,
    pub reason: Reason,
    /// Label, bits of the confidence, stage, packets, whether the flow is unknown.
    pub answer: Option<(u16, u32, u8, u16, bool)>,
}

impl Told {
    pub fn of(verdict: &Verdict) -> Self {
        Self {
            flow: verdict.flow,
            first_ns: verdict.first_ns,
            deciding_ns: verdict.deciding_ns,
            collection_ns: verdict.collection_ns,
            reason: verdict.reason,
            answer: verdict
                .answer
                .map(|a| (a.label, a.confidence.to_bits(), a.stage, a.packets, a.unknown)),
        }
    }
}

/// What came out of a run.
#[derive(Debug)]
pub struct Run {
    pub verdicts: Vec<Verdict>,
    pub accounts: Counters,
    /// Most entries that the table ever had between two batches.
    pub most_flows: usize,
}

impl Run {
    /// The final verdicts, sorted.
    pub fn told(&self) -> Vec<Told> {
        let last = self.verdicts.iter().filter(|verdict| verdict.is_final);
        let mut told: Vec<Told> = last.map(Told::of).collect();
        told.sort();
        told
    }
}

/// Times at which something happens under [`config`], for traffic that steps on them.
pub const EDGES: [u64; 4] = [1_000 * MS, 3_000 * MS, 200 * MS, 300 * MS];

/// Timeouts of a few seconds, and small batches.
pub fn config() -> EngineConfig {
    let flows = FlowConfig {
        capacity: 1 << 16,
        idle_ns: 1_000 * MS,
        active_ns: 3_000 * MS,
        linger_ns: 200 * MS,
        ..FlowConfig::default()
    };
    EngineConfig { flows, batch_rows: 8, ..EngineConfig::default() }
}

/// How an engine is driven.
pub struct Drive {
    pub config: EngineConfig,
    pub lanes: Vec<Box<dyn Lane>>,
    /// Largest batch; sizes are random up to it. Batches of one packet are served until there is
    /// nothing more to do, so that all is decided that can be when the next packet comes.
    pub batch: u64,
    pub seed: u64,
    pub end: End,
}

impl Drive {
    pub fn run(mut self, cascade: &Arc<Cascade>, frames: &[Frame]) -> Run {
        let mut engine = Engine::new(cascade.clone(), self.config);
        let mut rng = Rng(self.seed);
        let mut most_flows = 0;
        let mut rest = frames;
        while !rest.is_empty() {
            let size = (1 + rng.below(self.batch) as usize).min(rest.len());
            let (batch, behind) = rest.split_at(size);
            rest = behind;
            if rng.one_in(2) {
                engine.push_all(batch.iter().map(Frame::packet));
            } else {
                batch.iter().for_each(|frame| engine.push(&frame.packet()));
            }
            engine.advance();
            self.pump(&mut engine);
            most_flows = most_flows.max(engine.table_len());
            assert!(engine.accounts().balance(), "{:?}", engine.accounts());
            assert!(engine.table_len() <= self.config.flows.capacity.max(1));
            assert!(engine.recorded_packets() <= self.config.record_packets);
        }
        engine.finish(self.end);
        assert!(engine.accounts().balance(), "{:?}", engine.accounts());
        let mut rounds = 0;
        while engine.is_asking() || engine.has_work() {
            self.pump(&mut engine);
            rounds += 1;
            assert!(rounds < 1_000_000, "a flow is asked for ever");
        }
        check_end(&engine);
        let verdicts = engine.verdicts().to_vec();
        Run { verdicts, accounts: *engine.accounts(), most_flows }
    }

    fn pump(&mut self, engine: &mut Engine) {
        loop {
            engine.submit(&mut self.lanes);
            engine.collect(&mut self.lanes);
            if self.batch > 1 || !engine.has_work() {
                return;
            }
        }
    }
}

/// What holds of every engine whose input has ended.
fn check_end(engine: &Engine) {
    let accounts = engine.accounts();
    assert!(accounts.balance(), "{accounts:?}");
    assert_eq!((accounts.flows.collecting, accounts.flows.in_inference), (0, 0));
    assert_eq!((engine.table_len(), engine.recorded_packets()), (0, 0));
    let last = engine.verdicts().iter().filter(|verdict| verdict.is_final).count() as u64;
    assert_eq!(last, accounts.verdicts(), "verdicts told and counted");
    assert_eq!(last, accounts.flows.seen, "one final verdict per flow");
}
