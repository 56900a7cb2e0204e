//! Calibration: thresholds for the gates, from recorded answers on the calibration split.
//!
//! The answers of every stage for every flow are at hand, so a cascade is replayed by looking up
//! which stage each flow stops at. A search over thresholds finds, among the cascades whose
//! macro-F1 is within the stated loss of the last stage alone, the one that waits for the fewest
//! packets; or the one that passes on a stated share.
//!
//! A few hundred flows per class leave room for luck, and a search over many thresholds finds it.
//! So the search runs on bootstrap resamples of the calibration flows, and of the thresholds found
//! for a gate and class a low one is taken: what only some resamples would accept goes on.

use crate::metrics::Confusion;
use crate::random::Random;
use serveflow_core::gate::{Threshold, Uncertainty, best_class};
use serveflow_core::rows::Scores;
use serveflow_model::bundle::{CalibrationPlan, GatePlan};

/// Candidate thresholds per gate, at equal steps of the flows' uncertainty.
const CANDIDATES: usize = 48;
/// Candidate thresholds per class and gate.
const CLASS_CANDIDATES: usize = 16;
/// What asking one more stage costs, in packets waited for: little, but not nothing.
const ASK_COST: f64 = 0.1;
/// Bootstrap resamples that are searched.
const RESAMPLES: u64 = 15;
/// The threshold taken of those found, from the lowest: about the fifth part is lower.
const TAKEN: usize = 2;
/// Accepts every answer: no measure is above 1.
const ALWAYS: f32 = 1.0;
/// Accepts nothing.
const NEVER: f32 = -1.0;

/// One stage's answers for all calibration flows.
#[derive(Clone, Debug, PartialEq)]
pub struct StageAnswers {
    /// Packets that the stage wants.
    pub packets: u16,
    /// Label answered, by flow.
    pub labels: Vec<u16>,
    /// Uncertainty of the answer, by flow.
    pub uncertainty: Vec<f32>,
}

impl StageAnswers {
    /// The answers in a batch of scores.
    #[must_use]
    pub fn new(packets: u16, measure: Uncertainty, scores: &Scores, flows: usize) -> Self {
        let rows = || (0..flows).map(|flow| scores.row(flow));
        Self {
            packets,
            labels: rows().map(|row| best_class(row).0).collect(),
            uncertainty: rows().map(|row| measure.uncertainty(row)).collect(),
        }
    }

    /// The answers for some of the flows, in that order.
    fn drawn(&self, flows: &[usize]) -> Self {
        Self {
            packets: self.packets,
            labels: flows.iter().map(|&flow| self.labels[flow]).collect(),
            uncertainty: flows.iter().map(|&flow| self.uncertainty[flow]).collect(),
        }
    }
}

/// What the gates are calibrated for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Macro-F1 at most this much below the last stage alone, at the fewest packets.
    MaxLoss(f64),
    /// This share of all flows reaches the last stage; each gate passes on the same share.
    Escalate(f64),
}

impl Target {
    /// The target as plans spell it.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::MaxLoss(loss) => format!("macro-F1 at most {loss} below the last stage alone"),
            Self::Escalate(share) => format!("a share of {share} of the flows at the last stage"),
        }
    }
}

/// One threshold for all classes, or one per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One threshold per gate.
    Universal,
    /// One threshold per gate and predicted class.
    PerClass,
}

/// Calibrated gates, and what they gave on the calibration split.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// One threshold per gate: all stages but the last.
    pub thresholds: Vec<Threshold>,
    /// Share of all flows that leave each stage for the next, by gate.
    pub escalated: Vec<f64>,
    /// Macro-F1 of the cascade.
    pub cascade_macro_f1: f64,
    /// Macro-F1 of the last stage alone.
    pub slow_macro_f1: f64,
}

/// The calibration flows as the search sees them.
struct Search<'a> {
    stages: &'a [StageAnswers],
    truth: &'a [u16],
    classes: usize,
    /// Cost of stopping at each stage.
    cost: Vec<f64>,
}

/// Thresholds by gate and class.
type Thresholds = Vec<Vec<f32>>;

/// A cascade's outcome on the calibration flows.
#[derive(Clone, Copy, PartialEq)]
struct Result {
    macro_f1: f64,
    cost: f64,
}

impl<'a> Search<'a> {
    fn new(stages: &'a [StageAnswers], truth: &'a [u16], classes: usize) -> Self {
        let wait = |stage: usize| f64::from(stages[stage].packets) + ASK_COST * stage as f64;
        let cost = (0..stages.len()).map(wait).collect();
        Self { stages, truth, classes, cost }
    }

