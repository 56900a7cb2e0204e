//! What `run` writes: lines that parse, keys that are documented, accounts that balance.

use super::kit::{self, Ran, data, put, run, scratch, text};
use serde_json::Value;
use serveflow_core::packet::LinkType;
use serveflow_io::{Batch, CaptureReader, PcapWriter, Source};
use std::collections::BTreeMap;
use std::path::Path;

const KEYS: [&str; 18] = [
    "flow",
    "src",
    "src_port",
    "dst",
    "dst_port",
    "proto",
    "label",
    "confidence",
    "stage",
    "packets",
    "reason",
    "final",
    "first_ts",
    "deciding_ts",
    "collection_us",
    "compute_us",
    "vlan",
    "nearest",
];

fn capture() -> std::path::PathBuf {
    data().join("test/http.pcap.zst")
}

/// Fails unless accounts balance and are those of the final verdicts.
fn accounts_hold(ran: &Ran) {
    let packets = ran.account("packets");
    let [seen, recorded, ignored, after_close, rejected, filtered] = packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!((seen, filtered), (recorded + ignored + after_close + rejected, 0));
    let flows = ran.account("flows");
    let [seen, verdicts, waiting, asked] = flows[..] else { panic!("{flows:?}") };
    assert_eq!((seen, waiting, asked), (verdicts, 0, 0));
    let all = ran.verdicts();
    let finals: Vec<&Value> = all.iter().filter(|verdict| verdict["final"] == true).collect();
    assert_eq!(finals.len() as u64, verdicts);
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    finals.iter().for_each(|v| *reasons.entry(v["reason"].as_str().unwrap()).or_default() += 1);
    for (reason, count) in reasons {
        let expected = format!("{reason} {count}");
        assert!(
            ran.err.lines().any(|line| line.contains("verdicts: ") && line.contains(&expected))
        );
    }
}

#[test]
fn lines_hold_the_documented_keys() {
    let ran = run(&[&capture()], &[]).exits(0);
    for line in ran.out.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        let keys: Vec<&String> = verdict.as_object().unwrap().keys().collect();
        assert!(keys.iter().all(|key| KEYS.contains(&key.as_str())), "{line}");
        assert_eq!(keys.len(), KEYS.len() - 2, "all but `vlan` and `nearest`: {line}");
        let confidence = verdict["confidence"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&confidence), "{line}");
        assert!(verdict["collection_us"].as_f64() >= Some(0.0));
        assert!(verdict["first_ts"].as_f64() <= verdict["deciding_ts"].as_f64());
    }
    let stages: Vec<String> =
        ran.verdicts().iter().map(|v| v["stage"].as_str().unwrap().to_owned()).collect();
    for stage in ["tree@1", "boosted@5"] {
        assert!(stages.iter().any(|found| found == stage), "{stage} decides some");
    }
    accounts_hold(&ran);
}

#[test]
fn csv_says_what_json_says() {
    let json = run(&[&capture()], &[]).exits(0).verdicts();
    let dir = scratch("csv");
    let out = dir.join("verdicts.csv");
    let ran = run(&[&capture()], &["--format", "csv", "--out", text(&out)]).exits(0);
    assert_eq!(ran.out, "");
    let table = std::fs::read_to_string(out).unwrap();
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert!(KEYS.iter().all(|key| header.contains(key)) && header.len() == KEYS.len());
    let mut rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    rows.sort_by_key(|row| row[0].parse::<u64>().unwrap());
    assert_eq!(rows.len(), json.len());
    for (row, verdict) in rows.iter().zip(&json) {
        for (key, field) in header.iter().zip(row).filter(|(key, _)| **key != "compute_us") {
            let expected = match &verdict[*key] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                // Times have nine decimals, which a float of JSON may not hold.
                Value::Number(_) if key.ends_with("_ts") => (*field).to_owned(),
                Value::Number(number) if number.is_f64() => {
                    assert_eq!(field.parse::<f64>().unwrap(), number.as_f64().unwrap());
                    continue;
                }
                other => other.to_string(),
            };
            assert_eq!(*field, expected, "{key}");
        }
    }
    let ran = run(&[&capture()], &["--format", "null"]).exits(0);
    assert_eq!((ran.out.as_str(), ran.account("flows")[0]), ("", json.len() as u64));
}

#[test]
fn provisional_verdicts_come_beside_the_final_ones() {
    let plain = run(&[&capture()], &[]).exits(0).verdicts();
    let ran = run(&[&capture()], &["--provisional"]).exits(0);
    accounts_hold(&ran);
    let (finals, early): (Vec<Value>, Vec<Value>) =
        ran.verdicts().into_iter().partition(|verdict| verdict["final"] == true);
    assert_eq!(finals, plain);
    assert!(!early.is_empty() && early.iter().all(|v| v["reason"] == "provisional"));
    // One for each stage that a flow left.
    let stage = |verdict: &Value| match verdict["stage"].as_str() {
        Some("tree@1") => 0,
        Some("boosted@1") => 1,
        _ => 2,
    };
    // A gate may send a flow past a stage, but never back.
    for verdict in &finals {
        let told = early.iter().filter(|early| early["flow"] == verdict["flow"]).count();
        assert!(told <= stage(verdict) && (told > 0) == (stage(verdict) > 0), "{verdict}");
    }
    let order = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut decided = std::collections::HashSet::new();
    for verdict in order {
        let flow = verdict["flow"].as_u64().unwrap();
        assert!(!decided.contains(&flow), "nothing follows a final verdict");
        if verdict["final"] == true {
            decided.insert(flow);
        }
    }
}

