//! A random split beside the data's own, and stratified samples.

use crate::dataset::Dataset;
use crate::pipeline::{PipelineError, filled};
use crate::random::Random;
use serveflow_label::Split;
use std::collections::BTreeMap;

const TAG_SPLIT: u64 = 0x7370_6c69;

/// Flow indices of the three parts of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) train: Vec<usize>,
    pub(super) val: Vec<usize>,
    pub(super) test: Vec<usize>,
}

impl Parts {
    /// The data's own.
    pub(super) fn given(dataset: &Dataset) -> Result<Self, PipelineError> {
        Ok(Self {
            train: filled(dataset, Split::Train)?,
            val: filled(dataset, Split::Val)?,
            test: filled(dataset, Split::Test)?,
        })
    }

    /// The same flows and sizes, dealt out regardless of capture, time and label.
    pub(super) fn random(&self, seed: u64) -> Self {
        let mut flows = [&self.train[..], &self.val, &self.test].concat();
        flows.sort_unstable();
        let count = flows.len();
        Random::new(&[seed, TAG_SPLIT]).choose(&mut flows, count);
        let (train, rest) = flows.split_at(self.train.len());
        let (val, test) = rest.split_at(self.val.len());
        let sorted = |part: &[usize]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part
        };
        Self { train: sorted(train), val: sorted(val), test: sorted(test) }
    }
}

/// At most `most` of some labelled flows, in order: of each label its share, rounded so that the
/// sum is met, and at least one flow of each as far as there is room.
pub(super) fn stratified(flows: &[usize], labels: &[u16], most: usize, seed: u64) -> Vec<usize> {
    if flows.len() <= most {
        return flows.to_vec();
    }
    let mut by_label: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    flows
        .iter()
        .zip(labels)
        .for_each(|(&flow, &label)| by_label.entry(label).or_default().push(flow));
    let mut random = Random::new(&[seed, TAG_SPLIT, 1]);
    // Each flow gets its rank within its label as a share; the lowest shares are kept, so that each
    // label keeps the same part of its flows, and its first flow comes before any label's second.
    let mut ranked: Vec<(bool, f64, usize)> = Vec::with_capacity(flows.len());
    for own in by_label.values_mut() {
        let count = own.len();
        random.choose(own, count);
        let rank = |(at, &flow): (usize, &usize)| (at > 0, at as f64 / count as f64, flow);
        ranked.extend(own.iter().enumerate().map(rank));
    }
    ranked.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut kept: Vec<usize> = ranked[..most].iter().map(|&(_, _, flow)| flow).collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_split_deals_out_the_same_flows_in_the_same_sizes() {
        let given =
            Parts { train: (0..60).collect(), val: (60..75).collect(), test: (75..99).collect() };
        let random = given.random(3);
        assert_eq!(
            (random.train.len(), random.val.len(), random.test.len()),
            (60, 15, 24),
            "sizes stay"
        );
        let mut all = [&random.train[..], &random.val, &random.test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..99).collect::<Vec<usize>>());
        let stayed = random.test.iter().filter(|flow| given.test.contains(flow)).count();
        assert!(stayed < 15, "about 6 of 24 test flows stay by chance, {stayed} did");
        assert_eq!(random, given.random(3));
        assert_ne!(random, given.random(4));
    }

    #[test]
    fn a_stratified_sample_keeps_each_labels_share_and_rare_labels() {
        let flows: Vec<usize> = (0..1000).collect();
        let label = |&flow: &usize| if flow < 700 { 0 } else { 1 + u16::from(flow == 999) };
        let labels: Vec<u16> = flows.iter().map(label).collect();
        let kept = stratified(&flows, &labels, 100, 1);
        let of = |label| kept.iter().filter(|&&flow| labels[flow] == label).count();
        assert_eq!(kept.len(), 100);
        assert!((69..=71).contains(&of(0)) && (28..=30).contains(&of(1)), "{} {}", of(0), of(1));
        assert_eq!(of(2), 1);
        assert_eq!(stratified(&flows, &labels, 1000, 1), flows);
    }
}
