//! Drift: does the traffic that is served still look like that which the bundle was calibrated on?
//!
//! No labels are needed. Each stage watches some quantities of the flows that it is asked about: of
//! their scores (the answer's probability, the label, the margin) and of what else is known when
//! they are asked (protocol, size, payload, flags and direction of the last packet, packets). Flows
//! are counted in windows of a fixed number, bin by bin; at the end of each window the
//! Jensen-Shannon divergence of each quantity from what is expected is held against the divergence
//! that is usual there, and the largest ratio is the window's score. What is expected depends on
//! the labels that the window's flows were given: it is the mixture, by these, of what flows of
//! each label looked like. So a mixture of classes that changes, as it does from hour to hour,
//! shows in the labels, which are watched for themselves, and nowhere else. A window whose score is
//! over the threshold raises the alarm, two in a row below it end it. So a change that shows in a
//! whole window is told within two windows less a flow.
//!
//! Where the reference, the usual divergences and the threshold come from is the trainer's
//! business; this only computes, and knows no clock.

use serde::{Deserialize, Serialize};
use serveflow_core::deferral::FlowFacts;
use serveflow_core::gate::{Uncertainty, best_class};
use serveflow_core::rows::Scores;
use std::sync::Arc;

/// What a reference's `format` says.
pub const DRIFT_FORMAT: &str = "serveflow-drift/1";
/// Windows in a row below the threshold that end an alarm.
const CALM: u8 = 2;

/// A watched quantity of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Probability of the answer.
    Confidence,
    /// Distance of the two largest probabilities.
    Margin,
    /// Index of the answer's label.
    Label,
    /// IP protocol.
    Protocol,
    /// Size of the last packet that the stage sees.
    Size,
    /// Payload of it.
    Payload,
    /// TCP flags of it.
    Flags,
    /// Whether it goes backward.
    Backward,
    /// Packets that the stage sees.
    Packets,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Confidence,
        Self::Margin,
        Self::Label,
        Self::Protocol,
        Self::Size,
        Self::Payload,
        Self::Flags,
        Self::Backward,
        Self::Packets,
    ];

    /// The quantity as outputs spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confidence => "confidence",
            Self::Margin => "margin",
            Self::Label => "label",
            Self::Protocol => "protocol",
            Self::Size => "size",
            Self::Payload => "payload",
            Self::Flags => "flags",
            Self::Backward => "backward",
            Self::Packets => "packets",
        }
    }

    /// Its value for a flow.
    #[must_use]
    pub fn value(self, scores: &[f32], facts: &FlowFacts) -> f32 {
        match self {
            Self::Confidence => best_class(scores).1,
            Self::Margin => 1.0 - Uncertainty::Margin.uncertainty(scores),
            Self::Label => f32::from(best_class(scores).0),
            Self::Protocol => f32::from(facts.proto),
            Self::Size => f32::from(facts.size),
            Self::Payload => f32::from(facts.payload),
            Self::Flags => f32::from(facts.flags),
            Self::Backward => f32::from(u8::from(facts.backward)),
            Self::Packets => f32::from(facts.packets),
        }
    }
}

/// What a bundle's flows looked like when it was calibrated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// [`DRIFT_FORMAT`].
    pub format: String,
    /// Probability that a window of a stage raises an alarm where nothing has changed.
    pub rate: f64,
    /// What that rests on, in words.
    pub assumptions: String,
    /// The stages that are watched.
    pub stages: Vec<StageReference>,
}

/// What the flows looked like that a stage was asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageReference {
    /// Name of the stage.
    pub stage: String,
    /// Flows of a window.
    pub window: u32,
    /// Score over which a window raises the alarm.
    pub threshold: f64,
    /// Flows of the reference.
    pub flows: u64,
    /// Captures that they are from.
    pub captures: u64,
    /// What is watched.
    pub quantities: Vec<Quantity>,
}

