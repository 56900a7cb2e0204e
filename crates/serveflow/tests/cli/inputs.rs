//! Every way to bring a capture in gives the same verdicts.

use super::kit::{self, gzip, pcap, pcapng, put, run, scratch, text};
use serveflow_io::OwnedFrame;
use std::path::{Path, PathBuf};

/// Frames whose flows take all ways through the small bundle.
fn sample() -> Vec<OwnedFrame> {
    let mut frames = kit::sample_frames("test/http.pcap.zst");
    frames.truncate(3000);
    frames
}

#[test]
fn compression_and_format_change_nothing() {
    let (dir, frames) = (scratch("formats"), sample());
    let plain = put(dir.join("plain.pcap"), pcap(&frames));
    let expected = run(&[&plain], &[]).exits(0).verdicts();
    assert!(expected.len() > 100, "the sample holds flows");
    let wrapped = [
        put(dir.join("a.pcap.gz"), gzip(&pcap(&frames))),
        put(dir.join("a.pcapng"), pcapng(&frames)),
        put(dir.join("a.pcapng.gz"), gzip(&pcapng(&frames))),
        put(
            dir.join("two members"),
            [gzip(&pcap(&frames)[..999]), gzip(&pcap(&frames)[999..])].concat(),
        ),
    ];
    for path in wrapped {
        assert_eq!(run(&[&path], &[]).exits(0).verdicts(), expected, "{}", path.display());
    }
    let zstd = kit::data().join("test/llmnr.pcap.zst");
    let plain = put(dir.join("llmnr.pcap"), pcap(&kit::frames(&zstd)));
    assert_eq!(run(&[&zstd], &[]).exits(0).verdicts(), run(&[&plain], &[]).exits(0).verdicts());
}

#[test]
fn standard_input_is_a_capture_like_any_other() {
    let (dir, frames) = (scratch("stdin"), sample());
    let plain = pcap(&frames);
    let path = put(dir.join("plain.pcap"), &plain);
    let expected = run(&[&path], &[]).exits(0).verdicts();
    for bytes in [plain.clone(), gzip(&plain), pcapng(&frames)] {
        let ran = kit::serveflow_reading(&bytes, &["run", "-", "--bundle", text(kit::bundle())]);
        assert_eq!(ran.exits(0).verdicts(), expected);
    }
}

/// Cuts frames at some places into captures `0.pcap`, `1.pcap`, ...
fn split(dir: &Path, frames: &[OwnedFrame], parts: usize) -> Vec<PathBuf> {
    let at =
        |part: usize| frames.len() * part / parts + usize::from(part > 0 && part < parts) * part;
    let write =
        |part: usize| put(dir.join(format!("{part}.pcap")), pcap(&frames[at(part)..at(part + 1)]));
    (0..parts).map(write).collect()
}

#[test]
fn a_capture_in_several_files_is_one_capture() {
    let (dir, frames) = (scratch("split"), sample());
    let whole = put(dir.join("whole.pcap"), pcap(&frames));
    let expected = run(&[&whole], &[]).exits(0).verdicts();
    for parts in 2..=5 {
        let folder = scratch(&format!("split/{parts}"));
        let files = split(&folder, &frames, parts);
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        assert_eq!(run(&paths, &[]).exits(0).verdicts(), expected, "{parts} files");
        assert_eq!(run(&[&folder], &[]).exits(0).verdicts(), expected, "a folder of {parts}");
    }
}

#[test]
fn a_file_and_standard_input_follow_each_other() {
    let (dir, frames) = (scratch("mixed"), sample());
    let whole = put(dir.join("whole.pcap"), pcap(&frames));
    let first = put(dir.join("first.pcap"), pcap(&frames[..1234]));
    let args = ["run", text(&first), "-", "--bundle", text(kit::bundle())];
    let ran = kit::serveflow_reading(&pcapng(&frames[1234..]), &args).exits(0);
    assert_eq!(ran.verdicts(), run(&[&whole], &[]).exits(0).verdicts());
}

#[test]
fn damage_in_the_middle_ends_its_file_alone() {
    let (dir, frames) = (scratch("damage"), sample());
    let (whole, plain) = (pcap(&frames[..200]), pcap(&frames[200..400]));
    // The cut lies inside the last record, whose start the message names.
    let cut = put(dir.join("cut.pcap"), &whole[..whole.len() - 3]);
    let next = put(dir.join("next.pcap"), plain);
    let start = whole.len() - 16 - frames[199].data.len();
    let name = format!("{}, byte {start}:", cut.display());
    let ran = run(&[&cut, &next], &[]).exits(3).says(&["cut short", &name]);
    let rest: Vec<OwnedFrame> = frames[..199].iter().chain(&frames[200..400]).cloned().collect();
    let expected = put(dir.join("expected.pcap"), pcap(&rest));
    assert_eq!(ran.verdicts(), run(&[&expected], &[]).exits(0).verdicts());
    assert_eq!(ran.account("packets")[0], 399);
    // Garbage, nothing, and a cut compression are damage as well.
    for (name, bytes, word) in [
        ("garbage", &b"no capture at all"[..], "no known capture format"),
        ("nothing", b"", "is empty"),
        ("half.gz", &gzip(&whole)[..5000], "gzip compression"),
    ] {
        let path = put(dir.join(name), bytes);
        run(&[&path, &next], &[]).exits(3).says(&[name, word]);
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_damage_and_no_end() {
    let (dir, frames) = (scratch("links"), sample());
    let plain = put(dir.join("b.pcap"), pcap(&frames));
    std::os::unix::fs::symlink("nowhere", dir.join("a.pcap")).unwrap();
    std::os::unix::fs::symlink(&dir, dir.join("circle")).unwrap();
    let ran = run(&[&dir], &[]).exits(3).says(&["damaged: cannot open", "a.pcap"]);
    assert_eq!(ran.verdicts(), run(&[&plain], &[]).exits(0).verdicts());
}
