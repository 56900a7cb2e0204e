//! A search on a task: `cargo run --release -p serveflow-train --example search -- TASK_DIR...`
#![allow(clippy::unwrap_used)]
use serveflow_core::gate::Measure;
use serveflow_model::bundle::LanePlan;
use serveflow_train::pipeline::{Kind, TrainPlan};
use serveflow_train::planner::build::{NoShelf, PoolPlan, build, grid};
use serveflow_train::planner::limits::{Limits, Objective};
use serveflow_train::planner::plan::{Request, plan};
use serveflow_train::planner::search::{Point, Wish, front};
use serveflow_train::planner::walk::Rule;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
fn wall() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn main() {
    for task in std::env::args().skip(1) {
        let dir = Path::new(&task);
        let book = serveflow_train::labels::read_table(&dir.join("labels.csv"), dir).unwrap();
        let params = TrainPlan { threads: 2, ..TrainPlan::default() };
        let recipes = grid(
            &[Kind::Tree, Kind::Boosted],
            &[20],
            &[1, 2, 3, 5, 10],
            &std::env::var("WAITS").map_or(vec![params.wait_ms], |w| {
                w.split(',').map(|w| w.parse().unwrap()).collect()
            }),
        );
        let wanted = PoolPlan {
            recipes,
            features: vec![params.features.clone()],
            cross_fit: std::env::var("CROSS").map_or(0, |c| c.parse().unwrap()),
            budget_ns: None,
        };
        let t = wall();
        let built = build(&book, &params, &wanted, &mut NoShelf, &mut wall, &mut |_| {}).unwrap();
        let pool = built.pool;
        println!("{task}: pool in {:.1} s", (wall() - t) as f64 / 1e9);
        for (i, c) in pool.candidates.iter().enumerate() {
            println!(
                "{}{} val {:.4} test {:.4} engine {:.0} compute {:.0} train {:.1} s",
                if front(&pool).contains(&i) { "*" } else { " " },
                c.name,
                pool.val_f1(i),
                c.test.confusion(&pool.test.truth, pool.classes()).macro_f1(),
                c.engine_ns,
                c.compute_ns,
                c.train_ns as f64 / 1e9
            );
        }
        for (rule, objective) in [
            (Rule::Learned, Objective::Latency),
            (Rule::Doubt(Measure::LeastConfidence), Objective::Latency),
            (Rule::Learned, Objective::Cpu),
        ] {
            let wish =
                Wish { objective, limits: Limits::default(), rule, stages: None, escalate: None };
            let request = Request { wish, lanes: LanePlan::default(), seed: 1, threads: 2 };
            let t = wall();
            let planned = plan(&pool, &built.models, &request, wall).unwrap();
            println!(
                "{rule:?} {objective:?} in {:.1} s, {} cascades {} points {:?}",
                (wall() - t) as f64 / 1e9,
                planned.found.cascades,
                planned.found.points,
                planned.found.verdict
            );
            let show = |p: &Point| {
                let names: Vec<&str> =
                    p.cascade.stages.iter().map(|&s| pool.candidates[s].name.as_str()).collect();
                println!("  {names:?} price {:.4} {:?}", p.cascade.price, p.figures);
            };
            show(&planned.found.chosen);
            if let Some(p) = &planned.found.runner_up {
                show(p);
            }
            println!("  test {:?}", planned.test);
        }
    }
}
