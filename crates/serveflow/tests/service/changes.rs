//! Bundles that change under running traffic.

use super::kit::{Running, alone, bundle, copy, other_bundle, pcap, scratch, timeless, traffic};
use serveflow_core::FlowConfig;
use serveflow_serve::config::Typed;
use std::collections::BTreeMap;

/// Feeds a capture in pieces, and does something between two of them.
fn feed_and(
    running: &mut Running,
    bytes: &[u8],
    pieces: usize,
    mut each: impl FnMut(&Running, usize),
) {
    for (number, piece) in bytes.chunks(bytes.len() / pieces + 1).enumerate() {
        running.feed(piece);
        each(running, number);
    }
}

#[test]
fn a_reload_loses_no_flow_and_each_keeps_its_plan() {
    let dir = scratch("reload");
    let other = dir.join("other");
    other_bundle(&other);
    let bytes = pcap(&traffic(12));
    let expected = [alone(&dir, &bundle(), &bytes), alone(&dir, &other, &bytes)];
    let mut running = Running::start(&dir, &bundle(), 1);
    let paths =
        [bundle(), other.clone()].map(|path| path.canonicalize().unwrap().display().to_string());
    feed_and(&mut running, &bytes, 60, |running, piece| {
        let (status, text) = running.ask("POST", "/reload", &paths[(piece + 1) % 2]);
        assert_eq!(status, 200, "{text}");
        running.wait("all workers to take it", || running.status()["bundle"]["pending"] == false);
    });
    assert_eq!(running.status()["bundle"]["changes"], 60);
    let (verdicts, log) = running.end();
    assert_eq!(log.matches("bundle served").count(), 60);
    assert_eq!(verdicts.len(), expected[0].len());
    let mut by = [0; 2];
    for (flow, verdict) in &verdicts {
        let which = usize::from(verdict["label"].as_str().unwrap().starts_with("other-"));
        assert_eq!(timeless(verdict), timeless(&expected[which][flow]));
        by[which] += 1;
    }
    assert!(by.iter().all(|&flows| flows > 100), "{by:?} flows of each bundle");
}

#[test]
fn a_broken_bundle_is_refused_and_the_one_before_serves_on() {
    let dir = scratch("broken");
    let broken = dir.join("broken");
    copy(&bundle(), &broken);
    let model = std::fs::read_dir(broken.join("models")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&model).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&model, bytes).unwrap();
    let other_rules = dir.join("rules");
    copy(&bundle(), &other_rules);
    let plan = std::fs::read_to_string(other_rules.join("plan.toml")).unwrap();
    std::fs::write(
        other_rules.join("plan.toml"),
        plan.replace("idle_ms = 120000", "idle_ms = 60000"),
    )
    .unwrap();
    let _ = std::fs::remove_file(other_rules.join("report.json"));
    let packed = super::kit::serveflow(&["bundle", "pack", other_rules.to_str().unwrap()]);
    assert!(packed.status.success());
    let bytes = pcap(&traffic(2));
    let expected = alone(&dir, &bundle(), &bytes);
    let mut running = Running::start(&dir, &bundle(), 2);
    for (path, word) in [
        (dir.join("nowhere"), "SHA256SUMS"),
        (broken, "models"),
        (other_rules, "idle_ms = 120000, found 60000"),
    ] {
        let (status, text) = running.ask("POST", "/reload", path.to_str().unwrap());
        assert_eq!(status, 422, "{text}");
        assert!(text.contains("served on") && text.contains(word), "{text}");
    }
    running.feed(&bytes);
    assert_eq!(running.status()["bundle"]["changes"], 0);
    let page = running.ask("GET", "/metrics", "").1;
    assert!(page.contains("serveflow_bundle_refused_total 3"), "{page}");
    let (verdicts, log) = running.end();
    assert_eq!(log.matches("bundle refused").count(), 3);
    let labels = |verdicts: &BTreeMap<u64, serde_json::Value>| {
        let mut labels: Vec<String> =
            verdicts.values().map(|verdict| verdict["label"].to_string()).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(&verdicts), labels(&expected));
}

