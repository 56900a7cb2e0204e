//! Several files as one source, and directories as lists of files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Bytes, Order, drain, gzip, zstd};
use serveflow_io::{Batch, FileSource, InputSet, MemorySource, PcapWriter, Source, SourceError};

/// A directory of its own for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("serveflow-io-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A pcap with a frame for each of these bytes.
fn pcap(frames: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes::new(Order::Little);
    bytes.pcap_header(0xa1b2_c3d4, 1);
    for &frame in frames {
        bytes.record(1, 0, 1, &[frame]);
    }
    bytes.out
}

/// The first byte of each frame, and the errors.
fn first_bytes(source: &mut dyn Source) -> (Vec<u8>, Vec<SourceError>) {
    let (frames, errors) = drain(source, 3);
    (frames.iter().map(|frame| frame.data[0]).collect(), errors)
}

#[test]
fn files_of_any_kind_follow_each_other() {
    let scratch = Scratch::new("follow");
    let mut ng = Bytes::new(Order::Big);
    ng.section().interface(101, 0, |_| {}).enhanced(0, 1_000_000, 1, &[7], |_| {});
    let paths = vec![
        scratch.file("a", &pcap(&[1, 2, 3, 4])),
        scratch.file("b", &gzip(&pcap(&[5]))),
        scratch.file("c", &pcap(&[])),
        scratch.file("d", &zstd(&pcap(&[6]))),
        scratch.file("e", &ng.out),
    ];
    let (frames, errors) = first_bytes(&mut FileSource::new(paths));
    assert_eq!(frames, [1, 2, 3, 4, 5, 6, 7]);
    assert!(errors.is_empty());
}

#[test]
fn an_error_ends_its_own_file_only() {
    let scratch = Scratch::new("error");
    let mut cut = pcap(&[1, 2]);
    cut.pop();
    let paths = vec![
        scratch.file("a", &cut),
        scratch.0.join("missing"),
        scratch.file("b", &pcap(&[3])),
        scratch.file("c", b""),
        scratch.file("d", &pcap(&[4])),
    ];
    let (frames, errors) = first_bytes(&mut FileSource::new(paths.clone()));
    assert_eq!(frames, [1, 3, 4]);
    let of = |path: &Path| errors.iter().find(|error| error.path() == path).unwrap();
    assert!(matches!(of(&paths[0]), SourceError::Truncated { found: 16, .. }));
    assert!(matches!(of(&paths[1]), SourceError::Open { .. }));
    assert!(matches!(of(&paths[3]), SourceError::Empty { .. }));
    assert_eq!(errors.len(), 3);
}

#[test]
fn the_source_names_the_file_it_reads() {
    let scratch = Scratch::new("name");
    let path = scratch.file("a", &pcap(&[1]));
    let mut source = FileSource::new(vec![path.clone()]);
    assert_eq!(source.fill(&mut Batch::new(), 1).unwrap(), 1);
    assert_eq!(source.name(), path.to_str().unwrap());
}

/// A capture whose only packet was captured so many seconds after the epoch.
fn at(seconds: u32) -> Vec<u8> {
    let mut bytes = Bytes::new(Order::Little);
    bytes.pcap_header(0xa1b2_c3d4, 1);
    bytes.record(seconds, 0, 1, &[seconds as u8]);
    bytes.out
}

