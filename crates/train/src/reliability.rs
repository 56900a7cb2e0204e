//! How far probabilities can be believed, and two ways of mending them.
//!
//! Expected calibration error over bins of equal mass (Nguyen and O'Connor 2015; Guo and others
//! 2017 use bins of equal width), Brier score, negative log-likelihood; temperature scaling (Guo
//! and others 2017) of all probabilities, isotonic regression (Zadrozny and Elkan 2002) of the
//! answer's confidence.

use serde::{Deserialize, Serialize};
use serveflow_core::gate::best_class;

/// Bins of the calibration error.
pub const BINS: usize = 15;
/// Probabilities below this, and what is not a number, count as this: a flow of a class that was
/// given probability 0 costs 16.1 nats, not infinitely many.
pub const FLOOR: f64 = 1e-7;
/// Temperatures that are tried.
const TEMPERATURES: (f64, f64) = (0.05, 20.0);
/// Steps of the search for the temperature: its logarithm is known to one part in 10^8.
const STEPS: usize = 48;

/// Class probabilities of flows, row by row, and their true classes.
pub type Scored<'a> = (&'a [f32], &'a [u16]);

/// Flows of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Mean confidence, 0 to 1.
    pub confidence: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Flows in it.
    pub flows: u64,
}

/// How far a stage's probabilities can be believed, measured on flows that nothing was fitted on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Flows that were judged.
    pub flows: u64,
    /// Expected calibration error of the answer's probability as it is, 0 to 1.
    pub ece_raw: f64,
    /// The same after temperature scaling.
    pub ece_temperature: f64,
    /// The same after isotonic regression.
    pub ece_isotonic: f64,
    /// Brier score of all classes, 0 to 2: the mean squared distance to the truth's corner.
    pub brier_raw: f64,
    /// The same after temperature scaling.
    pub brier_temperature: f64,
    /// Negative log-likelihood, nats per flow.
    pub nll_raw: f64,
    /// The same after temperature scaling.
    pub nll_temperature: f64,
    /// The temperature; over 1 where the stage is too sure of itself.
    pub temperature: f64,
    /// The raw probability against the share of right answers, by growing confidence.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Fits a temperature and an isotonic regression on some flows and judges others; zeros and a
    /// temperature of 1 where there are none to judge or to fit.
    ///
    /// # Panics
    /// When there is not a row of `classes` scores for each true class, or a class is out of range.
    #[must_use]
    pub fn judge(fit: Scored<'_>, judge: Scored<'_>, classes: usize) -> Self {
        check(fit, classes);
        check(judge, classes);
        let temperature = temperature(fit, classes);
        let scaled = scale(judge.0, classes, temperature);
        let raw: Vec<f64> = judge.0.iter().map(|&score| probability(score)).collect();
        let isotonic = Isotonic::fit(answers(fit, classes));
        let right = answers(judge, classes);
        let mended = right.iter().map(|&(confidence, right)| (isotonic.at(confidence), right));
        let tempered = right.iter().zip(scaled.chunks(classes.max(1)));
        let tempered =
            tempered.map(|(&(_, right), row)| (row.iter().copied().fold(0.0, f64::max), right));
        Self {
            flows: judge.1.len() as u64,
            ece_raw: calibration_error(&bins(right.clone())),
            ece_temperature: calibration_error(&bins(tempered.collect())),
            ece_isotonic: calibration_error(&bins(mended.collect())),
            brier_raw: brier(&raw, judge.1, classes),
            brier_temperature: brier(&scaled, judge.1, classes),
            nll_raw: log_loss(&raw, judge.1, classes),
            nll_temperature: log_loss(&scaled, judge.1, classes),
            temperature,
            bins: bins(right),
        }
    }
}

fn check((scores, truth): Scored<'_>, classes: usize) {
    assert_eq!(scores.len(), truth.len() * classes, "a row of scores for each flow");
    assert!(truth.iter().all(|&class| usize::from(class) < classes), "classes in range");
}

