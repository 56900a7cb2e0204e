//! The sample, small cascades made from it, and captures made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use serveflow_core::gate::Uncertainty;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_io::PcapWriter;
use serveflow_label::{LabelBook, read_table};
use serveflow_model::bundle::{Bundle, LanePlan, write};
use serveflow_train::calibrate::Granularity;
use serveflow_train::pipeline::{PipelineError, Tier, TrainPlan};
use serveflow_train::planner::candidates::{NoCache, PoolPlan, build};
use serveflow_train::planner::meter::MeterLoad;
use serveflow_train::planner::pool::CandidateSpec;
use serveflow_train::planner::replay::Rule;
use serveflow_train::planner::search::PlanGoal;
use serveflow_train::planner::writer::{PlanRequest, WrittenPlan, plan as write_plan};
use std::path::{Path, PathBuf};

/// A task of the sample.
pub fn data(task: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(task)
}

/// An empty directory of a test.
pub fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("train").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Writes a file and says where it is.
pub fn put(path: PathBuf, bytes: impl AsRef<[u8]>) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The flows of some labels of a task.
pub fn book_of(name: &str, task: &str, labels: &[&str]) -> LabelBook {
    let table = std::fs::read_to_string(data(task).join("labels.csv")).unwrap();
    let (header, rest) = table.split_once('\n').unwrap();
    let is_kept = |line: &&str| labels.contains(&line.split(',').nth(2).unwrap());
    let lines: Vec<&str> = rest.lines().filter(is_kept).collect();
    let table = format!("{header}\n{}\n", lines.join("\n"));
    read_table(&put(scratch(name).join("labels.csv"), table), &data(task)).unwrap()
}

/// Flows that need more than a packet to be told apart.
pub fn small_book(name: &str) -> LabelBook {
    book_of(name, "app_protocol", &["http", "mdns", "smb", "tls"])
}

pub fn tiers(tiers: &[&str]) -> Vec<Tier> {
    tiers.iter().map(|tier| tier.parse().unwrap()).collect()
}

/// A plan whose training takes moments.
pub fn quick_plan(stages: &[&str]) -> TrainPlan {
    let mut plan = TrainPlan { tiers: tiers(stages), ..TrainPlan::default() };
    plan.params.boost.rounds = 3;
    plan.params.forest.trees = 5;
    plan
}

/// The goal of given stages whose gates have thresholds for each class.
pub fn by_class() -> PlanGoal {
    let rule = Rule::Thresholds(Uncertainty::LeastConfidence, Granularity::PerClass);
    PlanGoal { rule, ..PlanGoal::default() }
}

/// Trains the stages of a plan, and calibrates their gates.
pub fn try_fit(
    book: &LabelBook,
    plan: &TrainPlan,
    goal: &PlanGoal,
    wall: fn() -> u64,
) -> Result<WrittenPlan, PipelineError> {
    let recipe = |tier: &Tier| CandidateSpec {
        kind: tier.kind,
        size: None,
        packets: tier.packets,
        wait_ms: plan.wait_ms,
        features: 0,
    };
    let recipes: Vec<CandidateSpec> = plan.tiers.iter().map(recipe).collect();
    let wanted = PoolPlan {
        recipes: recipes.clone(),
        features: vec![plan.features.clone()],
        cross_fit: 0,
        budget_ns: None,
        all_wanted: true,
        // A clock that stands still ends no run, so that runs end by their flows.
        load: MeterLoad { flows: 50, ..MeterLoad::default() },
        given: Vec::new(),
    };
    let built = build(book, plan, &wanted, &mut NoCache, wall, &mut |_| ())?;
    let place = |recipe| built.pool.candidates.iter().position(|own| own.recipe == recipe);
    let stages = recipes.into_iter().map(place).collect::<Option<Vec<usize>>>();
    let request = PlanRequest {
        wish: PlanGoal { stages, ..goal.clone() },
        guarantee: None,
        lanes: LanePlan::default(),
        seed: plan.seed,
        threads: plan.threads,
    };
    write_plan(&built.pool, &built.models, &request, wall)
}

/// Trains without a clock, so that nothing measured differs.
pub fn fit(book: &LabelBook, plan: &TrainPlan) -> WrittenPlan {
    try_fit(book, plan, &by_class(), || 0).unwrap()
}

/// Trains, edits the plan, and writes the bundle.
pub fn bundle(
    name: &str,
    book: &LabelBook,
    plan: &TrainPlan,
    edit: impl FnOnce(&mut serveflow_model::bundle::Plan),
) -> Bundle {
    bundle_for(&by_class(), name, book, plan, edit)
}

/// The same with another goal.
pub fn bundle_for(
    goal: &PlanGoal,
    name: &str,
    book: &LabelBook,
    plan: &TrainPlan,
    edit: impl FnOnce(&mut serveflow_model::bundle::Plan),
) -> Bundle {
    let mut trained = try_fit(book, plan, goal, || 0).unwrap();
    edit(&mut trained.plan);
    write(&scratch(name), &trained.plan, trained.models).unwrap()
}

/// An Ethernet frame with a UDP datagram between two hosts.
pub fn udp(from: (u8, u16), to: (u8, u16), payload: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(((28 + payload) as u16).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, from.0, 10, 0, 0, to.0]);
    frame.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
    frame.extend([((8 + payload) as u16).to_be_bytes(), [0, 0]].concat());
    frame.extend(vec![7; payload]);
    frame
}

/// Frames with their times as a classic capture.
pub fn pcap(frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new(), LinkType::Ethernet, 262_144).unwrap();
    for (ts_ns, data) in frames {
        let (ts_ns, orig_len) = (*ts_ns, data.len() as u32);
        writer.write(&Packet { ts_ns, orig_len, link: LinkType::Ethernet, data }).unwrap();
    }
    writer.finish().unwrap()
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = body.len() as u32 + 12;
    [kind, len].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(body);
    out.extend(len.to_le_bytes());
}

/// Frames with their times and comments as a pcapng capture in microseconds.
pub fn pcapng(frames: &[(u64, Vec<u8>, &str)]) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut out = Vec::new();
    block(&mut out, 0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    block(&mut out, 1, &words(&[1, 0]));
    for (ts_ns, data, comment) in frames {
        let (ticks, len) = (ts_ns / 1000, data.len() as u32);
        let mut body = words(&[0, (ticks >> 32) as u32, ticks as u32, len, len]);
        body.extend(data);
        pad(&mut body);
        if !comment.is_empty() {
            body.extend(words(&[(comment.len() as u32) << 16 | 1]));
            body.extend(comment.as_bytes());
            pad(&mut body);
            body.extend([0; 4]);
        }
        block(&mut out, 6, &body);
    }
    out
}
