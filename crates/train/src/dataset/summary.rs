//! How many labelled flows of how many captures each class has, by split, and what that cannot
//! support.

use crate::dataset::FlowInfo;
use serde::{Deserialize, Serialize};
use serveflow_label::Split;
use serveflow_label::diagnose::grouped;
use std::collections::BTreeSet;

/// Classes that a sentence names.
const NAMED: usize = 8;

/// Labelled flows, and the captures that they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCount {
    /// Flows.
    pub flows: u64,
    /// Captures.
    pub captures: u64,
}

/// A class in the splits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// The label.
    pub label: String,
    /// In the split `train`.
    pub train: SplitCount,
    /// In the split `val`.
    pub val: SplitCount,
    /// In the split `test`.
    pub test: SplitCount,
}

impl ClassCount {
    /// In a split.
    #[must_use]
    pub fn split(&self, split: Split) -> SplitCount {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::Test => self.test,
        }
    }

    /// In all splits together.
    #[must_use]
    pub fn flows(&self) -> u64 {
        Split::ALL.into_iter().map(|split| self.split(split).flows).sum()
    }
}

/// The labelled flows of a training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The classes, those of most flows first.
    pub classes: Vec<ClassCount>,
    /// Flows without a label.
    pub unlabelled: u64,
    /// Captures with training flows.
    pub train_captures: u64,
    /// Parts of the training captures that cross-fitting wants; below 2 for none.
    pub cross_fit: u64,
}

/// What a warning about a training is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingWarningKind {
    /// Classes without a training flow.
    NoTrainingFlows,
    /// Classes whose training flows are of one capture, while cross-fitting parts by capture.
    OneTrainingCapture,
    /// Fewer training captures than cross-fitting wants parts.
    FewTrainingCaptures,
    /// A limit that allows so much that the plan is far below the best single model.
    LooseLimit,
}

/// What the data or the limits of a training cannot support, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingWarning {
    /// What it is about.
    pub kind: TrainingWarningKind,
    /// The sentence.
    pub sentence: String,
}

impl DataSummary {
    /// Counts the flows; `labels` are the names that they index.
    #[must_use]
    pub fn new(labels: &[String], flows: &[FlowInfo], cross_fit: usize) -> Self {
        let mut counts = vec![[SplitCount::default(); 3]; labels.len()];
        let mut captures = BTreeSet::new();
        let mut train_captures = BTreeSet::new();
        let mut unlabelled = 0;
        for flow in flows {
            let Some(label) = flow.label.map(usize::from) else {
                unlabelled += 1;
                continue;
            };
            let split = flow.split as usize;
            counts[label][split].flows += 1;
            let is_new = captures.insert((label, split, flow.capture));
            counts[label][split].captures += u64::from(is_new);
            if flow.split == Split::Train {
                train_captures.insert(flow.capture);
            }
        }
        let class = |(label, [train, val, test]): (&String, [SplitCount; 3])| ClassCount {
            label: label.clone(),
            train,
            val,
            test,
        };
        let mut classes: Vec<ClassCount> = labels.iter().zip(counts).map(class).collect();
        classes.sort_by(|a, b| b.flows().cmp(&a.flows()).then_with(|| a.label.cmp(&b.label)));
        let (train_captures, cross_fit) = (train_captures.len() as u64, cross_fit as u64);
        Self { classes, unlabelled, train_captures, cross_fit }
    }

    /// Labelled flows of a split.
    #[must_use]
    pub fn flows(&self, split: Split) -> u64 {
        self.classes.iter().map(|class| class.split(split).flows).sum()
    }

    /// Classes that have training flows.
    #[must_use]
    pub fn trained(&self) -> Vec<&str> {
        let trained = self.classes.iter().filter(|class| class.train.flows > 0);
        trained.map(|class| class.label.as_str()).collect()
    }