    /// The thresholds that wait for the fewest packets at a loss of macro-F1 within the stated one.
    fn within(&self, loss: f64, granularity: Granularity) -> Thresholds {
        let slow = self.outcome(&vec![vec![NEVER; self.classes]; self.gates()]);
        let floor = slow.macro_f1 - loss;
        let mut best = self.universal(floor);
        if granularity == Granularity::PerClass {
            self.per_class(floor, &mut best);
        }
        best
    }

    fn gates(&self) -> usize {
        self.stages.len() - 1
    }

    /// The stage that a flow stops at.
    fn stop(&self, thresholds: &Thresholds, flow: usize) -> usize {
        let accepts = |gate: &usize| {
            let stage = &self.stages[*gate];
            stage.uncertainty[flow] <= thresholds[*gate][usize::from(stage.labels[flow])]
        };
        (0..self.gates()).find(accepts).unwrap_or(self.gates())
    }

    fn outcome(&self, thresholds: &Thresholds) -> Result {
        let mut table = Confusion::new(self.classes);
        let mut cost = 0.0;
        for (flow, &truth) in self.truth.iter().enumerate() {
            let stop = self.stop(thresholds, flow);
            table.add(truth, Some(self.stages[stop].labels[flow]));
            cost += self.cost[stop];
        }
        Result { macro_f1: table.macro_f1(), cost: cost / self.truth.len().max(1) as f64 }
    }

    /// Candidate thresholds of a gate, for all flows or those answered as one class.
    fn candidates(&self, gate: usize, class: Option<u16>, count: usize) -> Vec<f32> {
        let stage = &self.stages[gate];
        let of_class = |flow: &usize| class.is_none_or(|class| stage.labels[*flow] == class);
        let flows = (0..self.truth.len()).filter(of_class);
        let mut values: Vec<f32> = flows.map(|flow| stage.uncertainty[flow]).collect();
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f32::total_cmp);
        let mut candidates = vec![NEVER];
        if !values.is_empty() {
            let at = |step: usize| values[step * (values.len() - 1) / count];
            candidates.extend((0..=count).map(at));
        }
        candidates.dedup();
        candidates
    }

    /// Whether `new` is better than `old`, given that both lose little enough.
    fn better(new: Result, old: Result) -> bool {
        (new.cost, -new.macro_f1) < (old.cost, -old.macro_f1)
    }

    /// Searches pairs of neighbouring gates together until nothing gets better.
    fn universal(&self, floor: f64) -> Thresholds {
        let mut best = vec![vec![NEVER; self.classes]; self.gates()];
        let mut result = self.outcome(&best);
        loop {
            let before = result;
            for gate in 0..self.gates() {
                self.search_pair(gate, floor, &mut best, &mut result);
            }
            if result == before {
                return best;
            }
        }
    }

    fn search_pair(&self, gate: usize, floor: f64, best: &mut Thresholds, result: &mut Result) {
        let second = (gate + 1 < self.gates()).then_some(gate + 1);
        // Without a second gate there is one turn of the inner loop, which changes nothing.
        let none = || vec![NEVER];
        let inner = second.map_or_else(none, |gate| self.candidates(gate, None, CANDIDATES));
        let mut trial = best.clone();
        for first in self.candidates(gate, None, CANDIDATES) {
            trial[gate].fill(first);
            for &choice in &inner {
                if let Some(second) = second {
                    trial[second].fill(choice);
                }
                let found = self.outcome(&trial);
                if found.macro_f1 >= floor && Self::better(found, *result) {
                    (*best, *result) = (trial.clone(), found);
                }
            }
        }
    }

    /// Moves one class's threshold at a time while that helps.
    fn per_class(&self, floor: f64, best: &mut Thresholds) {
        let mut result = self.outcome(best);
        loop {
            let before = result;
            for gate in 0..self.gates() {
                for class in 0..self.classes {
                    let mut trial = best.clone();
                    for value in self.candidates(gate, Some(class as u16), CLASS_CANDIDATES) {
                        trial[gate][class] = value;
                        let found = self.outcome(&trial);
                        if found.macro_f1 >= floor && Self::better(found, result) {
                            (*best, result) = (trial.clone(), found);
                        }
                    }
                }
            }
            if result == before {
                return;
            }
        }
    }

    /// Thresholds at which each gate passes on the same share of what reaches it, so that `share`
    /// of all flows reach the last stage. Where ties let a gate accept more or fewer than it
    /// should, the gates behind it make up for it.
    fn escalate(&self, share: f64, granularity: Granularity) -> Thresholds {
        let share = share.clamp(0.0, 1.0);
        if share == 0.0 {
            return vec![vec![ALWAYS; self.classes]; self.gates()];
        }
        let all = self.truth.len().max(1) as f64;
        let mut thresholds = vec![vec![NEVER; self.classes]; self.gates()];
        let mut reaching: Vec<usize> = (0..self.truth.len()).collect();
        for gate in 0..self.gates() {
            // Of the flows that are here, this share must not be accepted, by this gate and all.
            let least = (share * all / reaching.len().max(1) as f64).min(1.0);
            let passed_on = least.powf(1.0 / (self.gates() - gate) as f64);
            let groups = match granularity {
                Granularity::Universal => vec![None],
                Granularity::PerClass => (0..self.classes as u16).map(Some).collect(),
            };
            for class in groups {
                let threshold = self.quantile(gate, class, &reaching, 1.0 - passed_on, 1.0 - least);
                match class {
                    None => thresholds[gate].fill(threshold),
                    Some(class) => thresholds[gate][usize::from(class)] = threshold,
                }
            }
            reaching.retain(|&flow| self.stop(&thresholds, flow) > gate);
        }
        thresholds
    }

    /// The uncertainty up to which a share of the flows at a gate lie. Flows of equal uncertainty
    /// stay together: all of them when no more than `most` are accepted then, else none.
    fn quantile(
        &self,
        gate: usize,
        class: Option<u16>,
        reaching: &[usize],
        share: f64,
        most: f64,
    ) -> f32 {
        let stage = &self.stages[gate];
        let of_class = |flow: &&usize| class.is_none_or(|class| stage.labels[**flow] == class);
        let flows = reaching.iter().filter(of_class);
        let mut values: Vec<f32> = flows.map(|&flow| stage.uncertainty[flow]).collect();
        values.sort_unstable_by(f32::total_cmp);
        let accepted = |share: f64| (share * values.len() as f64).round() as usize;
        let Some(last) = accepted(share).checked_sub(1) else { return NEVER };
        let end = values.partition_point(|&value| value <= values[last]);
        if end <= accepted(most) {
            return values[last];
        }
        let start = values.partition_point(|&value| value < values[last]);
        start.checked_sub(1).map_or(NEVER, |before| values[before])
    }

    fn finish(&self, thresholds: &Thresholds, granularity: Granularity) -> Calibrated {
        let flows = self.truth.len().max(1) as f64;
        let stops: Vec<usize> =
            (0..self.truth.len()).map(|flow| self.stop(thresholds, flow)).collect();
        let passed = |gate| stops.iter().filter(|&&stop| stop > gate).count() as f64 / flows;
        let slow = vec![vec![NEVER; self.classes]; self.gates()];
        let threshold = |by_class: &Vec<f32>| match granularity {
            Granularity::Universal => Threshold::Universal(by_class[0]),
            Granularity::PerClass => Threshold::PerClass(by_class.clone()),
        };
        Calibrated {
            thresholds: thresholds.iter().map(threshold).collect(),
            escalated: (0..self.gates()).map(passed).collect(),
            cascade_macro_f1: self.outcome(thresholds).macro_f1,
            slow_macro_f1: self.outcome(&slow).macro_f1,
        }
    }
}