/// A score as a probability that is a number and not 0.
fn probability(score: f32) -> f64 {
    if score.is_nan() { FLOOR } else { f64::from(score).clamp(FLOOR, 1.0) }
}

/// Each answer's confidence and whether it is right.
fn answers((scores, truth): Scored<'_>, classes: usize) -> Vec<(f64, bool)> {
    let rows = scores.chunks_exact(classes.max(1)).zip(truth);
    rows.map(|(row, &truth)| {
        let (answer, confidence) = best_class(row);
        (f64::from(confidence).clamp(0.0, 1.0), answer == truth)
    })
    .collect()
}

/// Bins of equal mass by growing confidence. Flows of the same confidence stay together, so that
/// the order of the flows does not matter; there may be fewer than [`BINS`] bins then.
#[must_use]
pub fn bins(mut answers: Vec<(f64, bool)>) -> Vec<Bin> {
    answers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (flows, mut start, mut bins) = (answers.len(), 0, Vec::new());
    for bin in 1..=BINS {
        let mut end = (flows * bin / BINS).max(start);
        while end > start && end < flows && answers[end].0 == answers[end - 1].0 {
            end += 1;
        }
        let inside = &answers[start..end];
        if !inside.is_empty() {
            let count = inside.len() as f64;
            bins.push(Bin {
                confidence: inside.iter().map(|answer| answer.0).sum::<f64>() / count,
                accuracy: inside.iter().filter(|answer| answer.1).count() as f64 / count,
                flows: inside.len() as u64,
            });
        }
        start = end;
    }
    bins
}

/// Expected calibration error: the mean gap of confidence and accuracy, bins weighted by their
/// flows; 0 when there are none.
#[must_use]
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let flows: u64 = bins.iter().map(|bin| bin.flows).sum();
    let gaps = bins.iter().map(|bin| bin.flows as f64 * (bin.confidence - bin.accuracy).abs());
    gaps.sum::<f64>() / flows.max(1) as f64
}

fn brier(rows: &[f64], truth: &[u16], classes: usize) -> f64 {
    let flow = |(row, &truth): (&[f64], &u16)| -> f64 {
        let off = |(class, p): (usize, &f64)| (p - f64::from(class == usize::from(truth))).powi(2);
        row.iter().enumerate().map(off).sum()
    };
    let sum: f64 = rows.chunks_exact(classes.max(1)).zip(truth).map(flow).sum();
    sum / truth.len().max(1) as f64
}

fn log_loss(rows: &[f64], truth: &[u16], classes: usize) -> f64 {
    let rows = rows.chunks_exact(classes.max(1)).zip(truth);
    let sum: f64 = rows.map(|(row, &truth)| -row[usize::from(truth)].max(FLOOR).ln()).sum();
    sum / truth.len().max(1) as f64
}

/// The probabilities to the power of `1 / temperature`, normalised: the softmax of scaled logits.
/// A temperature over 1 makes them more even.
///
/// # Panics
/// When the temperature is not over 0.
#[must_use]
pub fn scale(scores: &[f32], classes: usize, temperature: f64) -> Vec<f64> {
    assert!(temperature > 0.0, "a temperature over 0");
    let mut scaled = Vec::with_capacity(scores.len());
    for row in scores.chunks_exact(classes.max(1)) {
        // Relative to the highest, so that none overflows and the highest is 1 before it is shared.
        let logits = row.iter().map(|&score| probability(score).ln() / temperature);
        let top = logits.clone().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.map(|logit| (logit - top).exp()).collect();
        let sum: f64 = powers.iter().sum();
        scaled.extend(powers.into_iter().map(|power| power / sum));
    }
    scaled
}

