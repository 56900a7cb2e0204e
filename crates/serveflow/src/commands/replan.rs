//! `serveflow replan`: another plan from the same candidates.

use super::planned::{Unknown, load, planned, pool_file, wish};
use super::train_args::ReplanArgs;
use super::{Session, claim, publish};
use serveflow_model::bundle::LanePlan;
use serveflow_train::planner::pool::CandidatePool;
use serveflow_train::planner::writer::PlanRequest;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn replan(session: &Session, args: &ReplanArgs) -> anyhow::Result<ExitCode> {
    let (pool, models) = load(&args.bundle)?;
    keep_pool(&args.bundle, &args.out)?;
    if let Some(words) = claim::claimed(&args.out, std::iter::empty())? {
        session.say(&format!("{words}\n"));
    }
    let stages = match &args.stages[..] {
        [auto] if auto == "auto" => None,
        names => Some(named(&pool, names)?),
    };
    let config = session.typed.check(&pool.flows.config())?;
    let lanes = LanePlan {
        batch_rows: u32::try_from(config.engine.batch_rows).unwrap_or(u32::MAX),
        budget_ns: args.lanes.inline_budget_us.saturating_mul(1_000),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wish = wish(&args.plan, stages)?;
    let guarantee = args.plan.guarantee();
    let parted = pool.val.truth.len() > pool.unseen;
    let patient = pool.provenance.parameters.get("boosted.patience").is_some_and(|p| p != "None");
    anyhow::ensure!(
        guarantee.is_none() || (parted && !patient),
        "--guarantee: the candidates of {} were trained on the calibration split (early stopping), \
         or without --cross-fit; train with --guarantee first",
        args.bundle.display()
    );
    let request = PlanRequest { wish, guarantee, lanes, seed: pool.provenance.seed, threads };
    // Without captures no class can be held out.
    let unknown = Unknown { rate: args.plan.unknown_rate, study: &mut |_, _, _| Ok(None) };
    let written = (args.out.as_path(), &session.models);
    let (_, told) = planned((&pool, &models), &request, written, unknown)?;
    publish(session, &args.out, &told)?;
    Ok(ExitCode::SUCCESS)
}

/// A plan must not be written beside the candidates of another training.
fn keep_pool(from: &Path, out: &Path) -> anyhow::Result<()> {
    let (from, other) = (pool_file(from), pool_file(out));
    if !other.exists() || from.canonicalize()? == other.canonicalize()? {
        return Ok(());
    }
    anyhow::ensure!(
        std::fs::read(&from)? == std::fs::read(&other)?,
        "--out: {} holds the candidates of another training; expected a new folder or that of \
         --bundle",
        out.display()
    );
    Ok(())
}

/// The candidates of these names, which must make a cascade.
fn named(pool: &CandidatePool, names: &[String]) -> anyhow::Result<Vec<usize>> {
    let place = |name: &String| {
        let known = || -> Vec<&str> { pool.candidates.iter().map(|c| c.name.as_str()).collect() };
        let found = pool.candidates.iter().position(|candidate| candidate.name == *name);
        found.ok_or_else(|| {
            anyhow::anyhow!("--stages: expected some of {}, found `{name}`", known().join(", "))
        })
    };
    let stages: Vec<usize> = names.iter().map(place).collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(stages.len() <= 8, "--stages: expected at most 8, found {}", stages.len());
    for pair in stages.windows(2) {
        let [before, next] = [pair[0], pair[1]].map(|c| &pool.candidates[c].recipe);
        anyhow::ensure!(
            before.packets < next.packets || (before.packets == next.packets && pair[0] != pair[1]),
            "--stages: `{}` cannot follow `{}`",
            pool.candidates[pair[1]].name,
            pool.candidates[pair[0]].name
        );
        anyhow::ensure!(
            before.packets == 1 || before.wait_ms <= next.wait_ms,
            "--stages: `{}` has a shorter wait than the stage before it",
            pool.candidates[pair[1]].name
        );
    }
    Ok(stages)
}
