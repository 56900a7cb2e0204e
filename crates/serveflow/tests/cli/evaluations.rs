//! `train`, then `evaluate`: figures that hold together.

use super::kit::{self, data, put, scratch, serveflow, small, text, train};
use serde_json::Value;
use std::path::Path;

fn evaluate(bundle: &Path, labels: &Path, more: &[&str]) -> (kit::Ran, Value) {
    let name = format!("evaluate-{:?}", std::thread::current().id());
    let json = scratch(&name).join("evaluation.json");
    let captures = data();
    let mut args = vec!["evaluate", "--bundle", text(bundle), "--captures", text(&captures)];
    args.extend(["--labels", text(labels), "--json", text(&json)]);
    args.extend(more);
    let ran = serveflow(&args).exits(0);
    (ran, serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap())
}

fn number(report: &Value, path: &str) -> f64 {
    let found = path.split('.').try_fold(report, |value, key| value.get(key));
    found.and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is a number"))
}

#[test]
fn the_figures_are_there_and_hold_together() {
    let (labels, bundle) = small();
    let (ran, report) = evaluate(bundle, labels, &[]);
    let shares = ["accuracy", "macro_f1", "weighted_f1", "share_under_16ms", "oracle.macro_f1"];
    for path in shares.into_iter().chain([
        "slow_only.macro_f1",
        "slow_only.share_under_16ms",
        "fast_only.macro_f1",
        "random.macro_f1",
    ]) {
        assert!((0.0..=1.0).contains(&number(&report, path)), "{path}");
    }
    for who in ["", "slow_only."] {
        for part in ["collection", "compute", "end_to_end"] {
            let of = |percent: &str| number(&report, &format!("{who}latency_us.{part}.{percent}"));
            assert!(of("p50") <= of("p90") && of("p90") <= of("p99"), "{who}{part}");
        }
    }
    let flows = number(&report, "flows");
    assert_eq!((number(&report, "disagreements"), number(&report, "missing_flows")), (0.0, 0.0));
    let sum = |list: &str, key: &str| -> f64 {
        report[list].as_array().unwrap().iter().map(|entry| number(entry, key)).sum()
    };
    assert_eq!(sum("classes", "flows"), flows);
    assert!((sum("stages", "share") - 1.0).abs() < 1e-9);
    let mean = sum("classes", "f1") / report["classes"].as_array().unwrap().len() as f64;
    assert!((mean - number(&report, "macro_f1")).abs() < 1e-9);
    for (stage, name) in
        report["stages"].as_array().unwrap().iter().zip(["tree@1", "boosted@1", "boosted@5"])
    {
        assert_eq!(stage["name"], name);
        assert!(stage["model"].is_string() && number(stage, "macro_f1") <= 1.0);
        assert_eq!(number(stage, "packets"), if name == "boosted@5" { 5.0 } else { 1.0 });
    }
    let packets = |key: &str| number(&report, &format!("accounts.packets.{key}"));
    let rejected = &report["accounts"]["packets"]["rejected"];
    let rejected: f64 = rejected.as_object().unwrap().values().filter_map(Value::as_f64).sum();
    let of_flows = ["recorded", "ignored", "after_close"].map(packets);
    assert_eq!(packets("seen"), of_flows.iter().sum::<f64>() + rejected);
    assert_eq!(packets("filtered"), 0.0);
    assert_eq!(report["accounts"]["balanced"], true);
    let verdicts = report["accounts"]["flows"]["verdicts"].as_object().unwrap();
    let verdicts: f64 = verdicts.values().filter_map(Value::as_f64).sum();
    assert_eq!(number(&report, "accounts.flows.seen"), verdicts);
    assert_eq!(verdicts, flows + number(&report, "other_flows"));
    assert!(ran.out.contains("oracle") && ran.out.contains("macro-F1"));
}

