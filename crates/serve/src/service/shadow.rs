//! A second bundle beside the one that is served: it sees a sample of the flows, says nothing to
//! anybody, and what it would have said is compared.
//!
//! The shadow has an engine and lanes of its own, on the worker's thread. So it costs the worker
//! time, as much as its sample is large, and that is part of what is told.

use super::bundle_swap::LoadedBundle;
use serveflow_core::driver::{Driver, WhenFull};
use serveflow_core::engine::{Engine, EngineConfig};
use serveflow_core::key::FlowKey;
use serveflow_core::lane::Lane;
use serveflow_core::open_set::UNKNOWN;
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::select::{Selection, SelectionSpec};
use serveflow_core::verdict::{FiveTuple, Verdict};
use serveflow_io::Batch;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a shadow is asked to do.
#[derive(Clone, Debug)]
pub struct ShadowPlan {
    /// Its bundle.
    pub loaded: Arc<LoadedBundle>,
    /// Share of the flows that it sees, 0 to 1.
    pub share: f64,
}

/// How a shadow compares, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Flows that both bundles gave a final verdict with the same label.
    pub agreed: u64,
    /// Flows that they named otherwise; where neither asked a model, they agree.
    pub differed: u64,
    /// Flows that one of them told nothing of, or too late to be compared.
    pub unmatched: u64,
    /// Time between question and answer of the flows compared, nanoseconds: of the served bundle,
    /// and of the shadow.
    pub compute_ns: [u128; 2],
    /// Packet time from first packet to question of the flows compared, nanoseconds.
    pub collection_ns: [u128; 2],
    /// Wall time that the shadow took of the workers, nanoseconds.
    pub wall_ns: u128,
    /// How often each served label was another one of the shadow's: served, shadow's.
    pub differences: BTreeMap<(String, String), u64>,
}

impl Comparison {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.agreed += other.agreed;
        self.differed += other.differed;
        self.unmatched += other.unmatched;
        self.wall_ns += other.wall_ns;
        for side in 0..2 {
            self.compute_ns[side] += other.compute_ns[side];
            self.collection_ns[side] += other.collection_ns[side];
        }
        for (pair, count) in &other.differences {
            *self.differences.entry(pair.clone()).or_default() += count;
        }
    }
}

/// Flows whose other verdict has not come; more than that are given up.
const MOST_HALVES: usize = 1 << 16;
/// Pairs of labels that are counted one by one.
const MOST_PAIRS: usize = 256;

/// One of the two verdicts of a flow.
#[derive(Clone, Debug)]
struct Half {
    /// 0 is the served bundle, 1 the shadow.
    side: usize,
    label: Option<Arc<str>>,
    compute_ns: u64,
    collection_ns: u64,
}

/// The flow of a verdict.
type Flow = (FiveTuple, u64);

/// A worker's shadow.
pub struct Shadow {
    engine: Engine,
    lanes: Vec<Box<dyn Lane>>,
    labels: Vec<Arc<str>>,
    /// Which flows it sees; all where there is none.
    sample: Option<Selection>,
    key: KeyRules,
    /// Since when it sees packets, packet time: flows that began before are none of its business.
    since_ns: Option<u64>,
    halves: HashMap<Flow, Half>,
    comparison: Comparison,
}

/// Tells the sample from the share of all flows that are served at all, whose seed is typed.
const SAMPLE_SEED: u64 = 0x5ead_0e5e_ed00_5a3e;

impl Shadow {
    /// A shadow by a plan, under the limits of the worker's own engine, of the flows that are
    /// selected.
    #[must_use]
    pub fn new(
        plan: &ShadowPlan,
        limits: EngineConfig,
        selection: Option<Arc<Selection>>,
        lanes: Vec<Box<dyn Lane>>,
    ) -> Self {
        let cascade = &plan.loaded.bundle.cascade;
        let limits = EngineConfig { prefault: false, provisional: false, ..limits };
        Self {
            engine: Engine::new(Arc::clone(cascade), limits).selecting(selection),
            lanes,
            labels: cascade.labels().iter().map(|label| Arc::from(label.as_str())).collect(),
            sample: Selection::new(&SelectionSpec {
                share: plan.share,
                share_seed: SAMPLE_SEED,
                ..SelectionSpec::default()
            }),
            key: limits.flows.key,
            since_ns: None,
            halves: HashMap::new(),
            comparison: Comparison::default(),
        }
    }

