//! `serveflow inspect`: what a bundle or a capture holds.

use super::Session;
use super::args::InspectArgs;
use serveflow::config::EXAMPLE;
use serveflow_model::bundle::{Bundle, StagePlan};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn inspect(_session: &Session, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    if args.example_config {
        print!("{EXAMPLE}");
        return Ok(ExitCode::SUCCESS);
    }
    for path in &args.paths {
        print!("{}", bundle(path)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn bundle(dir: &Path) -> anyhow::Result<String> {
    let bundle = Bundle::load(dir)?;
    let plan = &bundle.plan;
    let mut text =
        format!("bundle {}\n  task    {}\n  id      {}\n", dir.display(), plan.task, bundle.id);
    let _ = writeln!(text, "  labels  {}", plan.labels.join(", "));
    for (index, stage) in plan.stages.iter().enumerate() {
        text.push_str(&self::stage(index, stage));
    }
    Ok(text)
}

fn stage(index: usize, stage: &StagePlan) -> String {
    format!(
        "stage {} `{}`: {} on {} packets\n",
        index + 1,
        stage.name,
        stage.model.kind,
        stage.packets
    )
}
