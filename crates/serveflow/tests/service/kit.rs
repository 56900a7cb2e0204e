//! A running service that is fed by a pipe, two bundles, and traffic.

use serde_json::Value;
use serveflow_core::packet::LinkType;
use serveflow_io::{FileSource, MemorySource, OwnedFrame, PcapWriter};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The longest that anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The sample's bundle.
pub(crate) fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle")
}

/// An empty directory of a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("service").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A bundle whose labels are called otherwise, and whose first gate accepts every answer.
pub(crate) fn other_bundle(dir: &Path) {
    copy(&bundle(), dir);
    let plan = std::fs::read_to_string(dir.join("plan.toml")).unwrap();
    let mut in_thresholds = false;
    let line = |line: &str| {
        in_thresholds =
            if line.starts_with('[') { line.contains("thresholds") } else { in_thresholds };
        match line.split_once(" = ") {
            Some(("labels", all)) => format!(
                "labels = {}",
                all.replace("[\"", "[\"other-").replace(", \"", ", \"other-")
            ),
            Some((label, _)) if in_thresholds => format!("other-{label} = 1.0"),
            _ => line.to_owned(),
        }
    };
    let plan: Vec<String> = plan.lines().map(line).collect();
    std::fs::write(dir.join("plan.toml"), plan.join("\n")).unwrap();
    let _ = std::fs::remove_file(dir.join("report.json"));
    let packed = serveflow(&["bundle", "pack", dir.to_str().unwrap()]);
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
}

pub(crate) fn serveflow(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_serveflow")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The sample's frames, `rounds` times one behind the other: each time all flows are new.
pub(crate) fn traffic(rounds: u64) -> Vec<OwnedFrame> {
    static FRAMES: OnceLock<Vec<OwnedFrame>> = OnceLock::new();
    let frames = FRAMES.get_or_init(|| {
        let dir = bundle().join("../test");
        let files = ["dns.pcap.zst", "http.pcap.zst", "mdns.pcap.zst", "tls.pcap.zst"]
            .map(|name| dir.join(name));
        let mut source = FileSource::new(files.to_vec());
        let mut frames = MemorySource::read(&mut source).unwrap().frames().to_vec();
        // Files stand beside each other in time: played together, they are one capture.
        frames.sort_by_key(|frame| frame.ts_ns);
        let first = frames[0].ts_ns;
        let mut at = 0;
        let mut before = first;
        for frame in &mut frames {
            at += frame.ts_ns.saturating_sub(before).min(2_000_000_000);
            before = frame.ts_ns;
            frame.ts_ns = 1_700_000_000_000_000_000 + at;
        }
        frames
    });
    let span = frames.last().unwrap().ts_ns - frames[0].ts_ns + 2_000_000_000_000;
    let later = |round| {
        let frames = frames.iter().cloned();
        frames.map(move |frame| OwnedFrame { ts_ns: frame.ts_ns + round * span, ..frame })
    };
    (0..rounds).flat_map(later).collect()
}

/// Frames as a capture.
pub(crate) fn pcap(frames: &[OwnedFrame]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new(), LinkType::Ethernet, 1 << 18).unwrap();
    for frame in frames {
        let OwnedFrame { ts_ns, orig_len, link, data, .. } = frame;
        let packet = serveflow_core::packet::Packet {
            ts_ns: *ts_ns,
            orig_len: *orig_len,
            link: *link,
            data,
        };
        writer.write(&packet).unwrap();
    }
    writer.finish().unwrap()
}

/// The service, and how it is spoken to.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    verdicts: std::thread::JoinHandle<Vec<Value>>,
    log: std::thread::JoinHandle<String>,
    pub(crate) socket: PathBuf,
    pub(crate) metrics: String,
}

/// What is unusual about a start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Among<'a> {
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// More of its configuration, of the section `[service]` first.
    pub(crate) config: &'a str,
    /// Whether nobody reads its log.
    pub(crate) loses_log: bool,
    /// Whether its log is a pipe that nobody reads, and nobody closes.
    pub(crate) stalls_log: bool,
    /// More of its command line.
    pub(crate) args: &'a [&'a str],
}

