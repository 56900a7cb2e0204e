//! Plans a task and tells of it:
//! `cargo run --release -p serveflow --example plan_page -- FROM PAGE TEXT [REPORT]`
//!
//! FROM is a task's directory or a report that was written before; REPORT is where the report goes
//! as JSON. `CROSS` is the number of folds of training captures, 3 if it is not set.
#![allow(clippy::unwrap_used)]
use serveflow_report::{html as plan_page, text as plan_text};
use serveflow_train::pipeline::TrainPlan;
use serveflow_train::planner::report::PlanReport;
use serveflow_train::session::{NoObserver, Session, SessionOptions};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
fn wall() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn planned(dir: &Path) -> PlanReport {
    let book = serveflow_label::read_table(&dir.join("labels.csv"), dir).unwrap();
    let out = std::env::temp_dir().join(format!("plan_page-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let options = SessionOptions::new(&out)
        .train(TrainPlan { threads: 2, ..TrainPlan::default() })
        .candidates(|own| {
            own.cross_fit = std::env::var("CROSS").map_or(3, |cross| cross.parse().unwrap());
        })
        .audit(false);
    let outcome = Session::new(options, wall).run(&book, &mut NoObserver);
    std::fs::remove_dir_all(&out).unwrap();
    outcome.unwrap().report
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