    /// Whether a flow is in the sample.
    fn has(&self, key: &FlowKey) -> bool {
        is_sampled(self.sample.as_ref(), key)
    }

    /// How it compares so far.
    #[must_use]
    pub fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// Takes the packets of its sample, and what the served bundle said meanwhile.
    pub fn look(&mut self, batch: &Batch, served: &[ShadowVerdict], mut wall: impl FnMut() -> u64) {
        let began = wall();
        self.engine.set_wall(began);
        if batch.is_live() {
            self.engine.come_live();
        }
        if let Some(until_ns) = batch.quiet_until() {
            self.engine.pass_time(until_ns);
        }
        let Self { engine, lanes, sample, key, since_ns, .. } = self;
        let packets = batch.iter().filter(|packet| {
            since_ns.get_or_insert(packet.ts_ns);
            let parsed = parse(packet, *key);
            parsed.is_ok_and(|parsed| is_sampled(sample.as_ref(), &parsed.key))
        });
        // Its models never hold up the served packets: what finds no room is shed.
        let mut driver = Driver::new(engine, lanes).with_wall(&mut wall).when_full(WhenFull::Shed);
        driver.take(packets);
        let labels = &self.labels;
        let own: Vec<ShadowVerdict> =
            driver.drain().map(|verdict| ShadowVerdict::new(&verdict, labels)).collect();
        own.into_iter().for_each(|verdict| self.take(verdict, 1));
        for verdict in served {
            self.take(verdict.clone(), 0);
        }
        self.comparison.wall_ns += u128::from(wall().saturating_sub(began));
    }

    /// Takes one of the two verdicts of a flow.
    fn take(&mut self, verdict: ShadowVerdict, side: usize) {
        let began_before = self.since_ns.is_none_or(|since| verdict.first_ns < since);
        if began_before || !self.has(&verdict.flow.key().0) {
            return;
        }
        let ShadowVerdict { flow, first_ns, label, compute_ns, collection_ns } = verdict;
        let half = Half { side, label, compute_ns, collection_ns };
        match self.halves.remove(&(flow, first_ns)) {
            Some(other) if other.side != side => self.compare(&half, &other),
            other => {
                // Two of one side are two flows that began at the same moment.
                self.comparison.unmatched += u64::from(other.is_some());
                if self.halves.len() >= MOST_HALVES {
                    self.comparison.unmatched += self.halves.len() as u64;
                    self.halves.clear();
                }
                self.halves.insert((flow, first_ns), half);
            }
        }
    }

    fn compare(&mut self, one: &Half, other: &Half) {
        let comparison = &mut self.comparison;
        for half in [one, other] {
            comparison.compute_ns[half.side] += u128::from(half.compute_ns);
            comparison.collection_ns[half.side] += u128::from(half.collection_ns);
        }
        if one.label == other.label {
            comparison.agreed += 1;
            return;
        }
        comparison.differed += 1;
        let (served, shadow) = if one.side == 0 { (one, other) } else { (other, one) };
        let name = |half: &Half| half.label.as_deref().unwrap_or_default().to_owned();
        let pair = (name(served), name(shadow));
        if comparison.differences.len() < MOST_PAIRS || comparison.differences.contains_key(&pair) {
            *comparison.differences.entry(pair).or_default() += 1;
        }
    }
}

/// Whether a sample, or all where there is none, has a flow.
fn is_sampled(sample: Option<&Selection>, key: &FlowKey) -> bool {
    sample.is_none_or(|sample| sample.keeps(key))
}

/// What of a verdict is compared.
#[derive(Clone, Debug)]
pub struct ShadowVerdict {
    flow: FiveTuple,
    first_ns: u64,
    label: Option<Arc<str>>,
    compute_ns: u64,
    collection_ns: u64,
}

impl ShadowVerdict {
    /// What of a verdict is compared, where its plan's labels are called so.
    #[must_use]
    pub fn new(verdict: &Verdict, labels: &[Arc<str>]) -> Self {
        let label = verdict.answer.and_then(|answer| match answer.unknown {
            true => Some(Arc::from(UNKNOWN)),
            false => labels.get(usize::from(answer.label)).cloned(),
        });
        Self {
            flow: verdict.flow,
            first_ns: verdict.first_ns,
            label,
            compute_ns: verdict.compute_ns,
            collection_ns: verdict.collection_ns,
        }
    }
}
