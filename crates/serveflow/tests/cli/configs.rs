//! `--config`: unknown keys are refused by name, and limits change no account's balance.

use super::kit::{self, put, run, scratch, text};
use serde_json::Value;
use std::path::PathBuf;

fn config(name: &str, toml: &str) -> PathBuf {
    put(scratch(&format!("config-{name}")).join("serveflow.toml"), toml)
}

fn capture() -> PathBuf {
    kit::data().join("test/http.pcap.zst")
}

#[test]
fn unknown_keys_and_impossible_limits_are_refused_by_name() {
    for (name, toml, words) in [
        ("key", "[flows]\nidle = 5", ["idle", "idle_ms"]),
        ("table", "[flow]\nidle_ms = 5", ["flow", "flows"]),
        (
            "type",
            "[flows]\nidle_ms = \"long\"",
            ["serveflow.toml:2:11: flows.idle_ms: ", "found `\"long\"`"],
        ),
        (
            "negative",
            "[flows]\nidle_ms = -1",
            ["flows.idle_ms: expected a whole number from 0", "found `-1`"],
        ),
        ("toml", "[flows\n", ["serveflow.toml:1:7: ", "]"]),
        ("zero", "[limits]\nbatch_rows = 0", ["limits.batch_rows", "at least 1"]),
        ("rows", "[limits]\nbatch_rows = 1000000000000", ["limits.batch_rows", "at most"]),
        ("jobs", "[limits]\nqueue_depth = 1000000000000000", ["limits.queue_depth", "at most"]),
        ("frames", "[limits]\nbatch_frames = 100000000000", ["limits.batch_frames", "at most"]),
        ("flows", "[flows]\ncapacity = 100000000000", ["flows.capacity", "at most"]),
        ("sink", "[output]\nformat = \"xml\"", ["output.format", "json"]),
        (
            "tunnels",
            "[flows]\ntunnels = \"both\"",
            ["flows.tunnels", "one of inner, outer, found `both`"],
        ),
        ("lane", "[lanes]\ndefault = \"gpu\"", ["lanes.default", "plan, inline, thread, batch"]),
        ("batch", "[lanes.batch]\nmax_rows = 0", ["lanes.batch.max_rows", "at least 1"]),
        ("full", "[lanes]\nwhen_full = \"drop\"", ["lanes.when_full", "source, wait, shed"]),
        ("stage", "[lanes.stages]\n\"tree@2\" = \"thread\"", ["tree@2", "tree@1, boosted@1"]),
    ] {
        let path = config(name, toml);
        run(&[&capture()], &["--config", text(&path)]).exits(1).says(&words);
    }
}

#[test]
fn what_is_typed_on_the_command_line_wins() {
    let path = config("wins", "[output]\nformat = \"csv\"\nprovisional = true");
    let ran = run(&[&capture()], &["--config", text(&path)]).exits(0);
    assert!(ran.out.starts_with("flow,src") && ran.out.contains(",provisional,false,"));
    let ran = run(&[&capture()], &["--config", text(&path), "--format", "json"]).exits(0);
    assert!(ran.out.starts_with('{') && ran.out.contains("\"final\":false"));
}

#[test]
fn the_smallest_limits_keep_the_accounts() {
    let plain = run(&[&capture()], &[]).exits(0).verdicts();
    for (name, toml, changes) in [
        ("frames", "[limits]\nbatch_frames = 1", false),
        ("rows", "[limits]\nbatch_rows = 1", false),
        ("jobs", "[limits]\nqueue_depth = 1", false),
        (
            "thread",
            "[lanes]\ndefault = \"thread\"\n[limits]\nqueue_depth = 1\nbatch_rows = 1",
            false,
        ),
        ("batch", "[lanes]\ndefault = \"batch\"\n[lanes.batch]\nmax_rows = 3", false),
        ("late", "[lanes]\ndefault = \"batch\"\n[lanes.batch]\ndeadline_ms = 600000", false),
        ("lanes", "[lanes.stages]\n\"boosted@5\" = \"thread\"\n\"tree@1\" = \"inline\"", false),
        ("seed", "[flows]\nseed = 7", false),
        ("capacity", "[flows]\ncapacity = 1", true),
        ("pool", "[limits]\nrecord_packets = 1", true),
        ("both", "[limits]\nrecord_packets = 3\nbatch_rows = 2\n[flows]\ncapacity = 2", true),
        ("idle", "[flows]\nidle_ms = 1", true),
        ("active", "[flows]\nactive_ms = 1\nlinger_ms = 0", true),
        ("forever", "[flows]\nidle_ms = 18446744073709551615", false),
    ] {
        let path = config(&format!("small-{name}"), toml);
        let ran = run(&[&capture()], &["--config", text(&path)]);
        // A pool that is full cuts flows short, which is no success.
        let is_shed = |verdict: &Value| verdict["reason"] == "shed";
        let is_short = ran.verdicts().iter().any(is_shed);
        assert!(is_short || name != "pool");
        let ran = ran.exits(if is_short { 4 } else { 0 });
        let [packets, flows] = ["packets", "flows"].map(|word| ran.account(word));
        assert_eq!(packets[0], packets[1] + packets[2] + packets[3], "{name}");
        assert_eq!((flows[1], flows[2], flows[3]), (flows[0], 0, 0), "{name}");
        let verdicts = ran.verdicts();
        assert_eq!(verdicts.len() as u64, flows[0], "{name}");
        assert_eq!(verdicts != plain, changes, "{name}");
    }
}
