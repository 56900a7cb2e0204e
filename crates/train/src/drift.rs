//! The reference that drift is told by, from the calibration split of a plan, and its threshold.
//! Training flows are none of it, not even those that are answered by models which did not see
//! them: these are less sure than the models that serve, and every bundle would alarm.
//!
//! The threshold is simulated. The captures are parted into halves, by class as far as there are
//! captures of it; the one half is the reference, and windows are drawn from the other: runs of
//! neighbouring flows of a capture, captures by their flows, until the window is full. So a window
//! differs from its reference by chance, by what differs between captures, and by what is alike in
//! neighbouring flows. Each parting gives the quantile of its windows' scores at the stated rate,
//! and the largest of all partings is the threshold.

use crate::planner::pool::{Answers, CandidatePool, Flows};
use crate::planner::replay::{Evaluator, Part};
use crate::planner::writer::WrittenPlan;
use crate::random::Random;
use serveflow_model::drift::{DRIFT_FORMAT, Quantity, Reference, StageReference, What, Window};
use std::collections::BTreeMap;

/// Flows of a window, where the reference has four times as many, and the least.
pub const WINDOW: usize = 256;
const LEAST_WINDOW: usize = 32;
/// Bins of a quantity of many values; one of fewer has a bin for each.
const BINS: usize = 10;
/// Values of a quantity that have a bin each, at most; of labels.
const MOST_VALUES: usize = 12;
const MOST_LABELS: usize = 256;
/// Flows like all others that each label is given beside its own.
const FEW: f64 = 5.0;
/// Partings of the captures.
const PARTINGS: usize = 50;
/// Windows over the threshold that the simulation has, on average: a rate is known to about a fifth
/// by them.
const OVER: f64 = 25.0;
/// Windows of a simulation, at most.
const MOST_WINDOWS: usize = 50_000;
/// Flows of a capture that stand in a window side by side, at most.
pub const RUN: usize = 8;
/// What simulations are seeded with.
const SEED: u64 = 0x6472;

/// How often a window may raise an alarm where nothing has changed.
pub const RATE: f64 = 0.001;

/// How windows are drawn from captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowDraw {
    /// Flows of a window.
    pub flows: usize,
    /// Neighbouring flows of a capture that stand in it side by side, at most.
    pub run: usize,
}

impl Default for WindowDraw {
    fn default() -> Self {
        Self { flows: WINDOW, run: RUN }
    }
}

/// The flows that a stage is asked about.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Values by quantity, flow by flow.
    values: Vec<Vec<f32>>,
    /// Of which class a flow is.
    truth: Vec<u16>,
    /// Flows of each capture, in their order.
    captures: Vec<Vec<usize>>,
}

