//! Training rows are serving rows, and a seed decides the bundle.
#![allow(clippy::unwrap_used)]

mod common;

use common::{bundle, by_class, data, fit, quick_plan, scratch, small_book, try_fit};
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::lane::{InlineLane, Job, Lane};
use serveflow_core::rows::Rows;
use serveflow_core::verdict::FiveTuple;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory};
use serveflow_label::LabelBook;
use serveflow_model::bundle::{Bundle, write};
use serveflow_train::dataset::record;
use serveflow_train::pipeline::TrainPlan;
use serveflow_train::planner::writer::WrittenPlan;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Rows by stage and flow number, words and the bits of the numbers.
type Seen = HashMap<(usize, u64), (Vec<u32>, Vec<u32>)>;

/// Looks at each row on its way to the models.
struct Spy {
    seen: Arc<Mutex<Seen>>,
    inner: InlineLane,
}

impl Lane for Spy {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        let mut seen = self.seen.lock().unwrap();
        for (row, &flow) in job.flows.iter().enumerate() {
            let before = seen.insert((job.stage, flow), bits(&job.rows, row));
            assert!(before.is_none(), "a flow asks a stage once");
        }
        self.inner.submit(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.inner.poll()
    }
}

fn bits(rows: &Rows, row: usize) -> (Vec<u32>, Vec<u32>) {
    let numbers = rows.numbers(row).iter().map(|number| number.to_bits());
    (rows.words(row).to_vec(), numbers.collect())
}

/// The bundle's cascade; without gates when every stage should be asked.
fn cascade(bundle: &Bundle, gates: bool) -> Arc<Cascade> {
    if gates {
        return Arc::clone(&bundle.cascade);
    }
    let stages = bundle.cascade.stages().iter().map(Stage::ungated).collect();
    Arc::new(Cascade::new(stages, bundle.cascade.labels().to_vec()).unwrap())
}

/// Serves a capture of a book; the rows asked, and the flows by number.
fn served(
    bundle: &Bundle,
    book: &LabelBook,
    file: usize,
    gates: bool,
    batch_frames: usize,
) -> (Seen, HashMap<u64, (FiveTuple, u64)>) {
    let seen = Arc::new(Mutex::new(Seen::new()));
    let spy = Spy { seen: Arc::clone(&seen), inner: InlineLane::new(bundle.models.clone()) };
    let config = EngineConfig { flows: bundle.flow_config(), ..EngineConfig::default() };
    let mut engine = Engine::new(cascade(bundle, gates), config);
    let mut sink = Memory::default();
    Worker {
        engine: &mut engine,
        lanes: &mut vec![Box::new(spy)],
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut FileSource::new(vec![book.files.keys().nth(file).unwrap().clone()]), &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let flows = sink.verdicts.iter().map(|v| (v.id, (v.flow, v.first_ns))).collect();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, flows)
}

#[test]
fn every_serving_row_is_the_training_row() {
    serving_rows_are_training_rows("rows", quick_plan(&["tree@1", "boosted@3", "boosted@10"]));
}

#[test]
fn every_serving_row_of_a_window_is_the_training_row() {
    let mut plan = quick_plan(&["tree@1", "boosted@3", "boosted@window"]);
    plan.flows.window_ns = 1_000_000_000;
    plan.window_packets = 12;
    let windows = serving_rows_are_training_rows("window-rows", plan.clone());
    plan.flows.window_ns = serveflow_core::NO_WINDOW;
    plan.tiers.pop();
    assert!(windows > serving_rows_are_training_rows("whole-rows", plan), "windows are more");
}

/// Holds the rows of each stage to the recorded ones; how many flows there were.
fn serving_rows_are_training_rows(name: &str, mut plan: TrainPlan) -> usize {
    let book = small_book(name);
    plan.features = ["header_bits", "packet_series", "flow_stats"].map(str::to_owned).to_vec();
    let bundle = bundle(&format!("{name}-bundle"), &book, &plan, |_| ());
    let dataset =
        record(&book, &plan.recording(&TrainPlan::depths(&plan.tiers)), &mut |_| ()).unwrap();
    let at: HashMap<(usize, FiveTuple, u64), usize> = dataset
        .flows
        .iter()
        .enumerate()
        .map(|(row, flow)| ((flow.file, flow.flow, flow.first_ns), row))
        .collect();
    assert_eq!(at.len(), dataset.flows.len(), "flows are told apart");
    let mut all = 0;
    for file in 0..book.files.len() {
        for (gates, batch_frames) in [(false, 1024), (false, 1), (true, 64)] {
            let (seen, flows) = served(&bundle, &book, file, gates, batch_frames);
            for ((stage, flow), row) in &seen {
                let (tuple, first_ns) = flows[flow];
                let recorded = at[&(file, tuple, first_ns)];
                assert_eq!(
                    *row,
                    bits(&dataset.rows[*stage], recorded),
                    "stage {stage} of {tuple:?}"
                );
            }
            if !gates {
                assert_eq!(seen.len(), plan.tiers.len() * flows.len(), "each flow asks each stage");
                all += flows.len();
            }
        }
    }
    assert_eq!(all, 2 * dataset.flows.len());
    dataset.flows.len()
}

