//! Files whose numbers are extreme: refused or loaded, never an abort, within bounded memory.
//!
//! A process that runs out of memory is ended, and no test can catch that. So each file is read by
//! a child whose address space is bounded: the test starts itself anew below `ulimit`, with the
//! name of the file to spoil.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "common/bundles.rs"]
mod bundles;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/onnx.rs"]
mod onnx;

use foreign::{Sample, samples, sized};
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::{Bundle, Plan};
use serveflow_model::formats::{FORMATS, measure_with};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Says to a child which file it spoils.
const CHILD: &str = "SERVEFLOW_EXTREMES";
/// Address space of a child, KiB: of a small file, what reading takes has to fit beside the program
/// itself.
const MOST_KIB: u64 = 512 << 10;
/// The same where a net's values may take 1 GiB, in the check and in the runtime.
const MOST_NET_KIB: u64 = 4 << 20;
/// CPU time of a child, seconds: one that never ends is ended.
const MOST_CPU_S: u64 = 560;
/// Numbers of a file that are replaced, one by one.
const MOST_NUMBERS: usize = 90;

const EXTREMES: [&str; 14] = [
    "0",
    "-1",
    "1",
    "33",
    "2147483648",
    "-2147483648",
    "4294967296",
    "9007199254740992",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e300",
    "-1e300",
    "nan",
];

/// Where numbers stand in a text.
fn numbers(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let starts = text[at].is_ascii_digit()
            || text[at] == b'-' && text.get(at + 1).is_some_and(u8::is_ascii_digit);
        let inside = at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
        if !starts || inside {
            at += 1;
            continue;
        }
        let is_part = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
        let len = 1 + text[at + 1..].iter().take_while(|byte| is_part(byte)).count();
        found.push((at, at + len));
        at += len;
    }
    found
}

/// Some of many, spread evenly, and all of the first.
fn some<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let first = all.len().min(most / 2);
    let rest = &all[first..];
    let step = rest.len().div_ceil((most - first).max(1)).max(1);
    all[..first].iter().chain(rest.iter().step_by(step)).copied().collect()
}

/// The same text with each of its numbers replaced by each extreme one.
fn spoiled_text(text: &[u8], most: usize, mut run: impl FnMut(&str, Vec<u8>)) {
    for (start, end) in some(&numbers(text), most) {
        for extreme in EXTREMES {
            let bytes = [&text[..start], extreme.as_bytes(), &text[end..]].concat();
            run(&format!("{extreme} at {start}"), bytes);
        }
    }
}

/// The same bytes with a few of them at each place replaced by extreme ones, as numbers of all
/// widths have them.
fn spoiled_bytes(bytes: &[u8], most: usize, mut run: impl FnMut(&str, Vec<u8>)) {
    let places: Vec<usize> = (0..bytes.len()).collect();
    let patterns: [&[u8]; 9] = [
        &[0],
        &[0x7f],
        &[0xff],
        &[0x7f, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff; 4],
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff; 8],
        // A whole number of Protocol Buffers, as long as there are.
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ];
    for at in some(&places, most) {
        for pattern in patterns {
            let end = (at + pattern.len()).min(bytes.len());
            let spoiled = [&bytes[..at], &pattern[..end - at], &bytes[end..]].concat();
            run(&format!("{pattern:?} at {at}"), spoiled);
        }
    }
}

/// Reads a spoiled file, and scores with it if it is a model all the same.
fn load(sample: &Sample, bytes: &[u8]) {
    let entry = FORMATS.iter().find(|entry| entry.name == sample.format).unwrap();
    if let Ok(head) = (entry.head)(bytes) {
        assert!(head.classes <= 1 << 16);
    }
    match (entry.load)(bytes, &sample.binding()) {
        Err(message) => assert!(!message.is_empty()),
        Ok(model) => {
            let mut rows = Rows::with_capacity(model.shape(), 2);
            rows.push();
            rows.push();
            let mut scores = Scores::default();
            let _ = model.score(&rows, &mut scores);
        }
    }
}