#[test]
fn sighup_reads_the_bundle_anew_and_rollback_brings_the_one_before_back() {
    let dir = scratch("hup");
    let served = dir.join("served");
    copy(&bundle(), &served);
    let mut running = Running::start(&dir, &served, 1);
    let first = running.status()["bundle"]["id"].clone();
    std::fs::remove_dir_all(&served).unwrap();
    other_bundle(&served);
    let pid = running.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    running.wait("the reload", || running.status()["bundle"]["id"] != first);
    assert_eq!(running.status()["bundle"]["previous"], first);
    let (status, text) = running.ask("POST", "/rollback", "");
    assert_eq!(status, 200, "{text}");
    assert_eq!(running.status()["bundle"]["id"], first);
    // Whoever presses it once more does not come back to the bundle that was left.
    let (status, text) = running.ask("POST", "/rollback", "");
    assert!(status == 409 && text.contains("found none"), "{text}");
    assert_eq!(running.status()["bundle"]["id"], first);
    running.wait("the rollback", || running.status()["bundle"]["pending"] == false);
    running.feed(&pcap(&traffic(1)));
    let (verdicts, log) = running.end();
    assert!(log.contains("bundle rolled back"), "{log}");
    let is_first =
        |verdict: &serde_json::Value| !verdict["label"].as_str().unwrap().starts_with("other-");
    assert!(!verdicts.is_empty() && verdicts.values().all(is_first));
}

#[test]
fn a_shadow_says_nothing_is_compared_and_promoted() {
    let dir = scratch("shadow");
    let other = dir.join("other");
    other_bundle(&other);
    let bytes = pcap(&traffic(4));
    let expected = alone(&dir, &bundle(), &bytes);
    for (shadow, agrees) in [(bundle(), true), (other.clone(), false)] {
        let mut running = Running::start(&dir, &bundle(), 2);
        let path = shadow.canonicalize().unwrap();
        let (status, text) = running.ask("POST", "/shadow", &format!("1\n{}", path.display()));
        assert_eq!(status, 200, "{text}");
        running.feed(&bytes);
        let compared = |running: &Running| {
            let shadow = &running.status()["shadow"];
            [&shadow["agreed"], &shadow["differed"]].map(|count| count.as_u64().unwrap())
        };
        running.wait("flows to be compared", || compared(&running).iter().sum::<u64>() > 100);
        let [agreed, differed] = compared(&running);
        assert_eq!(if agrees { differed } else { agreed }, 0, "{}", running.status());
        let shadow = running.status()["shadow"].clone();
        assert!(shadow["worker_seconds"].as_f64().unwrap() > 0.0, "{shadow}");
        assert_eq!(shadow["differences"].as_array().unwrap().is_empty(), agrees, "{shadow}");
        let (status, text) = running.ask("POST", "/promote", "");
        assert_eq!(status, 200, "{text}");
        assert!(running.status()["shadow"].is_null());
        let (verdicts, _) = running.end();
        assert_eq!(verdicts.len(), expected.len(), "the shadow tells nobody of its verdicts");
    }
}

#[test]
fn control_and_check_say_what_they_do() {
    let dir = scratch("commands");
    let mut running = Running::start(&dir, &bundle(), 1);
    running.feed(&pcap(&traffic(1)));
    let socket = running.socket.to_str().unwrap().to_owned();
    let said = |args: &[&str]| {
        let ran = super::kit::serveflow(&[&["control"], args, &["--socket", &socket]].concat());
        let text = [ran.stdout, ran.stderr].concat();
        (ran.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, status) = said(&["status"]);
    assert!(code == Some(0) && status.contains("\"packets\""), "{status}");
    let bundle = bundle();
    let (code, text) = said(&["reload", "--bundle", bundle.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("is served"), "{text}");
    let (code, text) = said(&["reload", "--bundle", "/nonexistent"]);
    assert!(code == Some(1) && text.contains("served on"), "{text}");
    assert_eq!(said(&["promote", "--bundle", "x"]).0, Some(2));
    // A shadow is started and stopped by the same order.
    for stop in [false, true] {
        let more: &[&str] =
            if stop { &["--stop"] } else { &["--bundle", bundle.to_str().unwrap()] };
        let (code, text) = said(&[&["shadow"], more].concat());
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(running.status()["shadow"].is_null(), stop, "{text}");
    }
    let config = dir.join("serveflow.toml");
    let config = config.to_str().unwrap();
    let checked = super::kit::serveflow(&["check", "--config", config, "--running"]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for word in ["memory:", "MiB", "boosted@10", &running.metrics] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (code, text) = said(&["stop"]);
    assert!(code == Some(0) && text.contains("stopping"), "{text}");
    let (verdicts, _) = running.end();
    assert!(!verdicts.is_empty());
    let (code, text) = said(&["status"]);
    assert!(code == Some(1) && text.contains(&socket), "{text}");
}

#[test]
fn the_shipped_configuration_is_one() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/serveflow.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = Typed::read(&path, text).unwrap().check(&FlowConfig::default()).unwrap();
    assert_eq!(config.live.interfaces, ["eth1"]);
    assert!(config.live.wait_for_interface && config.service.control.is_some());
    let unit = std::fs::read_to_string(path.with_file_name("serveflow.service")).unwrap();
    assert!(
        unit.contains("Type=notify") && unit.contains("run --config /etc/serveflow/serveflow.toml")
    );
}
