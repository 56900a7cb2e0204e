//! Planning: candidates trained and kept, a cascade searched, written, tried and told of.

use super::args::{StageArg, TrainArgs};
use super::plan_args::{PoolArgs, WishArgs};
use super::progress::Progress;
use super::{Session, clock_ns, write_file};
use anyhow::Context;
use serveflow_core::engine::EngineConfig;
use serveflow_model::bundle::{self, Bundle};
use serveflow_train::evaluate::evaluate;
use serveflow_train::honest::examine;
use serveflow_train::labels::{LabelBook, Split};
use serveflow_train::pipeline::{Tier, TrainPlan};
use serveflow_train::planner::build::{Built, PoolPlan, Shelf, build, grid};
use serveflow_train::planner::limits::Limits;
use serveflow_train::planner::meter::Meter;
use serveflow_train::planner::plan::{Planned, Request, plan};
use serveflow_train::planner::pool::{POOL_FORMAT, Pool, Recipe};
use serveflow_train::planner::report::{Check, PlanReport, report};
use serveflow_train::planner::search::Wish;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of a bundle that holds the candidates.
const POOL: &str = "pool";
/// What there is of them, but for the models.
const POOL_FILE: &str = "pool.json";
/// How far predicted and measured macro-F1 may differ, and latencies and capacity, as a share.
const F1_TOLERANCE: f64 = 0.005;
const RATIO_TOLERANCE: f64 = 0.15;

/// Models by what they were trained on, in files.
struct Folder(PathBuf);

impl Shelf for Folder {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(format!("{key}.json"))).ok()
    }

    fn put(&mut self, key: &str, model: &[u8]) {
        // Renamed when it is whole: a run that is cut short leaves no half of a model. What cannot be
        // kept is trained again.
        let (part, whole) = (self.0.join("part"), self.0.join(format!("{key}.json")));
        let _ = std::fs::write(&part, model).and_then(|()| std::fs::rename(part, whole));
    }
}

/// What is wanted, as it was typed; `stages` are indices of candidates.
pub(crate) fn wish(args: &WishArgs, stages: Option<Vec<usize>>) -> Wish {
    Wish {
        objective: args.objective,
        limits: Limits {
            max_loss: args.max_loss,
            max_class_loss: args.max_class_loss,
            p50_ms: args.p50_ms,
            p99_ms: args.p99_ms,
            flows_per_s: args.flows_per_s,
            cores: usize::from(args.cores),
            memory_mb: args.memory_mb,
        },
        rule: args.rule,
        stages,
        escalate: args.escalate,
        ends_in_best: args.promise.is_some(),
    }
}

/// The stages that were given; none when they are to be searched.
pub(crate) fn given(stages: &[StageArg]) -> anyhow::Result<Option<Vec<Tier>>> {
    if stages == [StageArg::Auto] {
        return Ok(None);
    }
    let tier = |stage: &StageArg| match stage {
        StageArg::Tier(tier) => Ok(*tier),
        StageArg::Auto => anyhow::bail!("--stages: expected auto alone, or a list without it"),
    };
    stages.iter().map(tier).collect::<anyhow::Result<_>>().map(Some)
}

/// The candidates to train, and which of them make the cascade if that is given.
fn recipes(
    args: &PoolArgs,
    depths: &[u16],
    wait_ms: u64,
    given: Option<&[Tier]>,
) -> anyhow::Result<Vec<Recipe>> {
    let Some(tiers) = given else {
        let waits = if args.waits_ms.is_empty() { vec![wait_ms] } else { args.waits_ms.clone() };
        let sizes: Vec<usize> = args.sizes.iter().map(|&size| usize::from(size)).collect();
        return Ok(grid(&args.kinds, &sizes, depths, &waits));
    };
    for (at, tier) in tiers.iter().enumerate() {
        anyhow::ensure!(
            !tiers[..at].contains(tier),
            "--stages: expected {tier} once, found it twice"
        );
        let before = at.checked_sub(1).map_or(0, |before| tiers[before].packets);
        anyhow::ensure!(
            tier.packets >= before,
            "--stages: {tier} wants fewer packets than the stage before it"
        );
    }
    let recipe = |tier: &Tier| Recipe {
        kind: tier.kind,
        size: None,
        packets: tier.packets,
        wait_ms,
        features: 0,
    };
    Ok(tiers.iter().map(recipe).collect())
}

