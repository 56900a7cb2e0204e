//! Ends that nobody planned: signals while a pipe is silent, and readers that go away.

use super::kit::{self, Ran, pcap, program, text};
use serveflow_io::OwnedFrame;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Waits for a child that should end soon.
fn ends_soon(child: &mut Child) -> i32 {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().expect("ended by itself");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("still running after {:?}", started.elapsed());
}

/// Runs on a pipe that stays open, and stops by a signal after the first verdict.
fn stopped_by(signal: &str, bundle: &Path, frames: &[OwnedFrame], cut: usize) -> Ran {
    // Packets are served as they come.
    let args = ["run", "-", "--live-pipe", "--bundle", text(bundle)];
    let mut child = program().args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = pcap(frames);
    pipe.write_all(&bytes[..bytes.len() - cut]).unwrap();
    pipe.flush().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut out = String::new();
    lines.read_line(&mut out).unwrap();
    // What follows the first batch is read as well before the signal, but for a small risk.
    std::thread::sleep(Duration::from_millis(300));
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let code = ends_soon(&mut child);
    drop(pipe);
    lines.read_to_string(&mut out).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Ran { code, out, err }
}

#[test]
fn a_signal_ends_a_silent_pipe_with_all_verdicts() {
    let mut frames = kit::sample_frames("test/tls.pcap.zst");
    // The last frame, or the one before a cut, is the first of a connection: it waits for more.
    let is_syn = |frame: &OwnedFrame| frame.data.get(47).is_some_and(|flags| flags & 0x12 == 2);
    let open = 500 + frames[500..].iter().position(is_syn).unwrap();
    frames.truncate(open + 1);
    // No answer on the first packet stands, so flows wait for more of them.
    let bundle = kit::scratch("signals").join("bundle");
    let stages = ["--stages", "tree@1,boosted@20", "--escalate", "1"];
    kit::train(&kit::small().0, &kit::data(), &bundle, &stages).exits(0);
    for (signal, cut) in [("-TERM", 0), ("-INT", 0), ("-TERM", 5)] {
        if cut > 0 {
            frames.push(frames[0].clone());
        }
        let ran =
            stopped_by(signal, &bundle, &frames, cut).exits(0).says(&["stopped before the end"]);
        let flows = ran.account("flows");
        assert_eq!((flows[1], flows[2], flows[3]), (flows[0], 0, 0));
        assert_eq!(ran.account("packets")[0], open as u64 + 1);
        let verdicts = ran.verdicts();
        assert_eq!(verdicts.len() as u64, flows[0], "each flow has its verdict");
        assert!(verdicts.iter().any(|verdict| verdict["reason"] == "ended"), "some were open");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let capture = kit::data().join("test/http.pcap.zst");
    let mut command = program();
    command.args(["run", "--bundle", text(kit::bundle())]);
    command.args(std::iter::repeat_n(&capture, 60));
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.starts_with('{'));
    drop(lines);
    assert_eq!(ends_soon(&mut child), 0);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(!err.contains("panicked") && !err.contains("error"), "{err}");
}

#[test]
fn nobody_reading_is_no_panic() {
    let (labels, bundle) = kit::small();
    let captures = kit::data();
    let evaluate = ["evaluate", "--bundle", text(bundle), "--captures", text(&captures)];
    let evaluate: Vec<&str> = evaluate.into_iter().chain(["--labels", text(labels)]).collect();
    let cases: [&[&str]; 6] = [
        &["man"],
        &["completions", "bash"],
        &["config", "example"],
        &["inspect", text(bundle)],
        &["demo"],
        &evaluate,
    ];
    for args in cases {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program().args(args).stdout(writer).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    }
}

/// A signal during the demo: the unpacked sample goes too.
#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let dir = kit::scratch("demo-interrupted");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = program();
    command.current_dir(&dir).env("TMPDIR", &dir).arg("demo");
    command.stdout(writer.try_clone().unwrap());
    // The pipe is full, so the demo waits at its first line.
    let fills = std::thread::spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
    let mut child = command.spawn().unwrap();
    drop(command);
    let entries = || std::fs::read_dir(&dir).unwrap().count();
    let started = Instant::now();
    while entries() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the demo ended");
        assert!(started.elapsed() < Duration::from_secs(60), "nothing was unpacked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(ends_soon(&mut child), 128 + 15);
    assert_eq!(entries(), 0);
    drop(reader);
    fills.join().unwrap();
}

/// A pipe for verdicts that nobody reads yet, and the configuration of a run that is looked at by a
/// socket.
fn watched(name: &str) -> (std::path::PathBuf, Child) {
    let dir = kit::scratch(name);
    let (out, socket) = (dir.join("v.jsonl"), dir.join("s"));
    assert!(Command::new("mkfifo").arg(&out).status().unwrap().success());
    let config =
        format!("[service]\ncontrol = \"{}\"\nshutdown_timeout_ms = 120000\n", text(&socket));
    let config = kit::put(dir.join("serveflow.toml"), config);
    let capture = kit::data().join("test/llmnr.pcap.zst");
    let mut command = program();
    command.args(["run", text(&capture), "--bundle", text(kit::bundle())]);
    command.args(["--config", text(&config), "--out", text(&out), "--workers", "1"]);
    (dir, command.spawn().unwrap())
}

/// What `control status` says, once it says this.
fn says_in_time(socket: &Path, word: &str) -> String {
    let started = Instant::now();
    loop {
        let status = kit::serveflow(&["control", "status", "--socket", text(socket)]);
        if status.code == 0 && status.out.contains(word) {
            return status.out;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{} {}", status.out, status.err);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// While the output waits for its reader, whoever looks at the service has an answer.
#[test]
fn the_service_is_looked_at_until_the_output_has_taken_all() {
    let (dir, mut child) = watched("slow-reader");
    let socket = dir.join("s");
    says_in_time(&socket, "no reader has the pipe open");
    let status = says_in_time(&socket, "\"seen\": 50");
    assert!(status.contains("\"held\": false"), "{status}");
    let lines = std::fs::read_to_string(dir.join("v.jsonl")).unwrap();
    assert_eq!(ends_soon(&mut child), 0);
    assert!(lines.lines().count() > 0 && lines.ends_with("}\n"));
    assert!(!socket.exists());
}

/// Who ends a run by force is told what that may cost.
#[test]
fn a_second_signal_says_what_may_be_lost() {
    let (dir, mut child) = watched("second-signal");
    says_in_time(&dir.join("s"), "no reader has the pipe open");
    let send = || {
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    send();
    says_in_time(&dir.join("s"), "stopping\": true");
    // Signals that are closer are one.
    std::thread::sleep(Duration::from_millis(700));
    send();
    assert_eq!(ends_soon(&mut child), 1);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("ended at once by a second signal"), "{err}");
    assert!(err.contains("may be lost"), "{err}");
}