/// Calibrates the gates of a cascade from each stage's answers on the calibration flows, whose
/// true labels are `truth`.
///
/// # Panics
/// When there is no stage or no class, or the stages have not one answer per flow.
#[must_use]
pub fn calibrate(
    stages: &[StageAnswers],
    truth: &[u16],
    classes: usize,
    target: Target,
    granularity: Granularity,
) -> Calibrated {
    assert!(!stages.is_empty() && classes > 0, "a cascade has a stage and a class");
    assert!(
        stages.iter().all(|stage| stage.labels.len() == truth.len()),
        "one prediction per flow"
    );
    let search = Search::new(stages, truth, classes);
    let thresholds = match target {
        Target::Escalate(share) => search.escalate(share, granularity),
        Target::MaxLoss(loss) => {
            bagged(stages, truth, classes, |resample| resample.within(loss, granularity))
        }
    };
    search.finish(&thresholds, granularity)
}

/// A gate with calibrated thresholds, as plans have it.
pub(crate) fn gate_plan(
    labels: &[String],
    measure: Uncertainty,
    threshold: &Threshold,
    calibration: CalibrationPlan,
) -> GatePlan {
    let (threshold, thresholds) = match threshold {
        Threshold::Universal(threshold) => (Some(*threshold), None),
        Threshold::PerClass(all) => {
            (None, Some(labels.iter().cloned().zip(all.iter().copied()).collect()))
        }
    };
    GatePlan {
        rule: measure.name().to_owned(),
        threshold,
        thresholds,
        calibration: Some(calibration),
        heads: Vec::new(),
    }
}

