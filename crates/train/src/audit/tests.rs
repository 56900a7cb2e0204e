//! The evaluation on data whose truth is known.

use super::*;
use crate::dataset::FlowInfo;
use crate::random::{Random, mix};
use serveflow_core::counters::Counters;
use serveflow_core::features::Features;
use serveflow_core::rows::Rows;
use serveflow_core::verdict::FiveTuple;
use serveflow_label::Split;
use std::collections::HashSet;

const CAPTURES: usize = 50;
const FLOWS: usize = 12;

/// A flow of one IPv4 packet.
#[derive(Clone, Copy)]
struct Made {
    label: u16,
    split: Split,
    capture: usize,
    ttl: u32,
    ip_id: u32,
    size: f32,
    gap: f32,
}

fn plan() -> TrainPlan {
    let mut plan = TrainPlan { threads: 2, ..TrainPlan::default() };
    plan.params.boost.rounds = 12;
    plan.params.boost.column_fraction = 1.0;
    plan.params.boost.learning_rate = 0.3;
    plan
}

/// What would have been recorded of some flows.
fn dataset(flows: &[Made], plan: &TrainPlan, tier: Tier) -> Dataset {
    let specs = recording(plan, tier).specs;
    let features: Vec<Features> = specs.iter().map(|spec| Features::new(spec).unwrap()).collect();
    let rows = specs.iter().zip(&features).map(|(spec, features)| {
        let mut rows = Rows::with_capacity(features.shape(), flows.len());
        for flow in flows {
            let (words, numbers) = rows.push();
            numbers.copy_from_slice(&[flow.size, flow.gap, 0.0, 0.0, 0.0]);
            if !words.is_empty() {
                let shown = if spec.masks.hides("ipv4_id") { 0 } else { flow.ip_id << 16 };
                (words[0], words[1], words[2], words[32]) =
                    (0x4500_0000, shown, flow.ttl << 24, 0xf800_0000);
            }
        }
        rows
    });
    let info = |flow: &Made| FlowInfo {
        flow: FiveTuple {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            src_port: 1,
            dst_port: 2,
            proto: 6,
            vlan: None,
        },
        first_ns: 0,
        packets: 1,
        file: 0,
        capture: Capture::Source(flow.capture as u32),
        label: Some(flow.label),
        split: flow.split,
    };
    Dataset {
        labels: ["a".to_owned(), "b".to_owned()].to_vec(),
        columns: features.iter().map(Features::columns).collect(),
        rows: rows.collect(),
        facts: vec![Vec::new(); specs.len()],
        flows: flows.iter().map(info).collect(),
        specs,
        missing: 0,
        accounts: Counters::default(),
        damaged: Vec::new(),
    }
}

/// Captures of one label each, that no rule foretells; flows look alike but for their gaps.
fn made() -> Vec<Made> {
    let mut random = Random::new(&[5]);
    let flow = |index: usize| {
        let capture = index / FLOWS;
        let split = match capture * 10 / CAPTURES {
            0..6 => Split::Train,
            6..8 => Split::Val,
            _ => Split::Test,
        };
        let label = (mix(capture as u64 + 77) & 1) as u16;
        let gap = index as f32 + random.share() as f32 / 4.0;
        Made { label, split, capture, ttl: 64, ip_id: 0, size: 60.0, gap: (gap * 7919.0) % 1e4 }
    };
    (0..CAPTURES * FLOWS).map(flow).collect()
}

fn examined(flows: &[Made], plan: &TrainPlan) -> AuditReport {
    let tier = "boosted@1".parse().unwrap();
    examine_recorded(&dataset(flows, plan, tier), plan, tier, &mut |_| ()).unwrap()
}

fn kinds(report: &AuditReport) -> HashSet<WarningKind> {
    report.warnings.iter().map(|warning| warning.kind).collect()
}

#[test]
fn a_field_that_is_the_captures_identity_is_warned_of() {
    let mut flows = made();
    // 7 and 256 have no common factor, so each capture has a TTL of its own.
    flows.iter_mut().for_each(|flow| flow.ttl = (flow.capture as u32 * 7 + 3) % 256);
    let report = examined(&flows, &plan());
    let found = kinds(&report);
    assert!(found.contains(&WarningKind::RandomSplit), "{}", report.text());
    assert!(found.contains(&WarningKind::Identity), "{}", report.text());
    assert!(report.random.masked.macro_f1.value > 0.9, "{}", report.text());
    assert!(report.given.masked.macro_f1.value < 0.75, "{}", report.text());
    let ttl = &report.random_fields.identity[0];
    assert_eq!((ttl.field.as_str(), ttl.share), ("ttl", 1.0), "nothing else tells labels apart");
    assert!(report.text().contains("`ttl`"), "{}", report.text());
}

