//! Benches of whole cascades: their figures add up, and their answers are those of `evaluate`.

use super::kit::{self, data, scratch, serveflow, text};
use serde_json::Value;
use std::path::Path;

/// Runs a bench with the small bundle and reads its JSON.
fn bench(what: &str, dir: &Path, more: &[&str]) -> Value {
    let json = dir.join("bench.json");
    let mut args = vec!["--quiet", "bench", what, "--bundle", text(kit::bundle())];
    args.extend(["--json", text(&json)]);
    args.extend(more);
    serveflow(&args).exits(0);
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

/// The labelled flows of the small bundle.
fn labelled() -> [String; 4] {
    let (captures, labels) = (data(), &kit::small().0);
    ["--captures", text(&captures), "--labels", text(labels)].map(str::to_owned)
}

fn evaluation(dir: &Path) -> Value {
    let json = dir.join("evaluation.json");
    let flows = labelled();
    let mut args = vec!["evaluate", "--bundle", text(kit::bundle()), "--json", text(&json)];
    args.extend(flows.iter().map(String::as_str));
    serveflow(&args).exits(0);
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count: {value}"))
}

fn sum(values: &Value) -> u64 {
    values.as_object().unwrap().values().map(count).sum()
}

/// Holds a run's figures against each other.
fn adds_up(run: &Value) {
    let (packets, flows) = (&run["accounts"]["packets"], &run["accounts"]["flows"]);
    let kept = ["recorded", "ignored", "after_close"].map(|key| count(&packets[key]));
    let kept: u64 = kept.iter().sum();
    let left_out = count(&packets["filtered"]);
    assert_eq!(count(&packets["seen"]), kept + sum(&packets["rejected"]) + left_out);
    assert_eq!(count(&run["packets_made"]), count(&packets["seen"]) + count(&run["dropped"]));
    assert_eq!(count(&flows["seen"]), sum(&flows["verdicts"]));
    assert_eq!(run["accounts"]["balanced"], true);
    let stages = run["stages"].as_array().unwrap();
    let answered: u64 = stages.iter().map(|stage| count(&stage["flows"])).sum();
    assert_eq!(answered + count(&run["unanswered"]), count(&flows["seen"]));
    let shares: f64 = stages.iter().map(|stage| stage["share"].as_f64().unwrap()).sum();
    assert!(shares <= 1.0 + 1e-9, "{shares}");
    let end = &run["end_to_end_us"];
    assert_eq!(count(&end["count"]), count(&flows["seen"]), "each flow has an end-to-end latency");
    let timed =
        count(&run["verdict_latency_us"]["count"]) + count(&run["timer_latency_us"]["count"]);
    assert_eq!(timed + count(&run["drained_flows"]), count(&flows["seen"]));
    for latency in ["verdict_latency_us", "end_to_end_us"] {
        let at = |key: &str| run[latency][key].as_f64().unwrap();
        let order = [at("p50"), at("p90"), at("p99"), at("p999"), at("max")];
        let some = count(&run[latency]["count"]) > 0;
        assert!(order.is_sorted() && (order[0] > 0.0) == some, "{latency}: {order:?}");
    }
    let rates = ["flows_per_s", "flows_per_s_per_core", "packets_per_s", "ns_per_packet", "wall_s"];
    rates.iter().for_each(|key| assert!(run[key].as_f64().unwrap() > 0.0, "{key}"));
    let source = run["source_ns_per_packet"].as_f64().unwrap();
    assert!(source > 0.0 && source < run["ns_per_packet"].as_f64().unwrap());
    if cfg!(target_os = "linux") {
        assert!(run["peak_rss_mb"].as_f64().unwrap() > 1.0);
    }
}

#[test]
fn synthetic_flows_in_memory() {
    let dir = scratch("bench-synthetic");
    let options = ["--synthetic", "--flows", "3000", "--seconds", "60", "--packets-per-flow", "5"];
    let one = bench("traffic", &dir, &options);
    adds_up(&one);
    assert_eq!((&one["schema"], &one["bench"]), (&"serveflow-bench/1".into(), &"traffic".into()));
    assert_eq!((count(&one["flows_made"]), count(&one["dropped"])), (3000, 0));
    assert_eq!(
        count(&one["accounts"]["flows"]["seen"]),
        3000,
        "each flow has a five-tuple of its own"
    );
    assert!((one["traffic"]["packets_per_flow"]["mean"].as_f64().unwrap() - 5.0).abs() < 0.1);
    assert_eq!(one["quality"], Value::Null, "nobody knows what made-up flows are");
    assert_eq!(one["runs"].as_array().unwrap().len(), 1);
    assert!(one["without_source"]["flows_per_s"].as_f64() > one["flows_per_s"].as_f64());
    let again = bench("traffic", &dir, &options);
    for key in ["accounts", "stages", "packets_made"] {
        assert_eq!(one[key], again[key], "{key}: one seed is one traffic");
    }
    let other = bench("traffic", &dir, &[&options[..], &["--seed", "2"]].concat());
    assert_ne!(one["packets_made"], other["packets_made"]);
}

#[test]
fn answers_under_load_are_those_of_an_evaluation() {
    let dir = scratch("bench-quality");
    let evaluation = evaluation(&dir);
    let flows = count(&evaluation["flows"]);
    for workers in ["1", "2"] {
        let labelled = labelled();
        let mut options: Vec<&str> = labelled.iter().map(String::as_str).collect();
        let most = (flows * 2).to_string();
        options.extend(["--flows", &most, "--seconds", "60", "--workers", workers]);
        let run = bench("traffic", &dir, &options);
        adds_up(&run);
        assert_eq!(count(&run["traffic"]["templates"]), flows);
        assert_eq!(count(&run["workers"]), workers.parse::<u64>().unwrap());
        for (mine, theirs) in
            [(&run["quality"], &evaluation), (&run["slow_only"], &evaluation["slow_only"])]
        {
            for key in ["macro_f1", "accuracy"] {
                let (mine, theirs) = (mine[key].as_f64().unwrap(), theirs[key].as_f64().unwrap());
                assert!((mine - theirs).abs() < 1e-9, "{key}: {mine}, {theirs}");
            }
        }
        for (mine, theirs) in
            run["stages"].as_array().unwrap().iter().zip(evaluation["stages"].as_array().unwrap())
        {
            let share = |stage: &Value| stage["share"].as_f64().unwrap();
            assert!((share(mine) - share(theirs)).abs() < 1e-9, "{mine} {theirs}");
        }
    }
}

#[test]
fn several_rates_paced_by_the_clock() {
    let dir = scratch("bench-paced");
    let page = dir.join("page.html");
    let labelled = labelled();
    let mut options: Vec<&str> = labelled.iter().map(String::as_str).collect();
    options.extend(["--mode", "paced", "--rates", "300,900", "--seconds", "0.3", "--ring", "64"]);
    options.extend(["--html", text(&page)]);
    let report = bench("traffic", &dir, &options);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    runs.iter().for_each(adds_up);
    let rates = [300.0, 900.0];
    for (run, rate) in runs.iter().zip(rates) {
        assert_eq!(
            (&run["mode"], run["offered_flows_per_s"].as_f64()),
            (&"paced".into(), Some(rate))
        );
        // 0.3 s at this rate, give or take what chance does.
        let made = count(&run["flows_made"]) as f64;
        assert!((made - rate * 0.3).abs() < 6.0 * (rate * 0.3).sqrt(), "{made}");
        assert_eq!(run["without_source"], Value::Null);
    }
    assert!(runs.iter().any(|run| run["flows_made"] == report["flows_made"]));
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(
        ["http:", "https:", "<script", "@import", "NaN"].iter().all(|word| !page.contains(word))
    );
    assert!(page.contains("16 ms") && page.contains("300 flows/s"));
}

#[test]
fn the_clock_changes_no_verdict() {
    let dir = scratch("bench-clock");
    let labelled = labelled();
    let mut options: Vec<&str> = labelled.iter().map(String::as_str).collect();
    options.extend(["--flows", "400", "--rates", "4000", "--ring", "100000", "--seconds", "0.3"]);
    let [memory, paced] = ["memory", "paced"].map(|mode| {
        let more: Vec<&str> = options.iter().copied().chain(["--mode", mode]).collect();
        bench("traffic", &dir, &more)
    });
    assert_eq!((count(&memory["flows_made"]), count(&paced["dropped"])), (400, 0));
    for key in ["packets_made", "stages", "quality", "slow_only"] {
        assert_eq!(memory[key], paced[key], "{key}");
    }
    assert_eq!(memory["accounts"]["flows"], paced["accounts"]["flows"]);
}

#[test]
fn a_replay_serves_the_capture_as_it_is() {
    let dir = scratch("bench-replay");
    let capture = data().join("test/http.pcap.zst");
    let ran = kit::run(&[&capture], &["--format", "null"]).exits(0);
    for more in [&[][..], &["--mode", "paced", "--gaps", "none"]] {
        let run = bench("traffic", &dir, &[&["--replay", text(&capture)], more].concat());
        assert_eq!(count(&run["packets_made"]), ran.account("packets:")[0]);
        assert_eq!(run["traffic"]["kind"], "replay");
        assert_eq!(run["flows_made"], run["accounts"]["flows"]["seen"]);
        if more.is_empty() {
            adds_up(&run);
            assert!(count(&run["verdict_latency_us"]["count"]) > 0);
            assert_eq!(count(&run["accounts"]["flows"]["seen"]), ran.account("flows:")[0]);
        }
    }
}

#[test]
fn the_papers_contenders_side_by_side() {
    let dir = scratch("bench-paper");
    let page = dir.join("page.html");
    let evaluation = evaluation(&dir);
    let labelled = labelled();
    let mut options: Vec<&str> = labelled.iter().map(String::as_str).collect();
    options.extend(["--copies", "2", "--rounds", "1", "--rate", "300", "--seconds", "0.2"]);
    options.extend(["--html", text(&page)]);
    let report = bench("paper", &dir, &options);
    let contenders = report["contenders"].as_array().unwrap();
    let names: Vec<&str> = contenders.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cascade", "slow_only", "fast_only", "queueing"]);
    let slow = &evaluation["slow_only"];
    let expected = [&evaluation, slow, &evaluation["fast_only"], slow];
    for (one, expected) in contenders.iter().zip(expected) {
        let (mine, theirs) =
            (one["macro_f1"].as_f64().unwrap(), expected["macro_f1"].as_f64().unwrap());
        assert!((mine - theirs).abs() < 1e-9, "{}: {mine}, {theirs}", one["name"]);
        adds_up(&one["saturated"]);
        adds_up(&one["paced"]);
        assert_eq!(count(&one["saturated"]["flows_made"]), 2 * count(&evaluation["flows"]));
    }
    assert_eq!(
        (&contenders[1]["saturated"]["cores"], &contenders[3]["saturated"]["cores"]),
        (&1.into(), &2.into())
    );
    let gain = report["over_slow_only"]["macro_f1"].as_f64().unwrap();
    let f1 = |one: &Value| one["macro_f1"].as_f64().unwrap();
    assert!((gain - (f1(&evaluation) - f1(slow))).abs() < 1e-9);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.matches("<svg").count() == 2 && page.contains("queueing"));
}

