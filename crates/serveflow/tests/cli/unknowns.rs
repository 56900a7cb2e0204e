//! Open-set rules: what the report says of them is what evaluation finds and `run` writes.

use super::kit::{data, put, scratch, serveflow, some_labels, text, train};
use serde_json::Value;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs a bundle on a class of the test captures.
fn verdicts(bundle: &Path, class: &str, format: &str) -> String {
    let capture = data().join(format!("test/{class}.pcap.zst"));
    serveflow(&["run", "--bundle", text(bundle), text(&capture), "--format", format]).exits(0).out
}

#[test]
fn flows_of_no_known_class_are_called_unknown() {
    let dir = scratch("unknowns");
    let known = ["http", "llmnr", "mdns", "smb", "tls"];
    let labels = put(dir.join("labels.csv"), some_labels(&known));
    let bundle = dir.join("bundle");
    let wish = ["--stages", "tree@1,boosted@5", "--no-audit", "--unknown-rate", "0.05"];
    train(&labels, &data(), &bundle, &[&wish[..], &["--unknown-classes", "2"]].concat()).exits(0);
    let report = json(&bundle.join("report.json"));
    let told = &report["unknown"];
    assert_eq!(told["held_out"]["classes"].as_array().unwrap().len(), 2, "{told}");
    for class in told["held_out"]["classes"].as_array().unwrap() {
        let is_share = |area: &Value| (0.0..=1.0).contains(&area.as_f64().unwrap());
        assert!(class["test"].as_array().unwrap().iter().all(is_share), "{class}");
    }
    for part in ["report.txt", "report.html"] {
        let text = std::fs::read_to_string(bundle.join(part)).unwrap();
        assert!(text.to_lowercase().contains("flows of no known class"), "{part}");
    }
    let inspected = serveflow(&["inspect", text(&bundle)]).exits(0).out;
    assert!(inspected.contains("    unknown  if its "), "{inspected}");
    // At most the stated share of the calibration flows, and what evaluation measures.
    for stage in told["stages"].as_array().unwrap() {
        assert!(stage["val"][1].as_f64().unwrap() <= 0.05, "{stage}");
    }
    let out = dir.join("figures.json");
    let (captures, args) = (data(), ["evaluate", "--bundle", text(&bundle), "--json", text(&out)]);
    let rest = ["--captures", text(&captures), "--labels", text(&labels)];
    serveflow(&[&args[..], &rest[..]].concat()).exits(0);
    let figures = json(&out);
    let (said, found) = (told["test"].as_f64(), figures["unknown"]["share"].as_f64());
    assert!((said.unwrap() - found.unwrap()).abs() < 1e-9, "{said:?} was said, {found:?} found");

    // One rule that calls everything unknown: no verdict has a label that could be taken for an
    // answer.
    let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
    let strict: Vec<&str> = plan
        .lines()
        .map(|line| if line.starts_with("threshold = ") { "threshold = -1.0" } else { line })
        .collect();
    put(bundle.join("plan.toml"), strict.join("\n") + "\n");
    serveflow(&["bundle", "pack", text(&bundle)]).exits(0);
    let lines = verdicts(&bundle, "http", "json");
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        assert_eq!(verdict["label"], "unknown", "{line}");
        assert!(known.contains(&verdict["nearest"].as_str().unwrap()), "{line}");
    }
    let table = verdicts(&bundle, "http", "csv");
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let label = head.iter().position(|name| *name == "label").unwrap();
    assert_eq!(head.last(), Some(&"nearest"));
    assert!(rows.all(|row| row[label] == "unknown" && known.contains(row.last().unwrap())));
}

#[test]
fn no_rule_is_asked_for_and_there_is_none() {
    let report = json(&super::kit::bundle().join("report.json"));
    assert_eq!(report["unknown"], Value::Null);
    let plan = std::fs::read_to_string(super::kit::bundle().join("plan.toml")).unwrap();
    assert!(!plan.contains("unknown"), "{plan}");
    let args = ["--stages", "tree@1,boosted@5", "--uncertainty", "margin", "--unknown-rate", "0.1"];
    let dir = scratch("unknowns-refused");
    let labels = put(dir.join("labels.csv"), some_labels(&["http", "tls"]));
    train(&labels, &data(), &dir, &args).exits(2).says(&["--unknown-rate"]);
}