/// Searches each resample, and takes a low threshold of those found for each gate and class.
fn bagged(
    stages: &[StageAnswers],
    truth: &[u16],
    classes: usize,
    search: impl Fn(&Search<'_>) -> Thresholds,
) -> Thresholds {
    let mut found: Vec<Thresholds> = Vec::new();
    for resample in 0..RESAMPLES {
        let mut random = Random::new(&[resample]);
        let draw: Vec<usize> = truth.iter().map(|_| random.below(truth.len())).collect();
        let drawn: Vec<StageAnswers> = stages.iter().map(|stage| stage.drawn(&draw)).collect();
        let drawn_truth: Vec<u16> = draw.iter().map(|&flow| truth[flow]).collect();
        found.push(search(&Search::new(&drawn, &drawn_truth, classes)));
    }
    let low = |gate: usize, class: usize| {
        let mut values: Vec<f32> = found.iter().map(|all| all[gate][class]).collect();
        values.sort_unstable_by(f32::total_cmp);
        values[TAKEN]
    };
    let gate = |gate| (0..classes).map(|class| low(gate, class)).collect();
    (0..stages.len() - 1).map(gate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fast stage that is right when it is sure, and a slow one that is mostly right.
    fn answers(flows: usize) -> (Vec<StageAnswers>, Vec<u16>) {
        let mut random = Random::new(&[3]);
        let mut truth = Vec::new();
        let mut stages = [1, 10].map(|packets| StageAnswers {
            packets,
            labels: Vec::new(),
            uncertainty: Vec::new(),
        });
        for _ in 0..flows {
            let label = random.below(4) as u16;
            let doubt = random.below(1000) as f32 / 1000.0;
            let fast = if doubt < 0.6 { label } else { random.below(4) as u16 };
            let slow = if random.below(50) == 0 { (label + 1) % 4 } else { label };
            truth.push(label);
            stages[0].labels.push(fast);
            stages[0].uncertainty.push(doubt);
            stages[1].labels.push(slow);
            stages[1].uncertainty.push(0.0);
        }
        (stages.to_vec(), truth)
    }

    #[test]
    fn the_loss_is_kept_and_most_flows_stop_early() {
        let (stages, truth) = answers(2000);
        for granularity in [Granularity::Universal, Granularity::PerClass] {
            let found = calibrate(&stages, &truth, 4, Target::MaxLoss(0.01), granularity);
            assert!(found.cascade_macro_f1 >= found.slow_macro_f1 - 0.01);
            assert!((0.1..0.45).contains(&found.escalated[0]), "{found:?}");
        }
    }

    #[test]
    fn a_stated_share_is_escalated() {
        let (stages, truth) = answers(2000);
        for share in [0.0, 0.25, 0.5, 1.0] {
            for granularity in [Granularity::Universal, Granularity::PerClass] {
                let found = calibrate(&stages, &truth, 4, Target::Escalate(share), granularity);
                assert!((found.escalated[0] - share).abs() < 0.01, "{share}: {found:?}");
            }
        }
    }

    #[test]
    fn a_share_of_nothing_accepts_what_calibration_never_saw() {
        let (stages, truth) = answers(200);
        let found = calibrate(&stages, &truth, 4, Target::Escalate(0.0), Granularity::Universal);
        assert_eq!(found.thresholds, [Threshold::Universal(ALWAYS)]);
    }

    #[test]
    fn three_stages_share_the_escalation() {
        let (mut stages, truth) = answers(3000);
        stages.insert(1, stages[0].clone());
        let mut random = Random::new(&[9]);
        for doubt in &mut stages[1].uncertainty {
            *doubt = random.below(1000) as f32 / 1000.0;
        }
        let found = calibrate(&stages, &truth, 4, Target::Escalate(0.25), Granularity::Universal);
        assert!((found.escalated[0] - 0.5).abs() < 0.02, "{found:?}");
        assert!((found.escalated[1] - 0.25).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn ties_at_one_gate_are_made_up_for_by_the_next() {
        let (mut stages, truth) = answers(2000);
        stages.insert(0, stages[0].clone());
        // A tree of pure leaves: sure of nearly everything.
        for doubt in &mut stages[0].uncertainty {
            *doubt = if *doubt < 0.9 { 0.0 } else { *doubt };
        }
        for share in [0.05, 0.5] {
            for granularity in [Granularity::Universal, Granularity::PerClass] {
                let found = calibrate(&stages, &truth, 4, Target::Escalate(share), granularity);
                assert!((found.escalated[1] - share).abs() < 0.01, "{share}: {found:?}");
            }
        }
    }

    #[test]
    fn no_loss_allowed_means_hardly_worse_than_the_slow_stage() {
        let (stages, truth) = answers(500);
        let found = calibrate(&stages, &truth, 4, Target::MaxLoss(0.0), Granularity::Universal);
        assert!(found.cascade_macro_f1 >= found.slow_macro_f1 - 0.005, "{found:?}");
    }
}
