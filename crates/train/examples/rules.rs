//! Rules side by side on a task: `cargo run --release -p serveflow-train --example rules -- TASK_DIR...`
#![allow(clippy::unwrap_used)]
use serveflow_train::pipeline::{Kind, TrainPlan};
use serveflow_train::planner::build::{NoShelf, PoolPlan, build, grid};
use serveflow_train::planner::heads::learn;
use serveflow_train::planner::rules::compare_rules;
use std::path::Path;
use std::time::Instant;

fn main() {
    let start = Instant::now();
    for task in std::env::args().skip(1) {
        let dir = Path::new(&task);
        let book = serveflow_train::labels::read_table(&dir.join("labels.csv"), dir).unwrap();
        let plan = TrainPlan { threads: 2, ..TrainPlan::default() };
        let recipes = grid(&[Kind::Tree, Kind::Boosted], &[], &[1, 10], &[plan.wait_ms]);
        let wanted = PoolPlan {
            recipes,
            features: vec![plan.features.clone()],
            cross_fit: std::env::var("CROSS").map_or(0, |c| c.parse().unwrap()),
            budget_ns: None,
        };
        let mut wall = || start.elapsed().as_nanos() as u64;
        let built = build(&book, &plan, &wanted, &mut NoShelf, &mut wall, &mut |_| {}).unwrap();
        let pool = built.pool;
        println!(
            "{task}: {:?} s, {} val, {} test",
            start.elapsed().as_secs(),
            pool.val.truth.len(),
            pool.test.truth.len()
        );
        println!(
            "idle {:.0} ns a flow, {:.1} packets a flow",
            pool.idle_flow_ns, pool.packets_per_flow
        );
        for c in &pool.candidates {
            println!(
                "{} val {:.4} test {:.4} engine {:.0} compute {:.0} train {:.1} s",
                c.name,
                c.val.confusion(&pool.val.truth, pool.classes()).macro_f1(),
                c.test.confusion(&pool.test.truth, pool.classes()).macro_f1(),
                c.engine_ns,
                c.compute_ns,
                c.train_ns as f64 / 1e9
            );
        }
        let find = |name: &str| pool.candidates.iter().position(|c| c.name == name).unwrap();
        for fast in ["tree@1", "boosted@1"] {
            let pair = (find(fast), find("boosted@10"));
            let t = Instant::now();
            let learned = learn(&pool, pair, 1, &|| 0).unwrap();
            println!("{fast}: head in {:?}, {} trees", t.elapsed(), learned.forest.trees().len());
            for tolerated in [0.005] {
                let report = compare_rules(&pool, pair, &learned, tolerated);
                for curve in report.curves {
                    let at: Vec<String> =
                        curve.macro_f1.iter().step_by(5).map(|f| format!("{f:.3}")).collect();
                    println!(
                        "  {:<17} gap {:>6.3} needs {:?} {}",
                        curve.rule,
                        curve.gap_closed,
                        curve.share_needed,
                        at.join(" ")
                    );
                }
            }
        }
    }
}
