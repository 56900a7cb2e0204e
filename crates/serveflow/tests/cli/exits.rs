//! Exit codes, and the sentences that come with them.

use super::kit::{self, put, run, scratch, serveflow, text};
use std::path::Path;

#[test]
fn a_wrong_command_line_is_2() {
    let bundle = text(kit::bundle());
    let cases: [&[&str]; 17] = [
        &[],
        &["fly"],
        &["run"],
        &["run", "x.pcap"],
        &["run", "x.pcap", "--bundle", bundle, "--bogus"],
        &["run", "x.pcap", "--bundle", bundle, "--format", "xml"],
        &["train", "--captures", "x", "--out", "y", "--stages", "bush@1"],
        &["train", "--captures", "x", "--out", "y", "--stages", "tree@0"],
        &["train", "--captures", "x", "--out", "y", "--max-loss", "nan"],
        &["train", "--captures", "x", "--out", "y", "--escalate", "1.5"],
        &["train", "--captures", "x", "--out", "y", "--headers", "ipx"],
        &["train", "--captures", "x", "--out", "y", "--depths", "0,1"],
        &["train", "--captures", "x", "--out", "y", "--seed", "18446744073709551615"],
        &["train", "--captures", "x", "--out", "y", "--wait-ms", "9223372036854775808"],
        &["train", "--captures", "x", "--out", "y", "--wait-ms", "0"],
        &["train", "--captures", "x", "--out", "y", "--waits-ms", "5,0"],
        &["evaluate", "--captures", "x", "--bundle", bundle, "--split", "exam"],
    ];
    for args in cases {
        let ran = serveflow(args).exits(2);
        assert_eq!(ran.out, "", "{args:?}");
        assert!(ran.err.contains("Usage") || ran.err.contains("--help"), "{args:?}: {}", ran.err);
    }
    assert!(serveflow(cases[5]).err.contains("json, csv, null"));
}

