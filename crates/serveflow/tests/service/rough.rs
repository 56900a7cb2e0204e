//! What happens around a service: logs that nobody reads, signals in twos, files that come one by
//! one.

use super::kit::{Among, Running, alone, bundle, copy, other_bundle, pcap, scratch, traffic};
use std::path::Path;
use std::process::Command;

pub(crate) fn send(running: &Running, signals: &[&str]) {
    let pid = running.pid().to_string();
    let line: Vec<String> = signals.iter().map(|signal| format!("kill {signal} {pid}")).collect();
    assert!(Command::new("sh").args(["-c", &line.join("; ")]).status().unwrap().success());
}

#[test]
fn a_log_that_nobody_reads_is_no_trouble() {
    let dir = scratch("unread");
    let bytes = pcap(&traffic(2));
    let expected = alone(&dir, &bundle(), &bytes);
    let other = dir.join("other");
    other_bundle(&other);
    let among = Among { loses_log: true, ..Among::default() };
    let mut running = Running::start_among(&dir, &bundle(), 2, among);
    running.feed(&bytes[..bytes.len() / 2]);
    let id = running.status()["bundle"]["id"].clone();
    send(&running, &["-HUP"]);
    let path = other.canonicalize().unwrap();
    let (status, text) = running.ask("POST", "/reload", path.to_str().unwrap());
    assert_eq!(status, 200, "{text}");
    assert_ne!(running.status()["bundle"]["id"], id);
    assert_eq!(running.ask("POST", "/reload", "/nonexistent").0, 422);
    running.feed(&bytes[bytes.len() / 2..]);
    let (verdicts, _) = running.end();
    assert_eq!(verdicts.len(), expected.len());
}

#[test]
fn a_reload_of_the_same_bundle_leaves_the_one_to_go_back_to() {
    let dir = scratch("same");
    let other = dir.join("other");
    other_bundle(&other);
    let mut running = Running::start(&dir, &bundle(), 1);
    let first = running.status()["bundle"]["id"].clone();
    let path = other.canonicalize().unwrap();
    assert_eq!(running.ask("POST", "/reload", path.to_str().unwrap()).0, 200);
    for _ in 0..2 {
        assert_eq!(running.ask("POST", "/reload", "").0, 200);
    }
    let copied = dir.join("copied");
    copy(&other, &copied);
    assert_eq!(running.ask("POST", "/reload", copied.to_str().unwrap()).0, 200);
    let status = running.status();
    assert_eq!((&status["bundle"]["previous"], &status["bundle"]["changes"]), (&first, &2.into()));
    assert_eq!(running.ask("POST", "/rollback", "").0, 200);
    assert_eq!(running.status()["bundle"]["id"], first);
    running.feed(&pcap(&traffic(1)));
    let (_, log) = running.end();
    assert_eq!(log.matches("bundle served as before").count(), 2, "{log}");
}

#[test]
fn a_watched_bundle_whose_files_come_one_by_one_is_served_once_it_is_whole() {
    let dir = scratch("piecewise");
    let (served, other) = (dir.join("served"), dir.join("other"));
    copy(&bundle(), &served);
    other_bundle(&other);
    let among = Among { config: "watch_bundle = true\n", ..Among::default() };
    let mut running = Running::start_among(&dir, &served, 1, among);
    let first = running.status()["bundle"]["id"].clone();
    let put = |name: &str| std::fs::copy(other.join(name), served.join(name)).unwrap();
    put("SHA256SUMS");
    let refusals = |running: &Running| {
        let page = running.ask("GET", "/metrics", "").1;
        let line = page.lines().find(|line| line.starts_with("serveflow_bundle_refused_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    running.wait("a refusal", || refusals(&running) > 0.0);
    assert_eq!(running.status()["bundle"]["id"], first);
    put("plan.toml");
    running.wait("the bundle to be served", || running.status()["bundle"]["id"] != first);
    // Whoever goes back stays there, though the directory holds the other one.
    assert_eq!(running.ask("POST", "/rollback", "").0, 200);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(running.status()["bundle"]["id"], first);
    assert_eq!(running.status()["bundle"]["changes"], 2);
    running.feed(&pcap(&traffic(1)));
    running.end();
}

#[test]
fn two_signals_at_once_are_one() {
    let dir = scratch("twice");
    let bytes = pcap(&traffic(2));
    let expected = alone(&dir, &bundle(), &bytes);
    let mut running = Running::start(&dir, &bundle(), 2);
    running.feed(&bytes);
    let seen = |running: &Running| running.status()["flows"]["seen"].as_u64().unwrap();
    running.wait("all flows", || seen(&running) == expected.len() as u64);
    send(&running, &["-TERM", "-INT", "-TERM"]);
    let socket = running.socket.clone();
    let (verdicts, _) = running.end();
    assert_eq!(verdicts.len(), expected.len());
    assert!(!Path::new(&socket).exists());
}
