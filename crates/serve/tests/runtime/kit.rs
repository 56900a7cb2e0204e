//! The sample's bundle with models of a test's own, served from files.

use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::shard::Sharder;
use serveflow_core::verdict::Verdict;
use serveflow_io::{FileSource, Sink, Source, share_out};
use serveflow_model::LoadOptions;
use serveflow_model::bundle::Bundle;
use serveflow_serve::clock;
use serveflow_serve::config::{Config, Typed};
use serveflow_serve::service::Service;
use serveflow_serve::workers::{WorkerIo, WorkerOutcome, WorkerSetup, serve};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) fn bundle_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle")
}

pub(crate) fn bundle() -> Bundle {
    Bundle::open(&bundle_dir(), &LoadOptions::default()).unwrap()
}

pub(crate) fn captures() -> Vec<PathBuf> {
    let dir = bundle_dir().join("../test");
    ["tls.pcap.zst", "dns.pcap.zst", "smb.pcap.zst"].map(|name| dir.join(name)).to_vec()
}

/// What a model does instead of answering at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Sleeps,
    HangsAfter(u64),
    Fails,
    Panics,
}

/// A model with a mood.
#[derive(Debug)]
struct Moody {
    inner: Arc<dyn Model>,
    mood: Mood,
    calls: AtomicU64,
    seed: u64,
}

impl Model for Moody {
    fn shape(&self) -> RowShape {
        self.inner.shape()
    }

    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.mood {
            Mood::Sleeps => {
                let mut dice = (self.seed + call + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                dice ^= dice >> 29;
                // Mostly not at all, now and then many times the deadline.
                let ms = [0, 0, 0, 0, 0, 1, 2, 12][(dice >> 40) as usize % 8];
                std::thread::sleep(Duration::from_millis(ms));
            }
            Mood::HangsAfter(calls) if call >= calls => loop {
                std::thread::park();
            },
            Mood::HangsAfter(_) => {}
            Mood::Fails => return Err(ScoreError { message: "on purpose".to_owned() }),
            Mood::Panics => panic!("a model, on purpose"),
        }
        self.inner.score(rows, scores)
    }
}

/// A bundle whose models have a mood from this stage on.
pub(crate) fn moody(mood: Mood, from_stage: usize, seed: u64) -> Bundle {
    let mut bundle = bundle();
    for model in bundle.models.iter_mut().skip(from_stage) {
        let (inner, calls) = (Arc::clone(model), AtomicU64::new(0));
        *model = Arc::new(Moody { inner, mood, calls, seed });
    }
    bundle
}

/// A configuration of a test, for the bundle of [`bundle`].
pub(crate) fn config(text: &str, workers: usize) -> Config {
    let typed: Typed = toml::from_str(text).unwrap();
    let mut config = typed.check_for(&bundle()).unwrap();
    config.workers = workers;
    config
}

/// Keeps the verdicts of all workers.
#[derive(Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Verdict>>>);

impl Sink for Kept {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(verdicts);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    /// What was told, without what depends on workers and clocks, in an order that does not either.
    pub(crate) fn told(&self) -> Vec<String> {
        let verdicts = self.0.lock().unwrap();
        let told = |verdict: &Verdict| {
            format!("{:?}", Verdict { id: 0, plan: 0, compute_ns: 0, ..*verdict })
        };
        let mut told: Vec<String> = verdicts.iter().map(told).collect();
        told.sort_unstable();
        told
    }
}

/// A source for each worker: a share of the captures.
pub(crate) fn sources(config: &Config) -> Vec<Box<dyn Source>> {
    let source: Box<dyn Source> = Box::new(FileSource::new(captures()));
    shared(source, config)
}

/// A source for each worker: a share of this one.
pub(crate) fn shared(source: Box<dyn Source>, config: &Config) -> Vec<Box<dyn Source>> {
    if config.workers == 1 {
        return vec![source];
    }
    let flows = config.engine.flows;
    let sharder = Sharder::new(config.workers as u32, flows.key, flows.seed);
    let shares = share_out(source, sharder, flows.idle_ns).into_iter();
    shares.map(|share| -> Box<dyn Source> { Box::new(share) }).collect()
}

/// Serves sources as files are served.
pub(crate) fn run(
    bundle: &Bundle,
    config: &Config,
    sources: Vec<Box<dyn Source>>,
    stop: &Arc<AtomicBool>,
    service: Option<&Service>,
) -> (WorkerOutcome, Kept) {
    let kept = Kept::default();
    let post = |source| WorkerIo { source, sink: Box::new(kept.clone()) };
    let crew = WorkerSetup {
        bundle,
        config,
        selection: None,
        wall: clock::now_ns,
        stop,
        is_live: false,
        drains: false,
        service,
        drift: None,
    };
    (serve(&crew, sources.into_iter().map(post).collect()), kept)
}
