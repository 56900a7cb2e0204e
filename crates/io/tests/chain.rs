//! Several files as one source, and directories as lists of files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Bytes, Order, drain, gzip, zstd};
use serveflow_io::{Batch, FileSource, MemorySource, PcapWriter, Source, SourceError, expand};

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
    ng.section().interface(101, 0, |_| {}).enhanced(0, 0, 1, &[7], |_| {});
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
    assert!(matches!(errors[0], SourceError::Truncated { found: 16, .. }));
    assert!(matches!(errors[1], SourceError::Open { .. }));
    assert!(matches!(errors[2], SourceError::Empty { .. }));
    let named: Vec<&Path> = errors.iter().map(SourceError::path).collect();
    assert_eq!(named, [&paths[0], &paths[1], &paths[3]]);
}

#[test]
fn the_source_names_the_file_it_reads() {
    let scratch = Scratch::new("name");
    let path = scratch.file("a", &pcap(&[1]));
    let mut source = FileSource::new(vec![path.clone()]);
    assert_eq!(source.fill(&mut Batch::new(), 1).unwrap(), 1);
    assert_eq!(source.name(), path.to_str().unwrap());
}

#[test]
fn directories_become_their_files_sorted_and_without_hidden_ones() {
    let scratch = Scratch::new("sorted");
    for name in ["b/2", "b/10", "a", "c", ".hidden", ".git/config", "b/.x", "b/deep/er"] {
        scratch.file(name, &[]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&scratch.0, scratch.0.join("circle")).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("a"), scratch.0.join("link")).unwrap();
    }
    let single = scratch.0.join("c");
    let found = expand(&[Path::new("-"), &single, &scratch.0]).unwrap();
    let below = |path: &PathBuf| match path.strip_prefix(&scratch.0) {
        Ok(rest) => rest.to_str().unwrap().to_owned(),
        Err(_) => path.to_str().unwrap().to_owned(),
    };
    let names: Vec<String> = found.iter().map(below).collect();
    let mut expected = vec!["-", "c", "a", "b/10", "b/2", "b/deep/er", "c"];
    if cfg!(unix) {
        expected.push("link");
    }
    assert_eq!(names, expected);
}

#[test]
fn paths_that_lead_nowhere_are_errors() {
    let scratch = Scratch::new("nowhere");
    let missing = scratch.0.join("missing");
    assert!(matches!(expand(&[&missing]), Err(SourceError::Open { path, .. }) if path == missing));
    assert!(
        matches!(expand(&[&scratch.0]), Err(SourceError::NoFiles { path }) if path == scratch.0)
    );
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
