//! Plans: what is trained, guaranteed and planned anew is what evaluation then measures.

use super::kit::{Ran, bundle, data, put, scratch, serveflow, small, some_labels, text, train};
use serde_json::Value;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The figures of a bundle on a split.
fn evaluated(bundle: &Path, labels: &Path, split: &str) -> Value {
    let out = scratch("evaluated").join("figures.json");
    let data = data();
    let args = ["evaluate", "--bundle", text(bundle), "--captures", text(&data), "--labels"];
    let rest = [text(labels), "--split", split, "--json", text(&out)];
    serveflow(&[&args[..], &rest[..]].concat()).exits(0);
    json(&out)
}

fn replanned(from: &Path, out: &Path, more: &[&str]) -> Ran {
    let args = ["replan", "--bundle", text(from), "--out", text(out)];
    serveflow(&[&args[..], more].concat())
}

fn same(report: &Value, figures: &Value) {
    let said = report["chosen"]["test"]["macro_f1"].as_f64().unwrap();
    let found = figures["macro_f1"].as_f64().unwrap();
    assert!((said - found).abs() < 1e-9, "{said} was said, {found} was found");
    let shares = |stage: &Value| stage["share"].as_f64().unwrap();
    let found: Vec<f64> = figures["stages"].as_array().unwrap().iter().map(shares).collect();
    for (at, found) in found.iter().enumerate() {
        let said = report["chosen"]["test"]["decided"][at].as_f64().unwrap();
        assert!((said - found).abs() < 1e-9, "stage {at}: {said} was said, {found} was found");
    }
}

#[test]
fn a_plan_is_what_its_report_says_and_so_is_the_next_one() {
    let dir = scratch("plans");
    let labels = put(dir.join("labels.csv"), some_labels(&["http", "llmnr", "mdns", "smb", "tls"]));
    let first = dir.join("first");
    let wish = ["--stages", "tree@1,boosted@5", "--guarantee", "0.25", "--confidence", "0.8"];
    train(&labels, &data(), &first, &[&wish[..], &["--no-audit"]].concat()).exits(0);
    let report = json(&first.join("report.json"));
    same(&report, &evaluated(&first, &labels, "test"));
    let plan: toml::Table =
        std::fs::read_to_string(first.join("plan.toml")).unwrap().parse().unwrap();
    let granted = report["guarantee"]["granted"].as_bool().unwrap();
    assert_eq!(plan.contains_key("guarantee"), granted, "{plan:?}");
    assert!(granted, "a loss of a quarter can be guaranteed");
    let measured = report["guarantee"]["measured"].as_f64().unwrap();
    assert!(measured <= 0.25 && plan["guarantee"]["tolerated"].as_float() == Some(0.25));

    // Other wishes, no training: the candidates are the same, and so is what is said of them.
    let second = dir.join("second");
    replanned(&first, &second, &["--objective", "cpu", "--max-loss", "0.4"]).exits(0);
    let again = json(&second.join("report.json"));
    same(&again, &evaluated(&second, &labels, "test"));
    assert_eq!(report["singles"], again["singles"]);
    let cpu = |report: &Value| report["chosen"]["val"]["cpu_ns"].as_f64().unwrap();
    assert!(cpu(&again) <= cpu(&report) * 1.03, "{} {}", cpu(&again), cpu(&report));

    // What cannot be kept replaces nothing, and neither do other candidates.
    let asked = replanned(&first, bundle(), &[]).exits(1);
    asked.says(&["--out", "candidates of another training"]);
    let asked = replanned(&first, &second, &["--stages", "tree@1", "--guarantee", "0.1"]);
    asked.exits(1).says(&["--guarantee", "at least two --stages"]);
    // A limit that nothing keeps is named.
    let third = dir.join("third");
    replanned(&first, &third, &["--flows-per-s", "1e12"]).exits(0);
    let third = json(&third.join("report.json"));
    assert_eq!(third["verdict"]["outcome"], "not_met");
    assert_eq!(third["verdict"]["binding"], serde_json::json!(["rate"]));
}

