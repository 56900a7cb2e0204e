//! Planning: trains and keeps candidates, searches a cascade, writes, checks and reports it.

use super::joined::joined;
use super::plan_args::{PlanArgs, PoolArgs};
use super::progress::Progress;
use super::train_args::{StageArg, TrainArgs};
use super::{Session, write_file};
use anyhow::Context;
use serveflow_core::NO_WINDOW;
use serveflow_core::engine::EngineConfig;
use serveflow_io::SourceError;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{self, Bundle, DriftPlan};
use serveflow_serve::clock;
use serveflow_train::audit::examine;
use serveflow_train::drift;
use serveflow_train::evaluate::{Report, evaluate};
use serveflow_train::open_set::{self, HeldOut, HeldOutWish};
use serveflow_train::pipeline::{Tier, TrainPlan};
use serveflow_train::planner::candidates::{Built, ModelCache, PoolPlan, build, grid};
use serveflow_train::planner::limits::Constraints;
use serveflow_train::planner::meter::{MeterLoad, ServiceRate};
use serveflow_train::planner::pool::{CandidatePool, CandidateSpec, POOL_FORMAT};
use serveflow_train::planner::report::{Check, PlanReport, report};
use serveflow_train::planner::search::PlanGoal;
use serveflow_train::planner::writer::{PlanRequest, WrittenPlan, plan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of a bundle that holds the candidates.
pub(crate) const POOL: &str = "pool";
/// The candidates, without their models.
const POOL_FILE: &str = "pool.json";
/// The drift reference of a bundle.
const DRIFT_FILE: &str = "drift.json";
/// How far predicted and measured macro-F1 may differ, and latencies and capacity, as a share.
const F1_TOLERANCE: f64 = 0.005;
const RATIO_TOLERANCE: f64 = 0.15;
/// Runs that check a plan's predictions: the median latency counts, and the fastest core time, as
/// where candidates are measured.
const CHECKS: usize = 3;
/// Wall time in which flows start when a plan's predictions are checked, nanoseconds.
const CHECK_NS: u64 = 1_000_000_000;

/// Models by what they were trained on, in files.
struct Folder(PathBuf);

impl ModelCache for Folder {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(format!("{key}.json"))).ok()
    }

    fn put(&mut self, key: &str, model: &[u8]) {
        // Renamed when it is complete, so that an interrupted run leaves no partial model. What
        // cannot be kept is trained again.
        let (part, whole) = (self.0.join("part"), self.0.join(format!("{key}.json")));
        let _ = std::fs::write(&part, model).and_then(|()| std::fs::rename(part, whole));
    }
}

