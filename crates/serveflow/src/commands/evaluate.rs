//! `serveflow evaluate`: a cascade on labelled captures, beside its tiers and the yardsticks.

use super::args::EvaluateArgs;
use super::progress::Progress;
use super::{Session, label_book, write_file};
use serveflow::summary;
use serveflow_train::evaluate::evaluate as measure;
use std::process::ExitCode;

pub(crate) fn evaluate(session: &Session, args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let (bundle, remote) = session.load(&args.bundle)?;
    let book = label_book(&args.labelled)?;
    let config = session.typed.check_for(&bundle)?;
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let mut passes = |done, all| progress.show("replaying", done, all, "");
    let report = measure(&bundle, &book, args.split, config.engine, &mut wall, &mut passes)?;
    progress.finish();
    session.say(&summary::remote(&remote.status()));
    let report = report.report;
    super::print(&report.to_string())?;
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(super::ended(&report.damaged))
}