#[test]
fn every_split_of_the_table_is_met_whole() {
    let (labels, bundle) = small();
    let table = std::fs::read_to_string(labels).unwrap();
    for split in ["train", "val", "test"] {
        let (_, report) = evaluate(bundle, labels, &["--split", split]);
        let listed = table.lines().filter(|line| line.split(',').nth(1) == Some(split)).count();
        // One flow is a single packet whose TCP header claims more bytes than the packet has.
        let missing = if split == "train" { 1.0 } else { 0.0 };
        assert_eq!(number(&report, "flows"), listed as f64 - missing, "{split}");
        assert_eq!(number(&report, "missing_flows"), missing, "{split}");
        assert_eq!(number(&report, "accounts.packets.rejected.bad_transport"), missing);
        assert_eq!(report["split"], split);
    }
}

/// The bundle's files but for the measured costs.
fn without_costs(bundle: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(bundle.join("models")).unwrap() {
        let path = entry.unwrap().path();
        files.push((
            path.file_name().unwrap().to_string_lossy().into_owned(),
            std::fs::read(&path).unwrap(),
        ));
    }
    let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
    let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with("score_")).collect();
    files.push(("plan.toml".to_owned(), lines.join("\n").into_bytes()));
    files.sort();
    files
}

#[test]
fn seeds_decide_and_threads_do_not() {
    let (dir, (labels, _)) = (scratch("seeds"), small());
    let fit = |name: &str, seed: &str, threads: &str| {
        let out = dir.join(name);
        let args =
            ["train", "--captures", text(&data()), "--labels", text(labels)].map(str::to_owned);
        let more =
            ["--stages", "forest@2,boosted@2", "--rounds", "3", "--trees", "7", "--seed", seed];
        let more = more.into_iter().chain(["--uncertainty", "margin", "--no-audit"]);
        let more = more.into_iter().chain(["--threads", threads, "--out", text(&out)]);
        let args: Vec<String> = args.into_iter().chain(more.map(str::to_owned)).collect();
        serveflow(&args).exits(0);
        without_costs(&out)
    };
    let one = fit("one", "5", "1");
    assert_eq!(one, fit("again", "5", "1"));
    assert_eq!(one, fit("two", "5", "2"));
    assert_ne!(one, fit("other", "6", "1"));
}

#[test]
fn a_new_bundle_replaces_the_old_one() {
    let (dir, (labels, _)) = (scratch("replace"), small());
    let out = dir.join("bundle");
    train(labels, &data(), &out, &["--stages", "tree@1,boosted@3"]).exits(0);
    train(labels, &data(), &out, &["--stages", "tree@2"]).exits(0).says(&["flows with 5 labels"]);
    let (_, report) = evaluate(&out, labels, &[]);
    assert_eq!(report["stages"].as_array().unwrap().len(), 1);
    assert_eq!(report["slow_only"]["macro_f1"], report["fast_only"]["macro_f1"]);
}

#[test]
fn the_largest_numbers_make_a_bundle_that_loads() {
    let (dir, (labels, _)) = (scratch("largest"), small());
    let most = i64::MAX.to_string();
    let more = ["--stages", "tree@1,tree@2", "--seed", &most, "--wait-ms", &most];
    train(labels, &data(), &dir.join("bundle"), &more).exits(0);
    let (_, report) = evaluate(&dir.join("bundle"), labels, &[]);
    assert_eq!(number(&report, "disagreements"), 0.0);
}

#[test]
fn compare_prints_each_kind_at_each_depth() {
    let (dir, (labels, _)) = (scratch("compare"), small());
    let more = ["--stages", "tree@1", "--compare", "--depths", "3,1,3", "--trees", "3"];
    let ran = train(labels, &data(), &dir.join("bundle"), &more).exits(0);
    let names: Vec<&str> =
        ran.out.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["tree@1", "forest@1", "boosted@1", "tree@3", "forest@3", "boosted@3"]);
}

#[test]
fn limits_change_no_split_and_no_flow() {
    let (labels, bundle) = small();
    let (_, plain) = evaluate(bundle, labels, &[]);
    for toml in
        ["[flows]\ncapacity = 1", "[limits]\nrecord_packets = 1", "[output]\nprovisional = true"]
    {
        let path = put(scratch("evaluate-limits").join("serveflow.toml"), toml);
        let (_, report) = evaluate(bundle, labels, &["--config", text(&path)]);
        assert_eq!(report["accounts"]["balanced"], true, "{toml}");
        if !toml.contains("capacity") {
            assert_eq!(report["flows"], plain["flows"], "{toml}");
        }
    }
}