/// Objective and constraints of the command line; `stages` are indices of candidates.
pub(crate) fn wish(args: &PlanArgs, stages: Option<Vec<usize>>) -> anyhow::Result<PlanGoal> {
    let is_alone = stages.as_ref().is_some_and(|stages| stages.len() < 2);
    for (name, is_typed) in
        [("--escalate", args.escalate.is_some()), ("--guarantee", args.guarantee.is_some())]
    {
        anyhow::ensure!(
            !(is_alone && is_typed),
            "{name}: expected at least two --stages, because one alone escalates nothing"
        );
    }
    Ok(PlanGoal {
        objective: args.objective,
        limits: Constraints {
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
        ends_in_best: args.guarantee.is_some(),
    })
}

/// The stages that were given; none when they are to be searched.
pub(crate) fn given(stages: &[StageArg]) -> anyhow::Result<Option<Vec<Tier>>> {
    if stages == [StageArg::Auto] {
        return Ok(None);
    }
    let tier = |stage: &StageArg| match stage {
        StageArg::Tier(tier) => Ok(*tier),
        StageArg::Auto => anyhow::bail!("--stages: expected `auto` alone, or a list without it"),
    };
    stages.iter().map(tier).collect::<anyhow::Result<_>>().map(Some)
}

/// The candidates to train, and which of them make the cascade if that is given.
fn recipes(
    args: &PoolArgs,
    depths: &[u16],
    plan: &TrainPlan,
    given: Option<&[Tier]>,
) -> anyhow::Result<Vec<CandidateSpec>> {
    let Some(tiers) = given else {
        let waits = &args.waits_ms;
        let waits = if waits.is_empty() { vec![plan.wait_ms] } else { waits.clone() };
        let sizes: Vec<usize> = args.sizes.iter().map(|&size| usize::from(size)).collect();
        let mut depths = depths.to_vec();
        if plan.flows.window_ns != NO_WINDOW {
            depths.push(Tier::WINDOW);
        }
        return Ok(grid(&args.kinds, &sizes, &depths, &waits, 1 + args.extra_features.len()));
    };
    for (at, tier) in tiers.iter().enumerate() {
        anyhow::ensure!(
            !tiers[..at].contains(tier),
            "--stages: expected {tier} once, found it twice"
        );
        let before = at.checked_sub(1).map_or(0, |before| tiers[before].packets);
        anyhow::ensure!(
            tier.packets >= before,
            "--stages: {tier} uses fewer packets than the stage before it"
        );
    }
    let recipe = |tier: &Tier| CandidateSpec {
        kind: tier.kind,
        size: None,
        packets: tier.packets,
        wait_ms: plan.wait_ms,
        features: 0,
    };
    Ok(tiers.iter().map(recipe).collect())
}

/// What is to be put into the pool.
fn wanted(args: &TrainArgs, plan: &TrainPlan, stages: Option<&[Tier]>) -> anyhow::Result<PoolPlan> {
    let also = args.pool.extra_features.iter().map(|encoders| encoders.0.clone());
    let features: Vec<Vec<String>> = [plan.features.clone()].into_iter().chain(also).collect();
    for (at, set) in features.iter().enumerate() {
        let words = set.join("+");
        anyhow::ensure!(
            !features[..at].contains(set),
            "--extra-features: expected each set of encoders once, found {words} twice"
        );
    }
    let joined = joined(&args.pool.external_bundle, plan, &features)?;
    anyhow::ensure!(
        joined.is_empty() || args.plan.guarantee.is_none(),
        "--guarantee: expected no --external-bundle, because its models may have been trained on \
         the calibration split"
    );
    Ok(PoolPlan {
        recipes: recipes(&args.pool, &args.depths, plan, stages)?,
        features,
        // External models cannot be trained again without a part of the captures.
        cross_fit: if joined.is_empty() { usize::from(args.pool.cross_fit) } else { 0 },
        given: joined,
        all_wanted: stages.is_some(),
        budget_ns: args.pool.budget_s.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        load: load_of(&args.plan),
    })
}

/// Trains candidates, plans a cascade of them and writes it; returns the damaged captures.
pub(crate) fn train(
    session: &Session,
    args: &TrainArgs,
    book: &LabelBook,
    plan: &TrainPlan,
    stages: Option<&[Tier]>,
) -> anyhow::Result<(Vec<String>, PlanReport)> {
    let wanted = wanted(args, plan, stages)?;
    let folder = args.out.join(POOL).join("shelf");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{}: cannot write", folder.display()))?;
    let mut plan = plan.clone();
    if args.plan.guarantee.is_some() {
        anyhow::ensure!(
            args.pool.cross_fit >= 2,
            "--guarantee: expected --cross-fit of 2 parts or more, because the calibration split \
             is for the guarantee alone"
        );
        // Nothing may be fitted on the split that the guarantee is tested on.
        plan.params.boost.patience = None;
    }
    let plan = &plan;
    let mut progress = Progress::new(session);
    let mut shelf = Folder(folder);
    let built =
        build(book, plan, &wanted, &mut shelf, clock::now_ns, &mut |step| progress.step(step))?;
    progress.finish();
    session.say(&super::train::recorded(&built.dataset));
    keep(&args.out, &built)?;
    let own = stages.map(|_| places(&built.pool, &wanted.recipes)).transpose()?;
    let request = PlanRequest {
        wish: wish(&args.plan, own)?,
        guarantee: args.plan.guarantee(),
        lanes: super::train::lane_rule(args.lanes.inline_budget_us, session, plan)?,
        seed: plan.seed,
        threads: plan.threads,
    };
    let mut study = |pool: &CandidatePool, found: &WrittenPlan, rate| {
        let mut progress = Progress::new(session);
        let last = found.found.chosen.cascade.stages.last().copied().unwrap_or_default();
        let (recipe, features) = (pool.candidates[last].recipe, &pool.features[..]);
        let most = usize::from(args.unknown_classes);
        let wish = HeldOutWish { recipe, features, most, rate };
        let held = open_set::hold_out(book, plan, wish, &mut |step| progress.step(step))?;
        progress.finish();
        Ok(held)
    };
    let wish = Unknown { rate: args.plan.unknown_rate, study: &mut study };
    let (mut bundle, mut told) = planned((&built.pool, &built.models), &request, &args.out, wish)?;
    let pool_and_told = (&built.pool, &told);
    told.checks = checks(book, &mut bundle, plan, pool_and_told, &args.plan, session)?;
    if !args.no_audit {
        let mut progress = Progress::new(session);
        if let Some(best) = built.pool.best_trained() {
            let tier = built.pool.candidates[best].recipe.tier();
            let audit = examine(book, plan, tier, &mut |step| progress.step(step))?;
            progress.finish();
            told.audit = Some(audit);
        }
    }
    let damaged = built.dataset.damaged.iter().map(SourceError::line).collect();
    Ok((damaged, told))
}

/// Where the candidates of some recipes stand in a pool.
fn places(pool: &CandidatePool, recipes: &[CandidateSpec]) -> anyhow::Result<Vec<usize>> {
    let place = |recipe: &CandidateSpec| {
        let found = pool.candidates.iter().position(|c| c.recipe == *recipe);
        found.with_context(|| format!("--stages: {} was not trained", recipe.tier()))
    };
    recipes.iter().map(place).collect()
}

/// Measures how well a plan's last stage detects classes without training data, where at most this
/// share of the known flows may be labelled unknown.
pub(crate) type Study<'a> =
    dyn FnMut(&CandidatePool, &WrittenPlan, f64) -> anyhow::Result<Option<HeldOut>> + 'a;

/// The open-set rules to make.
pub(crate) struct Unknown<'a> {
    /// Largest share of the known flows labelled unknown; none for no rules.
    pub(crate) rate: Option<f64>,
    /// Measures the detection of classes without training data.
    pub(crate) study: &'a mut Study<'a>,
}

