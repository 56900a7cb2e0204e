//! `serveflow bundle`: bundles with models of other libraries.

mod add;
pub(crate) mod args;
mod classes;
mod expect;
mod names;
mod probabilities;
mod reading;

pub(crate) use add::add;
pub(crate) use args::BundleCommand;

use super::Session;
use anyhow::ensure;
use args::{BundleCheckArgs, BundlePackArgs};
use serveflow_model::bundle::{self, Bundle};
use std::fmt::Write;
use std::process::ExitCode;

/// Recomputes the hashes of a bundle.
pub(crate) fn pack(session: &Session, args: &BundlePackArgs) -> anyhow::Result<ExitCode> {
    let (plan, files) = bundle::read_unsigned(&args.bundle)?;
    let packed = bundle::write(&args.bundle, &plan, files, &session.models)?;
    super::print(&format!("{}\n", packed.id))?;
    session.say(&stage_table(&packed));
    Ok(ExitCode::SUCCESS)
}

/// Verifies the hashes and the id of a bundle.
pub(crate) fn check(session: &Session, args: &BundleCheckArgs) -> anyhow::Result<ExitCode> {
    let bundle = Bundle::open(&args.bundle, &session.models)?;
    if let Some(id) = &args.id {
        let id = id.to_ascii_lowercase();
        ensure!(
            id.len() >= 8 && bundle.id.starts_with(&id),
            "{}: expected a bundle with id {id} (at least 8 digits), found {}",
            args.bundle.display(),
            bundle.id
        );
    }
    super::print(&format!("{}{}\n", stage_table(&bundle), bundle.id))?;
    Ok(ExitCode::SUCCESS)
}

/// The stages of a bundle, one line each.
fn stage_table(bundle: &Bundle) -> String {
    let mut text = format!(
        "{:<18} {:<13} {:>7} {:>8} {:>7} {:<7} {:<16}\n",
        "stage", "format", "packets", "columns", "classes", "lane", "gate"
    );
    for (index, stage) in bundle.plan.stages.iter().enumerate() {
        let columns = bundle.cascade.stages()[index].features.columns().len();
        let named = if stage.model.columns.is_some() { "named" } else { "" };
        let classes = stage.model.classes.len();
        let classes = if classes == 0 { bundle.plan.labels.len() } else { classes };
        let gate = stage.gate.as_ref().map_or("accepts all", |gate| gate.rule.as_str());
        let columns = if named.is_empty() { columns.to_string() } else { named.to_owned() };
        let _ = writeln!(
            text,
            "{:<18} {:<13} {:>7} {columns:>8} {classes:>7} {:<7} {gate:<16}",
            stage.name, stage.model.format, stage.packets, stage.lane
        );
    }
    text
}