#[test]
fn what_cannot_be_done_is_1_and_says_what_and_where() {
    let dir = scratch("exits");
    let capture = kit::data().join("test/llmnr.pcap.zst");
    let (capture, bundle) = (text(&capture), text(kit::bundle()));
    let nowhere = dir.join("nowhere");
    let nowhere = text(&nowhere);
    let empty = dir.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let file = put(dir.join("file"), "x");
    let cases: [(&[&str], &str); 9] = [
        (&["run", capture, "--bundle", nowhere], "SHA256SUMS"),
        (&["run", capture, "--bundle", capture], "SHA256SUMS"),
        (&["run", nowhere, "--bundle", bundle], "cannot open"),
        (&["run", text(&empty), "--bundle", bundle], "no capture file"),
        (&["run", capture, "--bundle", bundle, "--out", text(&empty)], "cannot write"),
        (&["--config", nowhere, "run", capture, "--bundle", bundle], "No such file"),
        (&["train", "--captures", nowhere, "--out", nowhere], "cannot open"),
        (&["train", "--captures", text(&empty), "--out", nowhere], "no capture file"),
        (&["evaluate", "--captures", nowhere, "--labels", text(&file), "--bundle", bundle], "file"),
    ];
    for (args, word) in cases {
        let ran = serveflow(args).exits(1).says(&["error: ", word]);
        let system = ran.err.matches("os error").count();
        assert!(system <= 1, "the system's answer stands there once: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn a_bundle_that_cannot_be_written_is_refused_before_the_training() {
    let dir = scratch("unwritable");
    let file = put(dir.join("file"), "x");
    let (labels, _) = kit::small();
    for out in [file.clone(), file.join("below")] {
        let started = std::time::Instant::now();
        // So many trees take minutes.
        let more = ["--stages", "forest@5", "--trees", "1000000"];
        kit::train(labels, &kit::data(), &out, &more).exits(1).says(&["cannot write"]);
        assert!(started.elapsed().as_secs() < 20);
    }
}

#[test]
fn a_bundle_that_was_touched_is_refused() {
    let dir = scratch("touched");
    for name in ["plan.toml", "SHA256SUMS", "models/tree_1.json"] {
        copy(kit::bundle(), &dir);
        let path = dir.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.insert(0, b'#');
        std::fs::write(&path, bytes).unwrap();
        let capture = kit::data().join("test/llmnr.pcap.zst");
        let ran = serveflow(&["run", text(&capture), "--bundle", text(&dir)]).exits(1);
        assert!(ran.err.contains(name) && ran.out.is_empty(), "{}", ran.err);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("models")).unwrap();
    for dir in ["", "models"] {
        let entries = std::fs::read_dir(from.join(dir)).unwrap().map(Result::unwrap);
        for entry in entries.filter(|entry| entry.file_type().unwrap().is_file()) {
            std::fs::copy(entry.path(), to.join(dir).join(entry.file_name())).unwrap();
        }
    }
}

/// An answer that is lost is never a success, and how many were is said, also where all else is
/// quiet.
#[test]
fn a_capture_whose_flows_lost_answers_is_4_and_says_how_many() {
    let dir = scratch("lost");
    // Room for one packet of undecided flows: flows that wait for more have none.
    let config = put(dir.join("tight.toml"), "[limits]\nrecord_packets = 1\n");
    let capture = kit::data().join("test/tls.pcap.zst");
    let args = ["run", text(&capture), "--bundle", text(kit::bundle()), "--quiet"];
    serveflow(&args).exits(0);
    let args: Vec<&str> = ["--config", text(&config)].into_iter().chain(args).collect();
    let ran = serveflow(&args).exits(4).says(&["lost: ", "shed "]);
    let lost = ran.verdicts().iter().filter(|verdict| verdict["reason"] == "shed").count();
    assert!(ran.err.contains(&format!("lost: {lost} flows")), "{}", ran.err);
}

/// Too little address space for the limits is a sentence that names what to lower, and no abort.
#[cfg(target_os = "linux")]
#[test]
fn a_start_with_little_address_space_is_1_and_says_what_to_lower() {
    let capture = kit::data().join("test/llmnr.pcap.zst");
    let program = env!("CARGO_BIN_EXE_serveflow");
    for kib in [400_000, 600_000] {
        let line = format!(
            "ulimit -v {kib}; exec {program} run {} --bundle {}",
            text(&capture),
            text(kit::bundle())
        );
        let ran = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{err}");
        for word in ["error: ", "MiB of address space", "flows.capacity", "limits.record_packets"] {
            assert!(err.contains(word), "{err}");
        }
        assert!(!err.contains("panic"), "{err}");
    }
}

/// Where no sample is, the program has its own, and leaves nothing behind.
#[test]
fn demo_and_benches_run_from_anywhere() {
    let dir = scratch("demo");
    let temporary = dir.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let runs: [&[&str]; 3] = [
        &["demo"],
        &["bench", "traffic", "--seconds", "0.1", "--rates", "100"],
        &["bench", "scale", "--repeats", "1", "--cores", "1,2", "--trials", "1"],
    ];
    for args in runs {
        let mut command = kit::program();
        command.current_dir(&dir).env("TMPDIR", &temporary).args(args);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}");
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(!out.is_empty() && !out.contains(text(&temporary)), "{args:?}: {out}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{args:?}");
    }
    serveflow(&["demo", "--sample", text(&dir)]).exits(1).says(&["labels.csv", "--sample"]);
    let nowhere = dir.join("nowhere");
    let mut command = kit::program();
    command.current_dir(&dir).env("TMPDIR", &nowhere).arg("demo");
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for word in [text(&nowhere), "TMPDIR", "--sample"] {
        assert!(err.contains(word), "{err}");
    }
}

/// The demo shows the same of the sample in the repository and of the program's own. Throughput is
/// that of a run, and the last lines name the directory.
#[test]
fn the_program_carries_the_sample_of_the_repository() {
    let of = |args: &[&str], dir: &Path| {
        let output = kit::program().current_dir(dir).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        let out = String::from_utf8(output.stdout).unwrap();
        let kept = |line: &&str| line.starts_with("packets:") || line.starts_with("flows:");
        let figures: Vec<String> = out.lines().filter(kept).map(str::to_owned).collect();
        assert_eq!(figures.len(), 2, "{out}");
        figures
    };
    let data = kit::data();
    let named = of(&["demo", "--sample", text(&data)], &scratch("demo-named"));
    assert_eq!(of(&["demo"], &scratch("demo-own")), named);
}

#[test]
fn a_capture_of_nothing_is_served_to_its_end() {
    let path = put(scratch("nothing").join("a.pcap"), kit::pcap(&[]));
    let ran = run(&[&path], &[]).exits(0);
    assert_eq!((ran.out.as_str(), ran.account("packets")[0]), ("", 0));
    let ran = run(&[&path], &["--format", "csv"]).exits(0);
    assert!(ran.out.starts_with("flow,src,") && ran.out.lines().count() == 1);
}
