//! `[input]` from outside: what is left out is counted, and what is kept has the verdicts it had.

use super::kit::{data, put, run, scratch, text};
use serde_json::Value;
use std::path::PathBuf;

fn config(name: &str, toml: &str) -> PathBuf {
    put(scratch(&format!("input-{name}")).join("serveflow.toml"), format!("[input]\n{toml}"))
}

fn capture() -> PathBuf {
    data().join("test/http.pcap.zst")
}

/// A verdict without the flow's number, which is one of those served.
fn unnumbered(verdicts: Vec<Value>) -> Vec<Value> {
    let strip = |mut verdict: Value| {
        verdict.as_object_mut().unwrap().remove("flow").unwrap();
        verdict
    };
    let mut all: Vec<Value> = verdicts.into_iter().map(strip).collect();
    all.sort_by_key(ToString::to_string);
    all
}

#[test]
fn what_is_kept_has_its_verdicts_and_what_is_left_out_is_counted() {
    let all = run(&[&capture()], &[]).exits(0);
    let packets = all.account("packets");
    let all = unnumbered(all.verdicts());
    let of_tcp: fn(&Value) -> bool = |verdict| verdict["proto"] == "tcp";
    let web: fn(&Value) -> bool = |verdict| verdict["src_port"] == 80 || verdict["dst_port"] == 80;
    let on_port = all.iter().filter(|verdict| web(verdict)).count();
    assert!(on_port > 0 && on_port < all.len(), "{on_port} of {} flows", all.len());
    for (name, toml, keeps) in [
        ("tcp", "only.protocols = [\"tcp\"]", of_tcp),
        ("six", "only = { protocols = [6] }", of_tcp),
        ("port", "only = { ports = [80] }", web),
        ("range", "only = { ports = [\"79-81\", 80] }", web),
        ("no-port", "drop = { ports = [80] }", |verdict| {
            verdict["src_port"] != 80 && verdict["dst_port"] != 80
        }),
        ("all", "only = { prefixes = [\"0.0.0.0/0\", \"::/0\"] }", |_| true),
        ("none", "drop = { prefixes = [\"0.0.0.0/0\", \"::/0\"] }", |_| false),
    ] {
        let path = config(name, toml);
        for workers in ["1", "2"] {
            let ran = run(&[&capture()], &["--config", text(&path), "--workers", workers]).exits(0);
            let found = ran.account("packets");
            assert_eq!(found[0], found[1..].iter().sum::<u64>(), "{name}: {found:?}");
            assert_eq!((found[0], found[4]), (packets[0], packets[4]), "{name}");
            let expected: Vec<Value> = all.iter().filter(|v| keeps(v)).cloned().collect();
            assert!(unnumbered(ran.verdicts()) == expected, "{name}: {} flows", expected.len());
            assert_eq!(found[5] > 0, expected.len() < all.len(), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_share_is_the_same_for_all_that_have_its_seed() {
    let served = |name: &str, toml: &str| {
        let path = config(name, toml);
        unnumbered(run(&[&capture()], &["--config", text(&path)]).exits(0).verdicts())
    };
    let all = served("share-all", "share = 1.0");
    let half = served("share-half", "share = 0.5");
    assert_eq!(half, served("share-again", "share = 0.5\nshare_seed = 0"));
    assert!(half.len() * 10 > all.len() && half.len() < all.len(), "{} {}", half.len(), all.len());
    assert!(half.iter().all(|verdict| all.contains(verdict)));
    let other = served("share-other", "share = 0.5\nshare_seed = 1");
    assert_ne!(half, other);
}

#[test]
fn what_is_wrong_is_refused_by_key() {
    for (name, toml, words) in [
        ("share", "share = 2", ["input.share", "up to 1, found 2"]),
        ("prefix", "only.prefixes = [\"ten\"]", ["input.only.prefixes", "found `ten`"]),
        (
            "bits",
            "drop.prefixes = [\"10.0.0.1/8\"]",
            ["input.drop.prefixes", "expected 10.0.0.0/8"],
        ),
        ("port", "drop.ports = [65536]", ["input.drop.ports", "found 65536"]),
        ("proto", "only.protocols = [\"http\"]", ["input.only.protocols", "found \"http\""]),
        ("key", "only.hosts = []", ["hosts", "prefixes"]),
    ] {
        let path = config(&format!("wrong-{name}"), toml);
        run(&[&capture()], &["--config", text(&path)]).exits(1).says(&words);
    }
}
