//! `serveflow replan`: another plan from the same candidates.

use super::train::lane_rule;
use super::train_args::ReplanArgs;
use super::{Session, claim, publish};
use serveflow_serve::clock;
use serveflow_train::pipeline::TrainPlan;
use serveflow_train::session::{self, KeptPool, SessionOptions, UnknownOptions};
use std::process::ExitCode;

pub(crate) fn replan(session: &Session, args: &ReplanArgs) -> anyhow::Result<ExitCode> {
    let kept = KeptPool::read(&args.bundle)?;
    kept.check_out(&args.out)?;
    if let Some(words) = claim::claimed(&args.out, std::iter::empty())? {
        session.say(&format!("{words}\n"));
    }
    let is_auto = matches!(&args.stages[..], [auto] if auto == "auto");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let flows = kept.pool.flows.config();
    // Without captures no class can be held out.
    let unknown = args.plan.unknown_rate.map(|rate| UnknownOptions { rate, most_classes: 0 });
    let options = SessionOptions::new(&args.out)
        .train(TrainPlan { threads, ..TrainPlan::default() })
        .stage_names((!is_auto).then(|| args.stages.clone()))
        .goal(args.plan.goal(args.thresholds))
        .guarantee(args.plan.guarantee())
        .unknown(unknown)
        .lanes(lane_rule(session, args.lanes.inline_budget_us, &flows)?);
    let outcome = session::Session::new(options, clock::now_ns).replan(&kept)?;
    publish(session, &args.out, &outcome.report)?;
    Ok(ExitCode::SUCCESS)
}