impl Watched {
    /// Some flows of a candidate's answers.
    #[must_use]
    pub fn new(answers: &Answers, classes: usize, known: &Flows, flows: &[usize]) -> Self {
        let value = |what: What, flow: usize| {
            what.value(answers.row(flow, classes), &answers.facts[flow].0)
        };
        let values = What::ALL.map(|what| flows.iter().map(|&flow| value(what, flow)).collect());
        let mut captures: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, &flow) in flows.iter().enumerate() {
            captures.entry(known.capture[flow]).or_default().push(at);
        }
        Self {
            values: values.to_vec(),
            truth: flows.iter().map(|&flow| known.truth[flow]).collect(),
            captures: captures.into_values().collect(),
        }
    }

    /// Number of flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.truth.len()
    }

    /// Whether there is no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.truth.is_empty()
    }

    /// Flows of each capture, in their order.
    #[must_use]
    pub fn captures(&self) -> &[Vec<usize>] {
        &self.captures
    }

    /// The flows of some captures alone.
    #[must_use]
    pub fn part(&self, captures: &[usize]) -> Self {
        let own = captures.iter().map(|&capture| &self.captures[capture]);
        let flows: Vec<usize> = own.clone().flatten().copied().collect();
        let of = |values: &Vec<f32>| flows.iter().map(|&flow| values[flow]).collect();
        let mut from = 0;
        let place = |flows: &Vec<usize>| {
            from += flows.len();
            (from - flows.len()..from).collect()
        };
        Self {
            values: self.values.iter().map(of).collect(),
            truth: flows.iter().map(|&flow| self.truth[flow]).collect(),
            captures: own.map(place).collect(),
        }
    }

    /// The captures in two halves at random, each class's as evenly as may be.
    #[must_use]
    pub fn halves(&self, random: &mut Random) -> [Vec<usize>; 2] {
        let mut order: Vec<usize> = (0..self.captures.len()).collect();
        let count = order.len();
        random.choose(&mut order, count);
        // A capture is mostly of one class.
        order.sort_by_key(|&capture| self.truth[self.captures[capture][0]]);
        let (mut halves, mut turn) = ([Vec::new(), Vec::new()], random.below(2));
        for capture in order {
            halves[turn].push(capture);
            turn = 1 - turn;
        }
        halves
    }

    /// A window from some captures.
    #[must_use]
    pub fn window(
        &self,
        captures: &[usize],
        WindowDraw { flows: size, run }: WindowDraw,
        random: &mut Random,
    ) -> Vec<usize> {
        let all: Vec<(usize, usize)> = captures
            .iter()
            .flat_map(|&capture| (0..self.captures[capture].len()).map(move |at| (capture, at)))
            .collect();
        let mut window = Vec::with_capacity(size);
        while window.len() < size && !all.is_empty() {
            let (capture, from) = all[random.below(all.len())];
            let own = self.captures[capture][from..].iter().take(run.min(size - window.len()));
            window.extend(own.copied());
        }
        window
    }

    /// Flows by bin of each quantity, and by label.
    #[must_use]
    pub fn counts(&self, quantities: &[Quantity], flows: &[usize]) -> Window {
        let mut window = Window::new(quantities);
        for &flow in flows {
            let value = |what: What| self.values[what as usize][flow];
            window.add(quantities, value(What::Label) as u16, value);
        }
        window
    }

    /// Quantities with their bins and the shares of all flows; those of one bin say nothing and are
    /// left out.
    fn quantities(&self) -> Vec<Quantity> {
        let quantity = |(what, values): (&What, &Vec<f32>)| {
            let most = if *what == What::Label { MOST_LABELS } else { MOST_VALUES };
            Quantity { what: *what, bounds: bounds(values, most), shares: Vec::new(), usual: 1.0 }
        };
        let mut all: Vec<Quantity> = What::ALL.iter().zip(&self.values).map(quantity).collect();
        all.retain(|quantity| !quantity.bounds.is_empty());
        self.with_shares(all, &(0..self.len()).collect::<Vec<_>>())
    }

    /// The same quantities with the shares of some flows, by label and of all.
    fn with_shares(&self, quantities: Vec<Quantity>, flows: &[usize]) -> Vec<Quantity> {
        let labels =
            self.values[What::Label as usize].iter().map(|&label| label as usize + 1).max();
        let labels = labels.unwrap_or(0);
        let mut of = vec![Vec::new(); labels];
        flows
            .iter()
            .for_each(|&flow| of[self.values[What::Label as usize][flow] as usize].push(flow));
        let all = self.counts(&quantities, flows);
        let own: Vec<Window> = of.iter().map(|own| self.counts(&quantities, own)).collect();
        let told = |(at, mut quantity): (usize, Quantity)| {
            // Half a flow in each bin: a reference has not seen everything.
            let even = vec![1.0 / all.counts()[at].len() as f64; all.counts()[at].len()];
            let whole = shares(&all.counts()[at], &even, even.len() as f64 / 2.0);
            quantity.shares = match quantity.what {
                What::Label => vec![whole],
                _ => own.iter().map(|own| shares(&own.counts()[at], &whole, FEW)).collect(),
            };
            if quantity.what != What::Label {
                quantity.shares.push(shares(&all.counts()[at], &even, even.len() as f64 / 2.0));
            }
            quantity
        };
        quantities.into_iter().enumerate().map(told).collect()
    }

    /// What is to be known of a stage; `None` where its flows are too few.
    #[must_use]
    pub fn reference(
        &self,
        stage: &str,
        rate: f64,
        draw: WindowDraw,
        seed: u64,
    ) -> Option<StageReference> {
        let window = draw.flows.min(self.len() / 4);
        let quantities = self.quantities();
        if window < LEAST_WINDOW || quantities.is_empty() || self.captures.len() < 4 {
            return None;
        }
        let windows = ((OVER / rate) as usize).min(MOST_WINDOWS);
        let draw = WindowDraw { flows: window, ..draw };
        let simulated = self.simulate(&quantities, windows, draw, seed);
        let usual = |at: usize| quantile(simulated.iter().map(|own| own[at]).collect(), rate);
        let usual: Vec<f64> = (0..quantities.len()).map(|at| usual(at).max(1e-9)).collect();
        let score = |own: &Vec<f64>| {
            own.iter().zip(&usual).map(|(own, usual)| own / usual).fold(0.0, f64::max)
        };
        // The largest of the partings' thresholds: it is to hold for most draws of captures, and
        // not on average, since a service sees but one.
        let partings = simulated.chunks(simulated.len().div_ceil(PARTINGS));
        let of = |own: &[Vec<f64>]| quantile(own.iter().map(score).collect(), rate);
        let threshold = partings.map(of).fold(0.0, f64::max);
        let told = quantities.into_iter().zip(usual);
        Some(StageReference {
            stage: stage.to_owned(),
            window: window as u32,
            threshold,
            flows: self.len() as u64,
            captures: self.captures.len() as u64,
            quantities: told.map(|(quantity, usual)| Quantity { usual, ..quantity }).collect(),
        })
    }

    /// Divergences of windows from references of other captures, by quantity.
    fn simulate(
        &self,
        quantities: &[Quantity],
        windows: usize,
        draw: WindowDraw,
        seed: u64,
    ) -> Vec<Vec<f64>> {
        let mut random = Random::new(&[seed, SEED]);
        let mut simulated = Vec::with_capacity(windows);
        for parting in 0..PARTINGS {
            let [known, other] = self.halves(&mut random);
            let flows: Vec<usize> =
                known.iter().flat_map(|&capture| self.captures[capture].iter().copied()).collect();
            let known = self.with_shares(quantities.to_vec(), &flows);
            let until = windows * (parting + 1) / PARTINGS;
            while simulated.len() < until {
                let window = self.window(&other, draw, &mut random);
                let window = self.counts(&known, &window);
                simulated.push(window.divergences(&known).collect());
            }
        }
        simulated
    }
}