#[test]
fn bad_options_are_refused_in_words() {
    let cases: [(&[&str], &str); 16] = [
        (&["--rates", "0"], "expected a number from 1 to 100000000"),
        (&["--rates", "fast"], "expected a number"),
        (&["--seconds", "nan"], "expected a number from 0.01 to 3600"),
        (&["--workers", "0"], "expected a whole number from 1 to 64"),
        (&["--workers", "65"], "expected a whole number from 1 to 64"),
        (&["--ring", "0"], "expected a whole number"),
        (&["--gaps", "wide"], "expected captured, none or a factor from 0 to 100"),
        (&["--snap-bytes", "20"], "expected 0, or at least 96 bytes"),
        (&["--synthetic", "--packets-per-flow", "0.5"], "expected a number from 1 to 1000"),
        (&["--synthetic", "--ipv6-share", "2"], "expected a number from 0 to 1"),
        (&["--packets-per-flow", "5"], "--synthetic"),
        (&["--sweep", "--rates", "5"], "cannot be used with"),
        (&["--synthetic", "--captures", "x"], "cannot be used with"),
        (&["--replay", "x", "--sweep"], "cannot be used with"),
        (&["--labels", "x"], "--captures"),
        (&["--split", "exam"], "[possible values: train, val, test]"),
    ];
    for (args, words) in cases {
        let ran = serveflow(&[&["bench", "traffic"], args].concat()).exits(2);
        assert!(ran.err.contains(words) && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

#[test]
fn what_cannot_be_measured_is_1_and_says_why() {
    let dir = scratch("bench-exits");
    let (bundle, nowhere) = (text(kit::bundle()), dir.join("no/where"));
    let nowhere = text(&nowhere);
    let capture = data().join("test/llmnr.pcap.zst");
    let (captures, labels) = (data(), data().join("labels.csv"));
    let cases: [(&[&str], &str); 6] = [
        (&["--bundle", nowhere], "SHA256SUMS"),
        (&["--bundle", bundle, "--json", nowhere], "cannot write"),
        (&["--bundle", bundle, "--replay", nowhere], "cannot open"),
        (&["--bundle", bundle, "--replay", text(&capture), "--workers", "2"], "expected 1 worker"),
        (&["--bundle", bundle, "--captures", nowhere], "cannot open"),
        (&["--bundle", bundle, "--captures", text(&captures), "--labels", text(&labels)], "dhcp"),
    ];
    for (args, words) in cases {
        serveflow(&[&["bench", "traffic"], args].concat()).exits(1).says(&["error: ", words]);
    }
    let copy = dir.join("copy.pcap.zst");
    std::fs::copy(&capture, &copy).unwrap();
    let args =
        ["bench", "traffic", "--bundle", bundle, "--replay", text(&copy), "--json", text(&copy)];
    serveflow(&args).exits(1).says(&["expected a new file or a report to replace"]);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&capture).unwrap());
}

#[test]
fn a_damaged_capture_is_3_and_what_stands_before_it_is_served() {
    let dir = scratch("bench-damaged");
    let frames = kit::sample_frames("test/http.pcap.zst");
    let mut bytes = kit::pcap(&frames);
    bytes.truncate(bytes.len() - 7);
    let capture = kit::put(dir.join("cut.pcap"), bytes);
    let json = dir.join("bench.json");
    let args = ["bench", "traffic", "--bundle", text(kit::bundle()), "--replay", text(&capture)];
    serveflow(&[&args[..], &["--json", text(&json)]].concat()).exits(3).says(&["damaged: "]);
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(count(&report["packets_made"]), frames.len() as u64 - 1);
    assert_eq!(report["damaged"].as_array().unwrap().len(), 1);
}

#[test]
fn the_packet_path_is_measured_stage_by_stage() {
    let dir = scratch("bench-packets");
    let (capture, json) = (data().join("test/dns.pcap.zst"), dir.join("packets.json"));
    let args = ["bench", "packets", text(&capture), "--rounds", "2", "--json", text(&json)];
    let ran = serveflow(&args).exits(0);
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(
        (&figures["schema"], &figures["bench"]),
        (&"serveflow-bench/1".into(), &"packets".into())
    );
    let run = kit::run(&[&capture], &[]).exits(0);
    assert_eq!(run.account("packets:")[0], count(&figures["packets"]));
    assert_eq!(run.account("flows:")[0], count(&figures["flows"]));
    let stages = figures["stages"].as_array().unwrap();
    for (stage, name) in stages.iter().zip(["read", "parse", "table", "record"]) {
        assert_eq!(stage["name"], name);
        assert!(
            ran.out.contains(name) && stage["ns_per_packet"].as_f64().is_some_and(|ns| ns >= 0.0)
        );
    }
    assert_eq!(stages.len(), 4);
    assert!(count(&figures["engine_bytes"]) > 0);
    serveflow(&["bench", "packets", "-"]).exits(1).says(&["standard input"]);
    serveflow(&["bench", "packets", "/nowhere.pcap"]).exits(1).says(&["/nowhere.pcap"]);
}