/// Searches a cascade, writes the bundle, and reports it.
pub(crate) fn planned(
    (pool, models): (&CandidatePool, &BTreeMap<String, Vec<u8>>),
    request: &PlanRequest,
    out: &Path,
    unknown: Unknown<'_>,
) -> anyhow::Result<(Bundle, PlanReport)> {
    let mut found: WrittenPlan = plan(pool, models, request, clock::now_ns)?;
    let mut told = report(pool, request, &found);
    let Unknown { rate, study } = unknown;
    if let Some(rate) = rate {
        let held = study(pool, &found, rate)?;
        told.unknown = Some(open_set::install(pool, &mut found, rate, held));
    }
    if let Some(reference) = drift::reference(pool, &found, drift::RATE) {
        found.plan.drift = Some(DriftPlan { file: DRIFT_FILE.to_owned() });
        found.models.insert(DRIFT_FILE.to_owned(), serde_json::to_vec(&reference)?);
    }
    let bundle = bundle::write(out, &found.plan, found.models)?;
    told.bundle.clone_from(&bundle.id);
    Ok((bundle, told))
}

/// The load of the measurements: that of --flows-per-s and --cores.
fn load_of(wish: &PlanArgs) -> MeterLoad {
    let usual = MeterLoad::default();
    let flows_per_s = wish.flows_per_s.unwrap_or(usual.flows_per_s) / f64::from(wish.cores);
    MeterLoad { flows_per_s, ..usual }
}

