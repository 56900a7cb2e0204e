//! Intervals by bootstrap over captures.
//!
//! Flows of one capture are much alike, so drawing flows one by one would make a figure look surer
//! than it is. Captures are drawn with replacement instead, as many as there are, and all flows of
//! a capture come together, as often as it was drawn. The interval is that of percentiles: it need
//! not be symmetric, and with few captures it is rough.

use super::report::{Estimate, Figures, Interval};
use super::spread::spread;
use crate::metrics::Confusion;
use crate::random::Random;
use serveflow_label::Capture;
use std::collections::BTreeMap;

const TAG_BOOTSTRAP: u64 = 0x626f_6f74;

/// How intervals are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bootstrap {
    pub(super) resamples: usize,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

/// A model's answers, capture by capture.
#[derive(Clone, Debug)]
pub(super) struct ByCapture {
    classes: usize,
    /// (Truth, answer, flows) of each capture, in the order of the captures.
    captures: Vec<Vec<(u16, u16, u64)>>,
}

/// Macro-F1 and accuracy of each resample.
#[derive(Clone, Debug)]
pub(super) struct Resampled {
    point: (f64, f64),
    draws: Vec<(f64, f64)>,
}

impl ByCapture {
    /// Groups flows by their captures.
    pub(super) fn new(
        classes: usize,
        captures: &[Capture],
        truth: &[u16],
        answers: &[u16],
    ) -> Self {
        let mut grouped: BTreeMap<Capture, BTreeMap<(u16, u16), u64>> = BTreeMap::new();
        for (capture, pair) in
            captures.iter().zip(truth.iter().copied().zip(answers.iter().copied()))
        {
            *grouped.entry(*capture).or_default().entry(pair).or_default() += 1;
        }
        let counts = |pairs: BTreeMap<(u16, u16), u64>| {
            pairs.into_iter().map(|((truth, answer), flows)| (truth, answer, flows)).collect()
        };
        Self { classes, captures: grouped.into_values().map(counts).collect() }
    }

    /// Number of captures.
    pub(super) fn captures(&self) -> usize {
        self.captures.len()
    }

    /// Macro-F1 and accuracy with each capture as often as `times` says.
    fn figures(&self, times: &[u64]) -> (f64, f64) {
        let mut table = Confusion::new(self.classes);
        for (capture, &times) in self.captures.iter().zip(times).filter(|(_, times)| **times > 0) {
            for &(truth, answer, flows) in capture {
                table.add_times(truth, Some(answer), flows * times);
            }
        }
        (table.macro_f1(), table.accuracy())
    }

    /// All resamples. Models on the same captures get the same draws, so that their figures can be
    /// subtracted draw by draw.
    pub(super) fn resample(&self, plan: Bootstrap) -> Resampled {
        let count = self.captures.len();
        let draw = |resample: usize| {
            let mut random = Random::new(&[plan.seed, TAG_BOOTSTRAP, resample as u64]);
            let mut times = vec![0; count];
            (0..count).for_each(|_| times[random.below(count)] += 1);
            self.figures(&times)
        };
        let resamples = if count < 2 { 0 } else { plan.resamples };
        Resampled {
            point: self.figures(&vec![1; count]),
            draws: spread(plan.threads, resamples, draw),
        }
    }
}

impl Resampled {
    /// Both figures with their intervals.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            macro_f1: estimate(self.point.0, self.draws.iter().map(|draw| draw.0)),
            accuracy: estimate(self.point.1, self.draws.iter().map(|draw| draw.1)),
        }
    }

    /// This macro-F1 less that of a model on the same captures.
    pub(super) fn minus(&self, other: &Self) -> Estimate {
        let pairs = self.draws.iter().zip(&other.draws);
        estimate(self.point.0 - other.point.0, pairs.map(|(mine, theirs)| mine.0 - theirs.0))
    }
}

fn estimate(value: f64, draws: impl Iterator<Item = f64>) -> Estimate {
    let mut draws: Vec<f64> = draws.collect();
    draws.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| draws[(share * (draws.len() - 1) as f64).round() as usize];
    let interval = (!draws.is_empty()).then(|| Interval { low: at(0.025), high: at(0.975) });
    Estimate { value, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Bootstrap = Bootstrap { resamples: 400, seed: 7, threads: 2 };

    /// Flows of two labels in captures of some size; of each capture all or no answer is right.
    fn grouped(captures: usize, size: usize, flips: impl Fn(usize) -> bool) -> ByCapture {
        let flows = 0..captures * size;
        let captures: Vec<Capture> = flows.clone().map(|flow| Capture::File(flow / size)).collect();
        let truth: Vec<u16> = flows.clone().map(|flow| (flow % 2) as u16).collect();
        let answer = |flow: usize| truth[flow] ^ u16::from(flips(flow / size));
        let answers: Vec<u16> = flows.map(answer).collect();
        ByCapture::new(2, &captures, &truth, &answers)
    }

    fn width(estimate: Estimate) -> f64 {
        let interval = estimate.interval.unwrap();
        interval.high - interval.low
    }

    #[test]
    fn intervals_hold_the_figure_and_have_the_width_of_a_binomial_share() {
        let figures = grouped(100, 4, |capture| capture % 5 == 0).resample(PLAN).figures();
        for estimate in [figures.macro_f1, figures.accuracy] {
            let interval = estimate.interval.unwrap();
            assert!((estimate.value - 0.8).abs() < 1e-12);
            assert!(interval.low < estimate.value && estimate.value < interval.high);
            // Captures are right or wrong as a whole: the share has a deviation of 0.04.
            assert!((0.12..0.20).contains(&width(estimate)), "{estimate:?}");
        }
    }

    #[test]
    fn flows_of_a_capture_come_together() {
        let few = grouped(20, 20, |capture| capture % 5 == 0).resample(PLAN).figures();
        let many = grouped(400, 1, |capture| capture % 5 == 0).resample(PLAN).figures();
        assert_eq!(few.accuracy.value, many.accuracy.value);
        assert!(width(few.accuracy) > 3.0 * width(many.accuracy), "sqrt(20) is 4.5");
    }

    #[test]
    fn a_model_is_surely_no_better_than_itself_and_one_capture_says_nothing_of_others() {
        let model = grouped(30, 3, |capture| capture % 4 == 0).resample(PLAN);
        let none = Estimate { value: 0.0, interval: Some(Interval { low: 0.0, high: 0.0 }) };
        assert_eq!(model.minus(&model), none);
        let worse = grouped(30, 3, |capture| capture % 4 != 1).resample(PLAN);
        assert!(model.minus(&worse).interval.unwrap().low > 0.0);
        assert_eq!(grouped(1, 9, |_| false).resample(PLAN).figures().accuracy.interval, None);
    }
}