/// Shares of counts, drawn towards others as if so many flows more were distributed like these.
fn shares(counts: &[u32], towards: &[f64], flows: f64) -> Vec<f64> {
    let all = counts.iter().map(|&count| f64::from(count)).sum::<f64>() + flows;
    counts.iter().zip(towards).map(|(&own, other)| (f64::from(own) + flows * other) / all).collect()
}

/// The value that at most such a share of values to come is above.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = ((values.len() + 1) as f64 * (1.0 - share) - 1e-9).ceil().max(1.0) as usize;
    values[rank.min(values.len()) - 1]
}

/// Upper bounds of bins: of each value where there are few, of equal shares of the flows otherwise.
fn bounds(values: &[f32], most: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    if distinct.len() > most {
        let at = |bin: usize| sorted[(sorted.len() * bin / BINS).max(1) - 1];
        distinct = (1..BINS).map(at).collect();
        distinct.dedup();
        // The last bin is never empty.
        distinct.retain(|bound| Some(bound) != sorted.last());
        return distinct;
    }
    distinct.pop();
    distinct
}

/// The reference of a plan: what its calibration flows look like to each stage.
#[must_use]
pub fn reference(pool: &CandidatePool, planned: &WrittenPlan, rate: f64) -> Option<Reference> {
    let board = Evaluator { pool, heads: &planned.heads, cost: planned.cost.clone() };
    let cascade = &planned.found.chosen.cascade;
    let walk = board.walk(cascade, Part::Split);
    let stage = |(at, &candidate): (usize, &usize)| {
        let flows: Vec<usize> =
            (0..walk.asked.len()).filter(|&flow| walk.asked[flow] >> at & 1 == 1).collect();
        let answers = &pool.candidates[candidate].val;
        let watched = Watched::new(answers, pool.classes(), &pool.val, &flows);
        let (name, seed) = (&planned.plan.stages[at].name, pool.provenance.seed);
        watched.reference(name, rate, WindowDraw::default(), seed)
    };
    let stages: Vec<StageReference> = cascade.stages.iter().enumerate().filter_map(stage).collect();
    (!stages.is_empty()).then(|| Reference {
        format: DRIFT_FORMAT.to_owned(),
        rate,
        assumptions: format!(
            "a window is a mixture of captures that are exchangeable with those of the calibration \
             split, in runs of at most {RUN} flows of a capture; a mixture that changes with the \
             hour is a change"
        ),
        stages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captures whose flows are alike, in `kinds` of two classes; a `shift` moves what is new.
    fn traffic(captures: usize, shift: f32, seed: u64) -> Watched {
        let mut random = Random::new(&[seed]);
        let (mut values, mut truth) = (vec![Vec::new(); What::ALL.len()], Vec::new());
        let mut all = Vec::new();
        for capture in 0..captures {
            let own = random.share() as f32;
            let from = truth.len();
            for _ in 0..10 + random.below(20) {
                for (at, values) in values.iter_mut().enumerate() {
                    let alike = if at % 2 == 0 { own } else { 0.0 };
                    let value = alike + random.share() as f32 + shift;
                    values.push(if at == 3 { value.round() } else { value });
                }
                truth.push((capture % 2) as u16);
            }
            all.push((from..truth.len()).collect());
        }
        Watched { values, truth, captures: all }
    }

    fn over(own: &Watched, reference: &StageReference, windows: usize, seed: u64) -> f64 {
        let mut random = Random::new(&[seed]);
        let all: Vec<usize> = (0..own.captures.len()).collect();
        let is_over = |random: &mut Random| {
            let draw = WindowDraw { flows: reference.window as usize, run: RUN };
            let window = own.window(&all, draw, random);
            reference.score(&own.counts(&reference.quantities, &window)).0 > reference.threshold
        };
        (0..windows).filter(|_| is_over(&mut random)).count() as f64 / windows as f64
    }

    #[test]
    fn alarms_are_as_rare_as_stated_and_a_change_is_told() {
        let (mut sum, rate, draw) = (0.0, 0.02, WindowDraw::default());
        for seed in 0..10 {
            let reference = traffic(200, 0.0, seed).reference("first", rate, draw, seed).unwrap();
            assert_eq!((reference.window, reference.captures), (256, 200));
            sum += over(&traffic(200, 0.0, 100 + seed), &reference, 200, seed) / 10.0;
            let changed = traffic(200, 0.5, 200 + seed);
            assert!(over(&changed, &reference, 50, seed) > 0.99, "a change shows in each window");
        }
        assert!(sum < 1.5 * rate, "{sum} of the windows alarm falsely");
    }

    #[test]
    fn few_flows_are_no_reference() {
        let draw = WindowDraw::default();
        assert!(traffic(3, 0.0, 1).reference("first", 0.01, draw, 1).is_none());
        let small = traffic(12, 0.0, 1).reference("first", 0.01, draw, 1).unwrap();
        assert!((32..=90).contains(&small.window), "{}", small.window);
    }

    #[test]
    fn a_part_has_the_flows_of_its_captures() {
        let all = traffic(6, 0.0, 3);
        let part = all.part(&[4, 1]);
        let flows = |own: &Watched, capture: usize| -> Vec<f32> {
            own.captures[capture].iter().map(|&flow| own.values[0][flow]).collect()
        };
        assert_eq!((flows(&part, 0), flows(&part, 1)), (flows(&all, 4), flows(&all, 1)));
        assert_eq!(part.len(), part.truth.len());
    }

    #[test]
    fn values_that_are_few_have_a_bin_each() {
        assert_eq!(bounds(&[6.0, 17.0, 6.0, 1.0], 12), [1.0, 6.0]);
        assert!(bounds(&[1.0; 9], 12).is_empty());
        let many: Vec<f32> = (0..1000).map(|value| value as f32).collect();
        assert_eq!(bounds(&many, 12).len(), BINS - 1);
        assert_eq!(bounds(&many, 12)[0], 99.0);
    }
}
