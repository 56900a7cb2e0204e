//! `serveflow train`: labelled captures in, a bundle out.

use super::progress::Progress;
use super::train_args::{COMPARED_KINDS, StageArg, TrainArgs};
use super::{Session, claim, label_book, labelled, publish};
use anyhow::Context;
use serveflow_core::FlowConfig;
use serveflow_core::features::layout::HeaderLayout;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::LanePlan;
use serveflow_report::text::data_text;
use serveflow_serve::clock;
use serveflow_train::dataset::DataSummary;
use serveflow_train::dataset::Dataset;
use serveflow_train::pipeline::{Compared, Step, Tier, TierParams, TrainPlan, compare};
use serveflow_train::session::{self, Observer, SessionOptions, UnknownOptions};
use std::fmt::Write;
use std::process::ExitCode;

pub(crate) fn train(session: &Session, args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let book = label_book(session, &args.labelled)?;
    let options = options(session, args)?;
    // Fail before the training, not after it.
    labelled::at_least_two(&book)?;
    let replaced = claim::claimed(&args.out, book.files.keys())?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{}: cannot write", args.out.display()))?;
    claim::say_when_interrupted(format!(
        "trained models are kept in {}; run the same command again to continue",
        args.out.join(session::POOL).display()
    ))?;
    summarized(session, &book, &options)?;
    if let Some(words) = replaced {
        session.say(&format!("{words}\n"));
    }
    let training = session::Session::new(options, clock::now_ns);
    let outcome = training.run(&book, &mut Watcher::new(session))?;
    publish(session, &args.out, &outcome.report)?;
    let ended = super::ended(&outcome.damaged);
    if args.compare {
        super::print(&comparison(session, args, &book, &training.options().train)?)?;
    }
    Ok(ended)
}

/// Shows a training's progress.
struct Watcher<'a> {
    session: &'a Session,
    progress: Progress,
}

impl<'a> Watcher<'a> {
    fn new(session: &'a Session) -> Self {
        Self { session, progress: Progress::new(session) }
    }
}

impl Observer for Watcher<'_> {
    fn step(&mut self, step: Step) {
        self.progress.step(step);
    }

    fn phase_ended(&mut self) {
        self.progress.finish();
        self.progress = Progress::new(self.session);
    }

    fn recorded(&mut self, dataset: &Dataset) {
        self.session.say(&recorded(dataset));
    }
}

/// Compares labels and flows, refuses what cannot be trained, and prints the flows of each class.
fn summarized(session: &Session, book: &LabelBook, options: &SessionOptions) -> anyhow::Result<()> {
    let dataset = labelled::surveyed(session, book, options.train.flows)?;
    let summary = DataSummary::new(&dataset.labels, &dataset.flows, options.cross_fit());
    labelled::trainable(book, &summary)?;
    session.say(&data_text(&summary));
    Ok(())
}

/// What the training is to do.
fn options(session: &Session, args: &TrainArgs) -> anyhow::Result<SessionOptions> {
    let train = plan(session, args)?;
    let unknown = args.plan.unknown_rate.map(|rate| {
        let most_classes = usize::from(args.unknown_classes);
        UnknownOptions { rate, most_classes }
    });
    let lanes = lane_rule(session, args.lanes.inline_budget_us, &train.flows)?;
    let (pool, depths) = (&args.pool, &args.depths);
    let options = SessionOptions::new(&args.out).candidates(|own| {
        own.kinds.clone_from(&pool.kinds);
        own.sizes = pool.sizes.iter().map(|&size| usize::from(size)).collect();
        own.depths.clone_from(depths);
        own.waits_ms.clone_from(&pool.waits_ms);
        own.extra_features = pool.extra_features.iter().map(|set| set.0.clone()).collect();
        own.external_bundles.clone_from(&pool.external_bundle);
        own.cross_fit = usize::from(pool.cross_fit);
        own.budget_s = pool.budget_s;
    });
    Ok(options
        .train(train)
        .goal(args.plan.goal(args.thresholds))
        .guarantee(args.plan.guarantee())
        .unknown(unknown)
        .lanes(lanes)
        .audit(!args.no_audit))
}