/// How a quantity was distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// Which.
    pub what: What,
    /// Largest value of each bin but the last, growing.
    pub bounds: Vec<f32>,
    /// Share of the flows in each bin: of those of each label, and of all behind them, for labels
    /// that were not met; one row alone where the label does not matter.
    pub shares: Vec<Vec<f64>>,
    /// The divergence that all but a hundredth of the windows are below where nothing has changed.
    pub usual: f64,
}

impl Quantity {
    /// The bin of a value; what is no number is in the first one.
    #[must_use]
    #[inline]
    pub fn bin(&self, value: f32) -> usize {
        self.bounds.partition_point(|&bound| bound < value)
    }

    /// The shares that are expected of flows with so many of each label.
    #[must_use]
    pub fn expected(&self, labels: &[u32]) -> Vec<f64> {
        let last = self.shares.len() - 1;
        if last == 0 {
            return self.shares[0].clone();
        }
        let all = labels.iter().map(|&count| f64::from(count)).sum::<f64>().max(1.0);
        let mut expected = vec![0.0; self.bounds.len() + 1];
        for (label, &count) in labels.iter().enumerate().filter(|(_, count)| **count > 0) {
            let own = &self.shares[label.min(last)];
            let weight = f64::from(count) / all;
            expected.iter_mut().zip(own).for_each(|(sum, share)| *sum += weight * share);
        }
        expected
    }

    fn check(&self) -> Result<(), String> {
        if self.shares.is_empty() {
            return Err(format!("{}: expected shares, found none", self.what.name()));
        }
        self.shares.iter().try_for_each(|shares| self.check_shares(shares))
    }

    fn check_shares(&self, shares: &[f64]) -> Result<(), String> {
        let name = self.what.name();
        if shares.len() != self.bounds.len() + 1 {
            let (expected, found) = (self.bounds.len() + 1, shares.len());
            return Err(format!("{name}: expected {expected} shares, found {found}"));
        }
        if self.bounds.windows(2).any(|pair| pair[0] >= pair[1] || pair[1].is_nan()) {
            return Err(format!("{name}: expected growing bounds"));
        }
        let is_share = |share: &f64| *share > 0.0 && *share <= 1.0;
        let sum: f64 = shares.iter().sum();
        if !shares.iter().all(is_share) || (sum - 1.0).abs() > 1e-6 {
            return Err(format!(
                "{name}: expected shares above 0 that make 1, found a sum of {sum}"
            ));
        }
        if !self.usual.is_finite() || self.usual <= 0.0 {
            return Err(format!(
                "{name}: expected a usual divergence above 0, found {}",
                self.usual
            ));
        }
        Ok(())
    }
}

/// Jensen-Shannon divergence of counts from shares, nats: 0 to ln 2, and finite where bins are
/// empty.
#[must_use]
pub fn divergence(counts: &[u32], shares: &[f64]) -> f64 {
    let all = counts.iter().map(|&count| f64::from(count)).sum::<f64>().max(1.0);
    let part = |own: f64, middle: f64| if own > 0.0 { own * (own / middle).ln() } else { 0.0 };
    let bin = |(&count, &share): (&u32, &f64)| {
        let own = f64::from(count) / all;
        let middle = f64::midpoint(own, share);
        part(own, middle) + part(share, middle)
    };
    counts.iter().zip(shares).map(bin).sum::<f64>() / 2.0
}

/// Flows by bin of each quantity, and by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    labels: Vec<u32>,
    counts: Vec<Vec<u32>>,
}

impl Window {
    /// No flow in any bin of these quantities.
    #[must_use]
    pub fn new(quantities: &[Quantity]) -> Self {
        let rows = quantities.iter().map(|quantity| quantity.shares.len()).max().unwrap_or(0);
        let counts = quantities.iter().map(|quantity| vec![0; quantity.bounds.len() + 1]);
        Self { labels: vec![0; rows.max(1)], counts: counts.collect() }
    }