#[test]
fn directories_become_their_captures_by_time_and_the_rest_is_left_out() {
    let scratch = Scratch::new("sorted");
    for (seconds, name) in [
        (9, "b/2"),
        (8, "b/10"),
        (7, "a.PCAP"),
        (6, "c.pcap1"),
        (5, "d.pcap.1"),
        (4, "b/deep/er"),
        (3, ".hidden"),
        (2, ".git/config"),
        (1, "b/.x"),
        (20, "same2"),
        (20, "same10"),
        (20, "same1"),
    ] {
        scratch.file(name, &at(seconds));
    }
    // An empty file and a cut one are captures if they are named so; nothing else goes by names.
    for name in ["empty.pcap", "cut.pcap.gz", "empty.txt", "README.txt", "x.json", "labels.csv"] {
        let bytes: &[u8] = if name.starts_with("empty") { b"" } else { b"{}," };
        scratch.file(name, if name.contains("cut") { &[0x0a, 0x0d] } else { bytes });
    }
    scratch.file("b/README.pcap", b"a list of captures");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&scratch.0, scratch.0.join("circle")).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("a.PCAP"), scratch.0.join("link")).unwrap();
    }
    let single = scratch.file("../single", b"no capture, but named");
    let below = |path: &PathBuf| match path.strip_prefix(&scratch.0) {
        Ok(rest) => rest.to_str().unwrap().to_owned(),
        Err(_) => path.to_str().unwrap().to_owned(),
    };
    for arguments in [[&single, &scratch.0], [&scratch.0, &single]] {
        let set = InputSet::find(&arguments).unwrap();
        let names: Vec<String> =
            set.paths().iter().map(below).filter(|n| !n.contains("single")).collect();
        let mut expected =
            vec!["cut.pcap.gz", "empty.pcap", "b/deep/er", "d.pcap.1", "c.pcap1", "a.PCAP"];
        if cfg!(unix) {
            expected.push("link");
        }
        expected.extend(["b/10", "b/2", "same1", "same2", "same10"]);
        assert_eq!(names, expected);
        let left_out: Vec<String> = set.left_out().iter().map(below).collect();
        assert_eq!(left_out, ["README.txt", "b/README.pcap", "empty.txt", "labels.csv", "x.json"]);
        assert_eq!(set.paths().len(), expected.len() + 1, "what is named stays");
        let told = set.told();
        assert!(told.starts_with("left out: 5 files that are no captures: "), "{told}");
    }
    fs::remove_file(&single).unwrap();
}

#[cfg(unix)]
#[test]
fn what_is_no_file_in_a_directory_is_not_waited_for() {
    let scratch = Scratch::new("fifo");
    scratch.file("a", &at(1));
    let _listener = std::os::unix::net::UnixListener::bind(scratch.0.join("socket")).unwrap();
    let set = InputSet::find(&[&scratch.0]).unwrap();
    assert_eq!((set.paths().len(), set.left_out().len()), (1, 1));
}

#[test]
fn paths_that_lead_nowhere_are_errors() {
    let scratch = Scratch::new("nowhere");
    let missing = scratch.0.join("missing");
    assert!(
        matches!(InputSet::find(&[&missing]), Err(SourceError::Open { path, .. }) if path == missing)
    );
    for file in [None, Some("README.txt")] {
        file.map(|name| scratch.file(name, b"words"));
        assert!(
            matches!(InputSet::find(&[&scratch.0]), Err(SourceError::NoFiles { path }) if path == scratch.0)
        );
    }
}

#[test]
fn a_cut_sample_is_read_back_as_the_same_frames() {
    let scratch = Scratch::new("sample");
    let path = common::fixtures().into_iter().find(|path| path.ends_with("isup.pcap")).unwrap();
    let whole = MemorySource::read(&mut FileSource::new(vec![path])).unwrap();
    let mut writer =
        PcapWriter::new(Vec::new(), serveflow_core::packet::LinkType::Ethernet, 262_144).unwrap();
    let (mut source, mut batch) = (whole.clone().with_batch_size(2), Batch::new());
    while source.fill(&mut batch, 99).unwrap() > 0 {
        batch.iter().for_each(|packet| writer.write(&packet).unwrap());
    }
    let copy = scratch.file("copy", &writer.finish().unwrap());
    let copy = MemorySource::read(&mut FileSource::new(vec![copy])).unwrap();
    assert_eq!(copy.frames(), whole.frames());
}
