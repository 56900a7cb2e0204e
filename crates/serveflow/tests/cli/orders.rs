//! The law of inputs from outside: verdicts are those of all packets in the order of time.

use super::kit::{self, Ran, pcap, put, run, scratch, serveflow, text};
use serde_json::Value;
use serveflow_io::OwnedFrame;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

const SECOND: u64 = 1_000_000_000;

/// Frames with growing time stamps in whole microseconds, no two alike.
fn sample() -> Vec<OwnedFrame> {
    let mut frames = kit::sample_frames("test/http.pcap.zst");
    frames.truncate(3000);
    frames.sort_by_key(|frame| frame.ts_ns);
    // The sample was joined from captures of several years: no silence here is longer than flows
    // live.
    let (mut now, mut before) = (frames[0].ts_ns / 1000 * 1000, frames[0].ts_ns);
    for frame in &mut frames {
        let gap = (frame.ts_ns - std::mem::replace(&mut before, frame.ts_ns)) / 1000 * 1000;
        now += gap.clamp(1000, 100 * SECOND);
        frame.ts_ns = now;
    }
    frames
}

/// A generator of numbers that look random (Knuth's constants).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// Verdicts by what they say: flows have no numbers, since workers number them as they come.
fn verdicts(ran: &Ran) -> Vec<String> {
    let bare = |mut verdict: Value| {
        verdict.as_object_mut().unwrap().remove("flow");
        verdict.to_string()
    };
    let mut all: Vec<String> = ran.verdicts().into_iter().map(bare).collect();
    all.sort();
    all
}

