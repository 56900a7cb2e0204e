//! `serveflow evaluate`: a cascade on labelled captures, beside its stages and the baselines.

use super::data_args::EvaluateArgs;
use super::progress::Progress;
use super::{Session, label_book, labelled, reports, write_file};
use serveflow_core::FlowConfig;
use serveflow_label::{LabelBook, Split};
use serveflow_serve::summary;
use serveflow_train::evaluate::{EvaluateError, evaluate as measure};
use std::process::ExitCode;

pub(crate) fn evaluate(session: &Session, args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    reports::claim(&args.json)?;
    let (bundle, remote) = session.load(&args.bundle)?;
    let book = label_book(session, &args.labelled)?;
    let config = session.typed.check_for(&bundle)?;
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let mut passes = |done, all| progress.show("replaying", done, all, "");
    let report = measure(&bundle, &book, args.split, config.engine, &mut wall, &mut passes);
    progress.finish();
    let flows = config.engine.flows;
    let report = match report {
        Err(EvaluateError::NoFlows { split }) => {
            return Err(no_flows(session, &book, split, flows)?);
        }
        report => report?.report,
    };
    if report.missing_flows > 0 {
        labelled::surveyed(session, &book, flows)?;
    }
    session.say(&summary::remote(&remote.status()));
    super::print(&report.to_string())?;
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(super::ended(&report.damaged))
}

/// Why a split has no flow: no label matches any, or they are of other splits.
fn no_flows(
    session: &Session,
    book: &LabelBook,
    split: Split,
    flows: FlowConfig,
) -> anyhow::Result<anyhow::Error> {
    let dataset = labelled::surveyed(session, book, flows)?;
    let count = |split: Split| format!("{} {}", dataset.split(split).len(), split.name());
    let error = anyhow::Error::new(EvaluateError::NoFlows { split });
    Ok(error.context(format!(
        "expected labelled flows of the split `{}`, found {}; --split names another",
        split.name(),
        Split::ALL.map(count).join(", ")
    )))
}