    /// Counts a flow of a label, whose values are told by quantity.
    #[inline]
    pub fn add(&mut self, quantities: &[Quantity], label: u16, value: impl Fn(What) -> f32) {
        let last = self.labels.len() - 1;
        self.labels[usize::from(label).min(last)] += 1;
        for (quantity, counts) in quantities.iter().zip(&mut self.counts) {
            counts[quantity.bin(value(quantity.what))] += 1;
        }
    }

    /// Counts another window's flows, of the same quantities.
    pub fn merge(&mut self, other: &Self) {
        let add = |own: &mut Vec<u32>, other: &Vec<u32>| {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        };
        add(&mut self.labels, &other.labels);
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| add(own, other));
    }

    /// Forgets all flows.
    pub fn clear(&mut self) {
        self.labels.fill(0);
        self.counts.iter_mut().for_each(|counts| counts.fill(0));
    }

    /// Flows by bin of each quantity.
    #[must_use]
    pub fn counts(&self) -> &[Vec<u32>] {
        &self.counts
    }

    /// Divergence of each quantity from what is expected.
    pub fn divergences<'a>(&'a self, quantities: &'a [Quantity]) -> impl Iterator<Item = f64> + 'a {
        let own = quantities.iter().zip(&self.counts);
        own.map(|(quantity, counts)| divergence(counts, &quantity.expected(&self.labels)))
    }
}

impl StageReference {
    /// A window's score: the largest ratio of a divergence to the usual one, and of which quantity.
    #[must_use]
    pub fn score(&self, window: &Window) -> (f64, Option<What>) {
        let mut worst = (0.0, None);
        for (quantity, own) in self.quantities.iter().zip(window.divergences(&self.quantities)) {
            let ratio = own / quantity.usual;
            if ratio > worst.0 {
                worst = (ratio, Some(quantity.what));
            }
        }
        worst
    }

    fn check(&self) -> Result<(), String> {
        let within = |what: String| format!("stage `{}`: {what}", self.stage);
        if self.window == 0 || self.quantities.is_empty() {
            return Err(within("expected a window of flows and quantities, found none".to_owned()));
        }
        if !self.threshold.is_finite() || self.threshold <= 0.0 {
            let found = self.threshold;
            return Err(within(format!("expected a threshold above 0, found {found}")));
        }
        self.quantities.iter().try_for_each(Quantity::check).map_err(within)
    }
}

/// A reference that was held to the stages of a cascade.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Probability of a false alarm, by window of a stage.
    pub rate: f64,
    /// What is watched of each stage, by stage index.
    stages: Vec<Option<StageReference>>,
}

impl Watch {
    /// Reads a reference and holds it to the stages of a cascade.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn read(bytes: &[u8], stages: &[&str]) -> Result<Self, String> {
        let own: Reference = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if own.format != DRIFT_FORMAT {
            return Err(format!("expected the format {DRIFT_FORMAT}, found `{}`", own.format));
        }
        let mut watched = vec![None; stages.len()];
        for one in own.stages {
            one.check()?;
            let at = stages.iter().position(|stage| *stage == one.stage);
            let at = at.ok_or_else(|| {
                format!(
                    "expected stages of the plan ({}), found `{}`",
                    stages.join(", "),
                    one.stage
                )
            })?;
            watched[at] = Some(one);
        }
        Ok(Self { rate: own.rate, stages: watched })
    }

    /// What is watched of each stage, by stage index.
    #[must_use]
    pub fn stages(&self) -> &[Option<StageReference>] {
        &self.stages
    }
}

/// How a stage stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Flows that were counted.
    pub flows: u64,
    /// Windows that were judged.
    pub windows: u64,
    /// Of these, those over the threshold.
    pub over: u64,
    /// Alarms that were raised.
    pub alarms: u64,
    /// Whether an alarm is on.
    pub is_alarmed: bool,
    /// Score of the last window over the threshold: above 1 is an alarm.
    pub score: f64,
    /// Which quantity is farthest off, and was when the last alarm was raised.
    pub worst: Option<What>,
    /// The same when the last alarm was raised.
    pub alarmed_by: Option<What>,
    /// Flows that were counted until the first alarm was raised.
    pub first_alarm: Option<u64>,
}

