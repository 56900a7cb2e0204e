//! The command line with a bundle whose last stage is remote.

use super::kit::{Fake, Mood};
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::LoadOptions;
use serveflow_model::bundle::{Bundle, sha256};
use serveflow_serve::config::Typed;
use serveflow_serve::remote::Remote;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A bundle whose last stage is asked on a server, and what a run needs.
struct Bench {
    dir: PathBuf,
    data: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("serveflow-{name}-{}", std::process::id()));
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol");
        let bench = Self { dir, data };
        let text = std::fs::read_to_string(bench.data.join("bundle/plan.toml")).unwrap();
        let plan = text.replacen(
            "file = \"models/boosted_10.json\"\nformat = \"forest\"",
            "file = \"models/m.toml\"\nformat = \"remote\"\nclasses = [\"tls\", \"dns\"]",
            1,
        );
        assert_ne!(plan, text);
        let (stages, last) = plan.rsplit_once("lane = \"inline\"").unwrap();
        let plan = format!("{stages}lane = \"thread\"{last}");
        let spec = "model = \"m\"\ninput = \"X\"\nclasses = 2\nmax_rows = 16\n";
        let model = |name: &str| std::fs::read(bench.data.join("bundle").join(name)).unwrap();
        let files = [
            ("plan.toml", plan.into_bytes()),
            ("models/m.toml", spec.into()),
            ("models/tree_1.json", model("models/tree_1.json")),
            ("models/boosted_1.json", model("models/boosted_1.json")),
        ];
        std::fs::create_dir_all(bench.dir.join("models")).unwrap();
        let mut sums = String::new();
        for (name, bytes) in files {
            sums += &format!("{}  {name}\n", sha256(&bytes));
            std::fs::write(bench.dir.join(name), bytes).unwrap();
        }
        std::fs::write(bench.dir.join("SHA256SUMS"), sums).unwrap();
        bench
    }

    fn tool(&self, words: &[&str], config: &str) -> Output {
        let file = self.dir.join("serveflow.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_serveflow"));
        command.args(words).arg("--config").arg(file).output().unwrap()
    }

    fn run(&self, config: &str) -> Output {
        let captures = ["test/tls.pcap.zst", "test/smb.pcap.zst", "test/dns.pcap.zst"];
        let captures = captures.map(|name| self.data.join(name).display().to_string());
        let dir = self.dir.display().to_string();
        let mut words = vec!["run", "--format", "csv", "--bundle", &dir];
        words.extend(captures.iter().map(String::as_str));
        self.tool(&words, config)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn remote(url: &str) -> String {
    format!("[remote]\nendpoints = [\"{url}\"]\nhealth_ms = 50\ntimeout_ms = 2000\n")
}

/// Stage and reason of each flow; each has one verdict.
fn verdicts(output: &Output) -> Vec<(String, String)> {
    let told = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Flows of a capture that lost an answer are no success.
    let code = if text.contains(",failed,") { 4 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{told}");
    let lines: Vec<Vec<&str>> =
        text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let flows: BTreeSet<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(flows.len(), lines.len(), "one verdict per flow");
    assert!(told.contains(&format!("{} seen = {0} verdicts", lines.len())), "{told}");
    lines.iter().map(|line| (line[9].to_owned(), line[11].to_owned())).collect()
}

#[test]
fn a_bundle_with_a_remote_stage_is_served_and_the_summary_tells_of_its_servers() {
    let bench = Bench::new("served");
    let fake = Fake::new(Mood::Well);
    let output = bench.run(&remote(&fake.url()));
    let verdicts = verdicts(&output);
    let by_remote = verdicts.iter().filter(|(stage, _)| stage == "boosted@10").count();
    assert!(by_remote > 50, "{by_remote}");
    assert!(verdicts.iter().all(|(_, reason)| !["shed", "failed"].contains(&reason.as_str())));
    let rows = fake.state.seen.lock().unwrap().rows.clone();
    assert_eq!(rows.iter().sum::<usize>(), by_remote, "each flow was asked once");
    assert!(rows.iter().all(|&rows| rows <= 16), "in parts that the server takes");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = format!("remote:  m on {}: ready, {} requests, 0 failed", fake.url(), rows.len());
    assert!(told.contains(&line), "{told}");
}

/// Two bundles in one process, each with servers of its own.
#[test]
fn two_bundles_are_asked_on_servers_of_their_own() {
    let bench = Bench::new("two");
    let fakes = [Fake::new(Mood::Well), Fake::new(Mood::Well)];
    let opened = fakes.each_ref().map(|fake| {
        let typed: Typed = toml::from_str(&remote(&fake.url())).unwrap();
        let servers = Remote::new(typed.servers().unwrap());
        let options = servers.connecting(LoadOptions::default());
        (Bundle::open(&bench.dir, &options).unwrap(), servers)
    });
    // The first is asked three times, the second once.
    for which in [0, 1, 0, 0] {
        let model = opened[which].0.models.last().unwrap();
        let mut rows = Rows::with_capacity(model.shape(), 1);
        rows.push();
        model.score(&rows, &mut Scores::default()).unwrap();
    }
    for ((fake, (_, servers)), expected) in fakes.iter().zip(&opened).zip([3, 1]) {
        assert_eq!(fake.state.seen.lock().unwrap().rows.len(), expected);
        let status = servers.status();
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].requests, expected as u64);
        assert!(fake.url().contains(&status[0].endpoint) || status[0].endpoint == fake.url());
    }
}

#[test]
fn without_servers_it_is_checked_and_not_served() {
    let bench = Bench::new("unserved");
    let dir = bench.dir.display().to_string();
    assert!(Bundle::open(&bench.dir, &LoadOptions::default()).is_ok());
    assert!(bench.tool(&["inspect", &dir], "").status.success());
    let data = bench.data.display().to_string();
    let labels = bench.data.join("labels.csv").display().to_string();
    let evaluate = ["evaluate", "--bundle", &dir, "--captures", &data, "--labels", &labels];
    for output in [bench.run(""), bench.tool(&evaluate, "")] {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{told}");
        let expected = "model `m` is remote, and no servers are named for it";
        assert!(told.contains(expected) && told.contains("[remote] endpoints"), "{told}");
    }
}

#[test]
fn servers_that_are_gone_leave_each_flow_its_best_answer() {
    let bench = Bench::new("gone");
    let mut fake = Fake::new(Mood::Well);
    let (url, started) = (fake.url(), Instant::now());
    fake.stop();
    let output = bench.run(&remote(&url));
    let verdicts = verdicts(&output);
    let failed = verdicts.iter().filter(|(_, reason)| reason == "failed").count();
    assert!(failed > 50, "{failed}");
    assert!(verdicts.iter().all(|(stage, _)| ["tree@1", "boosted@1"].contains(&stage.as_str())));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(": out, ") && told.contains("refused"), "{told}");
}