    /// What the data cannot support.
    #[must_use]
    pub fn warnings(&self) -> Vec<TrainingWarning> {
        [self.no_training_flows(), self.few_captures(), self.one_capture()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn named(&self, is_meant: impl Fn(&ClassCount) -> bool) -> Option<String> {
        let meant: Vec<&ClassCount> = self.classes.iter().filter(|class| is_meant(class)).collect();
        if meant.is_empty() {
            return None;
        }
        let names: Vec<String> =
            meant.iter().take(NAMED).map(|class| format!("`{}`", class.label)).collect();
        let more = meant.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("{}{more}", names.join(", ")))
    }

    fn no_training_flows(&self) -> Option<TrainingWarning> {
        let names = self.named(|class| class.train.flows == 0)?;
        Some(TrainingWarning {
            kind: TrainingWarningKind::NoTrainingFlows,
            sentence: format!(
                "No training flow has the label {names}: no model can learn it, and each of its \
                 flows counts as wrong. Add flows of it to the split `train`, or remove the label."
            ),
        })
    }

    fn few_captures(&self) -> Option<TrainingWarning> {
        let (found, wanted) = (self.train_captures, self.cross_fit);
        (wanted >= 2 && found < wanted && found > 0).then(|| TrainingWarning {
            kind: TrainingWarningKind::FewTrainingCaptures,
            sentence: format!(
                "--cross-fit {wanted} needs training flows of at least {wanted} captures and found \
                 {found}: training flows are not cross-fitted, and the plan is chosen by the \
                 split `val` alone."
            ),
        })
    }

    fn one_capture(&self) -> Option<TrainingWarning> {
        if self.cross_fit < 2 || self.train_captures < self.cross_fit {
            return None;
        }
        let is_lonely = |class: &ClassCount| class.train.captures == 1;
        let names = self.named(is_lonely)?;
        let flows: u64 =
            self.classes.iter().filter(|class| is_lonely(class)).map(|c| c.train.flows).sum();
        Some(TrainingWarning {
            kind: TrainingWarningKind::OneTrainingCapture,
            sentence: format!(
                "All training flows of {names} come from one capture each. --cross-fit {} parts \
                 training flows by capture, so the models that score these {} flows for \
                 calibration have never seen their class: calibration figures are too low, and the \
                 plan is chosen by them. Use --cross-fit 0, or record each class in several \
                 captures.",
                self.cross_fit,
                grouped(flows)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serveflow_core::verdict::FiveTuple;
    use serveflow_label::Capture;
    use std::net::{IpAddr, Ipv4Addr};

    fn flow(label: Option<u16>, split: usize, capture: usize) -> FlowInfo {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        FlowInfo {
            flow: FiveTuple {
                src: host,
                dst: host,
                src_port: 1,
                dst_port: 2,
                proto: 6,
                vlan: None,
            },
            first_ns: 0,
            packets: 1,
            file: capture,
            capture: Capture::File(capture),
            label,
            split: Split::ALL[split],
        }
    }

    fn labels() -> Vec<String> {
        ["a", "b", "c", "d"].map(str::to_owned).to_vec()
    }

    proptest! {
        #[test]
        fn every_flow_is_counted_once_and_warnings_name_exactly_what_lacks(
            flows in proptest::collection::vec((0u16..5, 0usize..3, 0usize..5), 0..60),
            cross_fit in 0usize..5,
        ) {
            let flows: Vec<FlowInfo> = flows
                .into_iter()
                .map(|(label, split, capture)| flow((label < 4).then_some(label), split, capture))
                .collect();
            let summary = DataSummary::new(&labels(), &flows, cross_fit);
            let counted: u64 = summary.classes.iter().map(ClassCount::flows).sum();
            prop_assert_eq!(counted + summary.unlabelled, flows.len() as u64);
            let warnings = summary.warnings();
            let named = |kind| warnings.iter().find(|warning| warning.kind == kind);
            for (index, label) in labels().iter().enumerate() {
                let is_own = |flow: &&FlowInfo| {
                    flow.label == Some(index as u16) && flow.split == Split::Train
                };
                let own: Vec<&FlowInfo> = flows.iter().filter(is_own).collect();
                let captures: BTreeSet<Capture> = own.iter().map(|flow| flow.capture).collect();
                let quoted = format!("`{label}`");
                let says = |kind| named(kind).is_some_and(|one| one.sentence.contains(&quoted));
                prop_assert_eq!(says(TrainingWarningKind::NoTrainingFlows), own.is_empty());
                let is_parted = cross_fit >= 2 && summary.train_captures >= cross_fit as u64;
                prop_assert_eq!(
                    says(TrainingWarningKind::OneTrainingCapture),
                    is_parted && captures.len() == 1
                );
            }
        }
    }

    #[test]
    fn classes_of_most_flows_come_first() {
        let flows =
            [flow(Some(2), 0, 0), flow(Some(2), 1, 0), flow(Some(1), 2, 1), flow(None, 0, 0)];
        let summary = DataSummary::new(&labels(), &flows, 3);
        let order: Vec<&str> = summary.classes.iter().map(|class| class.label.as_str()).collect();
        assert_eq!(order, ["c", "b", "a", "d"]);
        assert_eq!((summary.unlabelled, summary.train_captures), (1, 1));
        assert_eq!(summary.trained(), ["c"]);
        assert_eq!(summary.warnings()[1].kind, TrainingWarningKind::FewTrainingCaptures);
    }
}