/// Counts flows and raises alarms.
#[derive(Clone, Debug)]
pub struct Detector {
    watch: Arc<Watch>,
    stages: Vec<Counted>,
}

/// A stage's open window.
#[derive(Clone, Debug, Default)]
struct Counted {
    window: Window,
    open: u32,
    calm: u8,
    standing: Standing,
}

impl Detector {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(watch: &Arc<Watch>) -> Self {
        let counted = |stage: &Option<StageReference>| Counted {
            window: stage.as_ref().map(|own| Window::new(&own.quantities)).unwrap_or_default(),
            ..Counted::default()
        };
        Self { watch: Arc::clone(watch), stages: watch.stages.iter().map(counted).collect() }
    }

    /// Takes the answers of a stage, which are none where its model failed.
    pub fn take(&mut self, stage: usize, scores: &Scores, facts: &[FlowFacts]) {
        let Some(Some(reference)) = self.watch.stages.get(stage) else { return };
        let own = &mut self.stages[stage];
        for (row, facts) in facts.iter().enumerate().take(scores.len()) {
            own.add(reference, scores.row(row), facts);
        }
    }

    /// How each watched stage stands, with its index.
    pub fn standings(&self) -> impl Iterator<Item = (usize, &StageReference, &Standing)> {
        let stages = self.watch.stages.iter().zip(&self.stages).enumerate();
        stages.filter_map(|(at, (stage, own))| Some((at, stage.as_ref()?, &own.standing)))
    }
}

impl Counted {
    #[inline]
    fn add(&mut self, reference: &StageReference, scores: &[f32], facts: &FlowFacts) {
        let (label, _) = best_class(scores);
        self.window.add(&reference.quantities, label, |what| what.value(scores, facts));
        self.open += 1;
        self.standing.flows += 1;
        if self.open >= reference.window {
            self.close(reference);
        }
    }