/// A bundle's files by name.
fn files(name: &str, trained: WrittenPlan) -> Vec<(String, Vec<u8>)> {
    let dir = scratch(name);
    let id = write(&dir, &trained.plan, trained.models).unwrap().id;
    let mut files = vec![("id".to_owned(), id.into_bytes())];
    let (mut dirs, mut paths) = (vec![dir.clone()], Vec::new());
    while let Some(inside) = dirs.pop() {
        let entries = std::fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path());
        let (below, here): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        dirs.extend(below);
        paths.extend(here);
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(&dir).unwrap().display().to_string();
        files.push((name, std::fs::read(path).unwrap()));
    }
    files
}

#[test]
fn a_seed_decides_the_bundle_and_threads_do_not() {
    let book = small_book("seeds");
    let plan = TrainPlan { seed: 7, ..quick_plan(&["tree@1", "forest@2", "boosted@3"]) };
    let first = files("seed-first", fit(&book, &plan));
    assert_eq!(first.len(), 6);
    for threads in [1, 2, 3] {
        let plan = TrainPlan { threads, ..plan.clone() };
        assert_eq!(files("seed-again", fit(&book, &plan)), first, "{threads} threads");
    }
    let other = files("seed-other", fit(&book, &TrainPlan { seed: 8, ..plan }));
    assert_ne!(other, first);
}

#[test]
fn where_the_captures_stand_changes_no_bundle() {
    let plan = quick_plan(&["tree@1"]);
    let dirs = ["here", "there"].map(|name| scratch(&format!("place-{name}")));
    let [here, there] = dirs.map(|dir| {
        for label in ["smb", "mdns"] {
            let from = data("app_protocol").join(format!("train/{label}.pcap.zst"));
            std::fs::copy(from, dir.join(format!("{label}.pcap.zst"))).unwrap();
        }
        fit(&serveflow_label::by_path(&dir).unwrap(), &plan)
    });
    assert_eq!((here.plan, here.models), (there.plan, there.models));
}

#[test]
fn a_trained_plan_says_what_was_asked_for() {
    let book = small_book("said");
    let mut plan = quick_plan(&["tree@1", "forest@1", "boosted@2"]);
    plan.wait_ms = 77;
    plan.flows.idle_ns = 9_000_000_000;
    plan.task = "a task".to_owned();
    let trained = fit(&book, &plan);
    let names: Vec<&str> = trained.plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["tree@1", "forest@1", "boosted@2"]);
    assert!(trained.plan.stages.iter().all(|stage| stage.wait_ms == 77));
    assert_eq!(trained.plan.flows.idle_ms, 9000);
    assert_eq!(trained.plan.labels, ["http", "mdns", "smb", "tls"]);
    assert_eq!(trained.plan.provenance.labels_sha256, book.sha256);
    for stage in &trained.plan.stages[..2] {
        let thresholds = stage.gate.as_ref().and_then(|gate| gate.thresholds.as_ref());
        assert!(thresholds.is_some_and(|all| all.keys().eq(&trained.plan.labels)), "{stage:?}");
    }
    assert!(trained.plan.stages[2].gate.is_none());
    for (model, stage) in trained.models.keys().zip(["boosted_2", "forest_1", "tree_1"]) {
        assert_eq!(*model, format!("models/{stage}.json"));
    }
}

#[test]
fn a_stage_that_scores_slowly_gets_a_thread() {
    let book = small_book("lanes");
    let plan = quick_plan(&["tree@1", "forest@2"]);
    // Each look at the clock is so much later than the one before.
    static NOW: AtomicU64 = AtomicU64::new(0);
    let lanes = |wall: fn() -> u64| {
        let plan = try_fit(&book, &plan, &by_class(), wall).unwrap().plan;
        let rule = plan.lane_rule.unwrap();
        for stage in &plan.stages {
            let cost = stage.cost.unwrap();
            assert_eq!(stage.lane, rule.lane(&cost), "{cost:?}");
            assert_eq!(stage.lane == "thread", rule.batch_ns(&cost) > rule.budget_ns as f64);
        }
        plan.stages.iter().map(|stage| stage.lane.clone()).collect::<Vec<_>>()
    };
    assert_eq!(lanes(|| NOW.fetch_add(1_000, Ordering::Relaxed)), ["inline"; 2]);
    assert_eq!(lanes(|| NOW.fetch_add(1_000_000_000, Ordering::Relaxed)), ["thread"; 2]);
}