/// The stages that were given; none when they are to be searched.
fn given(stages: &[StageArg]) -> anyhow::Result<Vec<Tier>> {
    if stages == [StageArg::Auto] {
        return Ok(Vec::new());
    }
    let tier = |stage: &StageArg| match stage {
        StageArg::Tier(tier) => Ok(*tier),
        StageArg::Auto => anyhow::bail!("--stages: expected `auto` alone, or a list without it"),
    };
    stages.iter().map(tier).collect()
}

fn plan(session: &Session, args: &TrainArgs) -> anyhow::Result<TrainPlan> {
    let trainer = &args.trainer;
    let mut params = TierParams::default();
    params.tree.max_depth = trainer.tree_depth;
    params.forest.trees = trainer.trees;
    params.class_weights = trainer.class_weights.into();
    params.boost.rounds = trainer.rounds;
    params.boost.learning_rate = trainer.learning_rate;
    params.boost.max_leaves = trainer.leaves;
    params.boost.min_leaf = trainer.min_leaf;
    params.boost.l2 = trainer.l2;
    params.boost.column_fraction = trainer.column_fraction;
    params.boost.row_fraction = trainer.row_fraction;
    params.boost.patience = (trainer.patience > 0).then_some(trainer.patience);
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let config = session.typed.check(&FlowConfig::default())?;
    let name = args.labelled.captures.file_name().unwrap_or_default();
    Ok(TrainPlan {
        task: name.to_string_lossy().into_owned(),
        tiers: given(&args.stages)?,
        features: args.features.encoders(),
        layout: HeaderLayout::new(&args.features.headers),
        masks: args.features.masks().collect(),
        wait_ms: args.features.wait_ms,
        window_packets: args.window_packets,
        flows: args.features.flows(config.engine.flows),
        params,
        seed: trainer.seed,
        threads: trainer.threads.unwrap_or_else(cores).max(1),
    })
}

/// How lanes are chosen: by the batch size that is served, and its time budget.
pub(crate) fn lane_rule(
    session: &Session,
    budget_us: u64,
    flows: &FlowConfig,
) -> anyhow::Result<LanePlan> {
    let config = session.typed.check(flows)?;
    Ok(LanePlan {
        batch_rows: u32::try_from(config.engine.batch_rows).unwrap_or(u32::MAX),
        budget_ns: budget_us.saturating_mul(1_000),
    })
}

/// What was recorded, in words.
fn recorded(dataset: &Dataset) -> String {
    let count = |split| dataset.split(split).len();
    format!(
        "{} flows with {} labels: {} train, {} val, {} test; {} unlabelled, \
         {} listed but not met\n",
        dataset.flows.len(),
        dataset.labels.len(),
        count(Split::Train),
        count(Split::Val),
        count(Split::Test),
        dataset.flows.iter().filter(|flow| flow.label.is_none()).count(),
        dataset.missing
    )
}

fn comparison(
    session: &Session,
    args: &TrainArgs,
    book: &LabelBook,
    plan: &TrainPlan,
) -> anyhow::Result<String> {
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let mut depths = args.depths.clone();
    depths.sort_unstable();
    depths.dedup();
    let compared =
        compare(book, plan, &COMPARED_KINDS, &depths, &mut wall, &mut |step| progress.step(step))?;
    progress.finish();
    let mut text = format!(
        "{:<14} {:>13} {:>14} {:>17} {:>8} {:>12}\n",
        "model", "val macro-F1", "test macro-F1", "test weighted-F1", "train s", "us per flow"
    );
    for Compared { tier, val, test, train_ns, score_ns } in compared {
        let _ = writeln!(
            text,
            "{:<14} {:>13.4} {:>14.4} {:>17.4} {:>8.2} {:>12.3}",
            tier.to_string(),
            val.macro_f1(),
            test.macro_f1(),
            test.weighted_f1(),
            train_ns as f64 / 1e9,
            score_ns / 1e3
        );
    }
    Ok(text)
}