    /// Judges the window, and begins the next one.
    fn close(&mut self, reference: &StageReference) {
        let (score, worst) = reference.score(&self.window);
        self.window.clear();
        self.open = 0;
        let own = &mut self.standing;
        own.windows += 1;
        (own.score, own.worst) = (score / reference.threshold, worst);
        if score > reference.threshold {
            self.calm = 0;
            own.over += 1;
            if !own.is_alarmed {
                (own.is_alarmed, own.alarmed_by) = (true, worst);
                own.alarms += 1;
                own.first_alarm.get_or_insert(own.flows);
            }
        } else if own.is_alarmed {
            self.calm += 1;
            own.is_alarmed = self.calm < CALM;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(window: u32) -> Reference {
        let quantity = Quantity {
            what: What::Protocol,
            bounds: vec![6.0],
            shares: vec![vec![0.75, 0.25]],
            usual: 0.01,
        };
        let stage = StageReference {
            stage: "first".to_owned(),
            window,
            threshold: 2.0,
            flows: 1000,
            captures: 10,
            quantities: vec![quantity],
        };
        Reference {
            format: DRIFT_FORMAT.to_owned(),
            rate: 0.001,
            assumptions: String::new(),
            stages: vec![stage],
        }
    }

    fn read(reference: &Reference) -> Result<Watch, String> {
        Watch::read(&serde_json::to_vec(reference).unwrap(), &["first", "last"])
    }

    /// So many flows, every nth of which is not of TCP.
    fn feed(detector: &mut Detector, flows: usize, every: usize) {
        let mut scores = Scores::default();
        scores.reset(1, 2);
        for flow in 0..flows {
            let proto = if flow % every == 0 { 17 } else { 6 };
            detector.take(0, &scores, &[FlowFacts { proto, ..FlowFacts::default() }]);
        }
    }

    #[test]
    fn a_change_is_told_within_two_windows_and_its_end_after_two() {
        let watch = Arc::new(read(&reference(40)).unwrap());
        let mut detector = Detector::new(&watch);
        let now = |detector: &Detector| detector.standings().next().unwrap().2.clone();
        feed(&mut detector, 421, 4);
        let calm = now(&detector);
        assert_eq!((calm.windows, calm.alarms, calm.is_alarmed), (10, 0, false), "{calm:?}");
        feed(&mut detector, 79, 1);
        let told = now(&detector);
        assert_eq!((told.alarms, told.is_alarmed), (1, true), "{told:?}");
        assert_eq!(told.alarmed_by, Some(What::Protocol));
        // The window that the change falls into may tell already; the first whole one behind it
        // does.
        assert!(matches!(told.first_alarm, Some(440 | 480)), "{told:?}");
        feed(&mut detector, 60, 4);
        assert!(now(&detector).is_alarmed, "one calm window may be chance");
        feed(&mut detector, 40, 4);
        let ended = now(&detector);
        assert_eq!((ended.alarms, ended.is_alarmed), (1, false), "{ended:?}");
        detector.take(1, &Scores::default(), &[]);
        assert_eq!(detector.standings().count(), 1, "a stage without a reference is not watched");
    }

    #[test]
    fn divergence_is_that_of_its_definition() {
        assert!(divergence(&[3, 1], &[0.75, 0.25]).abs() < 1e-12);
        assert!((divergence(&[5, 0], &[1e-300, 1.0]) - 2f64.ln()).abs() < 1e-9);
        let (p, q, m) = ([0.5, 0.5], [0.25, 0.75], [0.375_f64, 0.625]);
        let own: f64 = (0..2).map(|i| p[i] * (p[i] / m[i]).ln() + q[i] * (q[i] / m[i]).ln()).sum();
        assert!((divergence(&[2, 2], &q) - own / 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_expected_goes_by_the_labels() {
        let quantity = Quantity {
            what: What::Protocol,
            bounds: vec![6.0],
            shares: vec![vec![0.9, 0.1], vec![0.2, 0.8], vec![0.5, 0.5]],
            usual: 1.0,
        };
        let quantities = [quantity];
        let mut window = Window::new(&quantities);
        for (label, proto, flows) in
            [(0, 6.0, 9), (0, 17.0, 1), (1, 6.0, 2), (1, 17.0, 8), (7, 6.0, 5), (7, 17.0, 5)]
        {
            (0..flows).for_each(|_| window.add(&quantities, label, |_| proto));
        }
        let found: Vec<f64> = window.divergences(&quantities).collect();
        assert!(found[0].abs() < 1e-12, "{found:?}");
        // Other labels for the same flows: now they are not what is expected.
        let mut other = Window::new(&quantities);
        (0..16).for_each(|_| other.add(&quantities, 1, |_| 6.0));
        (0..14).for_each(|_| other.add(&quantities, 1, |_| 17.0));
        assert!(other.divergences(&quantities).next().unwrap() > 0.02);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        assert!(read(&reference(10)).is_ok());
        let refused = |change: fn(&mut Reference), word: &str| {
            let mut own = reference(10);
            change(&mut own);
            let error = read(&own).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        refused(|own| own.format = "x".to_owned(), "expected the format");
        refused(|own| own.stages[0].stage = "other".to_owned(), "first, last");
        refused(|own| own.stages[0].window = 0, "window");
        refused(|own| own.stages[0].threshold = -1.0, "threshold");
        refused(|own| own.stages[0].quantities[0].shares = vec![vec![1.0]], "expected 2 shares");
        refused(|own| own.stages[0].quantities[0].shares = vec![vec![0.5, 0.4]], "make 1");
        refused(|own| own.stages[0].quantities[0].usual = 0.0, "usual");
    }
}