/// Runs the plan and compares the planner's predictions with measurements: on the test flows, which
/// chose nothing, or on the calibration split if there are none.
fn checks(
    book: &LabelBook,
    bundle: &mut Bundle,
    plan: &TrainPlan,
    (pool, told): (&CandidatePool, &PlanReport),
    args: &PlanArgs,
    session: &Session,
) -> anyhow::Result<Vec<Check>> {
    let limits = EngineConfig { flows: plan.flows, ..EngineConfig::default() };
    let mut wall = || session.wall_ns();
    let (split, own) = match pool.test.truth.is_empty() {
        false => (Split::Test, &told.chosen.test),
        true => (Split::Val, &told.chosen.split),
    };
    let mut runs = Vec::new();
    for _ in 0..CHECKS {
        runs.push(evaluate(bundle, book, split, limits, &mut wall, &mut |_, _| {})?.report);
    }
    let p50 = |run: &Report| run.latency_us.end_to_end.p50;
    runs.sort_by(|a, b| p50(a).total_cmp(&p50(b)));
    let measured = &runs[CHECKS / 2];
    let latency = &measured.latency_us.end_to_end;
    let of = |what: &str| format!("{what}, {} flows", split.name());
    let ratio = |what: &str, unit, predicted, measured| {
        Check::ratio(&of(what), unit, predicted, measured, RATIO_TOLERANCE)
    };
    let load = MeterLoad { run_ns: CHECK_NS, ..load_of(args) };
    let service = ServiceRate::new(book, split, plan.flows, load, clock::now_ns);
    // All stages inline: the prediction is the capacity of one core.
    bundle.place(&vec![0; bundle.plan.stages.len()]);
    let served = (0..CHECKS).map(|_| service.serve(&bundle.cascade, &bundle.models));
    let served_ns = served.fold(f64::INFINITY, f64::min);
    // The cost of packets outside of stages grows with the packets of a flow.
    let packets = service.packets_per_flow / pool.packets_per_flow;
    let own_ns = own.cpu_ns + pool.idle_flow_ns * (packets - 1.0);
    let (predicted, served) = (1e9 / own_ns.max(1e-9), 1e9 / served_ns.max(1e-9));
    Ok(vec![
        Check::points(&of("macro-F1"), own.macro_f1, measured.macro_f1, F1_TOLERANCE),
        Check::points(&of("accuracy"), own.accuracy, measured.accuracy, F1_TOLERANCE),
        ratio("median latency", "us", own.p50_us, latency.p50),
        ratio("99th percentile of latency", "us", own.p99_us, latency.p99),
        ratio("capacity of a core", "flows/s", predicted, served),
    ])
}

/// Keeps a pool and its models with the bundle.
fn keep(out: &Path, built: &Built) -> anyhow::Result<()> {
    let dir = out.join(POOL);
    for (name, model) in &built.models {
        let path = dir.join(name);
        let parent = path.parent().context("a model is in a folder")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot write", parent.display()))?;
        write_file(&path, model)?;
    }
    write_file(&dir.join(POOL_FILE), &serde_json::to_vec(&built.pool)?)
}

/// Where a bundle keeps what there is of its candidates.
pub(crate) fn pool_file(bundle: &Path) -> PathBuf {
    bundle.join(POOL).join(POOL_FILE)
}

/// The pool that a bundle was planned from, and its models.
pub(crate) fn load(bundle: &Path) -> anyhow::Result<(CandidatePool, BTreeMap<String, Vec<u8>>)> {
    let (dir, path) = (bundle.join(POOL), pool_file(bundle));
    let text = std::fs::read(&path).with_context(|| {
        format!("{}: cannot read; `train --uncertainty` writes no candidates", path.display())
    })?;
    let pool: CandidatePool = serde_json::from_slice(&text)
        .with_context(|| format!("{}: expected a pool of candidates", path.display()))?;
    let found = &pool.format;
    anyhow::ensure!(
        found == POOL_FORMAT,
        "{}: expected the format {POOL_FORMAT}, found {found}",
        path.display()
    );
    pool.check().map_err(|what| anyhow::anyhow!("{}: {what}", path.display()))?;
    let mut models = BTreeMap::new();
    for candidate in &pool.candidates {
        let columns = candidate.given.as_ref().and_then(|given| given.columns.as_ref());
        for name in columns.into_iter().chain([&candidate.file]) {
            let path = dir.join(name);
            let file = std::fs::read(&path);
            let file = file.with_context(|| format!("{}: cannot read", path.display()))?;
            models.insert(name.clone(), file);
        }
    }
    Ok((pool.labelled(), models))
}