/// In a child: says what it is about to read, so that the last words of one that was ended tell
/// why.
fn said(sample: &str, what: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{sample}: {what}");
}

#[test]
fn child() {
    let Ok(name) = std::env::var(CHILD) else { return };
    // Models that are read measure how they are scored fastest, on rows that are made up.
    measure_with(|| 0);
    if name == "plan.toml" {
        return spoiled_plans();
    }
    let sample = samples().into_iter().find(|sample| sample.name == name).unwrap();
    load(&sample, &sample.bytes);
    let run = |what: &str, bytes: Vec<u8>| {
        said(&name, what);
        load(&sample, &bytes);
    };
    let is_net = ["mlp", "cnn"].contains(&sample.name.as_str());
    match sample.format {
        "onnx" | "xgboost-ubj" => {
            spoiled_bytes(&sample.bytes, if is_net { 150 } else { 4 * MOST_NUMBERS }, run);
        }
        "lightgbm" => spoiled_text(&sample.bytes, MOST_NUMBERS, |what, bytes| {
            // Else the sizes of the trees would refuse it.
            let text = sized(&String::from_utf8(bytes.clone()).unwrap());
            run(what, bytes);
            run(what, text.into_bytes());
        }),
        _ => spoiled_text(&sample.bytes, MOST_NUMBERS, run),
    }
}

/// The numbers of a plan, its models as they are.
fn spoiled_plans() {
    let files = bundles::valid();
    let degradation = "[[degradation]]\nescalated = 0.1\nmacro_f1 = 0.9\naccuracy = 0.9\ngates = \
                       [[0.5]]\n\n[flows]";
    let text = bundles::plan_text(&files).replacen("[flows]", degradation, 1);
    spoiled_text(text.as_bytes(), usize::MAX, |what, bytes| {
        said("plan.toml", what);
        let Ok(plan) = toml::from_str::<Plan>(std::str::from_utf8(&bytes).unwrap()) else { return };
        let all = files.iter().cloned().collect();
        let bundle = Bundle::assemble(Path::new("bundle"), plan, &all, String::new());
        let _ = bundle.map(|bundle| bundle.flow_config());
    });
}

/// Runs a child within bounds.
fn bounded(name: &str, kib: u64) {
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -v {kib} && ulimit -t {MOST_CPU_S} && exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(program)
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(CHILD, name)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = err.lines().rev().take(4).collect();
    assert!(output.status.success(), "{name}: {}: {last:?}", output.status);
    assert!(err.lines().filter(|line| line.starts_with(name)).count() > 20, "{name} was spoiled");
}

/// One model of each format and kind.
#[test]
fn no_number_in_a_model_file_aborts_the_process() {
    let names = [
        "models/a.json",
        "models/b.json",
        "lightgbm-multiclass",
        "lightgbm-categories",
        "lightgbm-binary-json",
        "xgboost-softprob-json",
        "xgboost-dart-ubj",
        "catboost",
        "catboost-deep",
        "sklearn-tree",
        "scikit-learn-forest",
        "scikit-learn-gradient-binary",
    ];
    names.iter().for_each(|name| bounded(name, MOST_KIB));
}

#[test]
fn no_number_in_a_net_aborts_the_process() {
    ["mlp", "cnn"].iter().for_each(|name| bounded(name, MOST_NET_KIB));
}

#[test]
fn no_number_in_a_plan_aborts_the_process() {
    bounded("plan.toml", MOST_KIB);
}

/// The bound can be passed, so that the other tests can fail.
#[test]
fn a_child_is_ended_when_it_takes_more() {
    let taking = "ulimit -v 100000 && head -c 300000000 /dev/zero | tail -c 200000000 >/dev/null";
    let output = Command::new("sh").args(["-c", taking]).output().unwrap();
    assert!(!output.status.success());
}