#[test]
fn quiet_is_quiet() {
    let ran = run(&[&capture()], &["--quiet"]).exits(0);
    assert_eq!(ran.err, "");
    assert!(!ran.out.is_empty());
}

#[test]
fn helpers_of_a_shell_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = kit::serveflow(&["completions", shell]).exits(0);
        assert!(ran.out.contains("serveflow") && ran.out.contains("evaluate"), "{shell}");
    }
    let ran = kit::serveflow(&["man"]).exits(0);
    assert!(ran.out.contains(".TH") && ran.out.contains("evaluate"));
    let ran = kit::serveflow(&["config", "example"]).exits(0);
    let path = put(scratch("example").join("serveflow.toml"), &ran.out);
    run(&[&capture()], &["--config", text(&path)]).exits(0);
    let ran = kit::serveflow(&["inspect", text(kit::bundle()), text(&capture())]).exits(0);
    assert!(ran.out.contains("boosted@5") && ran.out.contains("1 (ETHERNET)"), "{}", ran.out);
}

#[test]
fn an_output_that_is_one_of_the_captures_is_refused() {
    let bytes = std::fs::read(capture()).unwrap();
    let path = scratch("same").join("capture.pcap.zst");
    std::fs::write(&path, &bytes).unwrap();
    run(&[&path], &["--out", text(&path)]).exits(1).says(&["other than the captures"]);
    kit::serveflow(&["features", text(&path), "--out", text(&path)])
        .exits(1)
        .says(&["other than the captures"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_full_device_is_an_error_with_a_sentence() {
    let full = Path::new("/dev/full");
    if full.exists() {
        run(&[&capture()], &["--out", text(full)])
            .exits(1)
            .says(&["/dev/full: cannot write verdicts"]);
    }
}

/// Verdicts in one order, without the numbers of their flows: workers number their own.
fn plain(ran: &Ran) -> Vec<Value> {
    let mut verdicts = ran.verdicts();
    for verdict in &mut verdicts {
        verdict.as_object_mut().unwrap().remove("flow").unwrap();
    }
    verdicts.sort_by_key(ToString::to_string);
    verdicts
}

#[test]
fn several_workers_tell_the_same_verdicts() {
    let capture = data().join("test/dns.pcap.zst");
    let one = run(&[&capture], &["--workers", "1"]).exits(0);
    let flows = one.account("flows:");
    let expected = plain(&one);
    for workers in ["2", "5"] {
        let ran = run(&[&capture], &["--workers", workers]).exits(0);
        assert_eq!(ran.account("flows:"), flows);
        let mut numbers: Vec<_> = ran.verdicts().iter().map(|v| v["flow"].as_u64()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), expected.len(), "each flow has a number of its own");
        assert_eq!(plain(&ran), expected, "{workers} workers");
    }
    let csv = run(&[&capture], &["--workers", "3", "--format", "csv"]).exits(0);
    let headings = csv.out.lines().filter(|line| line.starts_with("flow,")).count();
    assert!(csv.out.starts_with("flow,") && headings == 1, "one heading, and it is the first line");
    assert_eq!(csv.out.lines().count(), expected.len() + 1);
    run(&[&capture], &["--workers", "5000"]).exits(1).says(&["limits.workers", "5000"]);
}

/// Captures one after the other, as they are: each later one may begin before the earlier one
/// ended. Within them, a few packets come 17 ms or 200 s too early, alone or several in a row.
fn with_jumps(captures: &[&str], into: &Path) {
    let file = std::fs::File::create(into).unwrap();
    let mut writer = PcapWriter::new(file, LinkType::Ethernet, 65_535).unwrap();
    let mut batch = Batch::new();
    let mut count = 0_u64;
    for name in captures {
        let mut reader = CaptureReader::open(data().join("test").join(name)).unwrap();
        while reader.fill(&mut batch, 100).unwrap() > 0 {
            for mut packet in batch.iter() {
                count += 1;
                let back_ms = match count % 1_000 {
                    40 | 41 | 300 | 333 => 17,
                    500 | 620..623 | 800..802 => 200_000,
                    _ => 0,
                };
                packet.ts_ns -= back_ms * 1_000_000;
                writer.write(&packet).unwrap();
            }
        }
    }
}

#[test]
fn several_workers_tell_the_same_verdicts_when_time_steps_back() {
    let dir = scratch("time-steps-back");
    let capture = dir.join("jumps.pcap");
    with_jumps(&["http.pcap.zst", "dns.pcap.zst", "mdns.pcap.zst", "http.pcap.zst"], &capture);
    for (inputs, steps_back) in [(&[&*capture][..], true), (&[&data().join("test")], false)] {
        let one = run(inputs, &["--workers", "1"]).exits(0);
        let restarts = one.account("  notes");
        assert_eq!(restarts.first().is_some_and(|&count| count > 2), steps_back, "{restarts:?}");
        let (expected, flows) = (plain(&one), one.account("flows:"));
        for workers in ["2", "3", "7"] {
            let ran = run(inputs, &["--workers", workers]).exits(0);
            assert_eq!(ran.account("flows:"), flows, "{workers} workers");
            assert_eq!(ran.account("  notes"), restarts, "{workers} workers");
            assert!(plain(&ran) == expected, "{workers} workers");
        }
    }
}
