//! The program as a child, a small bundle, and captures in every wrapping.

use serde_json::Value;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_io::{CaptureReader, MemorySource, OwnedFrame, PcapWriter};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Asserts the exit code.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "standard error: {}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// Asserts that standard error says each of these.
    pub(crate) fn says(self, words: &[&str]) -> Self {
        words.iter().for_each(|word| assert!(self.err.contains(word), "{word}: {}", self.err));
        self
    }

    /// The verdicts as JSON objects by flow, without what a clock says.
    pub(crate) fn verdicts(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let mut verdict: Value = serde_json::from_str(line).unwrap();
            verdict.as_object_mut().unwrap().remove("compute_us").unwrap();
            verdict
        };
        let mut verdicts: Vec<Value> = self.out.lines().map(parse).collect();
        verdicts.sort_by_key(|v| (v["flow"].as_u64(), v["final"].as_bool(), v["packets"].as_u64()));
        verdicts
    }

    /// The numbers of the first line of standard error that starts with `word`.
    pub(crate) fn account(&self, word: &str) -> Vec<u64> {
        let line = self.err.lines().find(|line| line.starts_with(word)).unwrap_or_default();
        let numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

/// The program, ready for its arguments.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serveflow"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn outcome(output: &std::process::Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().expect("ended by itself");
    Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs the program.
pub(crate) fn serveflow<S: AsRef<OsStr>>(args: &[S]) -> Ran {
    outcome(&program().args(args).output().unwrap())
}

/// Runs the program with something on its standard input.
pub(crate) fn serveflow_reading(input: &[u8], args: &[&str]) -> Ran {
    let mut child = program().args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    outcome(&output)
}

/// `serveflow run` with the small bundle.
pub(crate) fn run(captures: &[&Path], more: &[&str]) -> Ran {
    let mut args: Vec<&OsStr> = vec!["run".as_ref(), "--bundle".as_ref(), bundle().as_os_str()];
    args.extend(captures.iter().map(|path| path.as_os_str()));
    args.extend(more.iter().map(OsStr::new));
    serveflow(&args)
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The sample captures.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol")
}

/// An empty directory of a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Writes a file and says where it is.
pub(crate) fn put(path: PathBuf, bytes: impl AsRef<[u8]>) -> PathBuf {
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The label table, cut down to some labels.
pub(crate) fn some_labels(keep: &[&str]) -> String {
    let table = std::fs::read_to_string(data().join("labels.csv")).unwrap();
    let is_kept = |line: &&str| line.split(',').nth(2).is_some_and(|label| keep.contains(&label));
    let (header, rest) = table.split_once('\n').unwrap();
    let lines: Vec<&str> = rest.lines().filter(is_kept).collect();
    format!("{header}\n{}\n", lines.join("\n"))
}

/// Trains a small cascade.
pub(crate) fn train(labels: &Path, captures: &Path, out: &Path, more: &[&str]) -> Ran {
    let mut args = vec!["train", "--captures", text(captures), "--labels", text(labels)];
    args.extend(["--out", text(out), "--rounds", "3", "--threads", "1"]);
    args.extend(more);
    serveflow(&args)
}

/// A label table of few flows, and a bundle trained on it whose flows take all ways.
pub(crate) fn small() -> &'static (PathBuf, PathBuf) {
    static SMALL: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    SMALL.get_or_init(|| {
        let dir = scratch("small");
        let labels = some_labels(&["http", "llmnr", "mdns", "smb", "tls"]);
        let labels = put(dir.join("labels.csv"), labels);
        let bundle = dir.join("bundle");
        let stages = ["--stages", "tree@1,boosted@1,boosted@5", "--escalate", "0.4"];
        train(&labels, &data(), &bundle, &stages).exits(0);
        (labels, bundle)
    })
}

pub(crate) fn bundle() -> &'static Path {
    &small().1
}

/// A capture's frames.
pub(crate) fn frames(path: &Path) -> Vec<OwnedFrame> {
    let mut reader = CaptureReader::open(path).unwrap();
    MemorySource::read(&mut reader).unwrap().frames().to_vec()
}

/// Frames of a capture of the sample.
pub(crate) fn sample_frames(name: &str) -> Vec<OwnedFrame> {
    frames(&data().join(name))
}

/// Frames as a classic capture.
pub(crate) fn pcap(frames: &[OwnedFrame]) -> Vec<u8> {
    let link = frames.first().map_or(LinkType::Ethernet, |frame| frame.link);
    let mut writer = PcapWriter::new(Vec::new(), link, 262_144).unwrap();
    for frame in frames {
        let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = *frame;
        writer.write(&Packet { ts_ns, orig_len, link, data }).unwrap();
    }
    writer.finish().unwrap()
}

fn block(out: &mut Vec<u8>, kind: u32, mut body: Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
    let len = body.len() as u32 + 12;
    [kind, len].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(body);
    out.extend(len.to_le_bytes());
}

/// Frames as a pcapng capture in nanoseconds, their notes as packet comments.
pub(crate) fn pcapng(frames: &[OwnedFrame]) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let mut out = Vec::new();
    block(&mut out, 0x0a0d_0d0a, words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    // The first frame's link type, no snap length, if_tsresol = 9, end of options.
    let link = frames.first().map_or(LinkType::Ethernet, |frame| frame.link).number();
    block(&mut out, 1, words(&[link.into(), 0, 1 << 16 | 9, 9, 0]));
    for frame in frames {
        let (high, low) = ((frame.ts_ns >> 32) as u32, frame.ts_ns as u32);
        let mut body = words(&[0, high, low, frame.data.len() as u32, frame.orig_len]);
        body.extend(&frame.data);
        body.resize(body.len().next_multiple_of(4), 0);
        if let Some(note) = &frame.note {
            body.extend(words(&[(note.len() as u32) << 16 | 1]));
            body.extend(note.as_bytes());
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend([0; 4]);
        }
        block(&mut out, 6, body);
    }
    out
}

/// Bytes in gzip, stored and not squeezed.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for chunk in bytes.chunks(65_535) {
        let len = chunk.len() as u16;
        out.push(0);
        out.extend([len.to_le_bytes(), (!len).to_le_bytes()].concat());
        out.extend(chunk);
    }
    out.extend([1, 0, 0, 255, 255]);
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    out.extend((!crc).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}
