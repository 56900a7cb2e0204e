//! `serveflow train`: labelled captures in, a bundle out.

use super::progress::Progress;
use super::train_args::{COMPARED_KINDS, Thresholds, TrainArgs};
use super::{Session, claim, label_book, labelled, planned, publish};
use anyhow::Context;
use serveflow_core::FlowConfig;
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::gate::Uncertainty;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{self, LanePlan};
use serveflow_report::text::data_text;
use serveflow_train::calibrate::{Granularity, Target};
use serveflow_train::dataset::DataSummary;
use serveflow_train::dataset::Dataset;
use serveflow_train::pipeline::{
    Compared, Tier, TierParams, TrainPlan, Trained, compare, train as fit,
};
use std::fmt::Write;
use std::process::ExitCode;

pub(crate) fn train(session: &Session, args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let book = label_book(session, &args.labelled)?;
    let stages = planned::given(&args.stages)?;
    let plan = plan(session, args, stages.as_deref().unwrap_or_default())?;
    // Fail before the training, not after it.
    labelled::at_least_two(&book)?;
    let replaced = claim::claimed(&args.out, book.files.keys())?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{}: cannot write", args.out.display()))?;
    let kept = match args.uncertainty {
        None => format!(
            "trained models are kept in {}; run the same command again to continue",
            args.out.join(planned::POOL).display()
        ),
        Some(_) => "nothing was written".to_owned(),
    };
    claim::say_when_interrupted(kept)?;
    summarized(session, args, &book, &plan)?;
    if let Some(words) = replaced {
        session.say(&format!("{words}\n"));
    }
    let ended = match args.uncertainty {
        None => {
            let (damaged, told) = planned::train(session, args, &book, &plan, stages.as_deref())?;
            publish(session, &args.out, &told)?;
            super::ended(&damaged)
        }
        Some(_) => {
            anyhow::ensure!(
                stages.is_some(),
                "--uncertainty: expected a list of --stages, found auto"
            );
            thresholds(session, args, &book, &plan)?
        }
    };
    if args.compare {
        super::print(&comparison(session, args, &book, &plan)?)?;
    }
    Ok(ended)
}

/// Compares labels and flows, refuses what cannot be trained, and prints the flows of each class.
fn summarized(
    session: &Session,
    args: &TrainArgs,
    book: &LabelBook,
    plan: &TrainPlan,
) -> anyhow::Result<()> {
    let dataset = labelled::surveyed(session, book, plan.flows)?;
    let is_parted = args.uncertainty.is_none() && args.pool.external_bundle.is_empty();
    let parts = if is_parted { usize::from(args.pool.cross_fit) } else { 0 };
    let summary = DataSummary::new(&dataset.labels, &dataset.flows, parts);
    labelled::trainable(book, &summary)?;
    session.say(&data_text(&summary));
    Ok(())
}

/// Trains the given stages and calibrates a threshold for each gate.
fn thresholds(
    session: &Session,
    args: &TrainArgs,
    book: &LabelBook,
    plan: &TrainPlan,
) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let trained = fit(book, plan, &mut wall, &mut |step| progress.step(step))?;
    progress.finish();
    let bundle = bundle::write(&args.out, &trained.plan, trained.models.clone(), &session.models)?;
    session.say(&told(&trained));
    session.say(&format!("bundle {} written to {}\n", &bundle.id[..16], args.out.display()));
    Ok(super::ended(&trained.dataset.damaged))
}

fn plan(session: &Session, args: &TrainArgs, tiers: &[Tier]) -> anyhow::Result<TrainPlan> {
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
        tiers: tiers.to_vec(),
        features: args.features.encoders(),
        layout: HeaderLayout::new(&args.features.headers),
        masks: args.features.masks().collect(),
        wait_ms: args.features.wait_ms,
        window_packets: args.window_packets,
        flows: args.features.flows(config.engine.flows),
        params,
        measure: args.uncertainty.unwrap_or(Uncertainty::LeastConfidence),
        granularity: match args.thresholds {
            Thresholds::Universal => Granularity::Universal,
            Thresholds::PerClass => Granularity::PerClass,
        },
        target: args.plan.escalate.map_or(Target::MaxLoss(args.plan.max_loss), Target::Escalate),
        lanes: LanePlan {
            batch_rows: u32::try_from(config.engine.batch_rows).unwrap_or(u32::MAX),
            budget_ns: args.lanes.inline_budget_us.saturating_mul(1_000),
        },
        seed: trainer.seed,
        threads: trainer.threads.unwrap_or_else(cores).max(1),
    })
}

/// How lanes are chosen: by the batch size that is served, and its time budget.
pub(crate) fn lane_rule(
    budget_us: u64,
    session: &Session,
    plan: &TrainPlan,
) -> anyhow::Result<LanePlan> {
    let config = session.typed.check(&plan.flows)?;
    Ok(LanePlan {
        batch_rows: u32::try_from(config.engine.batch_rows).unwrap_or(u32::MAX),
        budget_ns: budget_us.saturating_mul(1_000),
    })
}

/// What was recorded, in words.
pub(crate) fn recorded(dataset: &Dataset) -> String {
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

/// What was trained, in words.
fn told(trained: &Trained) -> String {
    let mut text = recorded(&trained.dataset);
    for (stage, escalated) in trained.plan.stages.iter().zip(&trained.calibrated.escalated) {
        let _ = writeln!(text, "{}: escalates {:.1}% of val", stage.name, escalated * 100.0);
    }
    for stage in &trained.plan.stages {
        let (Some(rule), Some(cost)) = (&trained.plan.lane_rule, &stage.cost) else { continue };
        let _ = writeln!(
            text,
            "{}: lane {}: a batch of {} flows takes {:.0} us, the budget is {} us",
            stage.name,
            stage.lane,
            rule.batch_rows,
            rule.batch_ns(cost) / 1e3,
            rule.budget_ns / 1_000
        );
    }
    let calibrated = &trained.calibrated;
    let _ = writeln!(
        text,
        "macro-F1 on val: cascade {:.4}, last stage alone {:.4}",
        calibrated.cascade_macro_f1, calibrated.slow_macro_f1
    );
    text
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