/// The temperature of the least negative log-likelihood, by golden sections: the loss is convex in
/// one over the temperature, so that it falls to one lowest point and rises from there.
/// 1 when there are no flows.
#[must_use]
pub fn temperature((scores, truth): Scored<'_>, classes: usize) -> f64 {
    if truth.is_empty() {
        return 1.0;
    }
    let loss = |ln: f64| likelihood_loss(scores, truth, classes, ln.exp());
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (TEMPERATURES.0.ln(), TEMPERATURES.1.ln());
    let mut inner = (high - golden * (high - low), low + golden * (high - low));
    let mut losses = (loss(inner.0), loss(inner.1));
    for _ in 0..STEPS {
        if losses.0 <= losses.1 {
            (high, inner.1, losses.1) = (inner.1, inner.0, losses.0);
            inner.0 = high - golden * (high - low);
            losses.0 = loss(inner.0);
        } else {
            (low, inner.0, losses.0) = (inner.0, inner.1, losses.1);
            inner.1 = low + golden * (high - low);
            losses.1 = loss(inner.1);
        }
    }
    f64::midpoint(low, high).exp()
}

/// Negative log-likelihood at a temperature, from logits: without a floor after the scaling, which
/// would bend the curve.
fn likelihood_loss(scores: &[f32], truth: &[u16], classes: usize, temperature: f64) -> f64 {
    let rows = scores.chunks_exact(classes.max(1)).zip(truth);
    let sum: f64 = rows
        .map(|(row, &truth)| {
            let logit = |&score: &f32| probability(score).ln() / temperature;
            let top = row.iter().map(logit).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|score| (logit(score) - top).exp()).sum();
            sum.ln() + top - logit(&row[usize::from(truth)])
        })
        .sum();
    sum / truth.len() as f64
}

/// A rising step function from confidence to share of right answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Isotonic {
    /// Lowest confidence of a step and its share, both rising.
    steps: Vec<(f64, f64)>,
}

impl Isotonic {
    /// The rising function of least squared distance to whether answers are right, by pooling
    /// adjacent violators.
    #[must_use]
    pub fn fit(mut answers: Vec<(f64, bool)>) -> Self {
        answers.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Blocks of lowest confidence, right answers, answers.
        let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
        for (confidence, right) in answers {
            let right = f64::from(right);
            match blocks.last_mut().filter(|last| last.0 == confidence) {
                Some(last) => (last.1, last.2) = (last.1 + right, last.2 + 1.0),
                None => blocks.push((confidence, right, 1.0)),
            }
        }
        let mut pooled: Vec<(f64, f64, f64)> = Vec::new();
        for mut block in blocks {
            while let Some(last) = pooled.pop_if(|last| last.1 * block.2 >= block.1 * last.2) {
                block = (last.0, last.1 + block.1, last.2 + block.2);
            }
            pooled.push(block);
        }
        Self { steps: pooled.into_iter().map(|(from, right, all)| (from, right / all)).collect() }
    }

    /// The same with steps of so many answers at least, where there are so many: fewer say little.
    #[must_use]
    pub fn fit_coarse(mut answers: Vec<(f64, bool)>, least: usize) -> Self {
        answers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (count, mut from) = (answers.len(), 0);
        while from < count {
            // What is left behind the last whole step belongs to it.
            let mut to = if count - from < 2 * least { count } else { from + least };
            while to < count && answers[to].0 == answers[to - 1].0 {
                to += 1;
            }
            let lowest = answers[from].0;
            answers[from..to].iter_mut().for_each(|answer| answer.0 = lowest);
            from = to;
        }
        Self::fit(answers)
    }

    /// Lowest confidence of each step and its share, both rising.
    #[must_use]
    pub fn steps(&self) -> &[(f64, f64)] {
        &self.steps
    }

    /// The share of right answers expected at a confidence: that of the step it falls in, of the
    /// first below all; the confidence itself when nothing was fitted.
    #[must_use]
    pub fn at(&self, confidence: f64) -> f64 {
        let above = self.steps.partition_point(|step| step.0 <= confidence);
        self.steps.get(above.saturating_sub(1)).map_or(confidence, |step| step.1)
    }
}

#[cfg(test)]
mod tests;
