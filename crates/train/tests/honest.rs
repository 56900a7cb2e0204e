//! The honest evaluation on real captures.
#![allow(clippy::unwrap_used)]

mod common;

use common::{book_of, data, quick_plan};
use serveflow_label::Split;
use serveflow_train::audit::{AuditReport, Figures, examine};
use serveflow_train::dataset::record;
use serveflow_train::pipeline::TrainPlan;
use std::collections::HashSet;

const LABELS: [&str; 3] = ["mdns", "smb", "ssdp"];

#[test]
fn a_few_captures_are_examined_alike_on_any_number_of_threads() {
    let book = book_of("honest", "app_protocol", &LABELS);
    let mut plan = TrainPlan { threads: 1, ..quick_plan(&["boosted@3"]) };
    plan.params.boost.rounds = 30;
    let report = examine(&book, &plan, plan.tiers[0], &mut |_| ()).unwrap();
    let two = TrainPlan { threads: 2, ..plan.clone() };
    assert_eq!(examine(&book, &two, plan.tiers[0], &mut |_| ()).unwrap(), report);

    let all: [Figures; 5] = [
        report.given.masked,
        report.given.unmasked,
        report.random.masked,
        report.random.unmasked,
        report.nearest.figures,
    ];
    for estimate in all.iter().flat_map(|figures| [figures.macro_f1, figures.accuracy]) {
        let interval = estimate.interval.unwrap();
        assert!(0.0 <= interval.low && interval.low <= interval.high && interval.high <= 1.0);
        assert!(estimate.value > 0.5, "these are told apart: {estimate:?}\n{}", report.text());
    }
    assert!(report.data.captures_from_table);
    let table = std::fs::read_to_string(data("app_protocol").join("labels.csv")).unwrap();
    let sources: HashSet<[&str; 2]> = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<&str>>())
        .filter(|fields| fields[1] == "test" && LABELS.contains(&fields[2]))
        .map(|fields| [fields[9], fields[10]])
        .collect();
    assert!(sources.len() > LABELS.len(), "captures are more than the files they were cut into");
    assert_eq!(report.data.captures.test, sources.len());
    assert_eq!(report.data.shared_captures, 0, "the sample is split by test case and device");

    let written = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<AuditReport>(&written).unwrap(), report);
    let text = report.text();
    assert!(text.contains("boosted@3") && text.lines().all(|line| line.len() <= 100), "{text}");
    for warning in &report.warnings {
        let first: Vec<&str> = warning.sentence.split(' ').take(5).collect();
        assert!(text.contains(&first.join(" ")), "{text}");
    }
}

#[test]
fn copies_are_those_that_a_look_at_all_pairs_finds() {
    let book = book_of("honest-copies", "app_protocol", &LABELS);
    let plan = quick_plan(&["boosted@1"]);
    let report = examine(&book, &plan, plan.tiers[0], &mut |_| ()).unwrap();
    let dataset = record(&book, &plan.recording(&[1]), &mut |_| ()).unwrap();
    let (train, test) = (dataset.split(Split::Train), dataset.split(Split::Test));
    let rows = &dataset.rows[0];
    let equal =
        |a: usize, b: usize| rows.words(a) == rows.words(b) && rows.numbers(a) == rows.numbers(b);
    let copies = test.iter().filter(|&&own| train.iter().any(|&other| equal(own, other))).count();
    assert!(copies > 0, "one packet each, so some are alike");
    assert_eq!((report.duplicates.duplicates, report.duplicates.test_flows), (copies, test.len()));
}