#[test]
fn thresholds_by_gate_are_a_plan_like_any_other() {
    let dir = scratch("thresholds");
    let labels = put(dir.join("labels.csv"), some_labels(&["http", "llmnr", "mdns", "smb", "tls"]));
    let first = dir.join("first");
    let by_gate = ["--uncertainty", "least_confidence", "--max-loss", "0.01"];
    let stages = ["--stages", "tree@1,boosted@5", "--no-audit"];
    let auto = train(&labels, &data(), &first, &by_gate);
    auto.exits(1).says(&["--uncertainty: expected a list of --stages, found auto"]);
    train(&labels, &data(), &first, &[&stages[..], &by_gate].concat()).exits(0);
    let report = json(&first.join("report.json"));
    same(&report, &evaluated(&first, &labels, "test"));
    assert_eq!(report["chosen"]["thresholds"][0].as_array().map(Vec::len), Some(5));
    let page = std::fs::read_to_string(first.join("report.html")).unwrap();
    assert!(page.contains("over the threshold of the gate and the predicted class"));
    assert!(first.join("drift.json").is_file());
    let text = std::fs::read_to_string(first.join("plan.toml")).unwrap();
    let plan: toml::Table = text.parse().unwrap();
    let gate = &plan["stages"][0]["gate"];
    assert_eq!(gate["thresholds"].as_table().map(toml::Table::len), Some(5));
    let target = gate["calibration"]["target"].as_str().unwrap();
    assert_eq!(target, "macro-F1 at most 0.01 below the last stage alone");

    // Its candidates are planned anew: by other rules, and by the same one to the same plan.
    let again = dir.join("again");
    let named = ["--stages", "tree@1,boosted@5"];
    replanned(&first, &again, &[&named[..], &by_gate].concat()).exits(0);
    assert_eq!(std::fs::read_to_string(again.join("plan.toml")).unwrap(), text);
    let universal = [&named[..], &by_gate, &["--thresholds", "universal"]].concat();
    replanned(&first, &again, &universal).exits(0);
    assert_eq!(json(&again.join("report.json"))["chosen"]["thresholds"][0], {
        let text = std::fs::read_to_string(again.join("plan.toml")).unwrap();
        let plan: toml::Table = text.parse().unwrap();
        let threshold = plan["stages"][0]["gate"]["threshold"].as_float().unwrap();
        serde_json::json!([threshold])
    });
    replanned(&first, &again, &["--rule", "margin", "--escalate", "0.3"]).exits(0);
    same(&json(&again.join("report.json")), &evaluated(&again, &labels, "test"));
}

#[test]
fn what_has_no_candidates_is_not_planned_anew() {
    let dir = scratch("bare");
    let bare = dir.join("bare");
    std::fs::create_dir_all(&bare).unwrap();
    for file in ["plan.toml", "SHA256SUMS"] {
        std::fs::copy(bundle().join(file), bare.join(file)).unwrap();
    }
    replanned(&bare, &dir.join("out"), &[]).exits(1).says(&["pool.json", "cannot read"]);
    // Models that have seen the calibration split guarantee nothing on it.
    let (_, from) = small();
    let asked = replanned(from, &dir.join("out"), &["--guarantee", "0.1"]);
    asked.exits(1).says(&["--guarantee", "early stopping"]);
}

#[test]
fn a_window_stage_needs_windows() {
    let dir = scratch("window");
    let labels = put(dir.join("labels.csv"), some_labels(&["http", "llmnr", "mdns", "smb", "tls"]));
    let out = dir.join("bundle");
    let stages = ["--stages", "tree@1,boosted@window", "--no-audit"];
    let refused = train(&labels, &data(), &out, &stages);
    refused.exits(1).says(&["boosted@window", "window_ms"]);
    train(&labels, &data(), &out, &[&stages[..], &["--window-ms", "500"]].concat()).exits(0);
    let told = serveflow(&["inspect", text(&out)]).exits(0);
    for words in ["windows  500 ms", "at the end of the window"] {
        assert!(told.out.contains(words), "{words}: {}", told.out);
    }
    let whole = put(dir.join("whole.toml"), "[flows]\nwindow_ms = 0\n");
    let capture = data().join("test").join("http.pcap.zst");
    let run = ["run", text(&capture), "--bundle", text(&out)];
    serveflow(&run).exits(0);
    let refused = serveflow(&[&run[..], &["--config", text(&whole)]].concat());
    refused.exits(1).says(&["flows.window_ms", "boosted@window"]);
    let table = dir.join("rows.csv");
    let rows = ["features", text(&capture), "--out", text(&table), "--packets", "8"];
    let end = ["--at-window-end"];
    serveflow(&[&rows[..], &end].concat()).exits(1).says(&["--at-window-end", "--window-ms"]);
    serveflow(&[&rows[..], &end, &["--window-ms", "500"]].concat()).exits(0);
    let text = std::fs::read_to_string(&table).unwrap();
    assert!(text.lines().count() > 10, "a row for each window");
}