impl Running {
    /// Starts a service of this bundle that reads its packets from a pipe.
    pub(crate) fn start(dir: &Path, bundle: &Path, workers: usize) -> Self {
        Self::start_among(dir, bundle, workers, Among::default())
    }

    /// The same under these circumstances.
    pub(crate) fn start_among(dir: &Path, bundle: &Path, workers: usize, among: Among<'_>) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (socket, metrics) = (dir.join("control"), format!("127.0.0.1:{port}"));
        let text = format!(
            "[input]\nreorder_ms = 0\n[service]\nbundle = {bundle:?}\nmetrics = {metrics:?}\n\
             control = {socket:?}\nlog = \"json\"\n{}",
            among.config
        );
        let config = dir.join("serveflow.toml");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_serveflow"))
            .args([
                "run",
                "-",
                "--config",
                config.to_str().unwrap(),
                "--workers",
                &workers.to_string(),
            ])
            .args(among.args)
            .envs(among.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, out, err) =
            (child.stdin.take(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (loses_log, stalls_log) = (among.loses_log, among.stalls_log);
        let verdicts = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines();
            lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
        });
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            if stalls_log {
                // Its other end stays open until this process is over.
                std::mem::forget(err);
            } else if !loses_log {
                BufReader::new(err).read_to_string(&mut text).unwrap();
            }
            text
        });
        let running = Self { child, stdin, verdicts, log, socket, metrics };
        running.wait("the control socket", || running.try_ask("GET", "/status", "").is_some());
        running
    }

    /// Waits until something is so.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < LIMIT, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        serveflow_serve::service::ask(&self.socket, method, path, body).ok()
    }

    /// Asks by the control socket.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).unwrap()
    }

    /// Asks by the address of the metrics.
    pub(crate) fn ask_openly(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/status", "").1).unwrap()
    }

    /// Feeds it bytes of a capture.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends the process at once, as nobody should.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the input, and waits for the end: verdicts by flow, and the log.
    pub(crate) fn end(mut self) -> (BTreeMap<u64, Value>, String) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        let log = self.log.join().unwrap();
        assert!(status.success(), "{status}: {log}");
        let mut by_flow = BTreeMap::new();
        for verdict in self.verdicts.join().unwrap() {
            let before = by_flow.insert(verdict["flow"].as_u64().unwrap(), verdict);
            assert!(before.is_none(), "two verdicts of one flow: {before:?}");
        }
        (by_flow, log)
    }
}

/// What a bundle says of a capture by itself.
pub(crate) fn alone(dir: &Path, bundle: &Path, capture: &[u8]) -> BTreeMap<u64, Value> {
    let path = dir.join("alone.pcap");
    std::fs::write(&path, capture).unwrap();
    let args = [
        "run",
        path.to_str().unwrap(),
        "--bundle",
        bundle.to_str().unwrap(),
        "--workers",
        "1",
        "-q",
    ];
    let ran = serveflow(&args);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let lines = String::from_utf8(ran.stdout).unwrap();
    let verdicts = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    verdicts.map(|verdict| (verdict["flow"].as_u64().unwrap(), verdict)).collect()
}

/// A verdict without what a clock says.
pub(crate) fn timeless(verdict: &Value) -> Value {
    let mut verdict = verdict.clone();
    verdict.as_object_mut().unwrap().remove("compute_us").unwrap();
    verdict
}

/// The samples of a metrics page: name with labels, and value.
pub(crate) fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

/// The sum of a metric over its labels.
pub(crate) fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let name = format!("serveflow_{name}");
    let is_one = |key: &str| {
        key == name || key.strip_prefix(&name).is_some_and(|rest| rest.starts_with('{'))
    };
    samples.iter().filter(|(key, _)| is_one(key)).map(|(_, value)| value).sum()
}
