//! Several files as one source, and directories as lists of files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Bytes, Order, drain, gzip, zstd};
use serveflow_io::inputs::Why;
use serveflow_io::{
    Batch, FileSource, InputSet, MemorySource, OrderRules, PcapWriter, Source, SourceError,
};

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
        expected.extend(["b/10", "b/2", "same1", "same2", "same10"]);
        assert_eq!(names, expected);
        let left_out = |why| -> Vec<String> {
            let all = set.left_out().iter().filter(|left| left.why == why);
            all.map(|left| below(&left.path)).collect()
        };
        let foreign = ["README.txt", "b/README.pcap", "empty.txt", "labels.csv", "x.json"];
        assert_eq!(left_out(Why::NoCapture), foreign);
        assert_eq!(left_out(Why::Hidden), [".git", ".hidden", "b/.x"]);
        let links = |name| if cfg!(unix) { vec![name] } else { Vec::new() };
        assert_eq!(left_out(Why::Link), links("circle"));
        assert_eq!(left_out(Why::Twice), links("link"));
        assert_eq!(set.paths().len(), expected.len() + 1, "what is named stays");
        let told = set.told();
        assert!(told.starts_with("left out: 5 files that are no captures: "), "{told}");
        assert!(told.contains("; 3 hidden files or directories: "), "{told}");
        let (links, twice) = ("; 1 link to a directory: ", "\nnamed twice, read once: ");
        assert!([links, twice].iter().all(|words| told.contains(words) == cfg!(unix)), "{told}");
    }
    fs::remove_file(&single).unwrap();
}

/// The captures, the lines about what was left out, and the frames.
fn found(arguments: &[&Path]) -> (Vec<PathBuf>, String, Vec<u8>) {
    let set = InputSet::find(arguments).unwrap();
    let (paths, told) = (set.paths(), set.told());
    let (frames, errors) = first_bytes(&mut FileSource::of(set, OrderRules::default()));
    assert!(errors.is_empty(), "{errors:?}");
    (paths, told, frames)
}

/// However many paths lead to a capture, its packets are read once, and the others are named.
#[cfg(unix)]
#[test]
fn a_capture_that_is_named_twice_is_read_once() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new("twice");
    let (dir, one) = (scratch.0.join("dir"), scratch.file("dir/1.pcap", &at(1)));
    let copy = scratch.file("copy", &at(1));
    let (hard, soft, other) = (scratch.0.join("hard"), scratch.0.join("soft"), scratch.0.join("o"));
    fs::hard_link(&one, &hard).unwrap();
    symlink(&one, &soft).unwrap();
    symlink(&dir, &other).unwrap();
    let dotted = scratch.0.join("./dir/1.pcap");
    let ways = [&one, &dir, &hard, &soft, &other, &dotted];
    for (first, second) in ways.iter().flat_map(|first| ways.map(|second| (first, second))) {
        let (paths, told, frames) = found(&[first, second]);
        assert_eq!((paths.len(), &frames[..]), (1, &[1][..]), "{first:?} {second:?}");
        let (lead, name) = told.split_once(": ").unwrap();
        assert_eq!(lead, "named twice, read once");
        assert!(name.starts_with(second.to_str().unwrap()), "{second:?}: {told}");
        // A copy is another file.
        assert_eq!(found(&[first, &copy, second]).2, [1, 1]);
    }
    assert_eq!(found(&[&one, &one, &one]).1.lines().count(), 1);
    // Standard input is what it is.
    let set = InputSet::find(&["-", "-"]).unwrap();
    assert_eq!((set.paths().len(), set.told()), (2, String::new()));
}

/// Nothing in a directory is passed over without being named, unless it was named to be read.
#[cfg(unix)]
#[test]
fn what_is_passed_over_in_a_directory_is_named_and_not_what_is_below() {
    let scratch = Scratch::new("hidden");
    let (dir, outside) = (scratch.0.join("dir"), scratch.0.join("outside"));
    scratch.file("dir/a", &at(1));
    let hidden = scratch.file("dir/.x", &at(2));
    scratch.file("dir/.deep/b", &at(3));
    scratch.file("outside/c", &at(4));
    std::os::unix::fs::symlink(&outside, dir.join("sub")).unwrap();
    let name = |name| dir.join(name).display().to_string();
    let link = format!("1 link to a directory: {}\n", name("sub"));
    let (_, told, frames) = found(&[&dir]);
    let both = format!("2 hidden files or directories: {}, {}", name(".deep"), name(".x"));
    assert_eq!((told, &frames[..]), (format!("left out: {both}; {link}"), &[1][..]));
    for arguments in [[&dir, &hidden], [&hidden, &dir]] {
        let (_, told, frames) = found(&arguments.map(PathBuf::as_path));
        let deep = format!("1 hidden file or directory: {}", name(".deep"));
        assert_eq!((told, &frames[..]), (format!("left out: {deep}; {link}"), &[1, 2][..]));
    }
    assert_eq!(found(&[&dir, &dir.join(".deep")]).2, [1, 3]);
    // Where nothing else is there, the error says what is.
    fs::remove_file(dir.join("a")).unwrap();
    let error = InputSet::find(&[&dir]).unwrap_err().to_string();
    assert!(error.contains("no capture file; left out: 2 hidden"), "{error}");
    assert!(error.ends_with(link.trim_end()), "{error}");
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
    let found = InputSet::find(&[&missing]);
    assert!(matches!(found, Err(SourceError::Open { path, .. }) if path == missing));
    for file in [None, Some("README.txt")] {
        file.map(|name| scratch.file(name, b"words"));
        let error = InputSet::find(&[&scratch.0]).unwrap_err();
        assert!(matches!(&error, SourceError::NoFiles { path, .. } if *path == scratch.0));
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