#[test]
fn files_names_arguments_workers_and_late_packets_change_no_verdict() {
    let (dir, frames) = (scratch("law"), sample());
    let whole = put(dir.join("whole.pcap"), pcap(&frames));
    let expected = verdicts(&run(&[&whole], &[]).exits(0));
    assert!(expected.len() > 100, "the sample holds flows");
    for seed in 0..8 {
        let mut rng = Rng(seed);
        let folder = scratch(&format!("law/{seed}"));
        // Stored late by up to a hundred places within a second.
        let mut stored = frames.clone();
        let mut from = 0;
        while from < stored.len() {
            let most = stored.len().min(from + 1 + rng.below(100));
            let end = stored[from].ts_ns + SECOND;
            let near = stored[from..most].iter().take_while(|frame| frame.ts_ns <= end).count();
            rng.shuffle(&mut stored[from..from + near]);
            from += near;
        }
        let files = 1 + rng.below(6);
        let is_cut = seed % 2 == 0;
        let mut parts = vec![Vec::new(); files];
        for (at, frame) in stored.into_iter().enumerate() {
            let to = if is_cut { at * files / frames.len() } else { rng.below(files) };
            parts[to].push(frame);
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        for part in parts {
            let name =
                format!("{:x}.{}", rng.below(1 << 30), ["PCAP", "pcap1", "cap.2"][rng.below(3)]);
            paths.push(put(folder.join(name), pcap(&part)));
        }
        put(folder.join("README.txt"), "what these are");
        rng.shuffle(&mut paths);
        let named: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let workers = (1 + seed % 4).to_string();
        let more = ["--workers", &workers];
        for captures in [named, vec![folder.as_path()]] {
            let ran = run(&captures, &more).exits(0);
            let what = format!("seed {seed}, {files} files, {workers} workers\n{}", ran.err);
            assert!(verdicts(&ran) == expected, "{what}");
            assert!(ran.err.contains("0 packets out of order, 0 stray time stamps"), "{what}");
            let is_folder = captures.len() == 1 && captures[0] == folder;
            assert_eq!(
                ran.err.contains("left out: 1 file that is no capture"),
                is_folder,
                "{what}"
            );
        }
    }
}

#[test]
fn stray_time_stamps_change_nothing_but_their_count() {
    let (dir, frames) = (scratch("strays"), sample());
    let key = |verdict: &Value| {
        // Gaps differ, and so may what a model makes of them.
        ["src", "src_port", "dst", "dst_port", "proto"].map(|key| verdict[key].to_string())
    };
    let flows = |ran: &Ran| {
        let mut all: Vec<_> = ran.verdicts().iter().map(key).collect();
        all.sort();
        all
    };
    let whole = put(dir.join("whole.pcap"), pcap(&frames));
    let expected = flows(&run(&[&whole], &[]).exits(0));
    for seed in 0..4 {
        let (mut rng, mut stored) = (Rng(100 + seed), frames.clone());
        let (mut at, mut strays) = (rng.below(3), 0);
        while at + 20 < stored.len() {
            let absurd = [0, u64::from(u32::MAX) * SECOND, stored[at].ts_ns + 40_000_000 * SECOND];
            stored[at].ts_ns = absurd[rng.below(3)];
            strays += 1;
            at += 20 + rng.below(200);
        }
        let path = put(dir.join(format!("{seed}.pcap")), pcap(&stored));
        for workers in ["1", "3"] {
            let ran = run(&[&path], &["--workers", workers]).exits(0);
            assert!(flows(&ran) == expected, "seed {seed}, {workers} workers: {}", ran.err);
            assert!(ran.err.contains(&format!(", {strays} stray time stamp")), "{}", ran.err);
            assert!(ran.err.contains(&format!("stray_timestamps {strays}")), "{}", ran.err);
        }
    }
}

#[test]
fn a_capture_that_steps_back_has_the_flows_of_its_parts() {
    let (dir, frames) = (scratch("back"), sample());
    let mut earlier = frames[1500..].to_vec();
    let back = earlier[0].ts_ns - frames[0].ts_ns + 100_000 * SECOND;
    earlier.iter_mut().for_each(|frame| frame.ts_ns -= back);
    let parts =
        [put(dir.join("b.pcap"), pcap(&frames[..1500])), put(dir.join("a.pcap"), pcap(&earlier))];
    let joined = put(dir.join("joined"), pcap(&[&frames[..1500], &earlier[..]].concat()));
    let mut expected: Vec<String> =
        parts.iter().flat_map(|part| verdicts(&run(&[part], &[]).exits(0))).collect();
    expected.sort();
    for workers in ["1", "2"] {
        for captures in [vec![joined.as_path()], parts.iter().map(PathBuf::as_path).collect()] {
            let ran = run(&captures, &["--workers", workers]).exits(0);
            assert!(verdicts(&ran) == expected, "{}", ran.err);
        }
        let ran = run(&[&joined], &["--workers", workers]).exits(0);
        assert!(ran.err.contains("2 flow tables; 0 packets out of order"), "{}", ran.err);
        let one = run(&[&joined], &["--workers", workers, "--one-table"]).exits(0);
        let late = frames.len() - 1500;
        let told = format!("1 flow table; {late} packets out of order");
        assert!(one.err.contains(&told), "{}", one.err);
    }
    let own = run(&[&parts[0], &parts[1]], &["--per-capture"]).exits(0);
    assert!(verdicts(&own) == expected && own.err.contains("2 flow tables"), "{}", own.err);
}

/// Feeds a pipe that stays open, and hands back its first verdict and what came at the end.
fn first_of_pipe(args: &[&str], frames: &[OwnedFrame]) -> (Value, String) {
    let mut child = kit::program().args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&pcap(frames)).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    drop(pipe);
    let err = child.wait_with_output().unwrap().stderr;
    (serde_json::from_str(&line).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn waits_run_out_on_a_live_pipe_that_is_silent() {
    // Flows wait for twenty packets, but no longer than 200 ms.
    let bundle = scratch("live-pipe").join("bundle");
    let more = ["--stages", "tree@1,boosted@20", "--escalate", "1", "--wait-ms", "200"];
    kit::train(&kit::small().0, &kit::data(), &bundle, &more).exits(0);
    let mut frames = kit::sample_frames("test/tls.pcap.zst");
    frames.truncate(2);
    let old = frames.clone();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    for (at, frame) in frames.iter_mut().enumerate() {
        frame.ts_ns = (now + Duration::from_micros(at as u64)).as_nanos() as u64;
    }
    let args = ["run", "-", "--bundle", text(&bundle)];
    let flagged = [&args[..], &["--live-pipe"]].concat();
    for (args, frames) in [(&args[..], &frames), (&flagged[..], &old)] {
        let (verdict, err) = first_of_pipe(args, frames);
        assert_eq!(verdict["reason"], "timed_out", "{verdict}");
        assert!(err.contains("1 flow table; a live pipe"), "{err}");
    }
    serveflow(&["run", "--live-pipe", "--bundle", text(&bundle)]).exits(2);
}