/// Trains candidates, plans a cascade of them and writes it; the damaged captures come back.
pub(crate) fn train(
    session: &Session,
    args: &TrainArgs,
    book: &LabelBook,
    plan: &TrainPlan,
    stages: Option<&[Tier]>,
) -> anyhow::Result<(Vec<String>, PlanReport)> {
    let wanted = PoolPlan {
        recipes: recipes(&args.pool, &args.depths, plan.wait_ms, stages)?,
        features: vec![plan.features.clone()],
        cross_fit: usize::from(args.pool.cross_fit),
        budget_ns: args.pool.budget_s.map(|seconds| seconds.saturating_mul(1_000_000_000)),
    };
    let folder = args.out.join(POOL).join("shelf");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{}: cannot write", folder.display()))?;
    let mut plan = plan.clone();
    if args.wish.promise.is_some() {
        anyhow::ensure!(
            args.pool.cross_fit >= 2,
            "--promise: expected --cross-fit of 2 parts or more, since the calibration split is for \
             the promise alone"
        );
        // Nothing may be fitted on the split that the promise is tested on.
        plan.params.boost.patience = None;
    }
    let plan = &plan;
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let mut shelf = Folder(folder);
    let built = build(book, plan, &wanted, &mut shelf, &mut wall, &mut |step| progress.step(step))?;
    progress.finish();
    session.say(&super::train::recorded(&built.dataset));
    keep(&args.out, &built)?;
    let own = stages.map(|_| places(&built.pool, &wanted.recipes));
    let request = Request {
        wish: wish(&args.wish, own),
        promise: args.wish.promise(),
        lanes: super::train::lane_rule(args.inline_budget_us, session, plan)?,
        seed: plan.seed,
        threads: plan.threads,
    };
    let (bundle, mut told) = planned(&built.pool, &built.models, &request, &args.out)?;
    told.checks = checks(book, &bundle, plan, &told, session)?;
    if !args.no_honest {
        let mut progress = Progress::new(session);
        let tier = built.pool.candidates[built.pool.best()].recipe.tier();
        let honest = examine(book, plan, tier, &mut |step| progress.step(step))?;
        progress.finish();
        told.honest = Some(honest);
    }
    let damaged = built.dataset.damaged.iter().map(ToString::to_string).collect();
    Ok((damaged, told))
}

/// Where the candidates of some recipes stand in a pool.
fn places(pool: &Pool, recipes: &[Recipe]) -> Vec<usize> {
    let place = |recipe: &Recipe| pool.candidates.iter().position(|c| c.recipe == *recipe);
    recipes.iter().filter_map(place).collect()
}

/// Searches, writes the bundle, and tells of it.
pub(crate) fn planned(
    pool: &Pool,
    models: &BTreeMap<String, Vec<u8>>,
    request: &Request,
    out: &Path,
) -> anyhow::Result<(Bundle, PlanReport)> {
    let found: Planned = plan(pool, models, request, clock_ns)?;
    let mut told = report(pool, request, &found);
    let bundle = bundle::write(out, &found.plan, found.models)?;
    told.bundle.clone_from(&bundle.id);
    Ok((bundle, told))
}

/// Runs the plan, and puts what the planner says beside what is measured, on the calibration split.
fn checks(
    book: &LabelBook,
    bundle: &Bundle,
    plan: &TrainPlan,
    told: &PlanReport,
    session: &Session,
) -> anyhow::Result<Vec<Check>> {
    let limits = EngineConfig { flows: plan.flows, ..EngineConfig::default() };
    let mut wall = || session.wall_ns();
    let split = evaluate(bundle, book, Split::Val, limits, &mut wall, &mut |_, _| {})?.report;
    let mut meter = Meter::new(book, &bundle.plan.labels, plan.flows, &mut wall);
    let served_ns = meter.serve(&bundle.cascade, &bundle.models, &mut wall);
    let own = &told.chosen.split;
    let latency = &split.latency_us.end_to_end;
    Ok(vec![
        Check::points("macro-F1, calibration split", own.macro_f1, split.macro_f1, F1_TOLERANCE),
        Check::points("accuracy, calibration split", own.accuracy, split.accuracy, F1_TOLERANCE),
        Check::ratio("median latency", "us", own.p50_us, latency.p50, RATIO_TOLERANCE),
        Check::ratio("99th percentile of latency", "us", own.p99_us, latency.p99, RATIO_TOLERANCE),
        Check::ratio(
            "flows per second and core",
            "",
            own.flows_per_s,
            1e9 / served_ns,
            RATIO_TOLERANCE,
        ),
    ])
}

/// Keeps a pool and its models with the bundle.
fn keep(out: &Path, built: &Built) -> anyhow::Result<()> {
    let dir = out.join(POOL);
    for (name, model) in &built.models {
        let path = dir.join(name);
        let parent = path.parent().context("a model stands in a folder")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot write", parent.display()))?;
        write_file(&path, model)?;
    }
    write_file(&dir.join(POOL_FILE), &serde_json::to_vec(&built.pool)?)
}

/// The pool that a bundle was planned from, and its models.
pub(crate) fn load(bundle: &Path) -> anyhow::Result<(Pool, BTreeMap<String, Vec<u8>>)> {
    let dir = bundle.join(POOL);
    let path = dir.join(POOL_FILE);
    let text = std::fs::read(&path).with_context(|| {
        format!("{}: cannot read; only train without --measure leaves candidates", path.display())
    })?;
    let pool: Pool =
        serde_json::from_slice(&text).with_context(|| format!("{}: no pool", path.display()))?;
    let found = &pool.format;
    anyhow::ensure!(
        found == POOL_FORMAT,
        "{}: expected the format {POOL_FORMAT}, found {found}",
        path.display()
    );
    pool.check().map_err(|what| anyhow::anyhow!("{}: {what}", path.display()))?;
    let mut models = BTreeMap::new();
    for candidate in &pool.candidates {
        let path = dir.join(&candidate.file);
        let model =
            std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        models.insert(candidate.file.clone(), model);
    }
    Ok((pool.labelled(), models))
}
