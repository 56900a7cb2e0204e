//! The audit of tasks:
//! `cargo run --release -p serveflow-train --example audit -- TASK_DIR...`
#![allow(clippy::unwrap_used)]
use serveflow_train::audit::examine;
use serveflow_train::pipeline::{Step, TrainPlan};
use std::path::Path;
use std::time::Instant;

fn main() {
    for task in std::env::args().skip(1) {
        let dir = Path::new(&task);
        let book = serveflow_label::read_table(&dir.join("labels.csv"), dir).unwrap();
        let plan = TrainPlan { threads: 2, ..TrainPlan::default() };
        let start = Instant::now();
        // Each training counts from its first round to its last one, which early stopping decides.
        let (mut trained, mut rounds) = (Vec::<[f64; 2]>::new(), usize::MAX);
        let tier = "boosted@10".parse().unwrap();
        let report = examine(&book, &plan, tier, &mut |step| {
            let Step::Training(_, progress) = step else { return };
            let now = start.elapsed().as_secs_f64();
            if progress.done <= rounds {
                trained.push([now, now]);
            }
            rounds = progress.done;
            trained.last_mut().unwrap()[1] = now;
        });
        println!("{task}\n{}", report.unwrap().text());
        let spans: Vec<String> = trained.iter().map(|[a, b]| format!("{:.1}", b - a)).collect();
        println!(
            "{:.1} s, of which training {} s\n",
            start.elapsed().as_secs_f64(),
            spans.join(" + ")
        );
    }
}
