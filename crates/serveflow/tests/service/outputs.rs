//! The file of a service and its log: restarts, second starts, rotation, readers that stand still.

use super::kit::{Among, Running, alone, bundle, pcap, samples, scratch, sum, traffic};
use super::rough::send;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn start(dir: &Path, out: &Path) -> Running {
    let args = ["--out", out.to_str().unwrap()];
    Running::start_among(dir, &bundle(), 2, Among { args: &args, ..Among::default() })
}

/// The whole lines of a file, each of which parses; and what else is there.
fn lines(path: &Path) -> (Vec<Value>, Vec<String>) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(value) => whole.push(value),
            Err(_) => others.push(line.to_owned()),
        }
    }
    (whole, others)
}

fn written(running: &Running) -> u64 {
    let page = samples(&running.ask("GET", "/metrics", "").1);
    sum(&page, "records_written_total") as u64
}

#[test]
fn a_restart_adds_and_a_second_start_is_refused() {
    let dir = scratch("restart");
    let (out, bytes) = (dir.join("v.jsonl"), pcap(&traffic(1)));
    let flows = alone(&dir, &bundle(), &bytes).len();
    let mut running = start(&dir, &out);
    running.feed(&bytes);
    running.wait("verdicts", || written(&running) > 0);
    // The same file, by another configuration.
    let second = super::kit::serveflow(&[
        "run",
        dir.join("alone.pcap").to_str().unwrap(),
        "--bundle",
        bundle().to_str().unwrap(),
        "--append",
        "--out",
        out.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("no other process"), "{said}");
    running.end();
    assert_eq!(lines(&out), (lines(&out).0, vec![]));
    assert_eq!(lines(&out).0.len(), flows);
    // Killed in the middle of a line.
    let mut running = start(&dir, &out);
    running.feed(&bytes);
    running.wait("verdicts", || written(&running) > 0);
    running.kill();
    let before = lines(&out).0.len();
    assert!(before > flows);
    std::fs::OpenOptions::new()
        .append(true)
        .open(&out)
        .map(|file| {
            std::io::Write::write_all(&mut &file, b"{\"flow\":7,\"src").unwrap();
        })
        .unwrap();
    let mut running = start(&dir, &out);
    running.feed(&bytes);
    running.end();
    let (whole, others) = lines(&out);
    assert_eq!((whole.len(), others), (before + flows, vec!["{\"flow\":7,\"src".to_owned()]));
}

#[test]
fn signals_open_the_file_anew_and_nothing_is_lost_or_doubled() {
    let dir = scratch("signals");
    let (out, bytes) = (dir.join("v.jsonl"), pcap(&traffic(4)));
    let flows = alone(&dir, &bundle(), &bytes).len();
    let mut running = start(&dir, &out);
    let moved: Vec<PathBuf> = (0..4).map(|at| dir.join(format!("moved{at}"))).collect();
    // None of these ends the process. The last one holds for a while, and so does nothing here.
    let signals = ["-USR1", "-HUP", "-USR1", "-USR2"];
    let part = bytes.len() / 5;
    for (at, signal) in signals.into_iter().enumerate() {
        running.feed(&bytes[at * part..(at + 1) * part]);
        let before = running.status()["output"]["reopened"].as_u64().unwrap();
        running.wait("the file", || out.exists());
        if signal == "-USR2" {
            send(&running, &[signal]);
            continue;
        }
        std::fs::rename(&out, &moved[at]).unwrap();
        send(&running, &[signal]);
        let reopened = |running: &Running| running.status()["output"]["reopened"].as_u64();
        running.wait("the new file", || reopened(&running) > Some(before) && out.exists());
    }
    running.feed(&bytes[4 * part..]);
    running.end();
    let mut by_flow = BTreeMap::new();
    for path in moved.iter().chain([&out]) {
        let (whole, others) = lines(path);
        assert!(others.is_empty(), "{others:?}");
        for verdict in whole {
            let before = by_flow.insert(verdict["flow"].as_u64().unwrap(), verdict);
            assert!(before.is_none());
        }
    }
    assert_eq!(by_flow.len(), flows);
}

#[test]
fn a_log_that_nobody_reads_and_nobody_closes_holds_up_nothing() {
    let dir = scratch("stalled-log");
    let bytes = pcap(&traffic(1));
    let expected = alone(&dir, &bundle(), &bytes);
    let among = Among { stalls_log: true, ..Among::default() };
    let mut running = Running::start_among(&dir, &bundle(), 2, among);
    running.feed(&bytes[..bytes.len() / 2]);
    // Each is a line, with a path that has all that should not come through.
    let path = format!("/nowhere/{}\u{1b}[31m", "x".repeat(60_000));
    for _ in 0..40 {
        assert_eq!(running.ask("POST", "/reload", &path).0, 422);
    }
    let dropped = running.status()["output"]["log_lines_dropped"].as_u64().unwrap();
    assert!(dropped > 0, "more than the log's buffer holds");
    assert_eq!(running.ask_openly("GET", "/healthz").0, 200);
    running.feed(&bytes[bytes.len() / 2..]);
    let (verdicts, _) = running.end();
    assert_eq!(verdicts.len(), expected.len());
}

#[test]
fn all_that_a_service_says_is_in_its_log_and_no_text_makes_a_line() {
    let dir = scratch("said");
    let mut running = Running::start(&dir, &bundle(), 1);
    running.feed(&pcap(&traffic(1)));
    let evil = "/a\n{\"level\":\"ERROR\",\"fake\":1}\u{1b}[31m\u{202e}\u{2028}b";
    assert_eq!(running.ask("POST", "/reload", evil).0, 422);
    let (_, log) = running.end();
    let plain = |letter: char| letter == '\n' || !letter.is_control();
    assert!(log.chars().all(plain) && !log.contains(['\u{202e}', '\u{2028}']), "{log:?}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["fake"].is_null() && line["level"].is_string()));
    let says = |words: &str| {
        let message = |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains(words));
        assert_eq!(lines.iter().filter(message).count(), 1, "{words}: {log}");
    };
    says("packets: ");
    says("flows: ");
    says("bundle refused");
    let refused = lines.iter().find(|line| line["message"] == "bundle refused").unwrap();
    assert_eq!(refused["path"].as_str(), Some(evil), "nothing of it is lost");
}