#[test]
fn identity_shows_on_the_given_split_where_captures_are_shared() {
    let mut flows = made();
    for (index, flow) in flows.iter_mut().enumerate() {
        flow.ttl = (flow.capture as u32 * 7 + 3) % 256;
        flow.split = Split::ALL[[0, 0, 1, 2][index % 4]];
    }
    let report = examined(&flows, &plan());
    let ttl = &report.fields.identity[0];
    assert_eq!(ttl.field, "ttl");
    assert!(ttl.share > 0.9 && ttl.drop > 0.3, "{ttl:?}");
    let found = kinds(&report);
    assert!(!found.contains(&WarningKind::RandomSplit), "both are as kind");
    for kind in [WarningKind::Identity, WarningKind::SharedCaptures] {
        assert!(found.contains(&kind), "{}", report.text());
    }
    assert!(report.text().contains("On the given split `ttl`"), "{}", report.text());
}

#[test]
fn identity_that_the_masks_hide_shows_without_them() {
    let mut flows = made();
    flows.iter_mut().for_each(|flow| flow.ip_id = flow.capture as u32 * 1009);
    let report = examined(&flows, &plan());
    let found = kinds(&report);
    assert!(found.contains(&WarningKind::UnmaskedRandom), "{}", report.text());
    assert!(!report.fields.top.iter().any(|field| field.field.contains("ipv4_id")));
    assert!(report.random.unmasked.macro_f1.value > report.random.masked.macro_f1.value + 0.2);
}

#[test]
fn what_the_label_is_made_of_is_found_and_nothing_is_warned_of_but_an_easy_task() {
    let mut flows = made();
    let mut random = Random::new(&[6]);
    for flow in &mut flows {
        flow.size = f32::from(flow.label) * 500.0 + 100.0 + random.below(50) as f32;
    }
    let report = examined(&flows, &plan());
    assert_eq!(kinds(&report), HashSet::from([WarningKind::Nearest]), "{}", report.text());
    assert_eq!(report.fields.top[0].field, "size");
    assert!(report.fields.top[0].share > 0.99);
    assert_eq!(report.given.masked.macro_f1.value, 1.0);
    assert_eq!(report.data.captures, Counts { train: 30, val: 10, test: 10 });
}

#[test]
fn copies_are_counted_exactly() {
    let mut flows = made();
    flows.iter_mut().for_each(|flow| flow.size = 100.0 + f32::from(flow.label) * 500.0);
    // No two flows have the same gap, so a copy is what is made one here.
    flows.iter_mut().enumerate().for_each(|(index, flow)| flow.gap = index as f32);
    let of = |flows: &[Made], split, label| -> Vec<usize> {
        (0..flows.len()).filter(|&i| flows[i].split == split && flows[i].label == label).collect()
    };
    let (a, b) = (of(&flows, Split::Train, 0), of(&flows, Split::Train, 1));
    let tests = [of(&flows, Split::Test, 0), of(&flows, Split::Test, 1)].concat();
    let train_of = |label: u16| if label == 0 { &a } else { &b };
    // 20 copies of the same label, 10 of both labels, 5 of the other label alone.
    for (at, &test) in tests.iter().take(35).enumerate() {
        let own = flows[test].label;
        let source = match at {
            0..20 => train_of(own)[at],
            20..30 => {
                let (twin, source) = (train_of(1 - own)[at], train_of(own)[at]);
                (flows[twin].size, flows[twin].gap) = (flows[source].size, flows[source].gap);
                source
            }
            _ => train_of(1 - own)[at],
        };
        (flows[test].size, flows[test].gap) = (flows[source].size, flows[source].gap);
    }
    let report = examined(&flows, &plan());
    let found = &report.duplicates;
    assert_eq!((found.test_flows, found.duplicates), (120, 35));
    assert_eq!((found.other_label, found.only_other_labels), (15, 5));
    assert!(kinds(&report).contains(&WarningKind::Duplicates));
    // What the model gets wrong are the copies with a foreign size.
    assert!(report.given.masked.accuracy.value < 1.0);
    assert_eq!(found.without.unwrap().accuracy.value, 1.0);
}

#[test]
fn shared_captures_and_unseen_labels_are_told() {
    let mut flows = made();
    for flow in &mut flows {
        if flow.split == Split::Train {
            flow.label = 0;
        }
    }
    flows.iter_mut().filter(|flow| flow.split == Split::Test).for_each(|flow| flow.capture %= 3);
    let report = examined(&flows, &plan());
    let test_b = flows.iter().filter(|f| f.split == Split::Test && f.label == 1).count();
    assert_eq!(report.data.unseen, [UnseenLabel { label: "b".to_owned(), flows: test_b }]);
    assert_eq!((report.data.shared_captures, report.data.captures.test), (3, 3));
    let found = kinds(&report);
    for kind in [WarningKind::SharedCaptures, WarningKind::Unseen, WarningKind::FewCaptures] {
        assert!(found.contains(&kind), "{kind:?}");
    }
}
