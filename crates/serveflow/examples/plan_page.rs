//! Plans a task and tells of it:
//! `cargo run --release -p serveflow --example plan_page -- FROM PAGE TEXT [REPORT]`
//!
//! FROM is a task's directory or a report that was written before; REPORT is where the report goes
//! as JSON. `CROSS` is the number of folds of training captures, 3 if it is not set.
#![allow(clippy::unwrap_used)]
use serveflow_model::bundle::LanePlan;
use serveflow_report::{html as plan_page, text as plan_text};
use serveflow_train::pipeline::{Kind, TrainPlan};
use serveflow_train::planner::candidates::{NoCache, PoolPlan, build, grid};
use serveflow_train::planner::limits::{Constraints, Objective};
use serveflow_train::planner::meter::MeterLoad;
use serveflow_train::planner::replay::Rule;
use serveflow_train::planner::report::{PlanReport, report};
use serveflow_train::planner::search::PlanGoal;
use serveflow_train::planner::writer::{PlanRequest, plan};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
fn wall() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn planned(dir: &Path) -> PlanReport {
    let book = serveflow_label::read_table(&dir.join("labels.csv"), dir).unwrap();
    let params = TrainPlan { threads: 2, ..TrainPlan::default() };
    let kinds = [Kind::Tree, Kind::Boosted];
    let wanted = PoolPlan {
        recipes: grid(&kinds, &[20], &[1, 2, 3, 5, 10], &[params.wait_ms], 1),
        features: vec![params.features.clone()],
        cross_fit: std::env::var("CROSS").map_or(3, |cross| cross.parse().unwrap()),
        budget_ns: None,
        all_wanted: false,
        load: MeterLoad::default(),
        given: Vec::new(),
    };
    let built = build(&book, &params, &wanted, &mut NoCache, wall, &mut |_| {}).unwrap();
    let (rule, limits) = (Rule::Learned, Constraints::default());
    let wish = PlanGoal {
        objective: Objective::Latency,
        limits,
        rule,
        stages: None,
        escalate: None,
        ends_in_best: false,
    };
    let request =
        PlanRequest { wish, guarantee: None, lanes: LanePlan::default(), seed: 1, threads: 2 };
    let planned = plan(&built.pool, &built.models, &request, wall).unwrap();
    report(&built.pool, &request, &planned)
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let from = Path::new(&given[0]);
    let report = if from.is_dir() {
        planned(from)
    } else {
        serde_json::from_slice(&std::fs::read(from).unwrap()).unwrap()
    };
    if let Some(path) = given.get(3) {
        std::fs::write(path, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
    }
    let honesty = plan_page::Section {
        title: "Audit".to_owned(),
        text: "not checked here: this page was made by an example".to_owned(),
    };
    std::fs::write(&given[1], plan_page::html(&report, &[honesty])).unwrap();
    std::fs::write(&given[2], plan_text::text(&report)).unwrap();
}
